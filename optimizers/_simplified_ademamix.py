"""Simplified AdEMAMix: Morwani et al. (2025)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, schedules, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = [
    "ScaleBySimplifiedAdemamixState",
    "scale_by_simplified_ademamix",
    "simplified_ademamix",
]


class ScaleBySimplifiedAdemamixState(NamedTuple):
    """State of `scale_by_simplified_ademamix`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, a sum; shapes of the params, at least float32
    nu: PyTree  # v, shapes of the params, real, at least float32


def scale_by_simplified_ademamix(
    b1: Scalar = 0.99,
    b2: Scalar = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as simplified AdEMAMix does, without the learning rate.

    See `simplified_ademamix`.

    Args:
      b1: Decay rate of the sum of gradients, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      alpha: Weight of the current gradient, >= 0; a float or a schedule.
      eps: Small constant added to the denominator, outside the square root.
      eps_root: Small constant added to the second moment, inside the square root.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_simplified_ademamix(
        "scale_by_simplified_ademamix", b1, b2, alpha, eps, eps_root
    )


def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.99,
    b2: Scalar = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Mask = None,
    *,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Simplified AdEMAMix: Adam with heavy-ball momentum plus a weighted gradient.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + g_t                                     && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                   && (2) \\
       d_t &= \frac{m_t + \alpha g_t}
         {\sqrt{v_t / (1 - \beta_2^t) + \bar\varepsilon} + \varepsilon} && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                  && (4)

    with :math:`m_0 = v_0 = 0`. Because (1) is a sum and not an average, a learning rate
    of :math:`1 - \beta_1` times that of AdamW gives steps of the same size.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\alpha` alpha, :math:`\varepsilon` eps, :math:`\bar\varepsilon` eps_root,
    :math:`\lambda` weight_decay; the state holds :math:`t` as count, :math:`m` as mu,
    :math:`v` as nu.

    Defaults: those of ``optax.contrib.simplified_ademamix`` and the authors' code.

    Differences from the paper: eps_root. Differences from the authors' code: it has
    options that divide (1) by its sum of weights, omit the correction of :math:`v`, and
    warm up b1. A learning rate schedule can do the first. Differences from optax: (2)
    uses the squared absolute value of a complex gradient, where optax uses its complex
    square.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the sum of gradients, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      alpha: Weight of the current gradient, >= 0; a float or a schedule.
      eps: Small constant added to the denominator, outside the square root.
      eps_root: Small constant added to the second moment, inside the square root.
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      mask: Optax's name for ``weight_decay_mask``; give only one of the two.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients; add them to the
      params with ``optax.apply_updates``.

    Raises:
      ValueError: A hyperparameter is out of range, or both mask and
        weight_decay_mask are given. In `update`: the gradients do not match the
        params in structure and shapes, or weight_decay is used without params.

    References:
      Morwani, Vyas, Zhang and Kakade, Connections between Schedule-Free Optimizers,
      AdEMAMix, and Accelerated SGD Variants, 2025; arXiv:2502.02431.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.simplified_ademamix(learning_rate=0.01, b1=0.9)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    name = "simplified_ademamix"
    argument, mask = checks.one_mask(name, mask, weight_decay_mask)
    checks.finite(name, learning_rate=learning_rate)
    checks.non_negative(name, weight_decay=weight_decay)
    return optax.chain(
        _scale_by_simplified_ademamix(name, b1, b2, alpha, eps, eps_root),
        transforms.add_decayed_weights(name, weight_decay, mask, argument),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )


def _scale_by_simplified_ademamix(
    name: str,
    b1: Scalar,
    b2: Scalar,
    alpha: ScalarOrSchedule,
    eps: Scalar,
    eps_root: Scalar,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps, eps_root=eps_root)
    if not callable(alpha):
        checks.non_negative(name, alpha=alpha)

    def init(params: PyTree) -> ScaleBySimplifiedAdemamixState:
        return ScaleBySimplifiedAdemamixState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.averages_like(name, params),
            nu=trees.accumulators_like(name, params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleBySimplifiedAdemamixState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        decay = numerics.as_scalar(b1)
        weight = schedules.value_at(alpha, state.count)
        mu = jax.tree.map(
            lambda m, g: _multiply_add(decay, m, g), state.mu, grads
        )  # (1)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (2)
        mixed = jax.tree.map(lambda g, m: _multiply_add(weight, g, m), grads, mu)
        nu_hat = moments.debias(nu, b2, count)
        direction = moments.ratio(mixed, nu_hat, eps, eps_root)  # (3)
        return trees.cast_like(direction, grads), ScaleBySimplifiedAdemamixState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _multiply_add(a: Scalar, x: jax.Array, y: jax.Array) -> jax.Array:
    """a x + y in at least float32; the order of the terms fixes XLA's rounding."""
    x = numerics.upcast(x, y)
    return numerics.cast_scalar(x, a) * x + y.astype(x.dtype)
