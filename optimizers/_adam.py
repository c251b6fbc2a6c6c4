"""Adam and AdamW: Kingma and Ba (2015), Loshchilov and Hutter (2019)."""

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

__all__ = ["ScaleByAdamState", "adam", "adamw", "scale_by_adam"]


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32, or nu_dtype


def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as Adam does, without the learning rate; see `adam`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root; a float or
        a schedule, such as `epsilon_hat`.
      eps_root: Small constant added to the second moment, inside the square root.
      mu_dtype: Dtype of the stored first moment; None means that of the params, but
        at least bfloat16.
      nesterov: Whether to use Nesterov momentum (NAdam; Dozat, 2016).
      nu_dtype: Dtype of the stored second moment; None means that of the params, but
        at least float32.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_adam(
        "scale_by_adam",
        b1,
        b2,
        eps,
        eps_root,
        mu_dtype,
        nesterov=nesterov,
        nu_dtype=nu_dtype,
    )


def adam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam: momentum divided by the root mean square of recent gradients.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                         && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                     && (2) \\
       \hat m_t &= m_t / (1 - \beta_1^t)                                  && (3) \\
       \hat v_t &= v_t / (1 - \beta_2^t)                                  && (4) \\
       d_t &= \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon) && (5) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                    && (6)

    with :math:`m_0 = v_0 = 0`. Each entry of a step is about :math:`\eta_t` or smaller,
    whatever the scale of the gradients. With ``nesterov``, (3) becomes

    .. math::

       \hat m_t = \beta_1 \frac{m_t}{1 - \beta_1^{t+1}}
                + (1 - \beta_1) \frac{g_t}{1 - \beta_1^t} \qquad (3')

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\bar\varepsilon` eps_root, :math:`\lambda`
    weight_decay; the state holds :math:`t` as count, :math:`m` as mu, :math:`v` as
    nu.

    Defaults: those of the paper and of ``optax.adam``.

    Differences from the paper: eps_root, for derivatives through the update, and
    decoupled weight decay. The paper's more efficient form, used by Keras, TensorFlow
    and others, adds :math:`\varepsilon` before :math:`v` is corrected: pass
    ``eps=epsilon_hat(1e-7, b2=0.999)``. HeavyBall uses the maximum of
    :math:`\sqrt{\hat v}` and :math:`\varepsilon`. ``nesterov`` follows optax and has
    no schedule for :math:`\beta_1`; `nadam` has Dozat's.

    Differences from other frameworks: docs/migrating.md has the calls that reproduce
    their Adam.

    Differences from PyTorch: a complex parameter has one real second moment, that of
    :math:`|g|`, so that a step keeps the phase of :math:`\hat m`, as in optax. PyTorch
    treats real and imaginary parts as separate parameters; use
    ``optax.contrib.split_real_and_imaginary(adam(...))`` for that. PyTorch's
    weight_decay is an L2 penalty; see `adamw`.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root; a float or
        a schedule, such as `epsilon_hat`.
      eps_root: Small constant added to the second moment, inside the square root.
        Without it, the derivative of the first step by a gradient of 0 has the size
        :math:`1 / \varepsilon`, with it :math:`1 / \sqrt{\bar\varepsilon}`.
      mu_dtype: Dtype of the stored first moment; None means that of the params, but
        at least bfloat16.
      nesterov: Whether to use Nesterov momentum (NAdam; Dozat, 2016).
      nu_dtype: Dtype of the stored second moment; None means that of the params, but
        at least float32.
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
      Algorithm 1; arXiv:1412.6980. Dozat, Incorporating Nesterov Momentum into Adam,
      ICLR workshop 2016.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.adam(learning_rate=0.3)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    checks.finite("adam", learning_rate=learning_rate)
    checks.non_negative("adam", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adam(
            "adam",
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype,
            nesterov=nesterov,
            nu_dtype=nu_dtype,
        ),
        transforms.add_decayed_weights("adam", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (6)
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW: Adam with decoupled weight decay.

    With the direction :math:`d_t` of `adam`,

    .. math::

       x_t = x_{t-1} - \eta_t (d_t + \lambda x_{t-1}) \qquad (6)

    `adam` with the same weight_decay is the same optimizer; only the default differs.
    An L2 penalty in the loss would instead add :math:`\lambda x` to the gradient, pass
    it through both moments and divide it by :math:`\sqrt{\hat v_t}`, so that params
    with large gradients would decay least. For an L2 penalty, put
    ``optax.add_decayed_weights`` before `adam`.

    Symbols: :math:`\lambda` weight_decay, the others as in `adam`.

    Defaults: those of ``optax.adamw``.

    Differences from the paper: the paper multiplies :math:`\lambda` by the schedule
    multiplier only. Here, as in optax and PyTorch, it is multiplied by the whole
    learning rate. PyTorch decays the params before the step, which is equivalent; its
    default is 0.01. For weight decay that is not multiplied by the learning rate, as
    in Chainer, subtract it after `adam`:
    ``optax.chain(adam(learning_rate), optax.add_decayed_weights(-weight_decay))``.

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
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      mask: Optax's name for ``weight_decay_mask``; give only one of the two.
      nesterov: Whether to use Nesterov momentum (NAdam; Dozat, 2016).
      nu_dtype: Dtype of the stored second moment; None means that of the params, but
        at least float32.
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
      Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019,
      Algorithm 2; arXiv:1711.05101.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda p: jnp.sum((p["w"] + p["bias"] - 3.0) ** 2)
      >>> optimizer = optimizers.adamw(
      ...     0.3, weight_decay=0.1, weight_decay_mask={"w": True, "bias": False}
      ... )
      >>> params = {"w": jnp.ones(2), "bias": jnp.zeros(2)}
      >>> state = optimizer.init(params)
      >>> for _ in range(200):
      ...     grads = jax.grad(loss)(params)
      ...     updates, state = optimizer.update(grads, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{loss(params):.2f}")
      0.00
    """
    argument, mask = checks.one_mask("adamw", mask, weight_decay_mask)
    checks.finite("adamw", learning_rate=learning_rate)
    checks.non_negative("adamw", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adam(
            "adamw",
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype,
            nesterov=nesterov,
            nu_dtype=nu_dtype,
        ),
        transforms.add_decayed_weights("adamw", weight_decay, mask, argument),
        transforms.scale_by_learning_rate(learning_rate),  # (6)
    )


def _scale_by_adam(
    name: str,
    b1: Scalar,
    b2: Scalar,
    eps: ScalarOrSchedule,
    eps_root: Scalar,
    mu_dtype: Any,
    *,
    nesterov: bool,
    nu_dtype: Any,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps_root=eps_root)
    if not callable(eps):
        checks.non_negative(name, eps=eps)

    def init(params: PyTree) -> ScaleByAdamState:
        return ScaleByAdamState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params, mu_dtype),
            nu=trees.accumulators_like(name, params, nu_dtype),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAdamState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        mu = moments.ema(b1, grads, state.mu)  # (1)
        nu = moments.ema_of_squares(b2, grads, state.nu)  # (2)
        if nesterov:
            ahead = moments.debias(mu, b1, numerics.increment(count))
            now = moments.debias(jax.tree.map(numerics.upcast, grads), b1, count)
            mu_hat = moments.ema(b1, now, ahead)  # (3')
        else:
            mu_hat = moments.debias(mu, b1, count)  # (3)
        nu_hat = moments.debias(nu, b2, count)  # (4)
        outside = schedules.value_at(eps, state.count)
        direction = moments.ratio(mu_hat, nu_hat, outside, eps_root)  # (5)
        return trees.cast_like(direction, grads), ScaleByAdamState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)
