"""Prodigy: Mishchenko and Defazio (2024)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optimizers._common import (
    checks,
    distance,
    donation,
    masks,
    numerics,
    reductions,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["ScaleByProdigyState", "prodigy", "scale_by_prodigy"]


class ScaleByProdigyState(NamedTuple):
    """State of `scale_by_prodigy`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, as the params, at least bfloat16 (float32 for float16)
    nu: PyTree  # v, shapes of the params, real, at least float32
    grad_sum: PyTree  # s, shapes of the params, at least float32
    start: PyTree  # x_0, as the params
    displacement: PyTree  # z, shapes of the params, float32; None if none has 16 bits
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    distance_max: jax.Array  # d-max, as distance
    numerator: jax.Array  # N, as distance


def scale_by_prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar | None = None,
    eps: Scalar = 1e-8,
    *,
    d0: Scalar = 1e-6,
    d_coef: Scalar = 1.0,
    growth_rate: Scalar | None = None,
    bias_correction: bool = True,
    safeguard_warmup: bool = False,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The ascent direction of Prodigy; see `prodigy`.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      b3: Decay rate of the sums behind the estimate, in [0, 1); None means the square
        root of b2.
      eps: Small constant; times the distance estimate, it is added to the square root
        of the second moment.
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      d_coef: Factor on each new distance estimate.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      bias_correction: Whether the step size includes Adam's bias corrections of both
        moments.
      safeguard_warmup: Whether to leave the learning rate out of the denominator of the
        estimate.
      weight_decay: Decoupled weight decay: a float or an optax schedule; multiplied by
        the learning rate and the distance estimate.
      weight_decay_mask: Which leaves decay.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The transformation. Its updates are already scaled by the learning rate; follow it
      with ``optax.scale(-1.0)``.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, there are no
        params, or the gradients do not have their structure and shapes.
    """
    return _scale_by_prodigy(
        "scale_by_prodigy",
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        b3=b3,
        eps=eps,
        d0=d0,
        d_coef=d_coef,
        growth_rate=growth_rate,
        bias_correction=bias_correction,
        safeguard_warmup=safeguard_warmup,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        reduce=reduce,
    )


def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar | None = None,
    eps: Scalar = 1e-8,
    *,
    d0: Scalar = 1e-6,
    d_coef: Scalar = 1.0,
    growth_rate: Scalar | None = None,
    bias_correction: bool = True,
    safeguard_warmup: bool = False,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Prodigy: Adam with a learning rate from an estimated distance to the solution.

    Like D-Adaptation, it keeps a growing estimate :math:`d` of the distance
    :math:`\|x_0 - x_*\|_\infty`, and hence of the best learning rate. It weights recent
    gradients more, by :math:`d^2`, so that the estimate grows faster. The inner product
    and the norm are over the whole tree; all else is elementwise. For the gradient
    :math:`g_t` at :math:`x_{t-1}` and :math:`d = d_{t-1}`,

    .. math::

       \lambda_t &= d \, \gamma_t \sqrt{1 - \beta_2^t} / (1 - \beta_1^t)    && (1) \\
       N_t &= \beta_3 N_{t-1}
         + (d / d_0) \lambda_t \langle g_t, x_0 - x_{t-1} \rangle           && (2) \\
       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) d \, g_t                      && (3) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) d^2 |g_t|^2                   && (4) \\
       s_t &= \beta_3 s_{t-1} + (d / d_0) \lambda_t g_t                     && (5) \\
       \hat d_t &= c \, N_t / \|s_t\|_1                                     && (6) \\
       d^{\max}_t &= \max(d^{\max}_{t-1}, \hat d_t)                         && (7) \\
       d &\leftarrow d^{\max}_t \text{ if } d = d_0                         && (8) \\
       d_t &= \min(d^{\max}_t, r \, d)                                      && (9) \\
       x_t &= x_{t-1} - \lambda_t m_t / (\sqrt{v_t} + d_t \varepsilon)
         - \lambda_t w \, x_{t-1}                                           && (10)

    with :math:`N_0 = m_0 = v_0 = s_0 = 0` and :math:`d^{\max}_0 = d_0`. Without
    ``bias_correction``, :math:`\lambda_t = d \gamma_t`. With ``safeguard_warmup``,
    :math:`\lambda_t` in (5) is :math:`d`.

    Symbols: :math:`\gamma` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\beta_3` b3, :math:`\varepsilon` eps, :math:`d_0` d0, :math:`c` d_coef,
    :math:`r` growth_rate, :math:`w` weight_decay; the state holds :math:`t` as count,
    :math:`m` as mu, :math:`v` as nu, :math:`s` as grad_sum, :math:`x_0` as start,
    :math:`d` as distance, :math:`d^{\max}` as distance_max, :math:`N` as numerator.
    `distance_estimates` reads :math:`d`.

    bfloat16 and float16 would round the first steps away, and :math:`d` would never
    grow. For such params the state also holds the sum of the steps in float32, as
    displacement. It takes the place of :math:`x_0 - x_{t-1}` in (2), and an update
    makes up for what rounding has lost so far, so that the params are those of float32,
    rounded. Where something else has changed the params, the sum starts anew from
    :math:`x_0 - x_{t-1}`.

    Defaults: those of the released code and of ``optax.contrib.prodigy``, where b1 and
    b2 are called betas, b3 beta3, d0 estim_lr0 and d_coef estim_lr_coef. The authors
    recommend a cosine schedule from 1 to 0 as learning rate.

    Differences from the paper: the first estimate that exceeds :math:`d_0` is not
    limited by growth_rate, because of (8), as in the released code. ``d_coef=0`` keeps
    :math:`d` constant.

    Differences from released code: by default, the release does not correct the bias.
    It skips steps with a learning rate of 0, which here only drop out of (2) and (5),
    and does not count zero gradients before the first nonzero one. With ``b1=0`` it
    uses the new :math:`d_t` in (3). Its slice_p, which estimates from every p-th
    element, is left out. Its parameter groups share one :math:`d`; those of
    ``optax.partition`` have one each. optax has no growth_rate, keeps :math:`d` in the
    narrowest dtype of the params, squares complex gradients instead of their absolute
    values in (4), and shares buffers with the params, so that both cannot be donated.
    There, :math:`d` becomes NaN if the first gradient or the first learning rate is 0;
    here 0/0 is 0.

    If `init` gets abstract params, the state's start is zeros.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      b3: Decay rate of the sums behind the estimate, in [0, 1); None means the square
        root of b2.
      eps: Small constant; times the distance estimate, it is added to the square root
        of the second moment.
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      d_coef: Factor on each new distance estimate.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      bias_correction: Whether the step size includes Adam's bias corrections of both
        moments.
      safeguard_warmup: Whether to leave the learning rate out of the denominator of the
        estimate, which then grows more slowly during a warm-up.
      weight_decay: Decoupled weight decay: a float or an optax schedule; multiplied by
        :math:`\lambda_t`.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, there are no
        params, or the gradients do not have their structure and shapes.

    References:
      Mishchenko and Defazio, Prodigy: An Expeditiously Adaptive Parameter-Free
      Learner, ICML 2024; arXiv:2306.06101.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.prodigy()
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_prodigy(
            "prodigy",
            learning_rate=learning_rate,
            b1=b1,
            b2=b2,
            b3=b3,
            eps=eps,
            d0=d0,
            d_coef=d_coef,
            growth_rate=growth_rate,
            bias_correction=bias_correction,
            safeguard_warmup=safeguard_warmup,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        transforms.negate(),  # (10)
    )


def _scale_by_prodigy(
    name: str,
    *,
    learning_rate: ScalarOrSchedule,
    b1: Scalar,
    b2: Scalar,
    b3: Scalar | None,
    eps: Scalar,
    d0: Scalar,
    d_coef: Scalar,
    growth_rate: Scalar | None,
    bias_correction: bool,
    safeguard_warmup: bool,
    weight_decay: ScalarOrSchedule,
    weight_decay_mask: Mask,
    reduce: Reduce | None,
) -> optax.GradientTransformationExtraArgs:
    distance.require_ranges(
        name,
        learning_rate=learning_rate,
        d0=d0,
        growth_rate=growth_rate,
        weight_decay=weight_decay,
    )
    checks.decay_rates(name, b1=b1, b2=b2)
    if b3 is not None:
        checks.decay_rates(name, b3=b3)
    checks.non_negative(name, eps=eps, d_coef=d_coef)
    checks.functions(name, reduce=reduce)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )

    def init(params: PyTree) -> ScaleByProdigyState:
        return ScaleByProdigyState(
            count=jnp.zeros([], jnp.int32),
            mu=distance.step_averages_like(name, params),
            nu=trees.accumulators_like(name, params),
            grad_sum=trees.averages_like(name, params),
            start=jax.tree.map(
                lambda p: donation.own_buffer(p, numerics.dtype_of(p)), params
            ),
            displacement=trees.averages_like(name, params) if _rounds(params) else None,
            distance=reductions.scalar_like(params, d0),
            distance_max=reductions.scalar_like(params, d0),
            numerator=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByProdigyState]:
        del extra_args
        if params is None:
            msg = (
                f"{name}: update() needs params, because the estimate compares them "
                "with the initial ones. Call update(grads, state, params)."
            )
            raise ValueError(msg)
        grads = trees.gradients(name, updates, state.grad_sum)
        params = trees.with_gradients(name, grads, params)
        params = jax.tree.map(jnp.asarray, params)
        if state.displacement is None:
            displacement = jax.tree.map(_difference, state.start, params)
        else:
            displacement = jax.tree.map(
                _displacement, state.start, params, state.displacement
            )
        count = numerics.increment(state.count)
        d = numerics.as_float_scalar(state.distance)
        step_size = d * schedules.value_at(learning_rate, state.count)
        if bias_correction:
            step_size = step_size * jnp.sqrt(numerics.bias_correction(b2, count))
            step_size = step_size / numerics.bias_correction(b1, count)  # (1)

        first, second = numerics.as_scalar(b1), numerics.as_scalar(b2)
        third = second**0.5 if b3 is None else numerics.as_scalar(b3)
        relative = d / numerics.as_float_scalar(d0)
        weights = distance.Weights(
            b1=numerics.as_float_scalar(first),
            of_mu=(1.0 - first) * d,
            b2=numerics.as_float_scalar(second),
            of_nu=(1.0 - second) * jnp.square(d),
            b3=numerics.as_float_scalar(third),
            of_sum=relative * (d if safeguard_warmup else step_size),
        )
        leaves = trees.per_leaf(
            lambda g, m, v, s, z: _averages(weights, g, m, v, s, z),
            grads,
            state.mu,
            state.nu,
            state.grad_sum,
            displacement,
        )
        product, length = reductions.sums(
            reduce, [x.product for x in leaves], [x.length for x in leaves]
        )
        mu, nu, grad_sum = trees.unzip(grads, leaves, "mu", "nu", "grad_sum")
        numerator = weights.b3 * numerics.as_float_scalar(state.numerator)
        numerator = numerator + relative * step_size * product  # (2)
        estimate = numerics.safe_divide(
            numerics.as_float_scalar(d_coef) * numerator, length
        )  # (6)
        distance_max = jnp.maximum(
            numerics.as_float_scalar(state.distance_max),
            distance.finite_or_zero(estimate),
        )  # (7)
        new_distance = jnp.copy(distance_max)  # two buffers, so both can be donated
        if growth_rate is not None:
            first_distance = numerics.as_float_scalar(d0).astype(state.distance.dtype)
            is_first = state.distance == first_distance
            base = jnp.where(is_first, distance_max, d)  # (8)
            limit = distance.growth_factor(growth_rate) * base
            new_distance = jnp.minimum(distance_max, limit)  # (9)

        floor = new_distance * numerics.as_scalar(eps)
        divide = numerics.division(numerics.as_scalar(d0) * numerics.as_scalar(eps))
        direction = jax.tree.map(
            lambda m, v: _ratio(divide, step_size, floor, m, v), mu, nu
        )
        direction = transforms.add_decay(
            name,
            direction,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            step_size,
        )
        moved = None
        if state.displacement is not None:
            moved = jax.tree.map(_moved, params, displacement, direction)
            direction = jax.tree.map(_step, state.start, params, moved, direction)
        return trees.cast_like(direction, grads), ScaleByProdigyState(
            count=count,
            mu=trees.cast_like(mu, state.mu),
            nu=trees.cast_like(nu, state.nu),
            grad_sum=trees.cast_like(grad_sum, state.grad_sum),
            start=state.start,
            displacement=moved,
            distance=new_distance.astype(state.distance.dtype),
            distance_max=distance_max.astype(state.distance_max.dtype),
            numerator=numerator.astype(state.numerator.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


class _Leaf(NamedTuple):
    product: jax.Array
    length: jax.Array
    mu: jax.Array
    nu: jax.Array
    grad_sum: jax.Array


@numerics.inline_jit
def _averages(
    weights: distance.Weights,
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
    z: jax.Array,
) -> _Leaf:
    g = numerics.upcast(g, s)
    m, v, s = m.astype(g.dtype), v.astype(g.real.dtype), s.astype(g.dtype)
    w = distance.cast_weights(weights, g)
    product = g.conj() * z.astype(g.dtype)  # in (2)
    m = w.b1 * m + w.of_mu * g  # (3)
    v = w.b2 * v + w.of_nu * numerics.abs_square(g)  # (4)
    s = w.b3 * s + w.of_sum * g  # (5)
    return _Leaf(jnp.sum(product.real), jnp.sum(jnp.abs(s)), m, v, s)


def _is_narrow(x: Any) -> bool:
    """Whether the array is rounded to fewer bits than the computation has."""
    return numerics.dtype_of(x).itemsize < 4


def _rounds(params: PyTree) -> bool:
    return any(map(_is_narrow, jax.tree.leaves(params)))


@numerics.inline_jit
def _difference(x0: jax.Array, x: jax.Array) -> jax.Array:
    """x_0 - x in at least float32."""
    return numerics.upcast(x0) - numerics.upcast(x)


@numerics.inline_jit
def _displacement(x0: jax.Array, x: jax.Array, z: jax.Array) -> jax.Array:
    """z if x is x_0 - z rounded; else x_0 - x, because something else has changed x."""
    moved = _difference(x0, x)
    if not _is_narrow(x):
        return moved
    follows = numerics.upcast(x) == _rounded(numerics.upcast(x0) - z, x)
    return jnp.where(follows, z, moved)


@numerics.inline_jit
def _moved(x: jax.Array, z: jax.Array, d: jax.Array) -> jax.Array:
    return z + d.astype(z.dtype) if _is_narrow(x) else jnp.zeros_like(z)


@numerics.inline_jit
def _step(x0: jax.Array, x: jax.Array, z: jax.Array, d: jax.Array) -> jax.Array:
    """The direction from x to x_0 - z rounded: d, if that leads there."""
    if not _is_narrow(x):
        return d
    wide, target = numerics.upcast(x), _rounded(numerics.upcast(x0) - z, x)
    arrives = _rounded(wide - d.astype(z.dtype), x) == target
    return jnp.where(arrives, d, (wide - target).astype(d.dtype))


def _rounded(y: jax.Array, x: jax.Array) -> jax.Array:
    """y in the precision of x, but in its own dtype.

    XLA may leave out a cast to 16 bits and back.
    """
    bits = jnp.finfo(x.dtype)
    return lax.reduce_precision(y, exponent_bits=bits.nexp, mantissa_bits=bits.nmant)


@functools.partial(numerics.inline_jit, static_argnums=0)
def _ratio(
    divide: Callable[[jax.Array, jax.Array], jax.Array],
    step_size: jax.Array,
    floor: jax.Array,
    m: jax.Array,
    v: jax.Array,
) -> jax.Array:
    step_size, floor = (
        numerics.cast_scalar(m, step_size),
        numerics.cast_scalar(v, floor),
    )
    return step_size * divide(m, numerics.safe_sqrt(v) + floor)  # in (10)
