"""AMSGrad, in the paper's, PyTorch's and optax's form: Reddi et al. (2018)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAmsgradState", "amsgrad", "scale_by_amsgrad"]

_VARIANTS = ("optax", "torch", "paper")


class ScaleByAmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32
    nu_max: PyTree  # v-hat, as nu


def scale_by_amsgrad(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    variant: str = "optax",
) -> optax.GradientTransformationExtraArgs:
    """The direction of AMSGrad, uphill and without a learning rate; see `amsgrad`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment.
      eps_root: Added to the second moment inside the root.
      mu_dtype: Dtype that the state keeps the first moment in.
      variant: ``"optax"``, ``"torch"`` or ``"paper"``.

    Returns:
      The transformation.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients
        do not have the structure and shapes of the params.
    """
    checks.decay_rates("scale_by_amsgrad", b1=b1, b2=b2)
    checks.non_negative("scale_by_amsgrad", eps=eps, eps_root=eps_root)
    checks.one_of("scale_by_amsgrad", "variant", variant, _VARIANTS)

    def init(params: PyTree) -> ScaleByAmsgradState:
        return ScaleByAmsgradState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like("scale_by_amsgrad", params, mu_dtype),
            nu=trees.accumulators_like("scale_by_amsgrad", params),
            nu_max=trees.accumulators_like("scale_by_amsgrad", params),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAmsgradState]:
        del params, extra_args
        grads = trees.gradients("scale_by_amsgrad", updates, state.nu)
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
        direction = moments.ratio(mu_hat, nu_hat, eps, eps_root)  # (3)
        return trees.cast_like(direction, grads), ScaleByAmsgradState(
            count,
            trees.cast_like(mu, state.mu),
            trees.cast_like(nu, state.nu),
            trees.cast_like(nu_max, state.nu_max),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    variant: str = "optax",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad: Adam whose step sizes never grow again after a large gradient.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, entry by entry,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                           && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                       && (2) \\
       d_t &= \bar m_t / (\sqrt{\bar v_t + \bar\varepsilon} + \varepsilon)  && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                      && (4)

    with :math:`m_0 = v_0 = \hat v_0 = 0`. The variants differ in where the maximum
    :math:`\hat v` meets the bias correction:

    .. math::

       \text{optax:}&\quad \hat v_t = \max(\hat v_{t-1}, v_t / (1 - \beta_2^t)),
         & \bar m_t &= m_t / (1 - \beta_1^t), & \bar v_t &= \hat v_t        && (O) \\
       \text{torch:}&\quad \hat v_t = \max(\hat v_{t-1}, v_t),
         & \bar m_t &= m_t / (1 - \beta_1^t),
         & \bar v_t &= \hat v_t / (1 - \beta_2^t)                           && (T) \\
       \text{paper:}&\quad \hat v_t = \max(\hat v_{t-1}, v_t),
         & \bar m_t &= m_t, & \bar v_t &= \hat v_t                          && (P)

    The variants forget differently: the optax form keeps the square of the very
    first gradient for ever at its full size, the others at :math:`1 - \beta_2` of
    it. The torch form's denominator can shrink, so that the paper's bound does not
    cover it.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\bar\varepsilon` eps_root, :math:`\lambda`
    weight_decay; the state holds :math:`t` as count, :math:`m` as mu, :math:`v` as
    nu, :math:`\hat v` as nu_max.

    Defaults: those of ``optax.amsgrad``.

    Differences from the paper, in every variant: constant :math:`\beta_1` (the proof
    decays it); an :math:`\varepsilon`; no projection onto a feasible set; the
    paper's :math:`\eta_t = \alpha / \sqrt t` is yours to pass as a schedule.

    Differences from released code: newer versions of optax have a flag for each of
    the two corrections. Both together are (O), none is (P). The correction of
    :math:`m` alone, which makes a first step of :math:`\eta / \sqrt{1 - \beta_2}`,
    and that of :math:`v` alone are left out.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, outside.
      eps_root: Added to the second moment inside the root.
      mu_dtype: Dtype that the state keeps the first moment in; by default that of
        the params.
      variant: ``"optax"``, ``"torch"`` or ``"paper"``.
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
    checks.non_negative(
        "amsgrad", learning_rate=learning_rate, weight_decay=weight_decay
    )
    checks.decay_rates("amsgrad", b1=b1, b2=b2)
    checks.non_negative("amsgrad", eps=eps, eps_root=eps_root)
    checks.one_of("amsgrad", "variant", variant, _VARIANTS)
    return optax.chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, variant=variant),
        transforms.add_decayed_weights("amsgrad", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )
