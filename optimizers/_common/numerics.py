"""Where precision and every 0/0 of the library are decided."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from optimizers._common.typing import Scalar


def dtype_of(leaf: Any) -> np.dtype:
    """The dtype that JAX gives the leaf: array, abstract array or Python number."""
    dtype = getattr(leaf, "dtype", None)
    return jax.dtypes.canonicalize_dtype(
        jnp.asarray(leaf).dtype if dtype is None else dtype
    )


def compute_dtype(*dtypes: Any) -> np.dtype:
    """The dtype that leaves of these dtypes are computed in: at least float32."""
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def real_dtype(dtype: Any) -> np.dtype:
    """The dtype of the real part."""
    return jnp.finfo(dtype).dtype


def scalar(value: ArrayLike) -> float | jax.Array:
    """A Python float where the value is concrete, else an array of >= 32 bits.

    A Python float meets leaves of every dtype without promoting them, also when
    implicit promotion is forbidden.
    """
    if isinstance(value, jax.Array):
        return value.astype(compute_dtype(value.dtype))
    return float(value)


def cast_once(value: float | jax.Array) -> Callable[[Any], float | jax.Array]:
    """A function from a dtype to the scalar in it, converted once per dtype.

    Conversions leaf by leaf would double the time to trace a tree of many leaves.
    """
    if isinstance(value, jax.Array):
        return functools.cache(value.astype)
    return lambda dtype: value


def bias_correction(decay: Scalar, count: jax.Array) -> jax.Array:
    """1 - decay**count, and 1 where that is 0.

    It is 0 only for a decay that was rounded to 1 and for a count of 0; the moment
    itself is 0 then, and so is its quotient.
    """
    decay = scalar(decay)
    if isinstance(decay, float):
        decay = jnp.asarray(decay, float)
    correction = 1.0 - lax.pow(decay, count)
    return jnp.where(correction == 0.0, 1.0, correction)


def divide(numerator: jax.Array, denominator: jax.Array | Scalar) -> jax.Array:
    """Numerator (real or complex) by a real denominator."""
    if jnp.iscomplexobj(numerator):
        return lax.complex(numerator.real / denominator, numerator.imag / denominator)
    return numerator / denominator


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Numerator (real or complex) by a real denominator; 0 where that is 0.

    The denominator is replaced before the division, so that neither the value nor
    its derivative ever passes through a NaN.
    """
    zero = denominator == 0.0
    quotient = divide(numerator, jnp.where(zero, 1.0, denominator))
    return jnp.where(zero, 0.0, quotient)


def abs_square(x: jax.Array) -> jax.Array:
    """|x|^2, real."""
    if jnp.iscomplexobj(x):
        return lax.square(x.real) + lax.square(x.imag)
    return lax.square(x)
