"""AdaMax, Adam with the infinity norm: Kingma and Ba (2015), Section 7."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAdamaxState", "adamax", "scale_by_adamax"]

_VARIANTS = ("optax", "keras", "paddle")


class ScaleByAdamaxState(NamedTuple):
    """State of `scale_by_adamax`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16
    nu: PyTree  # u, shapes of the params, real, at least float32


def scale_by_adamax(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    variant: str = "optax",
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as AdaMax does, without the learning rate; see `adamax`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the maximum, in [0, 1).
      eps: Small constant in the denominator, which avoids a division by 0.
      variant: Place of eps: ``"optax"``, ``"keras"`` or ``"paddle"``.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_adamax("scale_by_adamax", b1, b2, eps, variant=variant)


def adamax(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    variant: str = "optax",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaMax: Adam with a decaying maximum in place of the second moment.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t          && (1) \\
       \hat m_t &= m_t / (1 - \beta_1^t)                   && (2) \\
       d_t &= \hat m_t / \bar u_t                          && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})     && (4)

    with :math:`m_0 = u_0 = 0`. The variants differ in the place of
    :math:`\varepsilon`:

    .. math::

       \text{optax:}&\quad u_t = \max(\beta_2 u_{t-1}, |g_t| + \varepsilon),
         & \bar u_t &= u_t                                 && (O) \\
       \text{keras:}&\quad u_t = \max(\beta_2 u_{t-1}, |g_t|),
         & \bar u_t &= u_t + \varepsilon                   && (K) \\
       \text{paddle:}&\quad u_t = \max(\beta_2 u_{t-1} + \varepsilon, |g_t|),
         & \bar u_t &= u_t                                 && (P)

    The maximum is not biased towards 0 and needs no correction. No entry of
    :math:`|d_t|` exceeds :math:`(1 - \beta_1) / (1 - \beta_1 / \beta_2)`, about 1.0091
    by default. In the paddle form, :math:`\varepsilon` accumulates: while the gradient
    is 0, :math:`u` approaches :math:`\varepsilon / (1 - \beta_2)`.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\lambda` weight_decay; the state holds :math:`t`
    as count, :math:`m` as mu, :math:`u` as nu.

    Defaults: those of ``optax.adamax``; the paper uses a learning rate of 0.002.

    Differences from the paper: the paper has no :math:`\varepsilon` and divides 0 by 0
    if the first gradient is zero. ``eps=0`` is the paper's form, with 0/0 taken as 0.
    PyTorch uses the optax form; JAX's ``example_libraries`` the keras form. The paper
    states a bound of 1 for :math:`|d_t|`, which is slightly too small.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the maximum, in [0, 1).
      eps: Small constant in the denominator, which avoids a division by 0.
      variant: Place of eps: ``"optax"``, ``"keras"`` or ``"paddle"``.
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
      Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015,
      Algorithm 2; arXiv:1412.6980.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.adamax(learning_rate=0.3)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    checks.finite("adamax", learning_rate=learning_rate)
    checks.non_negative("adamax", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adamax("adamax", b1, b2, eps, variant=variant),
        transforms.add_decayed_weights("adamax", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )


def _scale_by_adamax(
    name: str,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    *,
    variant: str,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps)
    checks.one_of(name, "variant", variant, _VARIANTS)

    def init(params: PyTree) -> ScaleByAdamaxState:
        return ScaleByAdamaxState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params),
            nu=trees.accumulators_like(name, params),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAdamaxState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        decay, floor = numerics.as_scalar(b2), numerics.as_scalar(eps)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        if variant == "optax":
            nu = jax.tree.map(
                lambda g, u: _decayed_max(decay, floor, g, u), grads, state.nu
            )
            nu_bar = nu  # (O)
        elif variant == "keras":
            nu = jax.tree.map(
                lambda g, u: _decayed_max(decay, 0.0, g, u), grads, state.nu
            )
            nu_bar = jax.tree.map(lambda u: _plus(u, floor), nu)  # (K)
        else:
            nu = jax.tree.map(
                lambda g, u: _raised_max(decay, floor, g, u), grads, state.nu
            )
            nu_bar = nu  # (P)
        mu_hat = moments.debias(mu, b1, count)  # (2)
        direction = jax.tree.map(numerics.division(floor), mu_hat, nu_bar)  # (3)
        return trees.cast_like(direction, grads), ScaleByAdamaxState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _decayed_max(decay: Scalar, floor: Scalar, g: jax.Array, u: jax.Array) -> jax.Array:
    size = jnp.abs(numerics.upcast(g, u))
    decayed = numerics.cast_scalar(size, decay) * u.astype(size.dtype)
    return jnp.maximum(decayed, size + numerics.cast_scalar(size, floor))


@numerics.inline_jit
def _raised_max(decay: Scalar, floor: Scalar, g: jax.Array, u: jax.Array) -> jax.Array:
    size = jnp.abs(numerics.upcast(g, u))
    decayed = numerics.cast_scalar(size, decay) * u.astype(size.dtype)
    return jnp.maximum(decayed + numerics.cast_scalar(size, floor), size)


@numerics.inline_jit
def _plus(u: jax.Array, floor: Scalar) -> jax.Array:
    return u + numerics.cast_scalar(u, floor)
