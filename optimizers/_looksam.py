"""LookSAM, SAM with a periodic second gradient: Liu et al. (2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.core import Tracer

from optimizers._common import (
    ascent,
    checks,
    masks,
    numerics,
    reductions,
    schedules,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["LooksamState", "looksam", "looksam_gradient"]


class LooksamState(NamedTuple):
    """State of `looksam_gradient`."""

    count: jax.Array  # t - 1, shape (), int32
    across: PyTree  # v, of norm 1, shapes of the params, at least float32


def looksam_gradient(
    rho: ScalarOrSchedule = 0.05,
    period: Scalar = 5,
    alpha: Scalar = 0.7,
    *,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The gradient of LookSAM, for use in a chain; see `looksam`.

    Args:
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      period: Number of steps from one second gradient to the next, an integer >= 1; 1
        is SAM.
      alpha: Size of the stored direction relative to the gradient, finite and >= 0.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The transformation; put it before the optimizer in a chain: after it, the updates
      would point uphill; those of this library's optimizers are refused. The result has
      the dtypes of the gradients.

    Raises:
      ValueError: A hyperparameter is out of its range; in `init` and `update`, the
        params are masked; in `update`, the gradients are updates of an optimizer,
        params are missing, grad_fn and value_fn are both missing, or gradients do not
        have the structure and shapes of the params.
    """
    return _gradient("looksam_gradient", rho, period, alpha, mask, reduce)


def looksam(
    optimizer: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.05,
    period: Scalar = 5,
    alpha: Scalar = 0.7,
    *,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""LookSAM: SAM that computes its second gradient only every few steps.

    The part of SAM's gradient that is orthogonal to the gradient at the params changes
    slowly. For the gradient :math:`g_t = \nabla L(x_{t-1})`, with norms and products
    over all leaves, at the steps 1, k + 1, 2k + 1, …,

    .. math::

       e_t &= \rho_t \, g_t / \|g_t\|                                         && (1) \\
       d_t &= \nabla L(x_{t-1} + e_t)                                         && (2) \\
       w_t &= d_t - \frac{\langle d_t, g_t \rangle}{\|g_t\|^2} g_t, \quad
       v_t = w_t / \|w_t\|                                                    && (3)

    and at all others

    .. math::

       d_t = g_t + \alpha \|g_t\| v_t, \quad v_t = v_{t-1} \qquad (4)

    where 0/0 is 0; then :math:`x_t = x_{t-1} + \text{optimizer}(d_t, x_{t-1})`. A
    :math:`w_t` no larger than the rounding of :math:`d_t` is set to 0, because (3)
    would amplify it. `update` needs ``grad_fn`` or ``value_fn`` at every step, a
    function from params to the gradient or to the loss on the same batch.
    `looksam_gradient` is (1) to (4) as the first transformation of a chain; it composes
    like `sharpness_aware`.

    To accumulate gradients, put ``optax.MultiSteps`` inside, as in
    ``looksam(optax.MultiSteps(optimizer, k))``: around it, it would take the second
    gradient on the last micro-batch only.

    Cost: 1 + 1/k gradients per step, and a state of the size of the params. The second
    gradient is inside a ``jax.lax.cond``; under ``jax.vmap`` it is computed at every
    step.

    Symbols: :math:`\rho` rho, :math:`k` period, :math:`\alpha` alpha; the state holds
    :math:`t - 1` as count, :math:`v` as across.

    Defaults: rho is that of SAM, the others are of the paper, which takes k from 5 to
    10.

    Differences from the paper: it keeps :math:`w` and divides by its norm in (4), which
    is the same; its layer-wise scaling is left to the optimizer.

    Differences from released code: some releases compute norms and :math:`v` per leaf;
    those of the paper are global.

    Args:
      optimizer: Optimizer that gets the direction of (2) or (4).
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      period: Number of steps from one second gradient to the next, an integer >= 1; 1
        is SAM.
      alpha: Size of the stored direction relative to the gradient, finite and >= 0.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: As `looksam_gradient`.

    References:
      Liu, Mai, Chen, Hsieh and You, Towards Efficient and Scalable Sharpness-Aware
      Minimization, CVPR 2022; arXiv:2203.02714.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.looksam(optax.sgd(0.1), rho=0.05)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(
      ...         jax.grad(loss)(x), state, x, grad_fn=jax.grad(loss)
      ...     )
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    inner = checks.inner_optimizer("looksam", optimizer, "rho=0.05")
    return optax.chain(_gradient("looksam", rho, period, alpha, mask, reduce), inner)


def _gradient(
    name: str,
    rho: ScalarOrSchedule,
    period: Scalar,
    alpha: Scalar,
    mask: Mask,
    reduce: Reduce | None,
) -> optax.GradientTransformationExtraArgs:
    checks.non_negative(name, rho=rho, alpha=alpha)
    checks.positive_integers(name, period=period)
    checks.functions(name, reduce=reduce)
    mask = masks.checked(name, "mask", mask, rho)

    def init(params: PyTree) -> LooksamState:
        ascent.require_unmasked(name, params)
        return LooksamState(
            count=jnp.zeros([], jnp.int32),
            across=trees.optional_averages_like(params),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        grad_fn: Callable[[PyTree], PyTree] | None = None,
        value_fn: Callable[[PyTree], Any] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, LooksamState]:
        del extra_args
        radius = schedules.value_at(rho, state.count)
        grads = ascent.gradients_of_params(name, updates, params)
        trees.require_shapes_of(
            name, "the gradients", grads, "the params of init()", state.across
        )
        gradient = ascent.gradient_of_loss(name, grad_fn, value_fn, grads)
        length = reductions.norm(grads, reduce)

        def look() -> tuple[PyTree, PyTree]:
            perturbed = ascent.perturbed_gradient(
                name,
                gradient,
                params,
                grads,
                radius,
                grads,
                mask,
                reduce,
                length=length,
            )  # (1), (2)
            axis = reductions.unit(grads, length)
            across, along = reductions.orthogonal(perturbed, axis, reduce)
            across = _direction(across, along, reduce)  # (3)
            new = jax.tree.map(
                lambda x, v: x.astype(v.dtype) if trees.is_inexact(x) else v,
                across,
                state.across,
            )
            return perturbed, new

        def reuse() -> tuple[PyTree, PyTree]:
            size = numerics.as_scalar(alpha) * length.root / length.scale
            direction = trees.map_inexact(
                lambda g, v: numerics.add_scaled(g, size, v), grads, state.across
            )  # (4)
            return trees.saturating_cast_like(direction, grads), state.across

        def arrays(branch: Callable[[], tuple[PyTree, PyTree]]) -> Callable[[], Any]:
            """Drops leaves without a gradient, which `lax.cond` cannot return."""

            def call() -> Any:
                direction, across = branch()
                leaves = jax.tree.leaves(direction)
                return [d for d in leaves if trees.is_inexact(d)], across

            return call

        turn = state.count % jnp.asarray(period).astype(jnp.int32) == 0
        found, across = _branch(turn, arrays(look), arrays(reuse))
        rest = iter(found)
        direction = trees.map_inexact(lambda g: next(rest), grads)
        return direction, LooksamState(numerics.increment(state.count), across)

    return optax.GradientTransformationExtraArgs(init, update)


def _branch(turn: jax.Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """`lax.cond`, except outside of jit, where it would compile at every call."""
    if isinstance(turn, Tracer):
        return lax.cond(turn, yes, no)
    return yes() if turn else no()


def _direction(across: PyTree, along: jax.Array, reduce: Reduce | None) -> PyTree:
    """The orthogonal part over its norm; 0 if it may be rounding error of `along`."""
    leaves = [x for x in jax.tree.leaves(across) if trees.is_inexact(x)]
    rounding = 8.0 * max((float(jnp.finfo(x.dtype).eps) for x in leaves), default=0.0)
    size = reductions.norm(across, reduce)
    noise = size.root / size.scale <= rounding * jnp.abs(along)
    return reductions.unit(across, size._replace(root=jnp.where(noise, 0.0, size.root)))
