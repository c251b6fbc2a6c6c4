"""NAdam, Adam with Nesterov momentum that warms up: Dozat (2016)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    moments,
    numerics,
    reductions,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByNadamState", "nadam", "scale_by_nadam"]


class ScaleByNadamState(NamedTuple):
    """State of `scale_by_nadam`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32, or nu_dtype
    momentum_product: jax.Array  # M, shape (), the widest of float32 and the params


def scale_by_nadam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    momentum_decay: Scalar | None = None,
    nu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as NAdam does, without the learning rate; see `nadam`.

    Args:
      b1: Decay rate of the first moment and limit of the momentum, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      eps_root: Small constant added to the second moment, inside the square root.
      mu_dtype: Dtype of the stored first moment; None means that of the params, but
        at least bfloat16.
      momentum_decay: Speed at which the momentum warms up, at least 0; None keeps the
        momentum at b1.
      nu_dtype: Dtype of the stored second moment; None means that of the params, but
        at least float32.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_nadam(
        "scale_by_nadam", b1, b2, eps, eps_root, mu_dtype, momentum_decay, nu_dtype
    )


def nadam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    momentum_decay: Scalar | None = None,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""NAdam: Adam with Nesterov momentum, which may warm up.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       \mu_t &= \beta_1 (1 - 0.5 \cdot 0.96^{\psi t})              && (1) \\
       M_t &= \mu_t M_{t-1}                                        && (2) \\
       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                  && (3) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2              && (4) \\
       \hat m_t &= \mu_{t+1} \frac{m_t}{1 - \mu_{t+1} M_t}
                 + (1 - \mu_t) \frac{g_t}{1 - M_t}                 && (5) \\
       \hat v_t &= v_t / (1 - \beta_2^t)                           && (6) \\
       d_t &= \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon) && (7) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})             && (8)

    with :math:`M_0 = 1` and :math:`m_0 = v_0 = 0`. Adam steps along the momentum of
    the gradients so far; NAdam steps along the momentum that the next step would
    have if the gradient stayed the same. The momentum :math:`\mu_t` grows from
    about :math:`\beta_1 / 2` to :math:`\beta_1`. Without ``momentum_decay``, it is
    :math:`\beta_1` from the first step on, and :math:`M_t = \beta_1^t`.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\bar\varepsilon` eps_root, :math:`\psi`
    momentum_decay, :math:`\lambda` weight_decay; the state holds :math:`t` as count,
    :math:`M` as momentum_product, :math:`m` as mu, :math:`v` as nu.

    Defaults: those of ``optax.nadam``, whose momentum does not warm up. The schedule
    :math:`0.96^{t / 250}` of Dozat is ``momentum_decay=0.004``.

    Differences from other frameworks: PyTorch, PaddlePaddle and MXNet use
    ``momentum_decay=0.004`` by default. Keras has no such argument: its momentum warms
    up 250 times faster, which is ``momentum_decay=1.0`` with ``eps=1e-7``. PyTorch and
    PaddlePaddle add weight decay to the gradient; chain
    ``optax.add_decayed_weights`` before this for that.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment and limit of the momentum, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      eps_root: Small constant added to the second moment, inside the square root. A
        value such as 1e-8 keeps derivatives through the update finite where a
        gradient is zero.
      mu_dtype: Dtype of the stored first moment; None means that of the params, but
        at least bfloat16.
      momentum_decay: Speed at which the momentum warms up, at least 0; None keeps the
        momentum at b1.
      nu_dtype: Dtype of the stored second moment; None means that of the params, but
        at least float32.
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
      Dozat, Incorporating Nesterov Momentum into Adam, ICLR 2016 Workshop;
      OpenReview:OM0jvwB8jIp57ZJjtNEZ.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.nadam(learning_rate=0.3, momentum_decay=0.004)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    checks.finite("nadam", learning_rate=learning_rate)
    checks.non_negative("nadam", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_nadam(
            "nadam", b1, b2, eps, eps_root, mu_dtype, momentum_decay, nu_dtype
        ),
        transforms.add_decayed_weights("nadam", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (8)
    )


def _scale_by_nadam(
    name: str,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    eps_root: Scalar,
    mu_dtype: Any,
    momentum_decay: Scalar | None,
    nu_dtype: Any,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps, eps_root=eps_root)
    if momentum_decay is not None:
        checks.non_negative(name, momentum_decay=momentum_decay)

    def momentum(step: jax.Array) -> jax.Array:
        limit = numerics.as_float_scalar(b1)
        if momentum_decay is None:
            return limit
        progress = numerics.as_float_scalar(momentum_decay) * step.astype(limit.dtype)
        return limit * (1.0 - 0.5 * 0.96**progress)  # (1)

    def init(params: PyTree) -> ScaleByNadamState:
        return ScaleByNadamState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params, mu_dtype),
            nu=trees.accumulators_like(name, params, nu_dtype),
            momentum_product=reductions.scalar_like(params, 1.0),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByNadamState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        now, ahead = momentum(count), momentum(numerics.increment(count))
        product = now * numerics.as_float_scalar(state.momentum_product)  # (2)
        mu = moments.ema(b1, grads, state.mu)  # (3)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (4)
        of_mu = ahead / (1.0 - ahead * product)
        of_gradient = (1.0 - now) / (1.0 - product)
        mu_hat = jax.tree.map(
            lambda m, g: numerics.add_scaled(numerics.scaled(of_mu, m), of_gradient, g),
            mu,
            grads,
        )  # (5)
        nu_hat = moments.debias(nu, b2, count)  # (6)
        direction = moments.ratio(mu_hat, nu_hat, eps, eps_root)  # (7)
        return trees.cast_like(direction, grads), ScaleByNadamState(
            count,
            trees.cast_like(mu, state.mu),
            trees.cast_like(nu, state.nu),
            product.astype(state.momentum_product.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)
