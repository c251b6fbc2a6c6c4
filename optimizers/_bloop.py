"""Bloop, gradient surgery with an averaged gradient: Hsieh et al. (2024)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import auxiliary, checks, numerics, reductions, schedules, trees
from optimizers._common.auxiliary import AuxWeight
from optimizers._common.typing import PyTree, Reduce, Scalar

__all__ = ["BloopState", "bloop"]

# In units of the relative rounding error: averages with a smaller orthogonal part are
# treated as linearly dependent.
_DEPENDENT = 64.0


class BloopState(NamedTuple):
    """State of `bloop`."""

    count: PyTree  # t, shape (), int32; None if no weight is a schedule
    grad_average: tuple[PyTree, ...]  # m, then m_1, … for several auxiliary losses;
    # shapes of the params, at least float32


def bloop(
    aux_weight: AuxWeight,
    *,
    ema_rate: Scalar = 0.01,
    rescale: bool = False,
    use_updated_ema: bool = False,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Bloop: adds the part of the auxiliary gradient orthogonal to the main one.

    It searches for the minimum of an auxiliary loss among the minima of the main loss.
    Put it first in a chain, and pass `update` the gradient :math:`a_t` of the auxiliary
    loss in addition to the gradient :math:`g_t` of the main loss, both on the same
    batch. With inner products and norms over the whole tree,

    .. math::

       \pi(a; m) &= a - \frac{\langle a, m \rangle}{\|m\|^2} m               && (1) \\
       d_t &= g_t + \lambda \pi(a_t; m_{t-1})                                && (2) \\
       m_t &= (1 - \rho) m_{t-1} + \rho g_t                                  && (3)

    with :math:`m_0 = 0` and :math:`\pi(a; 0) = a`. The average :math:`m` estimates the
    full-batch gradient: with the noisy gradient of one batch in its place, the
    auxiliary gradient would increase the main loss. The average needs no bias
    correction, because :math:`\pi` does not depend on its norm. There is no epsilon in
    (1), which is accurate for averages of every size.

    For several auxiliary losses, in order of importance, :math:`a_k` is projected onto
    the orthogonal complement of all averages before it, by Gram-Schmidt:

    .. math::

       d_t &= g_t + \textstyle\sum_k \lambda_k
         \pi(a_{k,t}; \mathrm{span}(m, m_1, \dots, m_{k-1}))                 && (4) \\
       m_{k,t} &= (1 - \rho) m_{k,t-1} + \rho a_{k,t}                        && (5)

    An average that is linearly dependent on those before it, up to rounding errors,
    adds nothing to the span.

    Symbols: :math:`\lambda` aux_weight, :math:`\rho` ema_rate; the state holds
    :math:`m, m_1, \dots` as the tuple grad_average, in at least float32: in bfloat16 an
    average with ema_rate 0.01 stops changing. There is one for each loss except the
    last.

    Defaults: ema_rate of the paper, which recommends values somewhat above the learning
    rate. There, 0.001 was too slow, and 0.9 behaved almost like `mixed_gradients`.
    aux_weight has no default, because no value suits all problems.

    Differences from the paper: the paper does not specify the initial average; with
    zero, the first step is that of `mixed_gradients`.

    Differences from released code (ml-bloop): it updates the average before the
    projection, so that the noise of the batch enters twice; use
    ``use_updated_ema=True`` for that. It adds 1e-7 to :math:`\|m\|^2`, which leaves
    most of the conflict in place if gradients have a norm of about 1e-4. Its rescaling
    multiplies by :math:`1 + \lambda`; the paper divides. Its examples initialize the
    average with the params. Its default ema_rate is 0.1. Its option to take the
    coefficient of (1) from the average but the direction from the batch is left out.

    ``optax.MultiSteps`` passes on only the auxiliary gradient of the last mini-batch;
    put bloop before it, ``chain(bloop(…), MultiSteps(…))``, or average both gradients
    yourself. ``optax.masked`` and ``optax.partition`` need
    ``mask_compatible_extra_args=True`` and support one auxiliary loss; inner products
    then cover only the leaves of the group, which is a different method.

    Args:
      aux_weight: Weight of the auxiliary gradient, >= 0: a float or an optax schedule
        (called with the step count, starting at 0). For several auxiliary losses a list
        or tuple of them; aux_grads is then a list or tuple of as many trees.
      ema_rate: Weight of the new gradient in the average, in [0, 1].
      rescale: Whether to divide the direction by :math:`1 + \sum_k \lambda_k`, which
        keeps its size for large weights.
      use_updated_ema: Whether to apply (3) and (5) before (2) and (4). With
        ``ema_rate=1`` this projects on the gradient of the batch.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The gradient transformation: ``update(grads, state, params, aux_grads=aux_grads)``
      returns :math:`d_t` in the dtypes of the gradients. Put it before the optimizer in
      a chain: after it, the updates point downhill, and aux_grads, which are added to
      them, uphill. Updates of this library's optimizers are refused.

    Raises:
      ValueError: A weight is not a finite number >= 0, or ema_rate not in [0, 1]; in
        `update`, the gradients are updates of an optimizer, the gradients do not have
        the structure and shapes of the params, or aux_grads is missing or does not have
        the structure, shapes and kinds of dtypes of the gradients.

    References:
      Hsieh, Thornton, Ndiaye, Klein, Cuturi and Ablin, Careful with that Scalpel:
      Improving Gradient Surgery with an EMA, ICML 2024; arXiv:2402.02998.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> main = lambda x: (x[0] - 3.0) ** 2  # its minima are a line
      >>> auxiliary = lambda x: jnp.sum(x**2)
      >>> optimizer = optax.chain(optimizers.bloop(aux_weight=0.5), optax.sgd(0.1))
      >>> x = jnp.ones(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     grads, aux_grads = jax.grad(main)(x), jax.grad(auxiliary)(x)
      ...     updates, state = optimizer.update(grads, state, x, aux_grads=aux_grads)
      ...     x = optax.apply_updates(x, updates)
      >>> print(x.round(2))
      [3. 0.]
    """
    name = "bloop"
    weights, number = auxiliary.checked_weights(name, aux_weight)
    checks.unit_interval(name, ema_rate=ema_rate)
    checks.functions(name, reduce=reduce)

    def init(params: PyTree) -> BloopState:
        return BloopState(
            count=schedules.init_count(weights),
            grad_average=tuple(trees.optional_averages_like(params) for _ in weights),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        aux_grads: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, BloopState]:
        del params, extra_args
        trees.require_shapes_of(
            name, "updates", updates, "the params of init()", state.grad_average[0]
        )
        grads, several = auxiliary.main_and_auxiliary(name, updates, aux_grads, number)
        new = tuple(
            _averaged(ema_rate, g, m)
            for g, m in zip([grads, *several[:-1]], state.grad_average, strict=True)
        )  # (3), (5)
        axes = _orthonormal(new if use_updated_ema else state.grad_average, reduce)

        direction, total = grads, 1.0
        values = schedules.values_at(weights, state.count)
        for level, (weight, aux) in enumerate(zip(values, several, strict=True), 1):
            for axis in axes[:level]:
                aux, _ = reductions.orthogonal(aux, axis, reduce)  # (1)
            direction = trees.add_multiple(direction, weight, aux)  # (2), (4)
            total = total + weight
        if rescale:
            direction = trees.multiply(1.0 / total, direction)
        return trees.saturating_cast_like(direction, grads), BloopState(
            schedules.next_count(state.count), new
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _orthonormal(averages: tuple[PyTree, ...], reduce: Reduce | None) -> list[PyTree]:
    """Gram-Schmidt; 0 for an average that is linearly dependent on those before it."""
    axes: list[PyTree] = []
    for average in averages:
        axis = reductions.normalized(average, reduce)
        # Two passes: the error of the first is relative to the whole average, that of
        # the second only to its orthogonal part.
        for other in axes + axes:
            axis, _ = reductions.orthogonal(axis, other, reduce)
        if axes:
            length = reductions.norm(axis, reduce)
            noise = _DEPENDENT * _eps(average)
            root = jnp.where(length.root > noise * length.scale, length.root, 0.0)
            axis = reductions.unit(axis, length._replace(root=root))
        axes.append(axis)
    return axes


def _eps(tree: PyTree) -> float:
    """The relative rounding error of the least precise leaf."""
    return max(
        (float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(tree)), default=0
    )


def _averaged(ema_rate: Scalar, grads: PyTree, averages: PyTree) -> PyTree:
    fraction = numerics.as_scalar(ema_rate)
    return jax.tree.map(
        lambda m, g: _average(fraction, m, g) if trees.is_inexact(g) else m,
        averages,
        grads,
    )


@numerics.inline_jit
def _average(fraction: Scalar, m: jax.Array, g: jax.Array) -> jax.Array:
    g = numerics.upcast(g, m)
    kept, fraction = (
        numerics.cast_scalar(g, 1.0 - fraction),
        numerics.cast_scalar(g, fraction),
    )
    return (kept * m.astype(g.dtype) + fraction * g).astype(m.dtype)
