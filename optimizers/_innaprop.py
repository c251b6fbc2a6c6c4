"""INNAprop, an inertial Newton method with RMSprop scaling: Bolte et al. (2024)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optimizers._common import (
    checks,
    donation,
    masks,
    moments,
    numerics,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByInnapropState", "innaprop", "scale_by_innaprop"]


class ScaleByInnapropState(NamedTuple):
    """State of `scale_by_innaprop`."""

    count: jax.Array  # t, shape (), int32
    nu: PyTree  # v, shapes of the params, real, at least float32
    velocity: PyTree  # p, shapes of the params, at least float32


def scale_by_innaprop(
    learning_rate: ScalarOrSchedule,
    alpha: Scalar = 0.1,
    beta: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    weight_decay: ScalarOrSchedule = 0.01,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as INNAprop does, including the learning rate.

    See `innaprop`.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      alpha: Viscous damping (friction), >= 0.
      beta: Newton-like damping along the Hessian, > 0.
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
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
    return _scale_by_innaprop(
        "scale_by_innaprop",
        learning_rate,
        alpha,
        beta,
        b2,
        eps,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
    )


def innaprop(
    learning_rate: ScalarOrSchedule,
    alpha: Scalar = 0.1,
    beta: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    weight_decay: ScalarOrSchedule = 0.01,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""INNAprop: inertial Newton-like method with RMSprop scaling.

    It discretizes a second-order differential equation, a heavy ball with friction
    :math:`\alpha` and damping :math:`\beta` along the Hessian. The Hessian acts only
    through differences of gradients and is never computed. For the gradient
    :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                        && (1) \\
       \hat g_t &= g_t / (\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon)        && (2) \\
       \bar p_t &= p_{t-1}
         - (1 / \beta - \alpha) \, \eta_t \lambda x_{t-1}                    && (3) \\
       x_t &= (1 - \eta_t \lambda) x_{t-1}
         + \eta_t (\bar p_t - \beta \hat g_t)                                && (4) \\
       p_t &= (1 - \alpha \eta_t) \bar p_t
         - (1 - \alpha \beta) \, \eta_t \hat g_t                             && (5)

    with :math:`v_0 = p_0 = 0`. The entries of the first step have the size
    :math:`\eta \beta`, and the velocity :math:`p` decays over about
    :math:`1 / (\alpha \eta)` steps. With :math:`\alpha \beta = 1` and no weight decay,
    the method is Adam with :math:`\beta_1 = 0` and learning rate :math:`\eta \beta`.
    To ascend, a negative :math:`\eta_t` enters (3) and (5) as :math:`|\eta_t|`.

    The paper and the released code store
    :math:`\psi = (1 - \alpha \beta) x - \beta p` instead of :math:`p` and compute the
    step from the difference of :math:`x` and :math:`\psi`. Both forms are equivalent
    for all schedules of learning rate and weight decay.

    Symbols: :math:`\eta` learning_rate, :math:`\alpha` alpha, :math:`\beta` beta,
    :math:`\beta_2` b2, :math:`\varepsilon` eps, :math:`\lambda` weight_decay; the
    state holds :math:`t` as count, :math:`v` as nu, :math:`p` as velocity.

    Defaults: those of the released code. The paper recommends :math:`(\alpha,
    \beta)` = (0.1, 0.9), which is faster at first, and (2, 2), which may reach a lower
    loss. The authors use b2 = 0.99 and weight_decay = 0.1 for GPT-2.

    Differences from the released code: storing the velocity needs no values of the
    params in `init`, avoids cancellation, and avoids the released code's division by
    :math:`\beta - \eta`, which fails for :math:`\eta = \beta`. The authors also
    released a form with momentum; it equals this method only for a constant learning
    rate without weight decay.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      alpha: Viscous damping (friction), >= 0.
      beta: Newton-like damping along the Hessian, > 0; also the weight of the current
        gradient in the step.
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
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
      Bolte, Boustany, Pauwels and Purica, A second-order-like optimizer with
      adaptive gradient scaling for deep learning, 2024; arXiv:2410.05871.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.innaprop(learning_rate=0.1, weight_decay=0.0)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_innaprop(
            "innaprop",
            learning_rate,
            alpha,
            beta,
            b2,
            eps,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
        ),
        transforms.negate(),
    )


def _scale_by_innaprop(
    name: str,
    learning_rate: ScalarOrSchedule,
    alpha: Scalar,
    beta: Scalar,
    b2: Scalar,
    eps: Scalar,
    *,
    weight_decay: ScalarOrSchedule,
    weight_decay_mask: Mask,
) -> optax.GradientTransformationExtraArgs:
    checks.finite(name, learning_rate=learning_rate)
    checks.non_negative(name, alpha=alpha)
    checks.positive(name, beta=beta)
    checks.decay_rates(name, b2=b2)
    checks.non_negative(name, eps=eps, weight_decay=weight_decay)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )

    def init(params: PyTree) -> ScaleByInnapropState:
        return ScaleByInnapropState(
            count=jnp.zeros([], jnp.int32),
            nu=trees.accumulators_like(name, params),
            velocity=trees.averages_like(name, params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByInnapropState]:
        del extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        lr = numerics.as_float_scalar(schedules.value_at(learning_rate, state.count))
        decay = schedules.value_at(weight_decay, state.count)
        viscous, newton = (
            numerics.as_float_scalar(alpha),
            numerics.as_float_scalar(beta),
        )

        def scaled(nu: PyTree) -> PyTree:
            wide = jax.tree.map(numerics.upcast, grads, nu)
            return moments.ratio(wide, moments.debias(nu, b2, count), eps)  # (2)

        nu = moments.ema_of_squares(b2, grads, state.nu)  # (1)
        size = jnp.where(lr < 0.0, -lr, lr)  # not `abs`, which has derivative 0 at 0
        velocity_lr = (viscous - 1.0 / newton) * size
        velocity = transforms.add_decay(
            name, state.velocity, params, decay, weight_decay_mask, velocity_lr
        )  # (3)
        # Both the params and the velocity depend on the old values of both. In-place
        # updates need an order: first this velocity, then the params, then the next
        # velocity. The scaled gradient is computed twice, cheaper than storing it.
        velocity = jax.tree.map(lax.optimization_barrier, velocity)
        direction = jax.tree.map(
            lambda p, g: _combine(-lr, p, newton * lr, g), velocity, scaled(nu)
        )
        direction = transforms.add_decay(
            name, direction, params, decay, weight_decay_mask, lr
        )  # (4)
        direction = trees.cast_like(direction, grads)
        moved = donation.updated_params(
            trees.with_gradients(name, grads, params), direction
        )
        velocity = donation.after(count, moved, velocity)
        kept, drive = 1.0 - viscous * size, (viscous * newton - 1.0) * size
        velocity = jax.tree.map(
            lambda p, g: _combine(kept, p, drive, g),
            velocity,
            scaled(jax.tree.map(lax.optimization_barrier, nu)),
        )  # (5)
        return direction, ScaleByInnapropState(
            count,
            trees.cast_like(nu, state.nu),
            trees.cast_like(velocity, state.velocity),
        )

    return optax.GradientTransformationExtraArgs(init, update)


@jax.jit
def _combine(
    kept: jax.Array, p: jax.Array, drive: jax.Array, g: jax.Array
) -> jax.Array:
    """Returns kept p + drive g, computed in at least float32."""
    p = numerics.upcast(p, g)
    return numerics.cast_scalar(p, kept) * p + numerics.cast_scalar(
        p, drive
    ) * g.astype(p.dtype)
