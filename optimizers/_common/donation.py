"""Makes XLA update donated state in place, without temporary copies.

Training steps are usually compiled with the params and the state donated, so that XLA
may write each new array into the buffer of the old one. XLA does so only if every read
of the old array is scheduled before the write; otherwise it copies the array first.
Its schedule follows data dependencies, so these functions add dependencies that change
no number: a comparison that never holds, but that XLA cannot evaluate when it compiles.

For the same reason, an intermediate array that two results share may be written to
memory, where computing it twice would be as fast. `recomputed` hides that it is shared,
and `stored` does the opposite.

tests/test_donation.py measures the temporary bytes per parameter of every method.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optimizers._common import numerics
from optimizers._common.typing import PyTree


def after(count: jax.Array, first: PyTree, then: PyTree) -> PyTree:
    """Returns `then`, available to XLA only once `first` is computed.

    New state that is computed from the result can overwrite old state that `first`
    reads. `count` is any count: an integer >= 0.
    """
    never = count < 0
    return jax.tree.map(lambda x, y: _after_array(never, x, y), first, then)


def after_sum(total: jax.Array, value: jax.Array) -> jax.Array:
    """Returns the scalar `value`, available only once `total` is; NaN if that is NaN.

    New state that is computed from the result can overwrite old state that the sum
    reads.
    """
    total = total.astype(value.dtype)
    return jnp.where(jnp.isnan(total), total, value)


def updated_params(params: PyTree | None, direction: PyTree) -> PyTree:
    """The updated params, x - d; the direction if there are no params.

    As `first` of `after` they cost nothing, because the caller computes them too, by
    `optax.scale(-1.0)` and `optax.apply_updates`.
    """
    return direction if params is None else jax.tree.map(_minus, params, direction)


def stored(count: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the array, which XLA then writes to memory once.

    Otherwise XLA might recompute it for each of its uses, from copies of arrays that
    are overwritten in between. `count` is any count: an integer >= 0.
    """
    return numerics.divide(x, jnp.where(count < 0, x.real, 1.0))


def recomputed(*arrays: jax.Array) -> list[jax.Array]:
    """Returns the arrays; XLA recomputes what earlier uses of them have computed."""
    return lax.optimization_barrier(list(arrays))


def own_buffer(leaf: Any, dtype: Any = None) -> jax.Array:
    """A copy of the leaf, so that state and params can both be donated.

    Zeros if the leaf is abstract and has no values.
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jnp.zeros_like(leaf, dtype=dtype)
    return jnp.array(leaf, dtype=dtype)


@numerics.inline_jit
def _after_array(never: jax.Array, first: jax.Array, then: jax.Array) -> jax.Array:
    if not jnp.iscomplexobj(then):
        first = first.real
    return jnp.where(never, first.astype(then.dtype), then)


@numerics.inline_jit
def _minus(x: jax.Array, d: jax.Array) -> jax.Array:
    # As XLA sees it in the caller's program: it then computes both once.
    return x.astype(d.dtype) + -1.0 * d
