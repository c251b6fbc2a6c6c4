"""D-Adaptation for SGD: Defazio and Mishchenko (2023)."""

from __future__ import annotations

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

__all__ = ["ScaleByDadaptSgdState", "dadapt_sgd", "scale_by_dadapt_sgd"]


class ScaleByDadaptSgdState(NamedTuple):
    """State of `scale_by_dadapt_sgd`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, as the params, at least bfloat16; None without momentum
    grad_sum: PyTree  # s, shapes of the params, at least float32
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    numerator: jax.Array  # N, as distance
    grad_norm: jax.Array  # G, as distance; 0 until a gradient is not zero


def scale_by_dadapt_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    momentum: Scalar = 0.0,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    d_coef: Scalar = 2.0,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The ascent direction of D-Adaptation for SGD; see `dadapt_sgd`.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      d_coef: Factor on each new distance estimate.
      weight_decay: Decoupled weight decay: a float or an optax schedule; multiplied by
        the learning rate and the distance estimate.
      weight_decay_mask: Which leaves decay.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Called
        twice per update.

    Returns:
      The transformation. Its updates are already scaled by the learning rate; follow it
      with ``optax.scale(-1.0)``.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or params are missing although
        weight_decay needs them.
    """
    return _scale_by_dadapt_sgd(
        "scale_by_dadapt_sgd",
        learning_rate=learning_rate,
        momentum=momentum,
        d0=d0,
        growth_rate=growth_rate,
        d_coef=d_coef,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        reduce=reduce,
    )


def dadapt_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    momentum: Scalar = 0.0,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    d_coef: Scalar = 2.0,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""D-Adaptation for SGD: SGD with an automatic learning rate.

    The best learning rate of SGD is the distance :math:`D = \|x_0 - x_*\|` divided by
    the norm of the gradients. :math:`D` is unknown, but every gradient of a convex
    function gives a lower bound; :math:`d` is the largest so far. With all norms and
    products over the whole tree, for the gradient :math:`g_t` at :math:`x_{t-1}`,

    .. math::

       G &= \|g_k\|_2, \quad g_k \text{ the first gradient that is not 0}  && (1) \\
       \lambda_t &= d_{t-1} \gamma_t / G                                   && (2) \\
       N_t &= N_{t-1} + \lambda_t \langle g_t, s_{t-1} \rangle             && (3) \\
       s_t &= s_{t-1} + \lambda_t g_t                                      && (4) \\
       \hat d_t &= c \, N_t / \|s_t\|_2                                    && (5) \\
       d_t &= \max(d_{t-1}, \min(\hat d_t, r \, d_{t-1}))                  && (6) \\
       m_t &= \mu m_{t-1} + (1 - \mu) \lambda_t g_t                        && (7) \\
       x_t &= x_{t-1} - m_t - d_{t-1} \gamma_t w \, x_{t-1}                && (8)

    with :math:`N_0 = s_0 = m_0 = 0`. Until the first nonzero gradient, params change
    only by weight decay. The method is invariant to the scale of the loss.

    Symbols: :math:`\gamma` learning_rate, :math:`\mu` momentum, :math:`d_0` d0,
    :math:`r` growth_rate, :math:`c` d_coef, :math:`w` weight_decay; the state holds
    :math:`t` as count, :math:`m` as mu (None where momentum is the number 0),
    :math:`s` as grad_sum, :math:`d` as distance, :math:`N` as numerator, :math:`G` as
    grad_norm. `distance_estimates` reads :math:`d`.

    Defaults: those of ``dadaptation.DAdaptSGD``. The theory assumes a learning rate of
    1. ``growth_rate=1.02`` acts as a warm-up.

    Differences from the paper: it proves :math:`d \le D` with :math:`c = 1`; the factor
    2 of the released code is a heuristic that only guarantees :math:`d \le 2 D`.

    Differences from released code: :math:`G` may come from a later gradient, whereas
    the release divides by zero; weight decay is decoupled, whereas the release adds it
    to the gradients, except to that of :math:`G`. Parameter groups of the release share
    one :math:`d`; those of ``optax.partition`` have one each. The release keeps
    :math:`x_0` and averages :math:`x_t = \mu x_{t-1} + (1 - \mu)(x_0 - s_t)`; (7) and
    (8) give the same params without storing :math:`x_0`, and continue correctly if
    something else changes the params.

    Args:
      learning_rate: Factor on the distance estimate: a float or an optax schedule
        (called with the step count, starting at 0). Negative values ascend.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: Initial distance estimate; must be positive. The estimate never decreases, so
        that one that is too large stays.
      growth_rate: Largest factor by which the estimate grows per step, at least 1;
        None means no limit.
      d_coef: Factor on each new distance estimate.
      weight_decay: Decoupled weight decay: a float or an optax schedule; multiplied by
        the learning rate and the distance estimate.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Called
        twice per update.

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
      >>> optimizer = optimizers.dadapt_sgd()
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    return optax.chain(
        _scale_by_dadapt_sgd(
            "dadapt_sgd",
            learning_rate=learning_rate,
            momentum=momentum,
            d0=d0,
            growth_rate=growth_rate,
            d_coef=d_coef,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        transforms.negate(),  # (8)
    )


def _scale_by_dadapt_sgd(
    name: str,
    *,
    learning_rate: ScalarOrSchedule,
    momentum: Scalar,
    d0: Scalar,
    growth_rate: Scalar | None,
    d_coef: Scalar,
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
    checks.non_negative(name, d_coef=d_coef)
    checks.functions(name, reduce=reduce)
    weight_decay_mask = masks.checked(
        name, "weight_decay_mask", weight_decay_mask, weight_decay
    )
    has_momentum = not numerics.is_number(momentum, 0)

    def init(params: PyTree) -> ScaleByDadaptSgdState:
        return ScaleByDadaptSgdState(
            count=jnp.zeros([], jnp.int32),
            mu=distance.step_averages_like(name, params) if has_momentum else None,
            grad_sum=trees.averages_like(name, params),
            distance=reductions.scalar_like(params, d0),
            numerator=reductions.scalar_like(params, 0.0),
            grad_norm=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByDadaptSgdState]:
        del extra_args
        grads = trees.gradients(name, updates, state.grad_sum)
        d, numerator, norm = map(
            numerics.as_float_scalar, (state.distance, state.numerator, state.grad_norm)
        )
        step_size = d * schedules.value_at(learning_rate, state.count)

        products = trees.per_leaf(reductions.product, grads, state.grad_sum)
        square, product = reductions.sums(
            reduce, trees.per_leaf(_square, grads), products
        )
        norm = jnp.where(norm == 0.0, numerics.safe_sqrt(square), norm)  # (1)
        weight = numerics.safe_divide(step_size, norm)  # (2)
        numerator = numerator + weight * product  # (3)
        rest = iter(products)
        grad_sum = jax.tree.map(
            lambda g, s: _new_sum(weight, next(rest), g, s), grads, state.grad_sum
        )  # (4)
        (sum_square,) = reductions.sums(reduce, trees.per_leaf(_square, grad_sum))
        estimate = numerics.safe_divide(
            numerics.as_scalar(d_coef) * numerator, numerics.safe_sqrt(sum_square)
        )  # (5)
        steps = trees.multiply(weight, grads)
        if has_momentum:
            steps = moments.ema(momentum, steps, state.mu)  # (7)
        direction = transforms.add_decay(
            name,
            steps,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            step_size,
        )
        # After a tiny first gradient, steps may be too large for float16.
        return trees.saturating_cast_like(direction, grads), ScaleByDadaptSgdState(
            count=numerics.increment(state.count),
            mu=trees.cast_like(steps, state.mu) if has_momentum else None,
            grad_sum=trees.cast_like(grad_sum, state.grad_sum),
            distance=distance.grown(state.distance, estimate, growth_rate),  # (6)
            numerator=numerator.astype(state.numerator.dtype),
            grad_norm=norm.astype(state.grad_norm.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _new_sum(
    weight: jax.Array, product: jax.Array, g: jax.Array, s: jax.Array
) -> jax.Array:
    # The product reads the old sum, which the new one overwrites.
    return numerics.add_scaled(s, donation.after_sum(product, weight), g)


@numerics.inline_jit
def _square(x: jax.Array) -> jax.Array:
    return jnp.sum(numerics.abs_square(numerics.upcast(x)))
