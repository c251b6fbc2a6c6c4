"""GSAM, surrogate gap guided SAM: Zhuang et al. (2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

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

__all__ = ["gsam", "gsam_gradient", "gsam_rho_schedule"]


def gsam_rho_schedule(
    learning_rate: Callable[[jax.Array], Any],
    *,
    rho_min: Scalar,
    rho_max: Scalar,
    learning_rate_min: Scalar,
    learning_rate_max: Scalar,
) -> Callable[[jax.Array], jax.Array]:
    r"""The radius of GSAM as a linear function of the learning rate.

    .. math:: \rho(t) = \rho_{min} + (\rho_{max} - \rho_{min})
       \frac{\eta(t) - \eta_{min}}{\eta_{max} - \eta_{min}}

    It is clipped to its range, and :math:`\rho_{max}` if both learning rates are equal.

    Args:
      learning_rate: Schedule of the learning rate.
      rho_min: Radius at the smallest learning rate.
      rho_max: Radius at the largest learning rate.
      learning_rate_min: The smallest learning rate.
      learning_rate_max: The largest learning rate.

    Returns:
      An optax schedule.

    Raises:
      ValueError: An argument is out of its range.
    """
    checks.non_negative(
        "gsam_rho_schedule",
        rho_min=rho_min,
        rho_max=rho_max,
        learning_rate_min=learning_rate_min,
        learning_rate_max=learning_rate_max,
    )
    if not callable(learning_rate):
        msg = (
            "gsam_rho_schedule: learning_rate must be a schedule, got "
            f"{learning_rate!r}; a constant learning rate has a constant rho."
        )
        raise ValueError(msg)  # noqa: TRY004

    def schedule(count: jax.Array) -> jax.Array:
        low, high = map(
            numerics.as_float_scalar, (learning_rate_min, learning_rate_max)
        )
        rho_low, rho_high = map(numerics.as_float_scalar, (rho_min, rho_max))
        lr = numerics.as_float_scalar(schedules.value_at(learning_rate, count))
        # From the top, so that an empty range gives the largest radius.
        down = numerics.safe_divide(high - lr, high - low).clip(0.0, 1.0)
        return rho_high - (rho_high - rho_low) * down

    return schedule


def gsam_gradient(
    rho: ScalarOrSchedule = 0.05,
    alpha: Scalar = 0.4,
    *,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The gradient of GSAM, for use in a chain; see `gsam`.

    Args:
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      alpha: Weight of the ascent step along (3), finite and >= 0; 0 is SAM.
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
    return _gradient("gsam_gradient", rho, alpha, mask, reduce)


def gsam(
    optimizer: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.05,
    alpha: Scalar = 0.4,
    *,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""GSAM: SAM that also minimizes the gap between the perturbed and the actual loss.

    The gap between the highest loss nearby and the loss at the params measures
    sharpness better than the highest loss alone. An ascent step on the loss at the
    params, orthogonal to the gradient of the other, closes the gap. For the gradient
    :math:`g_t = \nabla L(x_{t-1})`, with norms and products over all leaves,

    .. math::

       e_t &= \rho_t \, g_t / \|g_t\|                                         && (1) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                        && (2) \\
       g^\perp_t &= g_t - \frac{\langle g_t, g'_t \rangle}{\|g'_t\|^2} g'_t   && (3) \\
       d_t &= g'_t - \alpha g^\perp_t                                         && (4) \\
       x_t &= x_{t-1} + \text{optimizer}(d_t, x_{t-1})                        && (5)

    where 0/0 is 0. `update` needs ``grad_fn`` or ``value_fn``, a function from params
    to the gradient or to the loss on the same batch. `gsam_gradient` is (1) to (4) as
    the first transformation of a chain; it composes like `sharpness_aware`.

    To accumulate gradients, put ``optax.MultiSteps`` inside, as in
    ``gsam(optax.MultiSteps(optimizer, k))``: around it, it would take the second
    gradient on the last micro-batch only.

    Cost: two gradients per step and two more sums over the gradients; no state except a
    step count if rho is a schedule.

    Symbols: :math:`\rho` rho, :math:`\alpha` alpha.

    Defaults: rho is that of SAM, alpha that of the example of the released code. The
    paper's radius follows the learning rate: ``rho=gsam_rho_schedule(...)``.

    Differences from the paper: none in (1) to (4).

    Differences from released code: its neighborhood can be adaptive as in ASAM, as in
    its example; here it is a ball.

    Args:
      optimizer: Optimizer that gets the direction of (4).
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      alpha: Weight of the ascent step along (3), finite and >= 0; 0 is SAM.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Called
        five times per update.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: As `gsam_gradient`.

    References:
      Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training,
      ICLR 2022; arXiv:2203.08065.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.gsam(optax.sgd(0.1), rho=0.05)
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
    inner = checks.inner_optimizer("gsam", optimizer, "rho=0.05")
    return optax.chain(_gradient("gsam", rho, alpha, mask, reduce), inner)  # (5)


def _gradient(
    name: str, rho: ScalarOrSchedule, alpha: Scalar, mask: Mask, reduce: Reduce | None
) -> optax.GradientTransformationExtraArgs:
    checks.non_negative(name, rho=rho, alpha=alpha)
    checks.functions(name, reduce=reduce)
    mask = masks.checked(name, "mask", mask, rho)

    def init(params: PyTree) -> Any:
        ascent.require_unmasked(name, params)
        return schedules.init_state(rho)

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        grad_fn: Callable[[PyTree], PyTree] | None = None,
        value_fn: Callable[[PyTree], Any] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, Any]:
        del extra_args
        radius, state = schedules.advance(rho, state)
        grads = ascent.gradients_of_params(name, updates, params)
        gradient = ascent.gradient_of_loss(name, grad_fn, value_fn, grads)
        if numerics.is_number(radius, 0):
            return grads, state
        perturbed = ascent.perturbed_gradient(
            name, gradient, params, grads, radius, grads, mask, reduce
        )  # (1), (2)
        axis = reductions.normalized(perturbed, reduce)
        across, _ = reductions.orthogonal(grads, axis, reduce)  # (3)
        direction = trees.add_multiple(
            perturbed, -numerics.as_scalar(alpha), across
        )  # (4)
        return trees.saturating_cast_like(direction, grads), state

    return optax.GradientTransformationExtraArgs(init, update)
