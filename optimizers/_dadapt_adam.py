"""D-Adaptation for Adam: Defazio and Mishchenko (2023)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

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

__all__ = ["ScaleByDadaptAdamState", "dadapt_adam", "scale_by_dadapt_adam"]


class ScaleByDadaptAdamState(NamedTuple):
    """State of `scale_by_dadapt_adam`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, as the params, at least bfloat16 (float32 for float16)
    nu: PyTree  # v, shapes of the params, real, at least float32
    grad_sum: PyTree  # s, shapes of the params, at least float32
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    numerator: jax.Array  # N, as distance


def scale_by_dadapt_adam(
    learning_rate: ScalarOrSchedule = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    bias_correction: bool = True,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The ascent direction of D-Adaptation for Adam; see `dadapt_adam`.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the square root of the second moment.
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      bias_correction: Whether the step size includes Adam's bias corrections of both
        moments.
      weight_decay: Decoupled weight decay: a float or an optax schedule; multiplied by
        the learning rate and the distance estimate.
      weight_decay_mask: Which leaves decay.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The transformation. Its updates are already scaled by the learning rate; follow it
      with ``optax.scale(-1.0)``.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or params are missing although
        weight_decay needs them.
    """
    return _scale_by_dadapt_adam(
        "scale_by_dadapt_adam",
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        d0=d0,
        growth_rate=growth_rate,
        bias_correction=bias_correction,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        reduce=reduce,
    )


def dadapt_adam(
    learning_rate: ScalarOrSchedule = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    bias_correction: bool = True,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""D-Adaptation for Adam: Adam with an automatic learning rate.

    :math:`d` is a growing estimate of the distance :math:`\|x_0 - x_*\|_\infty`, and
    hence of the best learning rate. With the product and the norm over the whole tree
    and the rest elementwise, for the gradient :math:`g_t` at :math:`x_{t-1}`,

    .. math::

       \lambda_t &= d_{t-1} \gamma_t \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) && (1) \\
       N_t &= \beta_s N_{t-1} + (1 - \beta_s) \lambda_t
         \langle g_t, s_{t-1} / (\sqrt{v_{t-1}} + \varepsilon) \rangle      && (2) \\
       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) \lambda_t g_t                 && (3) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                       && (4) \\
       s_t &= \beta_s s_{t-1} + (1 - \beta_s) \lambda_t g_t                 && (5) \\
       \hat d_t &= N_t / ((1 - \beta_s) \|s_t\|_1)                          && (6) \\
       d_t &= \max(d_{t-1}, \min(\hat d_t, r \, d_{t-1}))                   && (7) \\
       x_t &= x_{t-1} - m_t / (\sqrt{v_t} + \varepsilon)
         - \lambda_t w \, x_{t-1}                                           && (8)

    with :math:`\beta_s = \sqrt{\beta_2}` and :math:`N_0 = m_0 = v_0 = s_0 = 0`.
    Without ``bias_correction``, :math:`\lambda_t = d_{t-1} \gamma_t`.

    Symbols: :math:`\gamma` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`d_0` d0, :math:`r` growth_rate, :math:`w`
    weight_decay; the state holds :math:`t` as count, :math:`m` as mu, :math:`v` as nu,
    :math:`s` as grad_sum, :math:`d` as distance, :math:`N` as numerator.
    `distance_estimates` reads :math:`d`.

    Defaults: those of the release and the numbers of ``optax.contrib.dadapt_adamw``,
    whose betas are b1 and b2 here and whose estim_lr0 is d0. The learning rate is 1, or
    a schedule with this peak. ``growth_rate=1.02`` acts as a warm-up.

    Differences from the paper and its preprint: (2) is the inner-product form of the
    released code, with :math:`v` of the previous step.

    Differences from released code: by default, the release does not correct the bias.
    It skips steps with a learning rate of 0, which here only leave the gradient out of
    :math:`m` and :math:`s`, and does not count zero gradients before the first nonzero
    one. By default it adds weight decay to the gradients (put
    ``optax.add_decayed_weights`` first for that). Its layer_scale is left out. Its
    parameter groups share one :math:`d`; those of ``optax.partition`` have one each.
    optax has no growth_rate, keeps :math:`d` in the narrowest dtype of the params, and
    squares complex gradients instead of their absolute values in (4). There, :math:`d`
    becomes NaN if the first gradient or the first learning rate is 0; here 0/0 is 0.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1); its square root is that of the
        sums behind the estimate.
      eps: Added to the square root of the second moment.
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      bias_correction: Whether the step size includes Adam's bias corrections of both
        moments.
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
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or params are missing although
        weight_decay needs them.

    References:
      Defazio and Mishchenko, Learning-Rate-Free Learning by D-Adaptation, ICML 2023;
      arXiv:2301.07733.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.dadapt_adam()
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_dadapt_adam(
            "dadapt_adam",
            learning_rate=learning_rate,
            b1=b1,
            b2=b2,
            eps=eps,
            d0=d0,
            growth_rate=growth_rate,
            bias_correction=bias_correction,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        transforms.negate(),  # (8)
    )


def _scale_by_dadapt_adam(
    name: str,
    *,
    learning_rate: ScalarOrSchedule,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    d0: Scalar,
    growth_rate: Scalar | None,
    bias_correction: bool,
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
    checks.non_negative(name, eps=eps)
    checks.functions(name, reduce=reduce)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )

    def init(params: PyTree) -> ScaleByDadaptAdamState:
        return ScaleByDadaptAdamState(
            count=jnp.zeros([], jnp.int32),
            mu=distance.step_averages_like(name, params),
            nu=trees.accumulators_like(name, params),
            grad_sum=trees.averages_like(name, params),
            distance=reductions.scalar_like(params, d0),
            numerator=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByDadaptAdamState]:
        del extra_args
        grads = trees.gradients(name, updates, state.grad_sum)
        count = numerics.increment(state.count)
        d = numerics.as_float_scalar(state.distance)
        step_size = d * schedules.value_at(learning_rate, state.count)
        if bias_correction:
            step_size = step_size * jnp.sqrt(numerics.bias_correction(b2, count))
            step_size = step_size / numerics.bias_correction(b1, count)  # (1)
        first, second = numerics.as_scalar(b1), numerics.as_scalar(b2)
        root = second**0.5
        weights = distance.Weights(
            b1=numerics.as_float_scalar(first),
            of_mu=numerics.as_float_scalar((1.0 - first) * step_size),
            b2=numerics.as_float_scalar(second),
            of_nu=numerics.as_float_scalar(1.0 - second),
            b3=numerics.as_float_scalar(root),
            of_sum=numerics.as_float_scalar((1.0 - root) * step_size),
        )
        outside = numerics.as_float_scalar(eps)
        divide = numerics.division(numerics.as_scalar(eps))
        leaves = trees.per_leaf(
            lambda g, m, v, s: _averages(divide, weights, outside, g, m, v, s),
            grads,
            state.mu,
            state.nu,
            state.grad_sum,
        )
        product, length = reductions.sums(
            reduce, [x.product for x in leaves], [x.length for x in leaves]
        )
        mu, nu, grad_sum, step = trees.unzip(
            grads, leaves, "mu", "nu", "grad_sum", "step"
        )
        numerator = numerics.as_float_scalar(state.numerator)
        numerator = weights.b3 * numerator + weights.of_sum * product  # (2)
        estimate = numerics.safe_divide(numerator, (1.0 - root) * length)  # (6)
        direction = transforms.add_decay(
            name,
            step,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            step_size,
        )
        return trees.cast_like(direction, grads), ScaleByDadaptAdamState(
            count=count,
            mu=trees.cast_like(mu, state.mu),
            nu=trees.cast_like(nu, state.nu),
            grad_sum=trees.cast_like(grad_sum, state.grad_sum),
            distance=distance.grown(state.distance, estimate, growth_rate),  # (7)
            numerator=numerator.astype(state.numerator.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


class _Leaf(NamedTuple):
    product: jax.Array
    length: jax.Array
    mu: jax.Array
    nu: jax.Array
    grad_sum: jax.Array
    step: jax.Array


@functools.partial(numerics.inline_jit, static_argnums=0)
def _averages(
    divide: Callable[[jax.Array, jax.Array], jax.Array],
    weights: distance.Weights,
    eps: jax.Array,
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
) -> _Leaf:
    g = numerics.upcast(g, s)
    m, v, s = m.astype(g.dtype), v.astype(g.real.dtype), s.astype(g.dtype)
    w, eps = distance.cast_weights(weights, g), numerics.cast_scalar(v, eps)
    product = reductions.product(g, divide(s, numerics.safe_sqrt(v) + eps))  # in (2)
    # The product reads the old v and s, which the new ones overwrite.
    b2, b3, eps = (donation.after_sum(product, value) for value in (w.b2, w.b3, eps))
    m = w.b1 * m + w.of_mu * g  # (3)
    v = b2 * v + w.of_nu * numerics.abs_square(g)  # (4)
    s = b3 * s + w.of_sum * g  # (5)
    step = divide(m, numerics.safe_sqrt(v) + eps)  # in (8)
    return _Leaf(product, jnp.sum(jnp.abs(s)), m, v, s, step)
