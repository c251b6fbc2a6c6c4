"""AdaMax, Adam with the infinity norm: Kingma and Ba (2015), Section 7."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAdamaxState", "adamax", "scale_by_adamax"]


class ScaleByAdamaxState(NamedTuple):
    """State of `scale_by_adamax`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params
    nu: PyTree  # u, shapes of the params, real, at least float32


def scale_by_adamax(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """The direction of AdaMax, uphill and without a learning rate; see `adamax`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the running maximum, in [0, 1).
      eps: Added to the size of the gradient, inside the maximum.

    Returns:
      The transformation.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients
        do not have the structure and shapes of the params.
    """
    checks.decay_rates("scale_by_adamax", b1=b1, b2=b2)
    checks.non_negative("scale_by_adamax", eps=eps)

    def init(params: PyTree) -> ScaleByAdamaxState:
        return ScaleByAdamaxState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like("scale_by_adamax", params),
            nu=trees.accumulators_like("scale_by_adamax", params),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAdamaxState]:
        del params, extra_args
        grads = trees.gradients("scale_by_adamax", updates, state.nu)
        count = numerics.increment(state.count)
        decay, floor = numerics.as_scalar(b2), numerics.as_scalar(eps)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        nu = jax.tree.map(
            lambda g, u: _decayed_max(decay, floor, g, u), grads, state.nu
        )  # (2)
        mu_hat = moments.debias(mu, b1, count)  # (3)
        direction = jax.tree.map(numerics.division(floor), mu_hat, nu)  # (4)
        return trees.cast_like(direction, grads), ScaleByAdamaxState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def adamax(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaMax: Adam that divides by the largest recent gradient, not by an average.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, entry by entry,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t          && (1) \\
       u_t &= \max(\beta_2 u_{t-1}, |g_t| + \varepsilon)   && (2) \\
       \hat m_t &= m_t / (1 - \beta_1^t)                   && (3) \\
       d_t &= \hat m_t / u_t                               && (4) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})     && (5)

    with :math:`m_0 = u_0 = 0`. The maximum starts unbiased and needs no correction.
    No step is longer than :math:`\eta (1 - \beta_1) / (1 - \beta_1 / \beta_2)`, about
    :math:`1.0091 \eta` by default.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\lambda` weight_decay; the state holds :math:`t`
    as count, :math:`m` as mu, :math:`u` as nu.

    Defaults: those of ``optax.adamax``; the paper uses a learning rate of 0.002.

    Differences from the paper: it has no :math:`\varepsilon`, which makes 0/0 of a
    first gradient of zero; optax and PyTorch add it inside the maximum, as here.
    ``eps=0`` is the paper's form, with 0/0 taken as 0. The paper says that no step is
    longer than :math:`\eta`, which the bound above corrects.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the running maximum, in [0, 1).
      eps: Added to the size of the gradient, inside the maximum.
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
    checks.non_negative(
        "adamax", learning_rate=learning_rate, weight_decay=weight_decay
    )
    checks.decay_rates("adamax", b1=b1, b2=b2)
    checks.non_negative("adamax", eps=eps)
    return optax.chain(
        scale_by_adamax(b1, b2, eps),
        transforms.add_decayed_weights("adamax", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (5)
    )


@numerics.inline_jit
def _decayed_max(decay: Scalar, floor: Scalar, g: jax.Array, u: jax.Array) -> jax.Array:
    size = jnp.abs(numerics.upcast(g, u))
    decayed = numerics.cast_scalar(size, decay) * u.astype(size.dtype)
    return jnp.maximum(decayed, size + numerics.cast_scalar(size, floor))
