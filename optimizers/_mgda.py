"""MGDA, the multiple-gradient descent algorithm: Désidéri (2012)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from optimizers._common import auxiliary, checks, reductions, trees
from optimizers._common.typing import PyTree, Reduce

__all__ = ["mgda"]


def mgda(*, reduce: Reduce | None = None) -> optax.GradientTransformationExtraArgs:
    r"""MGDA: the minimum-norm convex combination of two gradients.

    Put it first in a chain, and pass `update` the gradient :math:`a_t` of an auxiliary
    loss in addition to the gradient :math:`g_t` of the main loss. With products and
    norms over the whole tree,

    .. math::

       \gamma_t &= \mathrm{clip}\left(\frac{\langle a_t - g_t, a_t \rangle}
         {\|a_t - g_t\|^2}, 0, 1\right)                  && (1) \\
       d_t &= \gamma_t g_t + (1 - \gamma_t) a_t          && (2)

    For :math:`0 < \gamma < 1`, :math:`\langle d, g \rangle = \langle d, a \rangle =
    \|d\|^2`, so that both losses decrease; :math:`d` is 0 if, to first order, no step
    decreases both. Both losses are treated equally, and the smaller gradient dominates:
    scale the losses to weight them.

    (2) is computed from the gradient with the smaller norm, minus its component along
    :math:`a - g`, which stays accurate if the other is much larger.

    To accumulate gradients, put ``optax.MultiSteps`` after it in the chain: around it,
    it would pass on only the auxiliary gradient of the last micro-batch.

    Symbols: none are arguments.

    Defaults: none.

    Differences from the paper: two losses only, for which the minimum has this closed
    form. Some later papers print the numerator of (1) with the opposite sign, or
    without the clipping.

    Args:
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The gradient transformation: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients. Put it before the optimizer in
      a chain: after it, the updates point downhill, and aux_grads, which are added to
      them, uphill. Updates of this library's optimizers are refused.

    Raises:
      ValueError: In `update`, the gradients are updates of an optimizer, aux_grads is
        missing or does not have the structure, shapes and kinds of dtypes of the
        gradients.

    References:
      Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective
      optimization, Comptes Rendus Mathématique, 2012;
      doi:10.1016/j.crma.2012.03.014.

      Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS
      2018; arXiv:1810.04650.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: (x[0] - 3.0) ** 2 + x[1] ** 2
      >>> auxiliary = lambda x: jnp.sum(x**2)
      >>> optimizer = optax.chain(optimizers.mgda(), optax.sgd(0.1))
      >>> x = jnp.array([1.0, 4.0])
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(0.0 < x[0] < 3.0), bool(abs(x[1]) < 0.1)  # neither can gain alone
      (True, True)
    """
    checks.functions("mgda", reduce=reduce)

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
        grads, (aux,) = auxiliary.main_and_auxiliary("mgda", updates, aux_grads)
        axis = reductions.normalized(trees.add_multiple(aux, -1.0, grads), reduce)
        start = reductions.dot(grads, axis, reduce)
        end = reductions.dot(aux, axis, reduce)
        # (1) is end / (end - start): clipped at 1 where start >= 0, at 0 where end <= 0
        from_grads = trees.add_multiple(grads, -jnp.minimum(start, 0.0), axis)
        from_aux = trees.add_multiple(aux, -jnp.maximum(end, 0.0), axis)
        shorter = start + end >= 0.0
        direction = trees.map_inexact(
            lambda d, e: jnp.where(shorter, d, e), from_grads, from_aux
        )  # (2)
        return trees.saturating_cast_like(direction, grads), state

    return optax.GradientTransformationExtraArgs(init, update)
