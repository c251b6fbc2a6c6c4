"""Gradient vaccine: Wang, Tsvetkov, Firat and Cao (2021)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import auxiliary, checks, numerics, reductions, trees
from optimizers._common.typing import PyTree, Reduce, Scalar

__all__ = ["GradvacState", "gradvac"]


class GradvacState(NamedTuple):
    """State of `gradvac`."""

    mean_cosine: jax.Array  # phi bar, shape (), the widest of float32 and the params


def gradvac(
    ema_rate: Scalar = 0.01, *, reduce: Reduce | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient vaccine: turns the main gradient to the usual angle with another one.

    Put it first in a chain, and give `update` the gradient :math:`a_t` of an
    auxiliary loss beside the gradient :math:`g_t` of the main one. With products and
    norms over the whole tree,

    .. math::

       \varphi_t &= \frac{\langle g_t, a_t \rangle}{\|g_t\| \|a_t\|}         && (1) \\
       d_t &= \begin{cases} g_t + \dfrac{\|g_t\|}{\|a_t\|} \left(
         \bar\varphi_{t-1} \sqrt{\dfrac{1 - \varphi_t^2}
         {1 - \bar\varphi_{t-1}^2}} - \varphi_t \right) a_t
         & \varphi_t < \bar\varphi_{t-1} \\ g_t & \text{else} \end{cases}    && (2) \\
       \bar\varphi_t &= (1 - \rho) \bar\varphi_{t-1} + \rho \varphi_t        && (3)

    with :math:`\bar\varphi_0 = 0`. Where it turns, the cosine of :math:`d_t` and
    :math:`a_t` is :math:`\bar\varphi_{t-1}`; with :math:`\bar\varphi = 0` that is the
    projection of `pcgrad`. The auxiliary gradient itself is not added.

    (2) is computed from the part of :math:`g` that is orthogonal to :math:`a`, whose
    norm is :math:`\|g\| \sqrt{1 - \varphi^2}` without its cancellation. For
    :math:`\bar\varphi = 1`, which no multiple of :math:`a` reaches, :math:`d = g`. The
    cosine with a zero gradient counts as 0.

    Symbols: :math:`\rho` ema_rate; the state holds :math:`\bar\varphi` as mean_cosine.

    Defaults: ours; an average over about a hundred steps.

    Differences from the paper: one pair of gradients, of which the main one is turned,
    the form that the authors of Bloop compare with (their table prints (2) without
    the factor :math:`a`); the paper turns the gradient of every task so and sums them.
    The average is one for the whole tree; mask or partition for one per group.

    Args:
      ema_rate: Weight of the new cosine in the average, in [0, 1].
      reduce: Only where each device holds a part of the params and calls `update` by
        itself, as in ``shard_map``: sums a small vector over these devices, for
        instance ``lambda x: jax.lax.psum(x, "data")``.

    Returns:
      The prefix transform: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients.

    Raises:
      ValueError: ema_rate is not in [0, 1]; in `update`, aux_grads is missing or not
        like the gradients.

    References:
      Wang, Tsvetkov, Firat and Cao, Gradient Vaccine: Investigating and Improving
      Multi-task Optimization in Massively Multilingual Models, ICLR 2021;
      arXiv:2010.05874.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> auxiliary = lambda x: jnp.sum((x - jnp.array([3.0, 5.0])) ** 2)
      >>> optimizer = optax.chain(optimizers.gradvac(), optax.sgd(0.1))
      >>> x = jnp.ones(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(main(x) < 10.0)
      True
    """
    name = "gradvac"
    checks.unit_interval(name, ema_rate=ema_rate)

    def init(params: PyTree) -> GradvacState:
        leaves = [x for x in jax.tree.leaves(params) if trees.is_inexact(x)]
        return GradvacState(reductions.scalar_like(leaves, 0.0))

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        aux_grads: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, GradvacState]:
        del params, extra_args
        grads, (aux,) = auxiliary.main_and_auxiliary(name, updates, aux_grads)
        axis = reductions.normalized(aux, reduce)
        along = reductions.dot(grads, axis, reduce)
        foot = reductions.norm(trees.add_multiple(grads, -along, axis), reduce)
        across = foot.root / foot.scale
        cosine = numerics.safe_divide(along, jnp.hypot(along, across))  # (1)

        mean = numerics.wide_scalar(state.mean_cosine)
        sine = reductions.safe_sqrt((1.0 - mean) * (1.0 + mean))
        wanted = numerics.safe_divide(mean, sine) * across
        turns = (cosine < mean) & (sine > 0.0)
        missing = jnp.where(turns, wanted - along, 0.0)
        direction = trees.add_multiple(grads, missing, axis)  # (2)

        rate = numerics.wide_scalar(ema_rate)
        mean = (1.0 - rate) * mean + rate * cosine  # (3)
        return trees.saturating_cast_like(direction, grads), GradvacState(
            mean.astype(state.mean_cosine.dtype)
        )

    return optax.GradientTransformationExtraArgs(init, update)
