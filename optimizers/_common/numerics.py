"""Precision policy, safe division, and scalar arithmetic without dtype promotion."""

import functools
import numbers
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from optimizers._common.typing import Scalar

inline_jit = functools.partial(jax.jit, inline=True)
"""For functions of one leaf: they are traced once per shape and dtype instead of once
per leaf, run as one dispatch in eager mode, and leave no call in the program."""

_SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)


def dtype_of(leaf: Any) -> np.dtype:
    """The dtype that JAX gives the leaf: array, abstract array or Python number."""
    dtype = getattr(leaf, "dtype", None)
    return jax.dtypes.canonicalize_dtype(
        jnp.asarray(leaf).dtype if dtype is None else dtype
    )


def compute_dtype(*dtypes: Any) -> np.dtype:
    """The dtype to compute leaves of these dtypes in: at least float32."""
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def real_dtype(dtype: Any) -> np.dtype:
    """The dtype of the real part."""
    return jnp.finfo(dtype).dtype


def default_float() -> np.dtype:
    """float32, or float64 in x64 mode."""
    return jax.dtypes.canonicalize_dtype(float)


def as_scalar(value: ArrayLike) -> float | jax.Array:
    """A Python float where the value is a number, else a real array of >= 32 bits.

    A Python float meets leaves of every dtype without promoting them, also when
    implicit promotion is forbidden. Hyperparameters are real, but
    `optax.inject_hyperparams` hands them over in the widest dtype of the params.
    """
    if isinstance(value, jax.Array):
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            return value.astype(default_float())
        return value.real.astype(real_dtype(compute_dtype(value.dtype)))
    return float(cast("float", value))


def is_number(value: Any, number: float) -> bool:
    """Whether the value is this Python or NumPy number; False for every JAX array."""
    return isinstance(value, numbers.Real) and value == number


def as_float_scalar(value: ArrayLike) -> jax.Array:
    """The scalar as an array of the default float dtype: float32, or float64 in x64."""
    return jnp.asarray(as_scalar(value)).astype(default_float())


def cast_scalar(x: jax.Array, value: Scalar) -> jax.Array:
    """The scalar in the dtype of the array."""
    return jnp.asarray(value).astype(x.dtype)


def upcast(x: jax.Array, *others: jax.Array) -> jax.Array:
    """The array in the dtype to compute it in together with the others."""
    return x.astype(compute_dtype(x.dtype, *(y.dtype for y in others)))


@inline_jit
def scaled(scale: Scalar, x: jax.Array) -> jax.Array:
    """s x in at least float32."""
    x = upcast(x)
    return cast_scalar(x, scale) * x


@inline_jit
def add_scaled(x: jax.Array, scale: Scalar, y: jax.Array) -> jax.Array:
    """x + s y in at least float32."""
    x = upcast(x, y)
    return x + cast_scalar(x, scale) * y.astype(x.dtype)


@functools.partial(inline_jit, static_argnums=1)
def saturating_cast(x: jax.Array, dtype: Any) -> jax.Array:
    """The array in the dtype; a finite number that is too large becomes the largest.

    In float16, the sum of two finite gradients may overflow.
    """
    largest = float(jnp.finfo(dtype).max)
    if largest < jnp.finfo(x.dtype).max and not jnp.iscomplexobj(x):
        low, high = (jnp.asarray(end, x.dtype) for end in (-largest, largest))
        x = lax.select(lax.is_finite(x), lax.clamp(low, x, high), x)
    return x.astype(dtype)


def increment(count: jax.Array) -> jax.Array:
    """Increments, saturating at the int32 maximum."""
    return jnp.asarray(optax.safe_increment(count))


def bias_correction(decay: Scalar, count: jax.Array) -> jax.Array:
    """1 - decay**count for count >= 1; positive even if decay was rounded to 1."""
    b = as_float_scalar(decay)
    below_one = 1.0 - float(jnp.finfo(b.dtype).epsneg)
    return 1.0 - lax.pow(jnp.minimum(b, below_one), count)


def division(smallest: Scalar) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The division for denominators >= `smallest`: safe unless that is positive.

    Comparing every denominator with 0 takes a tenth of Adam's compile time.
    """
    positive = isinstance(smallest, float) and smallest >= _SMALLEST_FLOAT32
    return divide if positive else safe_divide


@inline_jit
def divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """A real or complex numerator over a real denominator."""
    if jnp.iscomplexobj(numerator):
        return lax.complex(numerator.real / denominator, numerator.imag / denominator)
    return numerator / denominator


@inline_jit
def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """As `divide`, but 0 where the denominator is 0.

    Such denominators are replaced before the division, so that neither the value nor
    its derivative is NaN.
    """
    zero = denominator == 0.0
    quotient = divide(numerator, jnp.where(zero, 1.0, denominator))
    return jnp.where(zero, 0.0, quotient)


@jax.custom_jvp
def safe_sqrt(square: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0.

    A gradient that is always 0 has a second moment that is always 0, where an infinite
    derivative times a change of 0 would be NaN.
    """
    return lax.sqrt(square)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    root = safe_sqrt(*primals)
    return root, safe_divide(0.5 * tangents[0], root)


def abs_square(x: jax.Array) -> jax.Array:
    """|x|^2, real."""
    if jnp.iscomplexobj(x):
        return lax.square(x.real) + lax.square(x.imag)
    return lax.square(x)
