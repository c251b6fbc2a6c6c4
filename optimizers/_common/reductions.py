"""Inner products and norms of whole trees, without overflow or underflow.

Under `jax.jit` they are global whatever the sharding is. Under `jax.shard_map` each
device sees only its part, and `reduce` sums a small vector over the devices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optimizers._common import numerics, trees
from optimizers._common.typing import PyTree, Reduce, Scalar


class Norm(NamedTuple):
    """The Euclidean norm root / scale; its square may be out of the dtype's range."""

    root: jax.Array  # shape (), the norm of the tree multiplied by scale
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

    Elements are scaled to a size near 1 before they are squared. The scale comes from
    the sum of absolute values, because `reduce` cannot compute their maximum. It is a
    power of two, so that it changes no bit of the direction.
    """
    leaves = [x for x in jax.tree.leaves(tree) if trees.is_inexact(x)]
    (size,) = sums(reduce, [_size(x) for x in leaves])
    # The scale cancels out of the norm, so derivatives need not pass through it.
    scale = lax.stop_gradient(_reciprocal_power_of_two(size, leaves))
    (square,) = sums(reduce, [_scaled_square(scale, x) for x in leaves])
    return Norm(numerics.safe_sqrt(square), scale)


def unit(tree: PyTree, length: Norm) -> PyTree:
    """x / |x| in at least float32, 0 if |x| is 0; other leaves stay as they are."""
    return trees.map_inexact(lambda x: _unit(length.root, length.scale, x), tree)


def normalized(tree: PyTree, reduce: Reduce | None = None) -> PyTree:
    """As `unit`, with the norm computed here."""
    return unit(tree, norm(tree, reduce))


def orthogonal(
    x: PyTree, axis: PyTree, reduce: Reduce | None = None
) -> tuple[PyTree, jax.Array]:
    """x - <x, u> u for an axis u of norm 1 or 0, in at least float32; and <x, u>."""
    along = dot(x, axis, reduce)
    return trees.add_multiple(x, -along, axis), along


def scalar_like(params: PyTree, value: Scalar) -> jax.Array:
    """The value in the widest of float32 and the real dtypes of the params."""
    dtypes = (
        numerics.real_dtype(numerics.dtype_of(leaf)) for leaf in jax.tree.leaves(params)
    )
    return numerics.as_float_scalar(value).astype(numerics.compute_dtype(*dtypes))


@numerics.inline_jit
def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Re<x, y> of two leaves."""
    x = numerics.upcast(x, y)
    if jnp.iscomplexobj(x):
        return jnp.sum(x.real * y.real + x.imag * y.imag)
    return jnp.sum(x * y.astype(x.dtype))


@numerics.inline_jit
def safe_hypot(x: jax.Array, y: jax.Array) -> jax.Array:
    """sqrt(x^2 + y^2) without overflow; its derivatives at the origin are 0.

    Those of `jnp.hypot` were 0.5 and are NaN from jax 0.12 on.
    """
    origin = (x == 0.0) & (y == 0.0)
    return jnp.where(origin, 0.0, jnp.hypot(jnp.where(origin, 1.0, x), y))


@numerics.inline_jit
def _add_up(scalars: list[jax.Array]) -> jax.Array:
    return sum(
        map(numerics.as_float_scalar, scalars), start=numerics.as_float_scalar(0.0)
    )


@numerics.inline_jit
def _size(x: jax.Array) -> jax.Array:
    """Sum of |x| / 1024, which stays finite for large trees."""
    x = numerics.upcast(x)
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
    """x times the scale, clipped to the range of x if the tree has several dtypes."""
    x = numerics.upcast(x)
    return x * numerics.cast_scalar(x, jnp.clip(scale, *_range(x.dtype)))


def _range(dtype: Any) -> tuple[float, float]:
    """Limits within which a power of two and its reciprocal are normal numbers."""
    smallest = float(jnp.finfo(dtype).smallest_normal)
    return smallest, 0.25 / smallest


@numerics.inline_jit
def _scaled_square(scale: jax.Array, x: jax.Array) -> jax.Array:
    y = _scaled(scale, x)
    # The clip changes only infinities, whose squares stay infinite. Without it, XLA may
    # rewrite (c x)(c x) as (c c)(x x) if the tree is a constant, which is 0 inf.
    largest = float(jnp.finfo(y.dtype).max)
    parts = (y.real, y.imag) if jnp.iscomplexobj(y) else (y,)
    return jnp.sum(sum(lax.square(jnp.clip(part, -largest, largest)) for part in parts))


@numerics.inline_jit
def _unit(root: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
    x = _scaled(scale, x)
    return numerics.safe_divide(x, numerics.cast_scalar(x.real, root))
