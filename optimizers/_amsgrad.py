"""AMSGrad in the forms of the paper, PyTorch and optax: Reddi et al. (2018)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    moments,
    numerics,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAmsgradState", "amsgrad", "scale_by_amsgrad"]

_VARIANTS = ("optax", "torch", "paper")


class ScaleByAmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32
    nu_max: PyTree  # v-hat, as nu


def scale_by_amsgrad(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    variant: str = "optax",
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as AMSGrad does, without the learning rate; see `amsgrad`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root; a float or
        a schedule, such as `epsilon_hat`.
      eps_root: Small constant added to the second moment, inside the square root.
      mu_dtype: Dtype of the stored first moment; None means that of the params, but
        at least bfloat16.
      variant: Order of maximum and bias correction: ``"optax"``, ``"torch"`` or
        ``"paper"``.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_amsgrad(
        "scale_by_amsgrad", b1, b2, eps, eps_root, mu_dtype, variant=variant
    )


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    variant: str = "optax",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad: Adam with the running maximum of the second moment.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                           && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                       && (2) \\
       d_t &= \bar m_t / (\sqrt{\bar v_t + \bar\varepsilon} + \varepsilon)  && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                      && (4)

    with :math:`m_0 = v_0 = \hat v_0 = 0`. The variants differ in the order of the
    maximum :math:`\hat v` and the bias correction:

    .. math::

       \text{optax:}&\quad \hat v_t = \max(\hat v_{t-1}, v_t / (1 - \beta_2^t)),
         & \bar m_t &= m_t / (1 - \beta_1^t), & \bar v_t &= \hat v_t        && (O) \\
       \text{torch:}&\quad \hat v_t = \max(\hat v_{t-1}, v_t),
         & \bar m_t &= m_t / (1 - \beta_1^t),
         & \bar v_t &= \hat v_t / (1 - \beta_2^t)                           && (T) \\
       \text{paper:}&\quad \hat v_t = \max(\hat v_{t-1}, v_t),
         & \bar m_t &= m_t, & \bar v_t &= \hat v_t                          && (P)

    The variants weight early gradients differently. In the optax form, the full square
    of the first gradient stays in the maximum forever; in the others, only
    :math:`1 - \beta_2` times the square. The denominator of the torch form can shrink,
    so that the paper's bound does not apply to it.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\bar\varepsilon` eps_root, :math:`\lambda`
    weight_decay; the state holds :math:`t` as count, :math:`m` as mu, :math:`v` as
    nu, :math:`\hat v` as nu_max.

    Defaults: those of ``optax.amsgrad``.

    Differences from the paper, in every variant: :math:`\beta_1` is constant, while
    the proof lets it decay; there is an :math:`\varepsilon` and no projection onto a
    feasible set. The paper's :math:`\eta_t = \alpha / \sqrt t` can be passed as a
    schedule.

    Differences from released code: newer versions of optax have a flag for each of
    the two corrections. Both flags together are (O), neither is (P). The other two
    combinations are not implemented: correcting only :math:`m` makes the first step as
    long as :math:`\eta / \sqrt{1 - \beta_2}`. Keras and Chainer use (T), but add
    :math:`\varepsilon` before the correction: pass
    ``eps=epsilon_hat(1e-7, b2=0.999)``.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root; a float or
        a schedule, such as `epsilon_hat`.
      eps_root: Small constant added to the second moment, inside the square root.
      mu_dtype: Dtype of the stored first moment; None means that of the params, but
        at least bfloat16.
      variant: Order of maximum and bias correction: ``"optax"``, ``"torch"`` or
        ``"paper"``.
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
      Algorithm 2; arXiv:1904.09237.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.amsgrad(learning_rate=0.3)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    checks.finite("amsgrad", learning_rate=learning_rate)
    checks.non_negative("amsgrad", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_amsgrad("amsgrad", b1, b2, eps, eps_root, mu_dtype, variant=variant),
        transforms.add_decayed_weights("amsgrad", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )


def _scale_by_amsgrad(
    name: str,
    b1: Scalar,
    b2: Scalar,
    eps: ScalarOrSchedule,
    eps_root: Scalar,
    mu_dtype: Any,
    *,
    variant: str,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps_root=eps_root)
    if not callable(eps):
        checks.non_negative(name, eps=eps)
    checks.one_of(name, "variant", variant, _VARIANTS)

    def init(params: PyTree) -> ScaleByAmsgradState:
        return ScaleByAmsgradState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params, mu_dtype),
            nu=trees.accumulators_like(name, params),
            nu_max=trees.accumulators_like(name, params),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAmsgradState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (2)
        if variant == "optax":
            mu_hat = moments.debias(mu, b1, count)
            nu_max = moments.running_max(state.nu_max, moments.debias(nu, b2, count))
            nu_hat = nu_max  # (O)
        elif variant == "torch":
            mu_hat = moments.debias(mu, b1, count)
            nu_max = moments.running_max(state.nu_max, nu)
            nu_hat = moments.debias(nu_max, b2, count)  # (T)
        else:
            mu_hat = mu
            nu_max = moments.running_max(state.nu_max, nu)
            nu_hat = nu_max  # (P)
        outside = schedules.value_at(eps, state.count)
        direction = moments.ratio(mu_hat, nu_hat, outside, eps_root)  # (3)
        return trees.cast_like(direction, grads), ScaleByAmsgradState(
            count,
            trees.cast_like(mu, state.mu),
            trees.cast_like(nu, state.nu),
            trees.cast_like(nu_max, state.nu_max),
        )

    return optax.GradientTransformationExtraArgs(init, update)
