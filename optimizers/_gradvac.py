"""Gradient vaccine: Wang, Tsvetkov, Firat and Cao (2021)."""

from __future__ import annotations

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
    r"""Gradient vaccine: raises the cosine of two gradients to its moving average.

    Put it first in a chain, and pass `update` the gradient :math:`a_t` of an auxiliary
    loss in addition to the gradient :math:`g_t` of the main loss. With products and
    norms over the whole tree,

    .. math::

       \varphi_t &= \frac{\langle g_t, a_t \rangle}{\|g_t\| \|a_t\|}         && (1) \\
       d_t &= \begin{cases} g_t + \dfrac{\|g_t\|}{\|a_t\|} \left(
         \bar\varphi_{t-1} \sqrt{\dfrac{1 - \varphi_t^2}
         {1 - \bar\varphi_{t-1}^2}} - \varphi_t \right) a_t
         & \varphi_t < \bar\varphi_{t-1} \\ g_t & \text{else} \end{cases}    && (2) \\
       \bar\varphi_t &= (1 - \rho) \bar\varphi_{t-1} + \rho \varphi_t        && (3)

    with :math:`\bar\varphi_0 = 0`. In the first case, the cosine of :math:`d_t` and
    :math:`a_t` is :math:`\bar\varphi_{t-1}`; with :math:`\bar\varphi = 0` this is the
    projection of `pcgrad`. The auxiliary gradient itself is not added.

    (2) is computed from the part of :math:`g` that is orthogonal to :math:`a`, whose
    norm is :math:`\|g\| \sqrt{1 - \varphi^2}`, computed without cancellation. For
    :math:`\bar\varphi = 1`, which no multiple of :math:`a` reaches, :math:`d = g`. The
    cosine with a zero gradient is 0.

    To accumulate gradients, put ``optax.MultiSteps`` after it in the chain: around it,
    it would pass on only the auxiliary gradient of the last micro-batch.

    Symbols: :math:`\rho` ema_rate; the state holds :math:`\bar\varphi` as mean_cosine.

    Defaults: an average over about a hundred steps; the paper has no default.

    Differences from the paper: only the main gradient is rotated, and not summed with
    the other, as in the comparison of Bloop (whose table prints (2) without the factor
    :math:`a`); the paper rotates the gradients of all tasks and sums them. There is one
    average for the whole tree; use ``optax.partition`` for one per group.

    Args:
      ema_rate: Weight of the new cosine in the average, in [0, 1].
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The gradient transformation: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients. Put it before the optimizer in
      a chain: after it, the updates point downhill, and aux_grads, which are added to
      them, uphill. Updates of this library's optimizers are refused.

    Raises:
      ValueError: ema_rate is not in [0, 1]; in `update`, the gradients are updates of
        an optimizer, aux_grads is missing or does not have the structure, shapes and
        kinds of dtypes of the gradients.

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
    checks.functions(name, reduce=reduce)

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
        cosine = numerics.safe_divide(
            along, reductions.safe_hypot(along, across)
        )  # (1)

        mean = numerics.as_float_scalar(state.mean_cosine)
        sine = numerics.safe_sqrt((1.0 - mean) * (1.0 + mean))
        wanted = numerics.safe_divide(mean, sine) * across
        turns = (cosine < mean) & (sine > 0.0)
        missing = jnp.where(turns, wanted - along, 0.0)
        direction = trees.add_multiple(grads, missing, axis)  # (2)

        rate = numerics.as_float_scalar(ema_rate)
        mean = (1.0 - rate) * mean + rate * cosine  # (3)
        return trees.saturating_cast_like(direction, grads), GradvacState(
            mean.astype(state.mean_cosine.dtype)
        )

    return optax.GradientTransformationExtraArgs(init, update)
