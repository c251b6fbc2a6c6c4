"""AdaBound and AMSBound: Luo, Xiong, Liu and Sun (2019)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    masks,
    moments,
    numerics,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = [
    "ScaleByAdaboundState",
    "ScaleByAmsboundState",
    "adabound",
    "amsbound",
    "scale_by_adabound",
    "scale_by_amsbound",
]

_VARIANTS = ("released", "paper")


class ScaleByAdaboundState(NamedTuple):
    """State of `scale_by_adabound`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16
    nu: PyTree  # v, shapes of the params, real, at least float32


class ScaleByAmsboundState(NamedTuple):
    """State of `scale_by_amsbound`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16
    nu: PyTree  # v, shapes of the params, real, at least float32
    nu_max: PyTree  # v-hat, as nu


def scale_by_adabound(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    final_learning_rate: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    base_learning_rate: Scalar | None = None,
    variant: str = "released",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as AdaBound does, including the learning rate.

    See `adabound`.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend. A schedule alone does not make late
        steps small: they follow final_learning_rate. Give base_learning_rate, such as
        the peak of the schedule, too.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      final_learning_rate: Limit of both bounds.
      gamma: Convergence speed of the bounds, in (0, 1).
      base_learning_rate: If given, a schedule of the learning rate scales the bounds
        too, relative to this value. None keeps the bounds independent of it.
      variant: Form of the method, ``"released"`` or ``"paper"``.
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.

    Returns:
      The gradient transformation. Already scaled by the learning rate; follow it with
      ``optax.scale(-1.0)``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes, or weight_decay is used without
        params.
    """
    return _scale_by_bound(
        "scale_by_adabound",
        learning_rate,
        b1,
        b2,
        eps,
        final_learning_rate=final_learning_rate,
        gamma=gamma,
        base_learning_rate=base_learning_rate,
        variant=variant,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        amsgrad=False,
    )


def scale_by_amsbound(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    final_learning_rate: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    base_learning_rate: Scalar | None = None,
    variant: str = "released",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as AMSBound does, including the learning rate.

    See `amsbound`.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend. A schedule alone does not make late
        steps small: they follow final_learning_rate. Give base_learning_rate, such as
        the peak of the schedule, too.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      final_learning_rate: Limit of both bounds.
      gamma: Convergence speed of the bounds, in (0, 1).
      base_learning_rate: If given, a schedule of the learning rate scales the bounds
        too, relative to this value. None keeps the bounds independent of it.
      variant: Form of the method, ``"released"`` or ``"paper"``.
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.

    Returns:
      The gradient transformation. Already scaled by the learning rate; follow it with
      ``optax.scale(-1.0)``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes, or weight_decay is used without
        params.
    """
    return _scale_by_bound(
        "scale_by_amsbound",
        learning_rate,
        b1,
        b2,
        eps,
        final_learning_rate=final_learning_rate,
        gamma=gamma,
        base_learning_rate=base_learning_rate,
        variant=variant,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        amsgrad=True,
    )


def adabound(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    final_learning_rate: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    base_learning_rate: Scalar | None = None,
    variant: str = "released",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaBound: Adam with clipped step sizes that gradually turns into SGD.

    Each parameter's step size is clipped to an interval that shrinks to one number.
    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                       && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                   && (2) \\
       l_t &= \eta^*_t \left(1 - \frac{1}{\kappa t + 1}\right)          && (3) \\
       h_t &= \eta^*_t \left(1 + \frac{1}{\kappa t}\right)              && (4) \\
       \hat\eta_t &= \mathrm{clip}\left(\frac{\eta_t}{\sqrt{v_t} + \varepsilon}
         \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t},\ l_t,\ h_t\right)  && (5) \\
       x_t &= x_{t-1} - \hat\eta_t m_t - \eta_t \lambda x_{t-1}         && (6)

    with :math:`m_0 = v_0 = 0`. This is the released form. The paper's form has no
    bias correction and divides by :math:`\sqrt t` after clipping:

    .. math::

       x_t = x_{t-1} - \frac{1}{\sqrt t}\,
         \mathrm{clip}\left(\frac{\eta_t}{\sqrt{v_t} + \varepsilon},
         \ l_t,\ h_t\right) m_t - \eta_t \lambda x_{t-1} \qquad (6')

    The division by :math:`\sqrt t` matters: on the problem of Reddi et al. on which
    Adam diverges, the paper's form converges and the released form does not.

    The limit of the released form is ``optax.sgd`` with learning rate
    :math:`\eta^* (1 - \beta_1)` and momentum :math:`\beta_1`. Where step sizes are
    clipped, the method is not invariant to the scale of the gradients. To ascend, a
    negative :math:`\eta_t` enters (3) to (5) as :math:`|\eta_t|`, and the step in (6)
    changes its sign.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\eta^*` final_learning_rate, :math:`\kappa`
    gamma, :math:`\lambda` weight_decay; the state holds :math:`t` as count,
    :math:`m` as mu, :math:`v` as nu.

    Defaults: those of the released code.

    Differences from the released code: in the released code, the bounds follow a
    schedule of the learning rate, :math:`\eta^*_t = \eta^* \eta_t / \eta_0`. Here they
    do so if base_learning_rate is given as :math:`\eta_0`, which a schedule that starts
    at 0 could not provide; without it, :math:`\eta^*_t = \eta^*`. Weight decay is
    decoupled and multiplied by the learning rate. The released code adds it to the
    gradients; for that, put ``optax.add_decayed_weights`` first. The released AdaBoundW
    does not multiply it by the learning rate; for that, divide weight_decay by the
    learning rate. The released code accepts :math:`\kappa = 0`, for which (4) divides
    by zero.

    Differences from the paper, in both forms: :math:`\beta_1` is constant, and there is
    an :math:`\varepsilon` and no projection onto a feasible set.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend. A schedule alone does not make late
        steps small: they follow final_learning_rate. Give base_learning_rate, such as
        the peak of the schedule, too.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      final_learning_rate: Limit of both bounds.
      gamma: Convergence speed of the bounds, in (0, 1).
      base_learning_rate: If given, a schedule of the learning rate scales the bounds
        too, relative to this value. None keeps the bounds independent of it.
      variant: Form of the method, ``"released"`` or ``"paper"``.
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients; add them to the
      params with ``optax.apply_updates``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes, or weight_decay is used without
        params.

    References:
      Luo, Xiong, Liu and Sun, Adaptive Gradient Methods with Dynamic Bound of
      Learning Rate, ICLR 2019, Algorithm 2; arXiv:1902.09843.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.adabound(learning_rate=0.1)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_bound(
            "adabound",
            learning_rate,
            b1,
            b2,
            eps,
            final_learning_rate=final_learning_rate,
            gamma=gamma,
            base_learning_rate=base_learning_rate,
            variant=variant,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            amsgrad=False,
        ),
        transforms.negate(),
    )


def amsbound(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    final_learning_rate: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    base_learning_rate: Scalar | None = None,
    variant: str = "released",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSBound: AdaBound with the running maximum of the second moment.

    The equations of `adabound`, with the running maximum of AMSGrad in place of
    :math:`v_t` in (5) and (6'):

    .. math::

       \hat v_t = \max(\hat v_{t-1}, v_t), \quad \hat v_0 = 0 \qquad (2')

    It equals `adabound` as long as no entry of :math:`v` decreases.

    Symbols: as in `adabound`; the state holds :math:`\hat v` as nu_max.

    Defaults: those of the released code.

    Differences from the paper and from the released code: those of `adabound`.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend. A schedule alone does not make late
        steps small: they follow final_learning_rate. Give base_learning_rate, such as
        the peak of the schedule, too.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      final_learning_rate: Limit of both bounds.
      gamma: Convergence speed of the bounds, in (0, 1).
      base_learning_rate: If given, a schedule of the learning rate scales the bounds
        too, relative to this value. None keeps the bounds independent of it.
      variant: Form of the method, ``"released"`` or ``"paper"``.
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients; add them to the
      params with ``optax.apply_updates``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes, or weight_decay is used without
        params.

    References:
      Luo, Xiong, Liu and Sun, Adaptive Gradient Methods with Dynamic Bound of
      Learning Rate, ICLR 2019, Algorithm 3; arXiv:1902.09843.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.amsbound(learning_rate=0.1)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_bound(
            "amsbound",
            learning_rate,
            b1,
            b2,
            eps,
            final_learning_rate=final_learning_rate,
            gamma=gamma,
            base_learning_rate=base_learning_rate,
            variant=variant,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            amsgrad=True,
        ),
        transforms.negate(),
    )


def _scale_by_bound(
    name: str,
    learning_rate: ScalarOrSchedule,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    *,
    final_learning_rate: Scalar,
    gamma: Scalar,
    base_learning_rate: Scalar | None,
    variant: str,
    weight_decay: ScalarOrSchedule,
    weight_decay_mask: Mask,
    amsgrad: bool,
) -> optax.GradientTransformationExtraArgs:
    """AdaBound, and with `amsgrad` AMSBound."""
    checks.finite(name, learning_rate=learning_rate)
    checks.non_negative(name, weight_decay=weight_decay)
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps, final_learning_rate=final_learning_rate)
    checks.fractions(name, gamma=gamma)
    if base_learning_rate is not None:
        checks.positive(name, base_learning_rate=base_learning_rate)
    checks.one_of(name, "variant", variant, _VARIANTS)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )

    def init(params: PyTree) -> ScaleByAdaboundState | ScaleByAmsboundState:
        count = jnp.zeros([], jnp.int32)
        mu = trees.zeros_like(name, params)
        nu = trees.accumulators_like(name, params)
        if not amsgrad:
            return ScaleByAdaboundState(count, mu, nu)
        nu_max = trees.accumulators_like(name, params)
        return ScaleByAmsboundState(count, mu, nu, nu_max)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByAdaboundState | ScaleByAmsboundState]:
        del extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        lr = schedules.value_at(learning_rate, state.count)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (2)
        nu_hat = moments.running_max(state.nu_max, nu) if amsgrad else nu  # (2')
        wide_lr = numerics.as_float_scalar(lr)
        descends = wide_lr >= 0.0
        size = jnp.where(descends, wide_lr, -wide_lr)
        lower, upper = _bounds(
            count, size, final_learning_rate, gamma, base_learning_rate
        )  # (3), (4)
        before, after = _factors(variant, count, size, b1, b2)
        after = jnp.where(descends, after, -after)
        direction = jax.tree.map(
            lambda m, v: _step(m, v, eps, before, lower, upper, after), mu, nu_hat
        )  # (5), (6)
        direction = transforms.add_decay(
            name,
            direction,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            lr,
        )
        direction = trees.cast_like(direction, grads)
        mu = trees.cast_like(mu, state.mu)
        nu = trees.cast_like(nu, state.nu)
        if not amsgrad:
            return direction, ScaleByAdaboundState(count, mu, nu)
        nu_max = trees.cast_like(nu_hat, state.nu_max)
        return direction, ScaleByAmsboundState(count, mu, nu, nu_max)

    return optax.GradientTransformationExtraArgs(init, update)


def _bounds(
    count: jax.Array,
    lr: Scalar,
    final_learning_rate: Scalar,
    gamma: Scalar,
    base_learning_rate: Scalar | None,
) -> tuple[jax.Array, jax.Array]:
    """Equations (3) and (4)."""
    final = numerics.as_float_scalar(final_learning_rate)
    if base_learning_rate is not None:
        base = numerics.as_float_scalar(base_learning_rate)
        final = final * numerics.as_float_scalar(lr) / base
    closing = numerics.as_float_scalar(gamma) * numerics.as_float_scalar(count)
    return final * (closing / (closing + 1.0)), final * (1.0 + 1.0 / closing)


def _factors(
    variant: str, count: jax.Array, lr: Scalar, b1: Scalar, b2: Scalar
) -> tuple[jax.Array, jax.Array]:
    """Returns the factors of 1/sqrt(v), before clipping and after it."""
    lr = numerics.as_float_scalar(lr)
    if variant == "paper":
        return lr, jax.lax.rsqrt(numerics.as_float_scalar(count))  # (6')
    root = jnp.sqrt(numerics.bias_correction(b2, count))
    return lr * root / numerics.bias_correction(b1, count), jnp.ones_like(lr)


@numerics.inline_jit
def _step(
    m: jax.Array,
    v: jax.Array,
    eps: Scalar,
    before: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    after: jax.Array,
) -> jax.Array:
    """Equations (5) and (6)."""
    denominator = numerics.safe_sqrt(v) + numerics.cast_scalar(v, eps)
    rate = numerics.safe_divide(
        jnp.broadcast_to(numerics.cast_scalar(v, before), v.shape), denominator
    )
    rate = jnp.clip(
        rate, numerics.cast_scalar(v, lower), numerics.cast_scalar(v, upper)
    )
    return numerics.cast_scalar(m, numerics.cast_scalar(v, after) * rate) * m
