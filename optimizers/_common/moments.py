"""Moments of a tree of gradients, each line one equation of the papers.

All of them compute in at least float32 and return what they computed; the caller
casts to the dtype that the state keeps, so that this step's update loses nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from optimizers._common import numerics
from optimizers._common.typing import PyTree, Scalar


def ema(decay: Scalar, updates: PyTree, average: PyTree) -> PyTree:
    """B s + (1 - b) x."""
    return _ema(decay, updates, average, lambda x: x)


def ema_of_squares(decay: Scalar, updates: PyTree, average: PyTree) -> PyTree:
    """B s + (1 - b) |x|^2, real also for complex x."""
    return _ema(decay, updates, average, numerics.abs_square)


def _ema(
    decay: Scalar,
    updates: PyTree,
    average: PyTree,
    function: Callable[[jax.Array], jax.Array],
) -> PyTree:
    decay = numerics.scalar(decay)
    b, one_minus_b = numerics.cast_once(decay), numerics.cast_once(1.0 - decay)

    def leaf(x: jax.Array, s: jax.Array) -> jax.Array:
        dtype = numerics.compute_dtype(x.dtype, s.dtype)
        y = function(x.astype(dtype))
        return b(y.dtype) * s.astype(y.dtype) + one_minus_b(y.dtype) * y

    return jax.tree.map(leaf, updates, average)


def debias(moment: PyTree, decay: Scalar, count: jax.Array) -> PyTree:
    """S / (1 - b^t)."""
    correction = numerics.cast_once(numerics.bias_correction(decay, count))
    return jax.tree.map(
        lambda s: numerics.divide(s, correction(numerics.real_dtype(s.dtype))), moment
    )


def ratio(
    numerator: PyTree, square: PyTree, eps: Scalar, eps_root: Scalar = 0.0
) -> PyTree:
    """M / (sqrt(v + eps_root) + eps), and 0 where the denominator is 0."""
    eps, eps_root = map(numerics.cast_once, map(numerics.scalar, (eps, eps_root)))
    return jax.tree.map(
        lambda m, v: numerics.safe_divide(
            m, jnp.sqrt(v + eps_root(v.dtype)) + eps(v.dtype)
        ),
        numerator,
        square,
    )


def running_max(largest: PyTree, square: PyTree) -> PyTree:
    """max(s, v)."""
    return jax.tree.map(lambda s, v: jnp.maximum(s.astype(v.dtype), v), largest, square)
