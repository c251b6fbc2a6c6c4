"""Sums over a whole tree: inner products, and norms that neither over- nor underflow.

Under `jax.jit` they are global whatever the sharding is. Under `jax.shard_map`, where
a device sees its part only, `reduce` adds up a small vector over the devices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optimizers._common import numerics, trees
from optimizers._common.typing import PyTree, Reduce, Scalar


class Norm(NamedTuple):
    """A Euclidean norm, root / scale, whose square may be beyond the dtype's range."""

    root: jax.Array  # shape (), the norm of the entries times scale
    scale: jax.Array  # shape (), a power of two


def sums(reduce: Reduce | None, *partials: PyTree) -> list[jax.Array]:
    """The sum of each tree of scalars."""
    totals = [_add_up(jax.tree.leaves(tree)) for tree in partials]
    return totals if reduce is None else list(reduce(jnp.stack(totals)))


def dot(x: PyTree, y: PyTree, reduce: Reduce | None = None) -> jax.Array:
    """Re<x, y> over the leaves that have gradients."""
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    (total,) = sums(reduce, [product(a, b) for a, b in pairs if trees.is_inexact(a)])
    return total


def norm(tree: PyTree, reduce: Reduce | None = None) -> Norm:
    """|x| over the leaves that have gradients.

    Entries are brought to the size of 1 before they are squared. What they are scaled
    by comes from the sum of their sizes, which unlike the largest of them needs no
    other way to reduce than the squares do, and is a power of two: to scale a tree by
    one changes no bit of its direction.
    """
    leaves = [x for x in jax.tree.leaves(tree) if trees.is_inexact(x)]
    (size,) = sums(reduce, [_size(x) for x in leaves])
    # It cancels: the derivatives are those of the norm without it.
    scale = lax.stop_gradient(_reciprocal_power_of_two(size, leaves))
    (square,) = sums(reduce, [_scaled_square(scale, x) for x in leaves])
    return Norm(safe_sqrt(square), scale)


def unit(tree: PyTree, length: Norm) -> PyTree:
    """x / |x| in at least float32, 0 where |x| is; other leaves stay as they are."""
    return trees.map_inexact(lambda x: _unit(length.root, length.scale, x), tree)


def scalar_like(params: PyTree, value: Scalar) -> jax.Array:
    """The value in the widest of float32 and the real dtypes of the params."""
    dtypes = (
        numerics.real_dtype(numerics.dtype_of(leaf)) for leaf in jax.tree.leaves(params)
    )
    return numerics.wide_scalar(value).astype(numerics.compute_dtype(*dtypes))


@numerics.inline_jit
def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Re<x, y> of two leaves."""
    x = numerics.widen(x, y)
    if jnp.iscomplexobj(x):
        return jnp.sum(x.real * y.real + x.imag * y.imag)
    return jnp.sum(x * y.astype(x.dtype))


@numerics.inline_jit
def safe_sqrt(square: jax.Array) -> jax.Array:
    """A root whose derivative at 0 is 0."""
    zero = square == 0.0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


@numerics.inline_jit
def _add_up(scalars: list[jax.Array]) -> jax.Array:
    return sum(map(numerics.wide_scalar, scalars), start=numerics.wide_scalar(0.0))


@numerics.inline_jit
def _size(x: jax.Array) -> jax.Array:
    """Sum of |x|, made smaller so that it stays finite for large trees."""
    x = numerics.widen(x)
    if jnp.iscomplexobj(x):
        return jnp.sum(jnp.abs(x.real) * 2.0**-10 + jnp.abs(x.imag) * 2.0**-10)
    return jnp.sum(jnp.abs(x) * 2.0**-10)


def _reciprocal_power_of_two(size: jax.Array, leaves: list[Any]) -> jax.Array:
    """About 1 / size, within the range of the widest leaf."""
    widest = numerics.compute_dtype(*(numerics.dtype_of(x) for x in leaves))
    size = jnp.clip(size, *_range(widest))
    bits = jnp.finfo(size.dtype)
    power = lax.reduce_precision(size, exponent_bits=bits.nexp, mantissa_bits=0)
    return 1.0 / power


def _scaled(scale: jax.Array, x: jax.Array) -> jax.Array:
    """x times the scale, made to fit where the tree has leaves of other dtypes."""
    x = numerics.widen(x)
    return x * numerics.like(x, jnp.clip(scale, *_range(x.dtype)))


def _range(dtype: Any) -> tuple[float, float]:
    """Between these, a power of two and its reciprocal are normal numbers."""
    smallest = float(jnp.finfo(dtype).smallest_normal)
    return smallest, 0.25 / smallest


@numerics.inline_jit
def _scaled_square(scale: jax.Array, x: jax.Array) -> jax.Array:
    y = _scaled(scale, x)
    # No number changes: only an infinity is larger, and so is the square of this. But
    # where the compiler knows the tree, (c x)(c x) would become (c c)(x x): 0 inf.
    largest = float(jnp.finfo(y.dtype).max)
    parts = (y.real, y.imag) if jnp.iscomplexobj(y) else (y,)
    return jnp.sum(sum(lax.square(jnp.clip(part, -largest, largest)) for part in parts))


@numerics.inline_jit
def _unit(root: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
    x = _scaled(scale, x)
    return numerics.safe_divide(x, numerics.like(x.real, root))
