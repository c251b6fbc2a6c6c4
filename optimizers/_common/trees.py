"""What the optimizers need of trees beyond `jax.tree`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers._common import numerics
from optimizers._common.typing import PyTree


def zeros_like(function: str, params: PyTree, dtype: Any = None) -> PyTree:
    """Zeros of the shapes and shardings of the params, in their dtype or the given.

    Complex leaves stay complex: in complex64 where the given dtype is narrower.

    Raises:
      ValueError: A leaf is not of a floating-point or complex dtype; names its path.
    """
    _require_inexact(function, "params", params)
    dtype = None if dtype is None else jax.dtypes.canonicalize_dtype(dtype)

    def leaf(p: Any) -> jax.Array:
        own = numerics.dtype_of(p)
        if dtype is None:
            return jnp.zeros_like(p, dtype=own)
        if jnp.issubdtype(own, jnp.complexfloating):
            return jnp.zeros_like(p, dtype=np.promote_types(dtype, np.complex64))
        return jnp.zeros_like(p, dtype=dtype)

    return jax.tree.map(leaf, params)


def accumulators_like(function: str, params: PyTree, dtype: Any = None) -> PyTree:
    """Real zeros for sums that gain a small share per step: at least float32.

    An average with rate 0.999 in bfloat16 stops growing halfway, because its
    increments fall under half a unit in the last place.

    Raises:
      ValueError: A leaf is not of a floating-point or complex dtype; names its path.
    """
    _require_inexact(function, "params", params)
    dtype = None if dtype is None else jax.dtypes.canonicalize_dtype(dtype)

    def leaf(p: Any) -> jax.Array:
        wide = numerics.compute_dtype(numerics.dtype_of(p))
        return jnp.zeros_like(p, dtype=dtype or numerics.real_dtype(wide))

    return jax.tree.map(leaf, params)


def averages_like(function: str, params: PyTree) -> PyTree:
    """Zeros for sums as in `accumulators_like`, complex where the params are.

    Raises:
      ValueError: A leaf is not of a floating-point or complex dtype; names its path.
    """
    _require_inexact(function, "params", params)
    return jax.tree.map(
        lambda p: jnp.zeros_like(p, dtype=numerics.compute_dtype(numerics.dtype_of(p))),
        params,
    )


def gradients(function: str, updates: PyTree, like: PyTree) -> PyTree:
    """The updates as arrays, after a check against a state tree of the same params.

    Raises:
      ValueError: The structure or a shape is not that of the params, or a leaf is
        not of a floating-point or complex dtype. Names the leaf by its path.
    """
    require_shapes_of(function, "the gradients", updates, "the params of init()", like)
    _require_inexact(function, "gradients", updates)
    return jax.tree.map(jnp.asarray, updates)


def require_shapes_of(
    function: str, what: str, tree: PyTree, other: str, like: PyTree, mend: str = ""
) -> None:
    """Raises ValueError unless the trees have one structure and the same shapes.

    Names the first leaf that differs by its path.
    """
    leaves, structure = jax.tree.flatten(tree)
    expected_leaves, expected = jax.tree.flatten(like)
    if structure != expected:
        msg = (
            f"{function}: {what} must have the structure of {other}: got {structure}, "
            f"not {expected}. {mend}"
        )
        raise ValueError(msg.rstrip())
    for i, (x, y) in enumerate(zip(leaves, expected_leaves, strict=True)):
        if jnp.shape(x) != jnp.shape(y):
            path, _ = jax.tree_util.tree_leaves_with_path(tree)[i]
            msg = (
                f"{function}: {what} must have the shapes of {other}: at {where(path)} "
                f"got {jnp.shape(x)}, not {jnp.shape(y)}. {mend}"
            )
            raise ValueError(msg.rstrip())


def where(path: Any) -> str:
    """How messages name a leaf."""
    return jax.tree_util.keystr(path) or "(the only leaf)"


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Each leaf in the dtype of its counterpart."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def after(count: jax.Array, first: PyTree, then: PyTree) -> PyTree:
    """The second tree, once the first is known; count is any that is never negative.

    State that is read after its successor was made costs a copy of it. Made from this,
    the successor waits for the reader.
    """
    never = count < 0
    return jax.tree.map(lambda a, b: _after(never, a, b), first, then)


def moved(params: PyTree | None, direction: PyTree) -> PyTree:
    """The params less the direction, as `optax.scale(-1.0)` and the caller make them.

    For `after`: state that waits for them costs nothing, because they are made anyway.
    Without params, the direction.
    """
    return direction if params is None else jax.tree.map(_moved, params, direction)


def map_inexact(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """As `jax.tree.map`; a leaf that can have no gradient stays as it is."""
    return jax.tree.map(
        lambda x, *others: function(x, *others) if is_inexact(x) else x, tree, *rest
    )


def is_inexact(leaf: Any) -> bool:
    """Whether the leaf is real or complex: no integer, no boolean, no random key."""
    return jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact)


@numerics.inline_jit
def _after(never: jax.Array, first: jax.Array, then: jax.Array) -> jax.Array:
    if not jnp.iscomplexobj(then):
        first = first.real
    return jnp.where(never, first.astype(then.dtype), then)


@numerics.inline_jit
def _moved(x: jax.Array, d: jax.Array) -> jax.Array:
    return x.astype(d.dtype) + -1.0 * d


def _require_inexact(function: str, what: str, tree: PyTree) -> None:
    if all(is_inexact(x) for x in jax.tree.leaves(tree)):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not is_inexact(leaf):
            dtype = getattr(leaf, "dtype", type(leaf).__name__)
            msg = (
                f"{function}: the {what} leaf at {where(path)} has dtype {dtype}; only "
                "floating-point and complex leaves have gradients. Leave it out with "
                "optax.masked or optax.partition."
            )
            raise ValueError(msg)
