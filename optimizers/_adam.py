"""Adam and AdamW: Kingma and Ba (2015), Loshchilov and Hutter (2019)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, moments, numerics, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAdamState", "adam", "adamw", "scale_by_adam"]


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, or mu_dtype
    nu: PyTree  # v, shapes of the params, real, at least float32, or nu_dtype


def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The direction of Adam, uphill and without a learning rate; see `adam`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment.
      eps_root: Added to the second moment inside the root.
      mu_dtype: Dtype that the state keeps the first moment in.
      nesterov: Whether to look one step ahead, as Dozat (2016).
      nu_dtype: Dtype that the state keeps the second moment in.

    Returns:
      The transformation.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients
        do not have the structure and shapes of the params.
    """
    checks.decay_rates("scale_by_adam", b1=b1, b2=b2)
    checks.non_negative("scale_by_adam", eps=eps, eps_root=eps_root)

    def init(params: PyTree) -> ScaleByAdamState:
        return ScaleByAdamState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like("scale_by_adam", params, mu_dtype),
            nu=trees.accumulators_like("scale_by_adam", params, nu_dtype),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByAdamState]:
        del params, extra_args
        grads = trees.gradients("scale_by_adam", updates, state.nu)
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
        direction = moments.ratio(mu_hat, nu_hat, eps, eps_root)  # (5)
        return trees.cast_like(direction, grads), ScaleByAdamState(
            count, trees.cast_like(mu, state.mu), trees.cast_like(nu, state.nu)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def adam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam: steps of the size of the learning rate, whatever the gradient's scale.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, entry by entry,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                         && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                     && (2) \\
       \hat m_t &= m_t / (1 - \beta_1^t)                                  && (3) \\
       \hat v_t &= v_t / (1 - \beta_2^t)                                  && (4) \\
       d_t &= \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon) && (5) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                    && (6)

    with :math:`m_0 = v_0 = 0`. With ``nesterov``, (3) becomes

    .. math::

       \hat m_t = \beta_1 \frac{m_t}{1 - \beta_1^{t+1}}
                + (1 - \beta_1) \frac{g_t}{1 - \beta_1^t}                 && (3')

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`\bar\varepsilon` eps_root, :math:`\lambda`
    weight_decay; the state holds :math:`t` as count, :math:`m` as mu, :math:`v` as
    nu.

    Defaults: those of the paper, and the numbers of ``optax.adam``.

    Differences from the paper: eps_root, for derivatives through the update;
    decoupled weight decay. Its more efficient form, which TensorFlow released, adds
    :math:`\varepsilon` before :math:`v` is corrected, as if it were
    :math:`\varepsilon / \sqrt{1 - \beta_2^t}` here; HeavyBall takes the larger of
    :math:`\sqrt{\hat v}` and :math:`\varepsilon`. ``nesterov`` follows optax,
    which leaves out the decay schedule of Dozat's momentum.

    Differences from PyTorch: a complex entry has one second moment, of its absolute
    value, so that a step keeps the phase, as in optax. PyTorch takes real and
    imaginary parts by themselves; ``optax.contrib.split_real_and_imaginary(adam(...))``
    does too. Its weight_decay is the L2 penalty that `adamw` tells of.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, outside.
      eps_root: Added to the second moment inside the root. Something like 1e-8 makes
        derivatives through the update finite where a gradient is zero.
      mu_dtype: Dtype that the state keeps the first moment in; by default that of
        the params.
      nesterov: Whether to look one step ahead, as Dozat (2016).
      nu_dtype: Dtype that the state keeps the second moment in; by default that of
        the params, but at least float32.
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
    checks.non_negative("adam", learning_rate=learning_rate, weight_decay=weight_decay)
    checks.decay_rates("adam", b1=b1, b2=b2)
    checks.non_negative("adam", eps=eps, eps_root=eps_root)
    return optax.chain(
        scale_by_adam(
            b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype
        ),
        transforms.add_decayed_weights("adam", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (6)
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW: Adam that shrinks the params beside the step, not through the gradient.

    The equations of `adam`, with a weight decay that is not zero:

    .. math::

       x_t = x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                     && (6)

    An L2 penalty in the loss would pass :math:`\lambda x` through both moments and
    so divide it by :math:`\sqrt{\hat v_t}`: params with large gradients would decay
    least. For that, put ``optax.add_decayed_weights`` before `adam`.

    Symbols: :math:`\lambda` weight_decay, the others as in `adam`.

    Defaults: those of ``optax.adamw``.

    Differences from the paper: it multiplies :math:`\lambda` by the schedule's
    factor only; here, as in optax and PyTorch, by the whole learning rate. PyTorch
    shrinks the params before the step, which is the same; its default is 0.01.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, outside.
      eps_root: Added to the second moment inside the root.
      mu_dtype: Dtype that the state keeps the first moment in; by default that of
        the params.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      mask: The name of ``weight_decay_mask`` in optax.
      nesterov: Whether to look one step ahead, as Dozat (2016).
      nu_dtype: Dtype that the state keeps the second moment in; by default that of
        the params, but at least float32.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; both names of the mask are
        given; in `update`, the gradients do not have the structure and shapes of the
        params, or there are no params.

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
    mask = checks.one_mask("adamw", mask, weight_decay_mask)
    checks.non_negative("adamw", learning_rate=learning_rate, weight_decay=weight_decay)
    checks.decay_rates("adamw", b1=b1, b2=b2)
    checks.non_negative("adamw", eps=eps, eps_root=eps_root)
    return optax.chain(
        scale_by_adam(
            b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype
        ),
        transforms.add_decayed_weights("adamw", weight_decay, mask),
        transforms.scale_by_learning_rate(learning_rate),  # (6)
    )
