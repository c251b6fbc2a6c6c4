"""Optimistic AMSGrad (OPT-AMSGrad): Wang, Li, Karimi and Li (2021)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    donation,
    masks,
    moments,
    numerics,
    reductions,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule
from optimizers._predictors import Predictor

__all__ = [
    "ScaleByOptimisticAmsgradState",
    "optimistic_amsgrad",
    "scale_by_optimistic_amsgrad",
]

_SECOND_MOMENTS = ("gradient", "prediction_error")


class ScaleByOptimisticAmsgradState(NamedTuple):
    """State of `scale_by_optimistic_amsgrad`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # theta, shapes and dtypes of the params, at least bfloat16
    nu: PyTree  # v, shapes of the params, real, at least float32
    nu_max: PyTree  # v-hat, as nu
    mu_next: PyTree  # h, as mu; () without a predictor, where h is theta
    rate: jax.Array  # gamma of the last step, shape (), float32 (x64: float64)
    prediction: PyTree  # m, as mu; () unless second_moment="prediction_error"
    predictor_state: PyTree  # () without a predictor


def scale_by_optimistic_amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    predictor: Predictor | None = None,
    second_moment: str = "gradient",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as optimistic AMSGrad does, including the learning rate.

    See `optimistic_amsgrad`.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      predictor: Predicts the next gradient; None predicts the last one.
      second_moment: Second moment of the gradients, ``"gradient"``, or of the
        prediction errors, ``"prediction_error"``.
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
    return _scale_by_optimistic_amsgrad(
        "scale_by_optimistic_amsgrad",
        learning_rate,
        b1,
        b2,
        eps,
        predictor=predictor,
        second_moment=second_moment,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
    )


def optimistic_amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    predictor: Predictor | None = None,
    second_moment: str = "gradient",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Optimistic AMSGrad: AMSGrad with a prediction of the next gradient.

    The sequence :math:`\tilde w_t` takes plain AMSGrad steps. The params :math:`w_t`,
    where the gradient :math:`g_t` is computed, are one predicted step ahead of it.
    Elementwise,

    .. math::

       \theta_t &= \beta_1 \theta_{t-1} + (1 - \beta_1) g_t              && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |e_t|^2                    && (2) \\
       \hat v_t &= \max(\hat v_{t-1}, v_t)                               && (3) \\
       \tilde w_{t+1} &= \tilde w_t
         - \gamma_t \theta_t / (\sqrt{\hat v_t} + \varepsilon)           && (4) \\
       h_{t+1} &= \beta_1 \theta_{t-1} + (1 - \beta_1) m_{t+1}           && (5) \\
       w_{t+1} &= \tilde w_{t+1}
         - \gamma_t h_{t+1} / (\sqrt{\hat v_t} + \varepsilon)            && (6)

    with :math:`\theta_0 = v_0 = \hat v_0 = 0` and :math:`\tilde w_1 = w_1`. The
    predictor computes :math:`m_{t+1}`, its prediction of :math:`g_{t+1}`, from the
    gradients up to :math:`g_t`. The second moment is that of :math:`e_t = g_t`, or with
    ``second_moment="prediction_error"`` that of :math:`e_t = g_t - m_t` with
    :math:`m_1 = 0`, so that predictable gradients give larger steps. Note that (5) uses
    :math:`\theta_{t-1}`, not :math:`\theta_t`.

    By default, the prediction is the last gradient, :math:`m_{t+1} = g_t`, so that
    :math:`h_{t+1} = \theta_t`. This is the optimistic Adam of Daskalakis et al. with
    the maximum (3) and without bias correction. Its state is that of AMSGrad:
    :math:`\tilde w` is never stored, because the last predicted step is recomputed from
    the state and subtracted.

    Symbols: :math:`\gamma` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`m_{t+1}` from the predictor; the state holds
    :math:`\theta` as mu, :math:`v` as nu, :math:`\hat v` as nu_max, :math:`h` as
    mu_next, :math:`m` as prediction.

    Defaults: :math:`\beta` and the second moment are those of the paper;
    :math:`\varepsilon` is that of `amsgrad`. The paper predicts with
    ``rmpe_predictor(5)``.

    Differences from the paper: there is an :math:`\varepsilon` outside the root, while
    the paper initializes both second moments with a small constant. There is no
    projection. The version of 2019 (arXiv v1) uses the prediction error in (2) and the
    next learning rate in (6).

    Differences from the released code: in the released code, the prediction is the
    gradient of a second network at params extrapolated from past params, which costs
    one more gradient per step; the same prediction is used as :math:`m_t` in (2) and as
    :math:`m_{t+1}` in (5). Its learning rates include Adam's bias corrections. Its
    first predictions are gradients at random weights and at zero weights; here they are
    0.

    Differences from ``optax.optimistic_adam_v2``: it has no maximum, corrects the bias,
    uses Nesterov momentum by default, and its first step assumes a previous gradient
    equal to the first one.

    Use ``b1=0`` for games, where the last iterate should converge.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      predictor: A `Predictor`: `rmpe_predictor()`, `zero_predictor()`,
        `last_gradient_predictor()` or your own. None predicts the last gradient
        without storing it.
      second_moment: Second moment of the gradients, ``"gradient"``, or of the
        prediction errors, ``"prediction_error"``.
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
      Wang, Li, Karimi and Li, An Optimistic Acceleration of AMSGrad for Nonconvex
      Optimization, ACML 2021; arXiv:1903.01435.

      Daskalakis, Ilyas, Syrgkanis and Zeng, Training GANs with Optimism, ICLR 2018;
      arXiv:1711.00141.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.optimistic_amsgrad(learning_rate=0.1)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_optimistic_amsgrad(
            "optimistic_amsgrad",
            learning_rate,
            b1,
            b2,
            eps,
            predictor=predictor,
            second_moment=second_moment,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
        ),
        transforms.negate(),
    )


def _scale_by_optimistic_amsgrad(
    name: str,
    learning_rate: ScalarOrSchedule,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    *,
    predictor: Predictor | None,
    second_moment: str,
    weight_decay: ScalarOrSchedule,
    weight_decay_mask: Mask,
) -> optax.GradientTransformationExtraArgs:
    checks.finite(name, learning_rate=learning_rate)
    checks.non_negative(name, weight_decay=weight_decay)
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps)
    checks.one_of(name, "second_moment", second_moment, _SECOND_MOMENTS)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )
    if predictor is not None and not isinstance(predictor, Predictor):
        msg = f"{name}: predictor must be a Predictor or None, got {predictor!r}."
        raise ValueError(msg)
    from_error = second_moment == "prediction_error"

    def init(params: PyTree) -> ScaleByOptimisticAmsgradState:
        return ScaleByOptimisticAmsgradState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params),
            nu=trees.accumulators_like(name, params),
            nu_max=trees.accumulators_like(name, params),
            mu_next=() if predictor is None else trees.zeros_like(name, params),
            rate=reductions.scalar_like(params, 0.0),
            prediction=trees.zeros_like(name, params) if from_error else (),
            predictor_state=() if predictor is None else predictor.init(params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByOptimisticAmsgradState]:
        del extra_args
        grads = trees.gradients(name, updates, state.nu)
        lr = schedules.value_at(learning_rate, state.count)
        last_mu_next = state.mu if predictor is None else state.mu_next
        back = moments.ratio(
            jax.tree.map(numerics.upcast, last_mu_next, state.nu_max),
            state.nu_max,
            eps,
        )
        prediction, predictor_state = grads, ()
        if predictor is not None:
            prediction, predictor_state = predictor.predict(
                grads, state.predictor_state
            )
        error = grads
        if from_error:
            error = jax.tree.map(_subtract, grads, state.prediction)
        nu = moments.ema_of_squares(b2, error, state.nu)  # (2)

        def mu(old: PyTree) -> PyTree:
            return moments.ema(b1, grads, old)  # (1)

        def nu_max(old: PyTree) -> PyTree:
            return moments.running_max(old, nu)  # (3)

        def mu_next(old: PyTree) -> PyTree:
            average = moments.ema(b1, prediction, old)  # (5)
            return trees.cast_like(average, state.mu)

        new_mu = mu(state.mu)
        new_mu_next = (
            trees.cast_like(new_mu, state.mu)
            if predictor is None
            else mu_next(state.mu)
        )
        ahead = moments.ratio(
            jax.tree.map(_add, new_mu, new_mu_next), nu_max(state.nu_max), eps
        )
        wide_lr, last_lr = numerics.as_float_scalar(lr), state.rate
        direction = jax.tree.map(
            lambda a, b: _step(a, wide_lr, b, last_lr), ahead, back
        )  # (4), (6)
        direction = transforms.add_decay(
            name,
            direction,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            lr,
        )
        direction = trees.cast_like(direction, grads)
        # The step reads the old state. Computed after the new params, the new state can
        # be written in place of the old one.
        moved = donation.updated_params(
            trees.with_gradients(name, grads, params), direction
        )
        mu_old = donation.after(state.count, moved, state.mu)
        nu_max_old = donation.after(state.count, moved, state.nu_max)
        new_mu_next = ()
        if predictor is not None:
            new_mu_next = mu_next(mu_old)
            mu_old = donation.after(state.count, new_mu_next, state.mu)
        if from_error:
            prediction = trees.cast_like(prediction, state.prediction)
            prediction = donation.after(state.count, nu, prediction)
        return direction, ScaleByOptimisticAmsgradState(
            count=numerics.increment(state.count),
            mu=trees.cast_like(mu(mu_old), state.mu),
            nu=trees.cast_like(nu, state.nu),
            nu_max=trees.cast_like(nu_max(nu_max_old), state.nu_max),
            mu_next=new_mu_next,
            rate=wide_lr.astype(last_lr.dtype),
            prediction=prediction if from_error else (),
            predictor_state=predictor_state,
        )

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _add(wide: jax.Array, x: jax.Array) -> jax.Array:
    return wide + x.astype(wide.dtype)


@numerics.inline_jit
def _subtract(g: jax.Array, m: jax.Array) -> jax.Array:
    g = numerics.upcast(g, m)
    return g - m.astype(g.dtype)


@numerics.inline_jit
def _step(ahead: jax.Array, lr: Scalar, back: jax.Array, last_lr: Scalar) -> jax.Array:
    """Equations (4) and (6), minus the last predicted step."""
    back = back.astype(ahead.dtype)
    return (
        numerics.cast_scalar(ahead, lr) * ahead
        - numerics.cast_scalar(back, last_lr) * back
    )
