"""CAGrad, conflict-averse gradient descent: Liu et al. (2021)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers._common import auxiliary, checks, numerics, reductions, trees
from optimizers._common.typing import PyTree, Reduce, Scalar

__all__ = ["cagrad"]


def cagrad(
    c: Scalar = 0.4, *, reduce: Reduce | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""CAGrad: maximizes the worst-case decrease of two losses near the mean gradient.

    Put it first in a chain, and pass `update` the gradient :math:`a_t` of an auxiliary
    loss in addition to the gradient :math:`g_t` of the main loss. With products and
    norms over the whole tree,

    .. math::

       \bar g &= (g_t + a_t) / 2, \quad h(w) = w g_t + (1 - w) a_t          && (1) \\
       w_t &= \arg\min_{0 \le w \le 1}
         \langle h(w), \bar g \rangle + c \|\bar g\| \|h(w)\|               && (2) \\
       d_t &= \bar g + c \|\bar g\| \frac{h(w_t)}{\|h(w_t)\|}               && (3)

    Among all :math:`d` with :math:`\|d - \bar g\| \le c \|\bar g\|`, :math:`d_t`
    maximizes :math:`\min(\langle d, g \rangle, \langle d, a \rangle)`. With :math:`c =
    0` it is the mean, and for :math:`c \to \infty` it has the direction of `mgda`; for
    :math:`c < 1` it still converges to a minimum of the mean loss.

    (2) has a closed form. Let :math:`p` be the point nearest to 0 on the line through
    the two gradients, and :math:`e` the unit vector from one to the other: then
    :math:`h = p + s e` and :math:`\bar g = p + \bar s e`, and the derivative of (2)
    vanishes where the sine of the angle of :math:`h` from :math:`p` is

    .. math:: s / \|h\| = -\bar s / (c \|\bar g\|)

    clipped to the interval between the two gradients. No numerical search and no
    epsilon in denominators is needed.

    To accumulate gradients, put ``optax.MultiSteps`` after it in the chain: around it,
    it would pass on only the auxiliary gradient of the last micro-batch.

    Symbols: :math:`c` c.

    Defaults: c of the paper for multi-task networks; it tries 0.2 to 0.8.

    Differences from the paper: two losses only.

    Differences from released code: the release finds :math:`w` by numerical search,
    adds 1e-4 inside square roots and 1e-8 to a norm, and divides the result by :math:`1
    + c`, which changes the learning rate.

    Args:
      c: Radius of the ball relative to the norm of the mean gradient, >= 0.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The gradient transformation: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients. Put it before the optimizer in
      a chain: after it, the updates point downhill, and aux_grads, which are added to
      them, uphill. Updates of this library's optimizers are refused.

    Raises:
      ValueError: c is not a finite number >= 0; in `update`, the gradients are updates
        of an optimizer, aux_grads is missing or does not have the structure, shapes and
        kinds of dtypes of the gradients.

    References:
      Liu, Liu, Jin, Stone and Liu, Conflict-Averse Gradient Descent for Multi-task
      Learning, NeurIPS 2021, Algorithm 1; arXiv:2110.14048.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> auxiliary = lambda x: jnp.sum((x - 1.0) ** 2)
      >>> optimizer = optax.chain(optimizers.cagrad(), optax.sgd(0.1))
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> print(x.round(2))  # the minimum of the mean loss
      [2. 2.]
    """
    name = "cagrad"
    checks.non_negative(name, c=c)
    checks.functions(name, reduce=reduce)

    def init(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        aux_grads: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, Any]:
        del params, extra_args
        grads, (aux,) = auxiliary.main_and_auxiliary(name, updates, aux_grads)
        along = reductions.normalized(trees.add_multiple(aux, -1.0, grads), reduce)  # e
        start = reductions.dot(grads, along, reduce)
        end = reductions.dot(aux, along, reduce)
        middle = 0.5 * (start + end)
        # p and (1), from the gradient with the smaller norm, which stays accurate if
        # the other is much larger
        shorter, at = middle >= 0.0, jnp.where(middle >= 0.0, start, end)
        foot = trees.map_inexact(
            lambda g, a, e: _foot(shorter, at, g, a, e), grads, aux, along
        )
        length = reductions.norm(foot, reduce)
        across, height = reductions.unit(foot, length), length.root / length.scale

        radius = numerics.as_float_scalar(c) * reductions.safe_hypot(height, middle)
        sine = jnp.clip(numerics.safe_divide(-middle, radius), -1.0, 1.0)
        cosine = numerics.safe_sqrt((1.0 - sine) * (1.0 + sine))
        beyond = jnp.where(sine > 0.0, end, start)
        best = jnp.where(
            cosine > 0.0, height * numerics.safe_divide(sine, cosine), beyond
        )
        best = jnp.clip(best, start, end)  # (2)
        size = reductions.safe_hypot(height, best)
        direction = trees.add_multiple(
            trees.multiply(
                height + radius * numerics.safe_divide(height, size), across
            ),
            middle + radius * numerics.safe_divide(best, size),
            along,
        )  # (3)
        return trees.saturating_cast_like(direction, grads), state

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _foot(
    shorter: jax.Array, at: jax.Array, g: jax.Array, a: jax.Array, e: jax.Array
) -> jax.Array:
    g, a = g.astype(e.dtype), a.astype(e.dtype)
    return jnp.where(shorter, g, a) - numerics.cast_scalar(e, at) * e
