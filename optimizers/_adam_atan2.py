"""Adam-atan2, scale-invariant Adam without eps: Everett et al. (2024)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from optimizers._common import checks, numerics, transforms, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAdamAtan2State", "adam_atan2", "scale_by_adam_atan2"]

# atan(z) = z + z (c_1 z^2 + c_2 z^4 + ... + c_8 z^16) on [0, 1], to 1.9e-8 of atan(z).
# The c_k minimize the largest relative error on the 2001 points (1 - cos u) / 2, where
# u are the midpoints of 2001 equal parts of [0, pi]. This is a linear program in c_k
# and the error e, |(z + z sum_k c_k z^(2k)) / atan(z) - 1| <= e, solved with
# scipy.optimize.linprog. All rows are scaled by 1e6, far above the solver's tolerances.
_ARCTANGENT = (
    -0.333331527,
    0.199937729,
    -0.142110558,
    0.106660069,
    -0.0755221934,
    0.0432119239,
    -0.0163679687,
    0.00292070282,
)


class ScaleByAdamAtan2State(NamedTuple):
    """State of `scale_by_adam_atan2`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16
    nu_sqrt: PyTree  # q, shapes of the params, real, at least float32


def scale_by_adam_atan2(
    b1: Scalar = 0.9, b2: Scalar = 0.999, *, a: Scalar = 1.27, b: Scalar = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as Adam-atan2 does, without the learning rate.

    See `adam_atan2`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      a: Multiplies the angle, > 0.
      b: Multiplies the root of the second moment inside the angle, > 0.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_adam_atan2("scale_by_adam_atan2", b1, b2, a=a, b=b)


def adam_atan2(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    *,
    a: Scalar = 1.27,
    b: Scalar = 1.0,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam-atan2: scale-invariant Adam without eps.

    For the gradient :math:`g_t` at the params :math:`x_{t-1}`, elementwise,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                           && (1) \\
       q_t &= \sqrt{\beta_2 q_{t-1}^2 + (1 - \beta_2) |g_t|^2}              && (2) \\
       d_t &= a \, \mathrm{atan2}\left(\frac{m_t}{1 - \beta_1^t},
              \ \frac{b \, q_t}{\sqrt{1 - \beta_2^t}}\right)                && (3) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                      && (4)

    with :math:`m_0 = q_0 = 0`. If :math:`m` and :math:`q` are both 0, the angle is 0.
    For complex gradients, the angle is computed from :math:`|m_t|`, and :math:`d_t` has
    the phase of :math:`m_t`.

    Let :math:`\hat m / \sqrt{\hat v}` be Adam's direction. Where it is small, the
    direction here is close to :math:`(a/b) \, \hat m / \sqrt{\hat v}`, so that a
    learning rate tuned for Adam may be divided by :math:`a / b`. On the first step,
    :math:`|d_t|` is :math:`a \arctan(1 / b)` (0.997 by default), and it never exceeds
    :math:`a \pi / 2` (1.995). As :math:`a = b \to \infty`, the method becomes Adam with
    :math:`\varepsilon = 0`.

    Multiplying all gradients by a constant does not change the steps: exactly for a
    power of two, also in bfloat16, and up to rounding otherwise. This holds for scales
    from 1e-30 to 1e30, and beyond as long as the gradients and their moments are normal
    numbers of the dtype.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`a` a, :math:`b` b, :math:`\lambda` weight_decay; the state holds :math:`t`
    as count, :math:`m` as mu, :math:`q` as nu_sqrt.

    Defaults: ``a`` and ``b`` are those of the PyTorch port adam-atan2-pytorch, where
    :math:`a = 1.27 \approx 4 / \pi` maps a ratio of 1 to about 1. The decay rates are
    Adam's.

    Differences from the paper: the state holds the square root of Adam's second moment,
    and (2) is computed without squaring gradients. In float32, :math:`|g|^2` is 0 for
    :math:`|g|` below 1e-19 and infinite above 1e19, which would change the steps.

    Differences from released code: adam-atan2-pytorch has :math:`\beta_2 = 0.99`; its
    option decoupled_wd divides the weight decay by the first learning rate; its
    cautious and regenerative options are not implemented. Another port corrects the
    bias of :math:`m` outside the angle, which makes the first step 27% longer.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      a: Multiplies the angle, > 0. No entry of a step is larger than
        ``a * pi / 2 * learning_rate``.
      b: Multiplies the root of the second moment inside the angle, > 0. For small
        ratios of the moments, the direction is ``a / b`` times Adam's.
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
      Everett et al., Scaling Exponents Across Parameterizations and Optimizers,
      ICML 2024; arXiv:2407.05872.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: 1e-20 * jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.adam_atan2(learning_rate=0.3)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{jnp.max(jnp.abs(x - 3.0)):.1f}")
      0.0
    """
    checks.finite("adam_atan2", learning_rate=learning_rate)
    checks.non_negative("adam_atan2", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adam_atan2("adam_atan2", b1, b2, a=a, b=b),
        transforms.add_decayed_weights("adam_atan2", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (4)
    )


def _scale_by_adam_atan2(
    name: str,
    b1: Scalar,
    b2: Scalar,
    *,
    a: Scalar,
    b: Scalar,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.positive(name, a=a, b=b)

    def init(params: PyTree) -> ScaleByAdamAtan2State:
        return ScaleByAdamAtan2State(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params),
            nu_sqrt=trees.accumulators_like(name, params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByAdamAtan2State]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu_sqrt)
        count = numerics.increment(state.count)
        decay = numerics.as_scalar(b1)
        mu = jax.tree.map(
            lambda g, m: _average(decay, 1.0 - decay, g, m), grads, state.mu
        )  # (1)
        square_decay = numerics.as_float_scalar(b2)
        old, new = jnp.sqrt(square_decay), jnp.sqrt(1.0 - square_decay)
        nu_sqrt = jax.tree.map(
            lambda g, q: _root_mean_square(old, new, g, q), grads, state.nu_sqrt
        )  # (2)
        slope = jnp.sqrt(numerics.bias_correction(b2, count)) / (
            numerics.bias_correction(b1, count) * numerics.as_float_scalar(b)
        )
        factor, root = numerics.as_float_scalar(a), jnp.sqrt(slope)
        direction = jax.tree.map(
            lambda m, q: _scaled_angle(factor, root, m, q), mu, nu_sqrt
        )  # (3)
        return trees.cast_like(direction, grads), ScaleByAdamAtan2State(
            count,
            trees.cast_like(mu, state.mu),
            trees.cast_like(nu_sqrt, state.nu_sqrt),
        )

    return optax.GradientTransformationExtraArgs(init, update)


@jax.jit
def _average(
    decay: Scalar, one_minus_decay: Scalar, g: jax.Array, m: jax.Array
) -> jax.Array:
    """Equation (1), but 0 where the two terms cancel up to rounding errors.

    The difference that remains would be a tiny number at one scale of the gradients
    and underflow to 0 at another, so that the angle would depend on the scale.
    """
    g = numerics.upcast(g, m)
    m = m.astype(g.dtype)
    if jnp.iscomplexobj(g):
        real = _average(decay, one_minus_decay, g.real, m.real)
        return lax.complex(real, _average(decay, one_minus_decay, g.imag, m.imag))
    new = numerics.cast_scalar(g, one_minus_decay) * g
    average = numerics.cast_scalar(g, decay) * m + new
    error = 2.0 * float(jnp.finfo(g.dtype).eps) * jnp.abs(new)
    return jnp.where(jnp.abs(average) < error, 0.0, average)


@jax.jit
def _root_mean_square(
    old: jax.Array, new: jax.Array, g: jax.Array, q: jax.Array
) -> jax.Array:
    """Equation (2)."""
    size = _absolute(numerics.upcast(g, q))
    q = q.astype(size.dtype)
    return _hypotenuse(
        numerics.cast_scalar(q, old) * q, numerics.cast_scalar(q, new) * size
    )


@jax.jit
def _scaled_angle(
    factor: jax.Array, root: jax.Array, m: jax.Array, q: jax.Array
) -> jax.Array:
    """Equation (3), where `root` is the square root of the ratio of the corrections.

    m is multiplied and q is divided by `root`, so that neither overflows or underflows
    for large or small b.
    """
    size, root = _absolute(m), numerics.cast_scalar(q, root)
    angle = numerics.cast_scalar(q, factor) * _arctangent(root * size, q / root)
    if jnp.iscomplexobj(m):
        return numerics.cast_scalar(m, angle) * numerics.safe_divide(m, size)
    return jnp.where(m < 0.0, -angle, angle)


def _absolute(x: jax.Array) -> jax.Array:
    """Returns |x|, for complex x without overflow or underflow."""
    if jnp.iscomplexobj(x):
        return _hypotenuse(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.abs(x)


def _hypotenuse(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns sqrt(x^2 + y^2) for x, y >= 0.

    Only the ratio is squared; where its square underflows, it is negligible.
    """
    longer = jnp.maximum(x, y)
    ratio = numerics.safe_divide(jnp.minimum(x, y), longer)
    return longer * jnp.sqrt(1.0 + lax.square(ratio))


def _arctangent(y: jax.Array, x: jax.Array) -> jax.Array:
    """Returns atan2(y, x) for x, y >= 0; at the origin 0, with finite derivatives.

    float32 uses a polynomial, within 1.8e-7 of the true angle: processors have no
    instruction for atan2, and XLA would call a function for every entry.
    """
    if x.dtype == jnp.float64:
        origin = (x == 0.0) & (y == 0.0)
        return lax.atan2(y, jnp.where(origin, 1.0, x))
    z = numerics.safe_divide(jnp.minimum(x, y), jnp.maximum(x, y))
    square = lax.square(z)
    series = jnp.zeros_like(z)
    for coefficient in reversed(_ARCTANGENT):
        series = (series + coefficient) * square
    angle = z + z * series
    return jnp.where(y > x, np.pi / 2 - angle, angle)
