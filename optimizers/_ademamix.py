"""AdEMAMix, Adam with a second, slower average: Pagliardini et al. (2024)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    moments,
    numerics,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = [
    "ScaleByAdemamixState",
    "ademamix",
    "ademamix_alpha_schedule",
    "ademamix_b3_schedule",
    "scale_by_ademamix",
]


class ScaleByAdemamixState(NamedTuple):
    """State of `scale_by_ademamix`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m1, shapes and dtypes of the params, at least bfloat16, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32
    mu_slow: PyTree  # m2, shapes of the params, at least float32


def ademamix_alpha_schedule(
    alpha: Scalar, warmup_steps: Scalar
) -> Callable[[jax.Array], jax.Array]:
    r"""Linear warm-up of AdEMAMix's alpha.

    .. math:: \alpha(t) = \min(\alpha t / T, \alpha)

    Args:
      alpha: The final value, finite and >= 0.
      warmup_steps: Number of warm-up steps T, > 0.

    Returns:
      A schedule, called with the step count t - 1, which starts at 0.

    Raises:
      ValueError: An argument is out of range.
    """
    checks.non_negative("ademamix_alpha_schedule", alpha=alpha)
    checks.positive("ademamix_alpha_schedule", warmup_steps=warmup_steps)
    return lambda count: (
        numerics.as_float_scalar(alpha) * _progress(count, warmup_steps)
    )


def ademamix_b3_schedule(
    b1: Scalar, b3: Scalar, warmup_steps: Scalar
) -> Callable[[jax.Array], jax.Array]:
    r"""Warm-up of AdEMAMix's b3, linear in the half-life of the average.

    .. math::

       \beta_3(t) = \min\left(\exp\frac{\ln \beta_1 \ln \beta_3}
         {(1 - t/T) \ln \beta_3 + (t/T) \ln \beta_1},\ \beta_3\right)

    For :math:`\beta_1 = 0`, the first argument of the minimum is its limit,
    :math:`\beta_3^{T/t}`.

    Args:
      b1: Initial value, in [0, 1).
      b3: Final value, in [0, 1).
      warmup_steps: Number of warm-up steps T, > 0.

    Returns:
      A schedule, called with the step count t - 1, which starts at 0.

    Raises:
      ValueError: An argument is out of range.
    """
    checks.decay_rates("ademamix_b3_schedule", b1=b1, b3=b3)
    checks.positive("ademamix_b3_schedule", warmup_steps=warmup_steps)
    return lambda count: jnp.exp(_log_b3(count, b1, b3, warmup_steps))


def scale_by_ademamix(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    warmup_steps: Scalar | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as AdEMAMix does, without the learning rate; see `ademamix`.

    Args:
      b1: Decay rate of the fast first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      b3: Decay rate of the slow first moment, in [0, 1); a float or a schedule.
      alpha: Weight of the slow first moment, >= 0; a float or a schedule.
      eps: Small constant added to the denominator, outside the square root.
      eps_root: Small constant added to the second moment, inside the square root.
      mu_dtype: Dtype of the stored fast first moment; None means that of the params,
        but at least bfloat16.
      warmup_steps: Number of warm-up steps of alpha and b3; None means no warm-up.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_ademamix(
        "scale_by_ademamix",
        b1,
        b2,
        b3,
        alpha,
        eps,
        eps_root,
        mu_dtype,
        warmup_steps=warmup_steps,
    )


def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Mask = None,
    *,
    warmup_steps: Scalar | None = None,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdEMAMix: Adam with a second, slowly decaying average of the gradients.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_{1,t} &= \beta_1 m_{1,t-1} + (1 - \beta_1) g_t                 && (1) \\
       m_{2,t} &= \beta_3(t) m_{2,t-1} + (1 - \beta_3(t)) g_t           && (2) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                   && (3) \\
       d_t &= \frac{m_{1,t} / (1 - \beta_1^t) + \alpha(t) m_{2,t}}
         {\sqrt{v_t / (1 - \beta_2^t) + \bar\varepsilon} + \varepsilon} && (4) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                  && (5)

    with :math:`m_0 = v_0 = 0`. The slow average has no bias correction. With
    warmup_steps, :math:`\alpha(t)` is `ademamix_alpha_schedule`, and
    :math:`\beta_3(t)` is `ademamix_b3_schedule`, which starts at :math:`\beta_1`. The
    paper sets warmup_steps to the length of the run.

    :math:`1 - \beta_3` in (2) is computed before it is rounded to float32. Computed
    from :math:`\beta_3 = 0.99999` rounded to float32, it would have a relative error of
    0.1%.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\beta_3` b3, :math:`\alpha` alpha, :math:`\varepsilon` eps,
    :math:`\bar\varepsilon` eps_root, :math:`\lambda` weight_decay; the state holds
    :math:`t` as count, :math:`m_1` as mu, :math:`v` as nu, :math:`m_2` as mu_slow.

    Defaults: those of ``optax.contrib.ademamix``. The paper uses alpha from 4 to 10,
    and b3 = 0.999 for short runs.

    Differences from the paper: eps_root.

    Differences from released code: in Apple's optax version and in optax, the warm-up
    schedules start at 0, so that alpha is 0 at the first step. Here, the warm-up starts
    at :math:`t = 1`; schedules that you pass are called with the step count, starting
    at 0, as in optax. Apple's schedules are NaN without a warm-up. Apple's PyTorch
    version adds 1e-8 to the decay rates inside the logarithms of its schedule and has
    alpha = 2 by default; ``optax.contrib.scale_by_ademamix`` has alpha = 6. In optax,
    mu_dtype also applies to :math:`m_2` and :math:`v`, and only to their initial
    values. All schedules share one step count; pass schedules to start the warm-up in
    the middle of a run.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the fast first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      b3: Decay rate of the slow first moment, in [0, 1); a float or a schedule.
      alpha: Weight of the slow first moment, >= 0; a float or a schedule.
      eps: Small constant added to the denominator, outside the square root.
      eps_root: Small constant added to the second moment, inside the square root.
      mu_dtype: Dtype of the stored fast first moment; None means that of the params,
        but at least bfloat16.
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      mask: Optax's name for ``weight_decay_mask``; give only one of the two.
      warmup_steps: Number of warm-up steps of alpha and b3; None means no warm-up.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients; add them to the
      params with ``optax.apply_updates``.

    Raises:
      ValueError: A hyperparameter is out of range, warmup_steps is given together with
        a schedule of alpha or b3, or both mask and weight_decay_mask are given. In
        `update`: the gradients do not match the params in structure and shapes, or
        weight_decay is used without params.

    References:
      Pagliardini, Ablin and Grangier, The AdEMAMix Optimizer: Better, Faster, Older,
      ICLR 2025, Algorithm 1; arXiv:2409.03137.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.ademamix(learning_rate=0.1, b3=0.99)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    name = "ademamix"
    argument, mask = checks.one_mask(name, mask, weight_decay_mask)
    checks.finite(name, learning_rate=learning_rate)
    checks.non_negative(name, weight_decay=weight_decay)
    return optax.chain(
        _scale_by_ademamix(
            name,
            b1,
            b2,
            b3,
            alpha,
            eps,
            eps_root,
            mu_dtype,
            warmup_steps=warmup_steps,
        ),
        transforms.add_decayed_weights(name, weight_decay, mask, argument),
        transforms.scale_by_learning_rate(learning_rate),  # (5)
    )


def _scale_by_ademamix(
    name: str,
    b1: Scalar,
    b2: Scalar,
    b3: ScalarOrSchedule,
    alpha: ScalarOrSchedule,
    eps: Scalar,
    eps_root: Scalar,
    mu_dtype: Any,
    *,
    warmup_steps: Scalar | None,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps, eps_root=eps_root)
    if not callable(b3):
        checks.decay_rates(name, b3=b3)
    if not callable(alpha):
        checks.non_negative(name, alpha=alpha)
    if warmup_steps is not None:
        checks.positive(name, warmup_steps=warmup_steps)
        schedules = {n: f for n, f in (("b3", b3), ("alpha", alpha)) if callable(f)}
        if schedules:
            msg = (
                f"{name}: warmup_steps makes the schedules of b3 and alpha, but got "
                f"the schedules {schedules} too. Pass numbers, or leave warmup_steps "
                "out."
            )
            raise ValueError(msg)

    def init(params: PyTree) -> ScaleByAdemamixState:
        return ScaleByAdemamixState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params, mu_dtype),
            nu=trees.accumulators_like(name, params),
            mu_slow=trees.averages_like(name, params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByAdemamixState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        weight, new_weight = _mixing(state.count, b1, b3, alpha, warmup_steps)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        mu_slow = jax.tree.map(
            lambda g, s: _ema_by_weight(new_weight, g, s), grads, state.mu_slow
        )  # (2)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (3)
        mixed = jax.tree.map(
            lambda m, s: numerics.add_scaled(m, weight, s),
            moments.debias(mu, b1, count),
            mu_slow,
        )
        nu_hat = moments.debias(nu, b2, count)
        direction = moments.ratio(mixed, nu_hat, eps, eps_root)  # (4)
        return trees.cast_like(direction, grads), ScaleByAdemamixState(
            count,
            trees.cast_like(mu, state.mu),
            trees.cast_like(nu, state.nu),
            trees.cast_like(mu_slow, state.mu_slow),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _progress(count: jax.Array, warmup_steps: Scalar) -> jax.Array:
    """Returns min(t/T, 1) for the step count t - 1."""
    t = numerics.as_float_scalar(count) + 1.0
    return jnp.minimum(t / numerics.as_float_scalar(warmup_steps), 1.0)


def _log_b3(
    count: jax.Array, b1: Scalar, b3: Scalar, warmup_steps: Scalar
) -> jax.Array:
    """Returns ln b3(t), divided through by ln b1 so that b1 = 0 gives the limit."""
    done = _progress(count, warmup_steps)
    log_b1, log_b3 = _log(b1), _log(b3)
    between = log_b3 / ((1.0 - done) * (log_b3 / log_b1) + done)
    return jnp.where(log_b3 <= log_b1, log_b3, between)  # the minimum


def _log(decay: Scalar) -> jax.Array:
    value = numerics.as_scalar(decay)
    if isinstance(value, float):  # double precision, because ln 0.9999 cancels
        return numerics.as_float_scalar(math.log(value) if value > 0.0 else -math.inf)
    return jnp.log(numerics.as_float_scalar(value))


def _mixing(
    count: jax.Array,
    b1: Scalar,
    b3: ScalarOrSchedule,
    alpha: ScalarOrSchedule,
    warmup_steps: Scalar | None,
) -> tuple[Scalar, Scalar]:
    """Returns alpha(t) and 1 - b3(t) for the step count t - 1."""
    weight, b3 = schedules.value_at(alpha, count), schedules.value_at(b3, count)
    if warmup_steps is None:
        return weight, 1.0 - b3
    weight = numerics.as_float_scalar(weight) * _progress(count, warmup_steps)
    return weight, -jnp.expm1(_log_b3(count, b1, b3, warmup_steps))


@numerics.inline_jit
def _ema_by_weight(new_weight: Scalar, g: jax.Array, s: jax.Array) -> jax.Array:
    g = numerics.upcast(g, s)
    s = s.astype(g.dtype)
    return s + numerics.cast_scalar(g, new_weight) * (g - s)
