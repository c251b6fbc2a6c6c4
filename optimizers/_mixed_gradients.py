"""The weighted sum of gradients, the baseline of gradient surgery."""

from __future__ import annotations

from typing import Any, NamedTuple

import optax

from optimizers._common import auxiliary, schedules, trees
from optimizers._common.auxiliary import AuxWeight
from optimizers._common.typing import PyTree

__all__ = ["MixedGradientsState", "mixed_gradients"]


class MixedGradientsState(NamedTuple):
    """State of `mixed_gradients`."""

    count: PyTree  # t, shape (), int32; None if no weight is a schedule


def mixed_gradients(aux_weight: AuxWeight) -> optax.GradientTransformationExtraArgs:
    r"""Mixed gradients: the gradient of a weighted sum of losses.

    Put it first in a chain, and pass `update` the gradient :math:`a_t` of an auxiliary
    loss in addition to the gradient :math:`g_t` of the main loss,

    .. math::

       d_t = g_t + \lambda a_t \qquad (1)

    This is the gradient of a single loss, and :math:`\lambda` chooses a compromise: at
    convergence :math:`g = -\lambda a`, and neither loss is at its minimum. `bloop` and
    related methods treat conflicting gradients differently.

    To accumulate gradients, put ``optax.MultiSteps`` after it in the chain: around it,
    it would pass on only the auxiliary gradient of the last micro-batch.

    Symbols: :math:`\lambda` aux_weight.

    Defaults: none.

    Differences from the usual code: it equals ``jax.grad`` of the weighted sum, and
    costs one more backward pass. In return, it can be exchanged for other methods
    without changing the training step.

    Args:
      aux_weight: Weight of the auxiliary gradient, >= 0: a float or an optax schedule
        (called with the step count, starting at 0). For several auxiliary losses a list
        or tuple of them; aux_grads is then a list or tuple of as many trees.

    Returns:
      The gradient transformation: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients. Put it before the optimizer in
      a chain: after it, the updates point downhill, and aux_grads, which are added to
      them, uphill. Updates of this library's optimizers are refused.

    Raises:
      ValueError: A weight is not a finite number >= 0; in `update`, the gradients are
        updates of an optimizer, aux_grads is missing or does not have the structure,
        shapes and kinds of dtypes of the gradients.

    References:
      Hsieh, Thornton, Ndiaye, Klein, Cuturi and Ablin, Careful with that Scalpel:
      Improving Gradient Surgery with an EMA, ICML 2024; arXiv:2402.02998.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: (x[0] - 3.0) ** 2
      >>> auxiliary = lambda x: jnp.sum(x**2)
      >>> optimizer = optax.chain(optimizers.mixed_gradients(0.5), optax.sgd(0.1))
      >>> x = jnp.ones(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> print(x.round(2))
      [2. 0.]
    """
    weights, number = auxiliary.checked_weights("mixed_gradients", aux_weight)

    def init(params: PyTree) -> MixedGradientsState:
        del params
        return MixedGradientsState(schedules.init_count(weights))

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        aux_grads: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, MixedGradientsState]:
        del params, extra_args
        grads, several = auxiliary.main_and_auxiliary(
            "mixed_gradients", updates, aux_grads, number
        )
        mixed = grads
        for weight, aux in zip(
            schedules.values_at(weights, state.count), several, strict=True
        ):
            mixed = trees.add_multiple(mixed, weight, aux)  # (1)
        count = schedules.next_count(state.count)
        return trees.saturating_cast_like(mixed, grads), MixedGradientsState(count)

    return optax.GradientTransformationExtraArgs(init, update)
