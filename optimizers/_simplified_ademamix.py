"""Simplified AdEMAMix, one average and a little of the gradient: Morwani et al."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, transforms, trees
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
    alpha: Scalar = 0.0,
    eps: Scalar = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """The direction of simplified AdEMAMix; see `simplified_ademamix`.

    Args:
      b1: Decay rate of the sum of gradients, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      alpha: Weight of the newest gradient.
      eps: Added to the root of the second moment.

    Returns:
      The transformation, uphill and without a learning rate.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients
        do not have the structure and shapes of the params.
    """
    name = "scale_by_simplified_ademamix"
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, alpha=alpha, eps=eps)

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
        decay, weight = numerics.as_scalar(b1), numerics.as_scalar(alpha)
        mu = jax.tree.map(
            lambda m, g: _multiply_add(decay, m, g), state.mu, grads
        )  # (1)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (2)
        mixed = jax.tree.map(lambda g, m: _multiply_add(weight, g, m), grads, mu)
        nu_hat = moments.debias(nu, b2, count)
        direction = moments.ratio(mixed, nu_hat, eps)  # (3)
        return trees.cast_like(direction, grads), ScaleBySimplifiedAdemamixState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.99,
    b2: Scalar = 0.95,
    alpha: Scalar = 0.0,
    eps: Scalar = 1e-8,
    *,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Simplified AdEMAMix: one long sum of gradients, plus some of the newest one.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, entry by entry,

    .. math::

       m_t &= \beta_1 m_{t-1} + g_t                                     && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                   && (2) \\
       d_t &= \frac{m_t + \alpha g_t}
         {\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}                   && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                  && (4)

    with :math:`m_0 = v_0 = 0`. The first line is a sum, not an average: a learning
    rate :math:`(1 - \beta_1)` times that of AdamW gives steps of the same size.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\alpha` alpha, :math:`\varepsilon` eps, :math:`\lambda` weight_decay; the
    state holds :math:`t` as count, :math:`m` as mu, :math:`v` as nu.

    Defaults: those of ``optax.contrib.simplified_ademamix`` and the authors' code.

    Differences from the authors' code: it can divide (1) by its sum of weights, leave
    out the correction of :math:`v`, and warm b1 up; a learning rate schedule does the
    first. Differences from optax: a complex gradient counts by its absolute value in
    (2), where optax squares it.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the sum of gradients, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      alpha: Weight of the newest gradient.
      eps: Added to the root of the second moment.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.

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
    checks.non_negative(name, learning_rate=learning_rate, weight_decay=weight_decay)
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, alpha=alpha, eps=eps)
    return optax.chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps),
        transforms.add_decayed_weights(name, weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )


@numerics.inline_jit
def _multiply_add(a: Scalar, x: jax.Array, y: jax.Array) -> jax.Array:
    """A x + y."""
    x = numerics.upcast(x, y)
    return numerics.cast_scalar(x, a) * x + y.astype(x.dtype)
