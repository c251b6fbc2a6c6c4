"""Moments of a tree of gradients; each function is one equation of the papers.

They compute and return at least float32. The caller casts the result to the dtype of
the state, so that the update of this step is computed from the unrounded moment.
"""

import jax
import jax.numpy as jnp

from optimizers._common import numerics
from optimizers._common.typing import PyTree, Scalar


def ema(decay: Scalar, updates: PyTree, average: PyTree) -> PyTree:
    """b s + (1 - b) x."""
    b = numerics.as_scalar(decay)
    return jax.tree.map(lambda x, s: _ema(b, 1.0 - b, x, s), updates, average)


def ema_of_squares(decay: Scalar, updates: PyTree, average: PyTree) -> PyTree:
    """b s + (1 - b) |x|^2, real also for complex x."""
    b = numerics.as_scalar(decay)
    return jax.tree.map(
        lambda x, s: _ema_of_squares(b, 1.0 - b, x, s), updates, average
    )


def running_max(largest: PyTree, square: PyTree) -> PyTree:
    """max(s, v)."""
    return jax.tree.map(_running_max, largest, square)


def debias(moment: PyTree, decay: Scalar, count: jax.Array) -> PyTree:
    """s / (1 - b^t)."""
    correction = numerics.bias_correction(decay, count)
    return jax.tree.map(lambda s: _divide(s, correction), moment)


def ratio(
    numerator: PyTree, square: PyTree, eps: Scalar, eps_root: Scalar = 0.0
) -> PyTree:
    """m / (sqrt(v + eps_root) + eps), or 0 where the denominator is 0."""
    outside, inside = numerics.as_scalar(eps), numerics.as_scalar(eps_root)
    denominator = jax.tree.map(lambda v: _root(v, outside, inside), square)
    return jax.tree.map(numerics.division(outside), numerator, denominator)


@numerics.inline_jit
def _ema(b: Scalar, one_minus_b: Scalar, x: jax.Array, s: jax.Array) -> jax.Array:
    x = numerics.upcast(x, s)
    b, one_minus_b = numerics.cast_scalar(x, b), numerics.cast_scalar(x, one_minus_b)
    # XLA rounds only one of the two products: the order of optax gives its bits.
    return one_minus_b * x + b * s.astype(x.dtype)


@numerics.inline_jit
def _ema_of_squares(
    b: Scalar, one_minus_b: Scalar, x: jax.Array, s: jax.Array
) -> jax.Array:
    return _ema(b, one_minus_b, numerics.abs_square(numerics.upcast(x, s)), s)


@numerics.inline_jit
def _running_max(s: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.maximum(s.astype(v.dtype), v)


@numerics.inline_jit
def _divide(s: jax.Array, correction: jax.Array) -> jax.Array:
    return numerics.divide(s, numerics.cast_scalar(s.real, correction))


@numerics.inline_jit
def _root(v: jax.Array, outside: Scalar, inside: Scalar) -> jax.Array:
    return numerics.safe_sqrt(
        v + numerics.cast_scalar(v, inside)
    ) + numerics.cast_scalar(v, outside)
