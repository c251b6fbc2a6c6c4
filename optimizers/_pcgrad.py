"""PCGrad, projecting conflicting gradients: Yu et al. (2020)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from optimizers._common import auxiliary, checks, numerics, reductions, schedules, trees
from optimizers._common.auxiliary import AuxWeight
from optimizers._common.typing import PyTree, Reduce

__all__ = ["PcgradState", "pcgrad"]


class PcgradState(NamedTuple):
    """State of `pcgrad`."""

    count: PyTree  # t, shape (), int32; None if no weight is a schedule


def pcgrad(
    aux_weight: AuxWeight, *, reduce: Reduce | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""PCGrad: removes from each gradient the component that conflicts with another.

    Put it first in a chain, and pass `update` the gradients :math:`a_{k,t}` of one or
    several auxiliary losses in addition to the gradient :math:`g_t` of the main loss.
    With products and norms over the whole tree, for each :math:`i` and then for each
    :math:`j \ne i` in order,

    .. math::

       h_0 &= g_t, \quad h_k = \lambda_k a_{k,t}                            && (1) \\
       h'_i &\leftarrow h'_i - \min(\langle h'_i, h_j \rangle, 0)
         \frac{h_j}{\|h_j\|^2} \quad \text{from } h'_i = h_i                && (2) \\
       d_t &= \textstyle\sum_i h'_i                                         && (3)

    The projections are always along the original :math:`h_j`. For one auxiliary loss,
    with :math:`\pi(x; y) = x - \langle x, y \rangle y / \|y\|^2`, it is :math:`g +
    \lambda a` where :math:`\langle g, a \rangle \ge 0`, and :math:`\pi(g; a) + \lambda
    \pi(a; g)` otherwise. Unlike in `bloop`, all losses are treated equally, and the
    gradient of the main loss is projected, too. Losses of weight 0 are ignored.

    To accumulate gradients, put ``optax.MultiSteps`` after it in the chain: around it,
    it would pass on only the auxiliary gradient of the last micro-batch.

    Symbols: :math:`\lambda_k` aux_weight.

    Defaults: none; the paper has ``aux_weight=1``.

    Differences from the paper: the weights, which the authors of Bloop introduced for
    their comparison. The order of :math:`j` is main, first auxiliary, second auxiliary,
    …; the paper draws a random order at every step. For one auxiliary loss both are the
    same.

    Differences from released code: the authors' TensorFlow code shuffles the gradients
    but discards the result, so that its order is fixed, too.

    Args:
      aux_weight: Weight of the auxiliary gradient, >= 0: a float or an optax schedule
        (called with the step count, starting at 0). For several auxiliary losses a list
        or tuple of them; aux_grads is then a list or tuple of as many trees.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

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
      Yu, Kumar, Gupta, Levine, Hausman and Finn, Gradient Surgery for Multi-Task
      Learning, NeurIPS 2020, Algorithm 1; arXiv:2001.06782.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: (x[0] - 3.0) ** 2
      >>> auxiliary = lambda x: jnp.sum(x**2)
      >>> optimizer = optax.chain(optimizers.pcgrad(0.5), optax.sgd(0.1))
      >>> x = jnp.ones(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(0.0 < x[0] < 3.0), bool(abs(x[1]) < 0.1)
      (True, True)
    """
    name = "pcgrad"
    checks.functions(name, reduce=reduce)
    weights, number = auxiliary.checked_weights(name, aux_weight)

    def init(params: PyTree) -> PcgradState:
        del params
        return PcgradState(schedules.init_count(weights))

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        aux_grads: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, PcgradState]:
        del params, extra_args
        grads, several = auxiliary.main_and_auxiliary(name, updates, aux_grads, number)
        values = schedules.values_at(weights, state.count)
        tasks = [grads]  # (1)
        for weight, aux in zip(values, several, strict=True):
            # A loss of weight 0 conflicts with no other.
            if not numerics.is_number(weight, 0):
                tasks.append(trees.multiply(weight, aux))
        axes = [reductions.normalized(task, reduce) for task in tasks]
        total = None
        for i, task in enumerate(tasks):
            for j, axis in enumerate(axes):
                if j != i:
                    along = reductions.dot(task, axis, reduce)
                    task = trees.add_multiple(
                        task, -jnp.minimum(along, 0.0), axis
                    )  # (2)
            total = (
                task if total is None else trees.add_multiple(total, 1.0, task)
            )  # (3)
        count = schedules.next_count(state.count)
        return trees.saturating_cast_like(total, grads), PcgradState(count)

    return optax.GradientTransformationExtraArgs(init, update)
