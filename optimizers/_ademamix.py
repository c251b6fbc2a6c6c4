"""AdEMAMix, Adam with a second and slower average: Pagliardini et al. (2024)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, schedules, transforms, trees
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
    mu: PyTree  # m1, shapes and dtypes of the params, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32
    mu_slow: PyTree  # m2, shapes of the params, at least float32


def ademamix_alpha_schedule(
    alpha: Scalar, warmup_steps: Scalar
) -> Callable[[jax.Array], jax.Array]:
    r"""The linear warm-up of AdEMAMix's alpha.

    .. math:: \alpha(t) = \min(\alpha t / T, \alpha)

    Args:
      alpha: The final value, finite and >= 0.
      warmup_steps: T, the number of steps until it is reached, > 0.

    Returns:
      A schedule of the 0-based count of updates; the first update is t = 1.

    Raises:
      ValueError: An argument is out of its range.
    """
    checks.non_negative("ademamix_alpha_schedule", alpha=alpha)
    checks.positive("ademamix_alpha_schedule", warmup_steps=warmup_steps)
    return lambda count: (
        numerics.as_float_scalar(alpha) * _progress(count, warmup_steps)
    )


def ademamix_b3_schedule(
    b1: Scalar, b3: Scalar, warmup_steps: Scalar
) -> Callable[[jax.Array], jax.Array]:
    r"""The warm-up of AdEMAMix's b3, linear in the half-life of the average.

    .. math::

       \beta_3(t) = \min\left(\exp\frac{\ln \beta_1 \ln \beta_3}
         {(1 - t/T) \ln \beta_3 + (t/T) \ln \beta_1},\ \beta_3\right)

    For :math:`\beta_1 = 0` it is the limit, :math:`\beta_3^{T/t}`.

    Args:
      b1: Where it starts, in [0, 1).
      b3: Where it ends, in [0, 1).
      warmup_steps: T, the number of steps until then, > 0.

    Returns:
      A schedule of the 0-based count of updates; the first update is t = 1.

    Raises:
      ValueError: An argument is out of its range.
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
    """The direction of AdEMAMix, uphill and without a learning rate; see `ademamix`.

    Args:
      b1: Decay rate of the fast first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      b3: Decay rate of the slow first moment, in [0, 1); a number or a schedule.
      alpha: Weight of the slow first moment; a number or a schedule.
      eps: Added to the root of the second moment.
      eps_root: Added to the second moment inside the root.
      mu_dtype: Dtype that the state keeps the fast first moment in.
      warmup_steps: Steps until alpha and b3 reach their values; None for at once.

    Returns:
      The transformation.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients
        do not have the structure and shapes of the params.
    """
    name = "scale_by_ademamix"
    _check(name, b1, b2, b3, alpha, eps, eps_root, warmup_steps)

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
        weight, share = _mixing(state.count, b1, b3, alpha, warmup_steps)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        mu_slow = jax.tree.map(
            lambda g, s: _approach(share, g, s), grads, state.mu_slow
        )  # (2)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (3)
        mixed = jax.tree.map(
            lambda m, s: _mix(m, weight, s), moments.debias(mu, b1, count), mu_slow
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
    r"""AdEMAMix: Adam that also remembers gradients from thousands of steps ago.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, entry by entry,

    .. math::

       m_{1,t} &= \beta_1 m_{1,t-1} + (1 - \beta_1) g_t                 && (1) \\
       m_{2,t} &= \beta_3(t) m_{2,t-1} + (1 - \beta_3(t)) g_t           && (2) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                   && (3) \\
       d_t &= \frac{m_{1,t} / (1 - \beta_1^t) + \alpha(t) m_{2,t}}
         {\sqrt{v_t / (1 - \beta_2^t) + \bar\varepsilon} + \varepsilon} && (4) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                  && (5)

    with :math:`m_0 = v_0 = 0`. The slow average is not corrected for its start.
    With warmup_steps, :math:`\alpha(t)` is `ademamix_alpha_schedule` and
    :math:`\beta_3(t)` is `ademamix_b3_schedule`, from :math:`\beta_1`; both count
    from :math:`t = 1`. The paper sets it to the length of the run.

    The slow average approaches :math:`g_t` by the share :math:`1 - \beta_3`, which is
    computed before it is rounded: in float32, :math:`1 - \beta_3` of a rounded
    :math:`\beta_3 = 0.99999` would be wrong by a thousandth.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\beta_3` b3, :math:`\alpha` alpha, :math:`\varepsilon` eps,
    :math:`\bar\varepsilon` eps_root, :math:`\lambda` weight_decay; the state holds
    :math:`t` as count, :math:`m_1` as mu, :math:`v` as nu, :math:`m_2` as mu_slow.

    Defaults: those of ``optax.contrib.ademamix``. The paper takes alpha from 4 to 10,
    and for short runs b3 = 0.999.

    Differences from the paper: eps_root. Differences from released code: Apple's optax
    version and optax count their schedules from 0, so that alpha is 0 at the first
    step; a schedule that you pass gets optax's 0-based count here too. Apple's are NaN
    without a warm-up. Apple's PyTorch version adds 1e-8 to the decay rates inside the
    logarithms of its schedule, and has alpha = 2 by default;
    ``optax.contrib.scale_by_ademamix`` has 6. In optax, mu_dtype is also that of
    :math:`m_2` and :math:`v`, and only at the start. There is one count: to begin the
    warm-up in the middle of a run, pass schedules.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the fast first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      b3: Decay rate of the slow first moment, in [0, 1); a number or a schedule.
      alpha: Weight of the slow first moment; a number or a schedule.
      eps: Added to the root of the second moment, outside.
      eps_root: Added to the second moment inside the root.
      mu_dtype: Dtype that the state keeps the fast first moment in; by default that
        of the params.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      mask: The name of ``weight_decay_mask`` in optax.
      warmup_steps: Steps until alpha and b3 reach their values; None for at once.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; warmup_steps is given together
        with a schedule of alpha or b3; both names of the mask are given; in `update`,
        the gradients do not have the structure and shapes of the params, or
        weight_decay needs params and there are none.

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
    checks.non_negative(
        "ademamix", learning_rate=learning_rate, weight_decay=weight_decay
    )
    _check("ademamix", b1, b2, b3, alpha, eps, eps_root, warmup_steps)
    return optax.chain(
        scale_by_ademamix(
            b1, b2, b3, alpha, eps, eps_root, mu_dtype, warmup_steps=warmup_steps
        ),
        transforms.add_decayed_weights(
            "ademamix",
            weight_decay,
            checks.one_mask("ademamix", mask, weight_decay_mask),
        ),
        transforms.scale_by_learning_rate(learning_rate),  # (5)
    )


def _check(
    name: str,
    b1: Scalar,
    b2: Scalar,
    b3: ScalarOrSchedule,
    alpha: ScalarOrSchedule,
    eps: Scalar,
    eps_root: Scalar,
    warmup_steps: Scalar | None,
) -> None:
    checks.decay_rates(name, b1=b1, b2=b2, b3=b3)
    checks.non_negative(name, alpha=alpha, eps=eps, eps_root=eps_root)
    if warmup_steps is None:
        return
    checks.positive(name, warmup_steps=warmup_steps)
    scheduled = callable(alpha) or callable(b3)
    if scheduled:
        msg = (
            f"{name}: warmup_steps makes the schedules of alpha and b3, but a schedule "
            "is given too; give numbers, or no warmup_steps."
        )
        raise ValueError(msg)


def _progress(count: jax.Array, warmup_steps: Scalar) -> jax.Array:
    """min(t/T, 1) for the 0-based count t - 1."""
    t = numerics.as_float_scalar(count) + 1.0
    return jnp.minimum(t / numerics.as_float_scalar(warmup_steps), 1.0)


def _log_b3(
    count: jax.Array, b1: Scalar, b3: Scalar, warmup_steps: Scalar
) -> jax.Array:
    """ln b3(t); both ends divided by ln b1, so that b1 = 0 is its own limit."""
    done = _progress(count, warmup_steps)
    log_b1, log_b3 = _log(b1), _log(b3)
    between = log_b3 / ((1.0 - done) * (log_b3 / log_b1) + done)
    return jnp.where(log_b3 <= log_b1, log_b3, between)  # the minimum


def _log(decay: Scalar) -> jax.Array:
    value = numerics.as_scalar(decay)
    if isinstance(value, float):  # in double precision: ln 0.9999 has no digits to lose
        return numerics.as_float_scalar(math.log(value) if value > 0.0 else -math.inf)
    return jnp.log(numerics.as_float_scalar(value))


def _mixing(
    count: jax.Array,
    b1: Scalar,
    b3: ScalarOrSchedule,
    alpha: ScalarOrSchedule,
    warmup_steps: Scalar | None,
) -> tuple[Scalar, Scalar]:
    """alpha(t) and 1 - b3(t), for the 0-based count t - 1."""
    weight, b3 = schedules.value_at(alpha, count), schedules.value_at(b3, count)
    if warmup_steps is None:
        return weight, 1.0 - b3
    weight = numerics.as_float_scalar(weight) * _progress(count, warmup_steps)
    return weight, -jnp.expm1(_log_b3(count, b1, b3, warmup_steps))


@numerics.inline_jit
def _approach(share: Scalar, g: jax.Array, s: jax.Array) -> jax.Array:
    g = numerics.upcast(g, s)
    s = s.astype(g.dtype)
    return s + numerics.cast_scalar(g, share) * (g - s)


@numerics.inline_jit
def _mix(m: jax.Array, weight: Scalar, s: jax.Array) -> jax.Array:
    m = numerics.upcast(m, s)
    return m + numerics.cast_scalar(m, weight) * s.astype(m.dtype)
