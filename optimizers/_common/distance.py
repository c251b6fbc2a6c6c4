"""The distance estimate d, which D-Adaptation and Prodigy share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optimizers._common import checks, numerics, trees
from optimizers._common.typing import PyTree, Scalar, ScalarOrSchedule


class Weights(NamedTuple):
    """The decay rates of three averages, and the weight of the gradient in each."""

    b1: jax.Array
    of_mu: jax.Array
    b2: jax.Array
    of_nu: jax.Array
    b3: jax.Array
    of_sum: jax.Array


def require_ranges(
    function: str,
    *,
    learning_rate: ScalarOrSchedule,
    d0: Scalar,
    growth_rate: Scalar | None,
    weight_decay: ScalarOrSchedule,
) -> None:
    """Raises ValueError unless the hyperparameters are in their ranges."""
    checks.finite(function, learning_rate=learning_rate)
    checks.non_negative(function, weight_decay=weight_decay)
    checks.positive(function, d0=d0)
    if growth_rate is not None:
        checks.at_least_one(function, growth_rate=growth_rate)


def step_averages_like(function: str, params: PyTree) -> PyTree:
    """Zeros in the dtypes of the params, but float32 instead of float16.

    They hold averages of steps or of d g, which underflow in float16 while d is small.
    """

    def leaf(zeros: jax.Array) -> jax.Array:
        return numerics.upcast(zeros) if zeros.dtype == jnp.float16 else zeros

    return jax.tree.map(leaf, trees.zeros_like(function, params))


def grown(
    distance: jax.Array, estimate: jax.Array, growth_rate: Scalar | None
) -> jax.Array:
    """max(d, min(estimate, r d))."""
    wide, estimate = numerics.as_float_scalar(distance), finite_or_zero(estimate)
    if growth_rate is not None:
        estimate = jnp.minimum(estimate, growth_factor(growth_rate) * wide)
    return jnp.maximum(wide, estimate).astype(distance.dtype)


def growth_factor(growth_rate: Scalar) -> jax.Array:
    """The growth rate as a finite number; infinity would have derivatives of NaN."""
    factor = numerics.as_float_scalar(growth_rate)
    return jnp.minimum(factor, float(jnp.finfo(factor.dtype).max))


def finite_or_zero(estimate: jax.Array) -> jax.Array:
    """The estimate; 0, which never exceeds d, if it overflowed."""
    return jnp.where(jnp.isfinite(estimate), estimate, 0.0)


def cast_weights(weights: Weights, g: jax.Array) -> Weights:
    """The weights in the dtype of the gradient, those of nu in its real dtype."""
    return Weights(
        b1=numerics.cast_scalar(g, weights.b1),
        of_mu=numerics.cast_scalar(g, weights.of_mu),
        b2=numerics.cast_scalar(g.real, weights.b2),
        of_nu=numerics.cast_scalar(g.real, weights.of_nu),
        b3=numerics.cast_scalar(g, weights.b3),
        of_sum=numerics.cast_scalar(g, weights.of_sum),
    )
