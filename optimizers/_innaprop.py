"""INNAprop, an inertial Newton method with RMSprop's scaling: Bolte et al. (2024)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optimizers._common import (
    checks,
    donation,
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
    """The step of INNAprop, uphill and with the learning rate inside; see `innaprop`.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      alpha: Viscous damping.
      beta: Newton-like damping, positive.
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      weight_decay_mask: Which leaves decay.

    Returns:
      The transformation. Do not put a learning rate after it; the sign is still to
      be flipped.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.
    """
    name = "scale_by_innaprop"
    _check(name, learning_rate, alpha, beta, b2, eps, weight_decay)

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
        rate = schedules.value_at(learning_rate, state.count)
        decay = schedules.value_at(weight_decay, state.count)
        viscous, newton = (
            numerics.as_float_scalar(alpha),
            numerics.as_float_scalar(beta),
        )
        step = numerics.as_float_scalar(rate)

        def scaled(nu: PyTree) -> PyTree:
            wide = jax.tree.map(numerics.upcast, grads, nu)
            return moments.ratio(wide, moments.debias(nu, b2, count), eps)  # (2)

        nu = moments.ema_of_squares(b2, grads, state.nu)  # (1)
        pull = (viscous - 1.0 / newton) * step
        velocity = transforms.add_decay(
            name, state.velocity, params, decay, weight_decay_mask, pull
        )  # (3)
        # Both the params and the velocity need the old values of both. To update them
        # in place takes an order: this velocity, then the params, then the next one;
        # and the scaled gradient twice, which costs less than to store it.
        velocity = jax.tree.map(lax.optimization_barrier, velocity)
        direction = jax.tree.map(
            lambda p, g: _combine(-step, p, newton * step, g), velocity, scaled(nu)
        )
        direction = transforms.add_decay(
            name, direction, params, decay, weight_decay_mask, step
        )  # (4)
        direction = trees.cast_like(direction, grads)
        velocity = donation.after(
            count, donation.updated_params(params, direction), velocity
        )
        kept, drive = 1.0 - viscous * step, (viscous * newton - 1.0) * step
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
    r"""INNAprop: a ball that rolls with friction, also against the curvature.

    It follows a differential equation of second order, whose damping :math:`\beta`
    along the Hessian acts through differences of gradients, so that no Hessian is
    ever formed. For the gradient :math:`g_t` at the params :math:`x_{t-1}`, entry by
    entry,

    .. math::

       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                        && (1) \\
       \hat g_t &= g_t / (\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon)        && (2) \\
       \bar p_t &= p_{t-1}
         - (1 / \beta - \alpha) \, \eta_t \lambda x_{t-1}                    && (3) \\
       x_t &= (1 - \eta_t \lambda) x_{t-1}
         + \eta_t (\bar p_t - \beta \hat g_t)                                && (4) \\
       p_t &= (1 - \alpha \eta_t) \bar p_t
         - (1 - \alpha \beta) \, \eta_t \hat g_t                             && (5)

    with :math:`v_0 = p_0 = 0`. The first step is :math:`\eta \beta` long, and the
    velocity :math:`p` forgets over :math:`1 / (\alpha \eta)` steps. With
    :math:`\alpha \beta = 1` and no decay it is Adam with :math:`\beta_1 = 0` and the
    rate :math:`\eta \beta`.

    The paper and the released code keep
    :math:`\psi = (1 - \alpha \beta) x - \beta p` instead of :math:`p`, and take the
    step from the difference of :math:`x` and :math:`\psi`. The two forms are equal,
    for all rates and decays.

    Symbols: :math:`\eta` learning_rate, :math:`\alpha` alpha, :math:`\beta` beta,
    :math:`\beta_2` b2, :math:`\varepsilon` eps, :math:`\lambda` weight_decay; the
    state holds :math:`t` as count, :math:`v` as nu, :math:`p` as velocity.

    Defaults: those of the released code. The paper recommends :math:`(\alpha,
    \beta)` = (0.1, 0.9), which is faster at first, and (2, 2), which may end lower.
    The authors' GPT-2 runs have b2 = 0.99 and a weight_decay of 0.1.

    Differences from the released code: the velocity, which needs no params in
    `init`, loses nothing to cancellation, and does not divide by
    :math:`\beta - \eta`, which is 0 where the two are equal. Keep
    :math:`\eta < \beta` all the same: beyond, the method is not stable. The momentum
    form that the authors released beside it is this method for a constant rate
    without decay only.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      alpha: Viscous damping, the friction of the velocity.
      beta: Newton-like damping, positive; also how much of the gradient acts at once.
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, outside.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params. It has its learning rate inside.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.

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
    _check("innaprop", learning_rate, alpha, beta, b2, eps, weight_decay)
    return optax.chain(
        scale_by_innaprop(
            learning_rate,
            alpha,
            beta,
            b2,
            eps,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
        ),
        optax.scale(-1.0),
    )


def _check(
    name: str,
    learning_rate: ScalarOrSchedule,
    alpha: Scalar,
    beta: Scalar,
    b2: Scalar,
    eps: Scalar,
    weight_decay: ScalarOrSchedule,
) -> None:
    checks.non_negative(name, learning_rate=learning_rate, alpha=alpha)
    checks.positive(name, beta=beta)
    checks.decay_rates(name, b2=b2)
    checks.non_negative(name, eps=eps, weight_decay=weight_decay)


@jax.jit
def _combine(
    kept: jax.Array, p: jax.Array, drive: jax.Array, g: jax.Array
) -> jax.Array:
    """kept p + drive g."""
    p = numerics.upcast(p, g)
    return numerics.cast_scalar(p, kept) * p + numerics.cast_scalar(
        p, drive
    ) * g.astype(p.dtype)
