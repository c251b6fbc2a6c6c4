"""Adam with eps before the bias correction, or without one: Kingma and Ba (2015)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from optimizers._common import checks, numerics
from optimizers._common.typing import Scalar

__all__ = ["epsilon_hat", "no_bias_correction"]


def epsilon_hat(eps: Scalar, b2: Scalar) -> Callable[[jax.Array], jax.Array]:
    r"""Schedule for eps that adds it before the second moment is corrected.

    Many frameworks compute Adam in the order of Section 2 of the paper, in which
    :math:`\hat\varepsilon` is added to the second moment before its correction:

    .. math::

       x_t = x_{t-1} - \eta_t \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
         \frac{m_t}{\sqrt{v_t} + \hat\varepsilon} \qquad (1)

    This is `adam` with an :math:`\varepsilon` that starts larger, by a factor of 32
    for the default :math:`\beta_2`:

    .. math:: \varepsilon_t = \hat\varepsilon / \sqrt{1 - \beta_2^t} \qquad (2)

    Use it as ``adam(learning_rate, eps=epsilon_hat(1e-7, b2=0.999))``; `adamw` and
    `amsgrad` with ``variant="torch"`` take it too.

    Args:
      eps: The constant :math:`\hat\varepsilon`, finite and >= 0.
      b2: Decay rate of the second moment, in [0, 1); that of the optimizer.

    Returns:
      A schedule, called with the step count t - 1, which starts at 0.

    Raises:
      ValueError: An argument is out of range.

    References:
      Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, Section 2;
      arXiv:1412.6980.

    Examples:
      >>> import optimizers
      >>> eps = optimizers.epsilon_hat(1e-7, b2=0.999)
      >>> print(f"{eps(0):.1e} {eps(999):.1e}")
      3.2e-06 1.3e-07
      >>> keras_adam = optimizers.adam(0.001, eps=eps)
    """
    checks.non_negative("epsilon_hat", eps=eps)
    checks.decay_rates("epsilon_hat", b2=b2)
    return lambda count: (
        numerics.as_float_scalar(eps) / jnp.sqrt(_correction(b2, count))  # (2)
    )


def no_bias_correction(b1: Scalar, b2: Scalar) -> Callable[[jax.Array], jax.Array]:
    r"""Schedule of the factor that undoes the bias corrections of Adam.

    Some frameworks leave out the bias corrections of Adam or AdaMax. For these,
    multiply the direction of `scale_by_adam` or `scale_by_adamax` by

    .. math:: c_t = \frac{1 - \beta_1^t}{\sqrt{1 - \beta_2^t}} \qquad (1)

    with ``optax.scale_by_schedule``. For Adam, combine it with `epsilon_hat`, so that
    eps is added to the uncorrected second moment. With the defaults of Adam, the
    length of the first step is :math:`c_1 = 3.16` learning rates.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1); 0 for AdaMax, whose maximum has
        no correction.

    Returns:
      A schedule, called with the step count t - 1, which starts at 0.

    Raises:
      ValueError: An argument is out of range.

    References:
      Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, Section 3;
      arXiv:1412.6980.

    Examples:
      >>> import optax, optimizers
      >>> eps = optimizers.epsilon_hat(1e-8, b2=0.999)
      >>> uncorrected = optimizers.no_bias_correction(b1=0.9, b2=0.999)
      >>> optimizer = optax.chain(
      ...     optimizers.scale_by_adam(eps=eps),
      ...     optax.scale_by_schedule(uncorrected),
      ...     optax.scale_by_learning_rate(0.001),
      ... )
      >>> print(f"{uncorrected(0):.2f} {uncorrected(9999):.2f}")
      3.16 1.00
    """
    checks.decay_rates("no_bias_correction", b1=b1, b2=b2)
    return lambda count: (
        _correction(b1, count) / jnp.sqrt(_correction(b2, count))  # (1)
    )


def _correction(decay: Scalar, count: jax.Array) -> jax.Array:
    """1 - decay^t for one count or an array of them."""
    t = numerics.increment(jnp.asarray(count))
    b = jnp.broadcast_to(numerics.as_float_scalar(decay), t.shape)
    return numerics.bias_correction(b, t)
