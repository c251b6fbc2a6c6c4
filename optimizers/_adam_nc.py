"""AdamNC, Adam with the mean of all squared gradients: Reddi et al. (2018)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAdamNcState", "adam_nc", "scale_by_adam_nc"]


class ScaleByAdamNcState(NamedTuple):
    """State of `scale_by_adam_nc`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16
    nu: PyTree  # v, shapes of the params, real, at least float32


def scale_by_adam_nc(
    b1: Scalar = 0.9, eps: Scalar = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as AdamNC does, without the learning rate; see `adam_nc`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_adam_nc("scale_by_adam_nc", b1, eps)


def adam_nc(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    eps: Scalar = 1e-8,
    *,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamNC: Adam with the mean of all squared gradients as second moment.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                        && (1) \\
       v_t &= (1 - \tfrac1t) v_{t-1} + \tfrac1t |g_t|^2
            = \tfrac1t \textstyle\sum_{i \le t} |g_i|^2                  && (2) \\
       d_t &= m_t / (\sqrt{v_t} + \varepsilon)                           && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                   && (4)

    with :math:`m_0 = 0` and no bias correction. The analysis assumes
    :math:`\eta_t = \alpha / \sqrt t`. For that, pass the schedule
    ``lambda count: alpha / jnp.sqrt(count + 1)``; with it and ``b1=0``, AdamNC is
    AdaGrad.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\varepsilon` eps,
    :math:`\lambda` weight_decay; the state holds :math:`t` as count, :math:`m` as
    mu, :math:`v` as nu.

    Defaults: b1 and eps are those of `adam`.

    Differences from the paper: the paper allows several sequences
    :math:`\beta_{2,t}`; (2) is the choice :math:`1 - 1/t`. :math:`\beta_1` is constant,
    while the proof lets it decay. The paper has no :math:`\varepsilon` (``eps=0`` is
    the paper's form, with 0/0 taken as 0). There is no projection onto a feasible set.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
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
      Reddi, Kale and Kumar, On the Convergence of Adam and Beyond, ICLR 2018,
      Algorithm 3; arXiv:1904.09237.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.adam_nc(lambda count: 1.0 / jnp.sqrt(count + 1.0))
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    checks.finite("adam_nc", learning_rate=learning_rate)
    checks.non_negative("adam_nc", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adam_nc("adam_nc", b1, eps),
        transforms.add_decayed_weights("adam_nc", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )


def _scale_by_adam_nc(
    name: str,
    b1: Scalar,
    eps: Scalar,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1)
    checks.non_negative(name, eps=eps)

    def init(params: PyTree) -> ScaleByAdamNcState:
        return ScaleByAdamNcState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params),
            nu=trees.accumulators_like(name, params),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAdamNcState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        nu = jax.tree.map(
            lambda g, v: _mean_of_squares(count, g, v), grads, state.nu
        )  # (2)
        direction = moments.ratio(mu, nu, eps)  # (3)
        return trees.cast_like(direction, grads), ScaleByAdamNcState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _mean_of_squares(t: jax.Array, g: jax.Array, v: jax.Array) -> jax.Array:
    square = numerics.abs_square(numerics.upcast(g, v))
    v = v.astype(square.dtype)
    # Not (1 - 1/t) v + square / t: 1 - 1/t is 1 in floating point for large t.
    change = (square - v) / numerics.cast_scalar(v, t)
    # A mean that has overflowed stays infinite: inf - inf would be NaN.
    return v + jnp.where(jnp.isinf(v), 0.0, change)
