"""Dynamic barrier gradient descent: Gong, Liu and Liu (2021)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from optimizers._common import auxiliary, checks, numerics, reductions, schedules, trees
from optimizers._common.typing import PyTree, Reduce, ScalarOrSchedule

__all__ = ["DynamicBarrierState", "dynamic_barrier"]


class DynamicBarrierState(NamedTuple):
    """State of `dynamic_barrier`."""

    count: PyTree  # t, shape (), int32; None if no weight is a schedule


def dynamic_barrier(
    aux_weight: ScalarOrSchedule, *, reduce: Reduce | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Dynamic barrier: adds the auxiliary gradient without slowing the main descent.

    Put it first in a chain, and pass `update` the gradient :math:`a_t` of an auxiliary
    loss in addition to the gradient :math:`g_t` of the main loss. With products and
    norms over the whole tree,

    .. math::

       d_t = \max\left(1 - \lambda \frac{\langle g_t, a_t \rangle}{\|g_t\|^2},
         0\right) g_t + \lambda a_t \qquad (1)

    Then :math:`\langle d_t, g_t \rangle \ge \|g_t\|^2`, with equality unless the
    maximum is 0: to first order, the main loss decreases as fast as without the
    auxiliary gradient. If the auxiliary gradient alone decreases it faster, the main
    gradient is left out.

    To accumulate gradients, put ``optax.MultiSteps`` after it in the chain: around it,
    it would pass on only the auxiliary gradient of the last micro-batch.

    Symbols: :math:`\lambda` aux_weight.

    Defaults: none.

    Differences from the paper: it has :math:`a + \max((\psi - \langle g, a \rangle) /
    \|g\|^2, 0) g` with a barrier :math:`\psi` that may need the value of the main loss;
    (1) is :math:`\lambda` times that with :math:`\psi = \|g\|^2 / \lambda`, the form in
    the comparison of Bloop.

    Differences from released code (ml-bloop): it adds 1e-7 to :math:`\|g\|^2`, which
    dominates if gradients are small, and its rescaling multiplies by :math:`1 +
    \lambda`, while the paper divides. Neither is done here.

    Args:
      aux_weight: Weight of the auxiliary gradient, >= 0: a float or an optax schedule
        (called with the step count, starting at 0).
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The gradient transformation: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients. Put it before the optimizer in
      a chain: after it, the updates point downhill, and aux_grads, which are added to
      them, uphill. Updates of this library's optimizers are refused.

    Raises:
      ValueError: The weight is not a finite number >= 0; in `update`, the gradients are
        updates of an optimizer, aux_grads is missing or does not have the structure,
        shapes and kinds of dtypes of the gradients.

    References:
      Hsieh, Thornton, Ndiaye, Klein, Cuturi and Ablin, Careful with that Scalpel:
      Improving Gradient Surgery with an EMA, ICML 2024; arXiv:2402.02998.

      Gong, Liu and Liu, Bi-objective Trade-off with Dynamic Barrier Gradient Descent,
      NeurIPS 2021.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: (x[0] - 3.0) ** 2
      >>> auxiliary = lambda x: jnp.sum(x**2)
      >>> optimizer = optax.chain(optimizers.dynamic_barrier(0.5), optax.sgd(0.1))
      >>> x = jnp.ones(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> print(x.round(2))
      [3. 0.]
    """
    name = "dynamic_barrier"
    checks.non_negative(name, aux_weight=aux_weight)
    checks.functions(name, reduce=reduce)
    weights = (aux_weight,)

    def init(params: PyTree) -> DynamicBarrierState:
        del params
        return DynamicBarrierState(schedules.init_count(weights))

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        aux_grads: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, DynamicBarrierState]:
        del params, extra_args
        grads, (aux,) = auxiliary.main_and_auxiliary(name, updates, aux_grads)
        (weight,) = schedules.values_at(weights, state.count)
        length = reductions.norm(grads, reduce)
        axis = reductions.unit(grads, length)
        along = numerics.as_float_scalar(weight) * reductions.dot(aux, axis, reduce)
        # (1), in which g is |g| times the axis
        less = jnp.minimum(along, length.root / length.scale)
        direction = trees.add_multiple(
            trees.add_multiple(grads, -less, axis), weight, aux
        )
        count = schedules.next_count(state.count)
        return trees.saturating_cast_like(direction, grads), DynamicBarrierState(count)

    return optax.GradientTransformationExtraArgs(init, update)
