"""D-Adaptation for AdaGrad: Defazio and Mishchenko (2023)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    distance,
    donation,
    masks,
    moments,
    numerics,
    reductions,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["ScaleByDadaptAdagradState", "dadapt_adagrad", "scale_by_dadapt_adagrad"]

# The sum of squares starts from this number in the released code.
_FIRST_SQUARE = 1e-6


class ScaleByDadaptAdagradState(NamedTuple):
    """State of `scale_by_dadapt_adagrad`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, as the params, at least bfloat16; None without momentum
    nu: PyTree  # A, shapes of the params, real, at least float32
    grad_sum: PyTree  # s, shapes of the params, at least float32
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    error: jax.Array  # E, as distance


def scale_by_dadapt_adagrad(
    learning_rate: ScalarOrSchedule = 1.0,
    eps: Scalar = 1e-6,
    *,
    momentum: Scalar = 0.0,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The ascent direction of D-Adaptation for AdaGrad; see `dadapt_adagrad`.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      eps: Added to the square root of the sum of squares.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
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
    return _scale_by_dadapt_adagrad(
        "scale_by_dadapt_adagrad",
        learning_rate=learning_rate,
        eps=eps,
        momentum=momentum,
        d0=d0,
        growth_rate=growth_rate,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        reduce=reduce,
    )


def dadapt_adagrad(
    learning_rate: ScalarOrSchedule = 1.0,
    eps: Scalar = 1e-6,
    *,
    momentum: Scalar = 0.0,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""D-Adaptation for AdaGrad: AdaGrad with an automatic learning rate.

    :math:`d` is a growing estimate of the distance :math:`\|x_0 - x_*\|_\infty`. With
    the sums over the whole tree and the rest elementwise, for the gradient :math:`g_t`
    at :math:`x_{t-1}`,

    .. math::

       \lambda_t &= d_{t-1} \gamma_t                                        && (1) \\
       A_t &= A_{t-1} + |g_t|^2                                             && (2) \\
       q_t &= \sqrt{A_t} + \varepsilon                                      && (3) \\
       E_t &= E_{t-1} + \lambda_t^2 \textstyle\sum |g_t|^2 / q_t            && (4) \\
       s_t &= s_{t-1} + \lambda_t g_t                                       && (5) \\
       \hat d_t &= (\textstyle\sum |s_t|^2 / q_t - E_t) / \|s_t\|_1         && (6) \\
       d_t &= \max(d_{t-1}, \min(\hat d_t, r \, d_{t-1}))                   && (7) \\
       p_t &= s_t / q_t - s_{t-1} / q_{t-1}                                 && (8) \\
       m_t &= \mu m_{t-1} + (1 - \mu) p_t                                   && (9) \\
       x_t &= x_{t-1} - m_t - \lambda_t w \, x_{t-1}                        && (10)

    with :math:`A_0 = 10^{-6}`, :math:`E_0 = s_0 = m_0 = 0`. The difference (8) is
    computed without cancellation, as :math:`(\lambda_t g_t - (s_{t-1} / q_{t-1})
    |g_t|^2 / (\sqrt{A_t} + \sqrt{A_{t-1}})) / q_t`.

    Symbols: :math:`\gamma` learning_rate, :math:`\varepsilon` eps, :math:`\mu`
    momentum, :math:`d_0` d0, :math:`r` growth_rate, :math:`w` weight_decay; the state
    holds :math:`t` as count, :math:`m` as mu (None where momentum is the number 0),
    :math:`A` as nu, :math:`s` as grad_sum, :math:`d` as distance, :math:`E` as error.
    `distance_estimates` reads :math:`d`.

    Defaults: those of ``dadaptation.DAdaptAdaGrad``. The estimate grows slowly from a
    very small d0.

    Differences from the paper: the estimate (6) has no factor 1/2, as in the released
    code; it only guarantees :math:`d \le 2 \|x_0 - x_*\|_\infty`.

    Differences from released code: weight decay is decoupled, whereas the release adds
    it to the gradients (put ``optax.add_decayed_weights`` first for that); sparse
    gradients, for which the release adds :math:`\varepsilon` inside the square root,
    are not treated separately. Parameter groups of the release share one :math:`d`;
    those of ``optax.partition`` have one each. The release keeps :math:`x_0` and
    averages :math:`x_t = \mu x_{t-1} + (1 - \mu)(x_0 - s_t / q_t)`; (8) to (10) give
    the same params without storing :math:`x_0`, and continue correctly if something
    else changes the params.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      eps: Added to the square root of the sum of squares.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      weight_decay: Decoupled weight decay: a float or an optax schedule; multiplied by
        the learning rate and the distance estimate.
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
      >>> optimizer = optimizers.dadapt_adagrad(d0=0.01)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_dadapt_adagrad(
            "dadapt_adagrad",
            learning_rate=learning_rate,
            eps=eps,
            momentum=momentum,
            d0=d0,
            growth_rate=growth_rate,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        transforms.negate(),  # (10)
    )


def _scale_by_dadapt_adagrad(
    name: str,
    *,
    learning_rate: ScalarOrSchedule,
    eps: Scalar,
    momentum: Scalar,
    d0: Scalar,
    growth_rate: Scalar | None,
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
    checks.decay_rates(name, momentum=momentum)
    checks.non_negative(name, eps=eps)
    checks.functions(name, reduce=reduce)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )
    has_momentum = not numerics.is_number(momentum, 0)

    def init(params: PyTree) -> ScaleByDadaptAdagradState:
        return ScaleByDadaptAdagradState(
            count=jnp.zeros([], jnp.int32),
            mu=distance.step_averages_like(name, params) if has_momentum else None,
            nu=jax.tree.map(
                lambda a: a + numerics.cast_scalar(a, _FIRST_SQUARE),
                trees.accumulators_like(name, params),
            ),
            grad_sum=trees.averages_like(name, params),
            distance=reductions.scalar_like(params, d0),
            error=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByDadaptAdagradState]:
        del extra_args
        grads = trees.gradients(name, updates, state.grad_sum)
        d = numerics.as_float_scalar(state.distance)
        step_size = d * schedules.value_at(learning_rate, state.count)  # (1)
        outside = numerics.as_float_scalar(eps)
        steps = jax.tree.map(
            functools.partial(_step, step_size, outside),
            grads,
            state.nu,
            state.grad_sum,
        )  # (8)
        if has_momentum:
            steps = moments.ema(momentum, steps, state.mu)  # (9)
        direction = transforms.add_decay(
            name,
            steps,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            step_size,
        )
        direction = trees.cast_like(direction, grads)
        # The step reads the old sums, which the new ones overwrite.
        new_params = donation.updated_params(
            trees.with_gradients(name, grads, params), direction
        )
        leaves = trees.per_leaf(
            functools.partial(_sums, step_size, outside),
            grads,
            donation.after(state.count, new_params, state.nu),
            donation.after(state.count, new_params, state.grad_sum),
        )
        sum_square, square, length = reductions.sums(
            reduce,
            [x.sum_square for x in leaves],
            [x.square for x in leaves],
            [x.length for x in leaves],
        )
        nu, grad_sum = trees.unzip(grads, leaves, "nu", "grad_sum")
        error = (
            numerics.as_float_scalar(state.error) + jnp.square(step_size) * square
        )  # (4)
        estimate = numerics.safe_divide(sum_square - error, length)  # (6)
        return direction, ScaleByDadaptAdagradState(
            count=numerics.increment(state.count),
            mu=trees.cast_like(steps, state.mu) if has_momentum else None,
            nu=trees.cast_like(nu, state.nu),
            grad_sum=trees.cast_like(grad_sum, state.grad_sum),
            distance=distance.grown(state.distance, estimate, growth_rate),  # (7)
            error=error.astype(state.error.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


class _Leaf(NamedTuple):
    sum_square: jax.Array
    square: jax.Array
    length: jax.Array
    nu: jax.Array
    grad_sum: jax.Array


@numerics.inline_jit
def _step(
    step_size: jax.Array, eps: jax.Array, g: jax.Array, a: jax.Array, s: jax.Array
) -> jax.Array:
    g = numerics.upcast(g, s)
    a, s = a.astype(g.real.dtype), s.astype(g.dtype)
    step_size, eps = numerics.cast_scalar(g, step_size), numerics.cast_scalar(a, eps)
    before, after = jnp.sqrt(a), jnp.sqrt(a + numerics.abs_square(g))
    change = numerics.divide(s, before + eps)
    change = change * numerics.cast_scalar(s, _square_over(g, after + before))
    return numerics.divide(step_size * g - change, after + eps)


@numerics.inline_jit
def _sums(
    step_size: jax.Array, eps: jax.Array, g: jax.Array, a: jax.Array, s: jax.Array
) -> _Leaf:
    g = numerics.upcast(g, s)
    step_size, eps = numerics.cast_scalar(g, step_size), numerics.cast_scalar(a, eps)
    a = a.astype(g.real.dtype) + numerics.abs_square(g)  # (2)
    s = s.astype(g.dtype) + step_size * g  # (5)
    length = jnp.sum(jnp.abs(s))
    q = jnp.sqrt(a) + donation.after_sum(length, eps)  # (3)
    sum_square = jnp.sum(_square_over(s, q))
    # Recomputing q for the second sum is cheaper than storing it.
    g, recomputed = donation.recomputed(g, a)
    q = jnp.sqrt(recomputed) + donation.after_sum(sum_square, eps)  # (3)
    return _Leaf(
        sum_square=sum_square,
        square=jnp.sum(_square_over(g, q)),
        length=length,
        nu=a,
        grad_sum=s,
    )


def _square_over(x: jax.Array, q: jax.Array) -> jax.Array:
    """|x|^2 / q; 0, not NaN, if squares overflowed and q is infinite."""
    if jnp.iscomplexobj(x):
        return x.real * (x.real / q) + x.imag * (x.imag / q)
    return x * (x / q)
