"""State trees, validation of gradients, and arithmetic of trees.

Trees may hold leaves that have no gradient, such as integers and random keys. The
arithmetic leaves them as they are; `zeros_like` and the like refuse them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers._common import numerics
from optimizers._common.typing import PyTree, Scalar


def zeros_like(function: str, params: PyTree, dtype: Any = None) -> PyTree:
    """Zeros of the shapes and shardings of the params, in their dtype or the given.

    Complex leaves stay complex: in complex64 if the given dtype is narrower.

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
    """Real zeros in at least float32, for sums and averages of real numbers.

    In bfloat16 an average with decay rate 0.999 stops growing halfway, because its
    increments are below half a unit in the last place.

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
    """As `accumulators_like`, but complex if the params are.

    Raises:
      ValueError: A leaf is not of a floating-point or complex dtype; names its path.
    """
    _require_inexact(function, "params", params)
    return jax.tree.map(
        lambda p: jnp.zeros_like(p, dtype=numerics.compute_dtype(numerics.dtype_of(p))),
        params,
    )


def gradients(function: str, updates: PyTree, like: PyTree) -> PyTree:
    """The updates as arrays, after validation against a state tree of the same params.

    Raises:
      ValueError: The structure or a shape is not that of the params, or a leaf is
        not of a floating-point or complex dtype. Names the leaf by its path.
    """
    require_shapes_of(function, "the gradients", updates, "the params of init()", like)
    _require_inexact(function, "gradients", updates)
    return jax.tree.map(jnp.asarray, updates)


def require_shapes_of(
    function: str, what: str, tree: PyTree, other: str, like: PyTree, advice: str = ""
) -> None:
    """Raises ValueError unless the trees have the same structure and shapes.

    Names the first leaf that differs by its path.
    """
    leaves, structure = jax.tree.flatten(tree)
    expected_leaves, expected = jax.tree.flatten(like)
    if structure != expected:
        msg = (
            f"{function}: {what} must have the structure of {other}: "
            f"{_first_difference(tree, like)}. {advice}"
        )
        raise ValueError(msg.rstrip())
    for i, (x, y) in enumerate(zip(leaves, expected_leaves, strict=True)):
        if jnp.shape(x) != jnp.shape(y):
            path, _ = jax.tree_util.tree_leaves_with_path(tree)[i]
            msg = (
                f"{function}: {what} must have the shapes of {other}: at {where(path)} "
                f"got {jnp.shape(x)}, not {jnp.shape(y)}. {advice}"
            )
            raise ValueError(msg.rstrip())


def _first_difference(tree: PyTree, like: PyTree) -> str:
    """A clause that says where the structures of two trees first differ."""
    own, expected = (
        {where(path): None for path, _ in jax.tree_util.tree_leaves_with_path(x)}
        for x in (tree, like)
    )
    missing = next((path for path in expected if path not in own), None)
    surplus = next((path for path in own if path not in expected), None)
    if missing and surplus:
        return f"there is no leaf at {missing}, but one at {surplus}"
    if missing:
        return f"there is no leaf at {missing}"
    if surplus:
        return f"there is a leaf too many at {surplus}"
    try:  # only containers differ, which JAX describes
        jax.tree.map(lambda x, y: None, tree, like)
    except ValueError as error:
        return " ".join(str(error).split()).rstrip(".")
    return "only empty containers differ"


def where(path: Any) -> str:
    """The path of a leaf, as error messages print it."""
    return jax.tree_util.keystr(path) or "(the only leaf)"


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Each leaf in the dtype of its counterpart."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def saturating_cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """As `cast_like`, but finite numbers stay finite; see `numerics.saturating_cast`.

    A leaf that has no gradient is that of `like`.
    """
    return map_inexact(lambda y, x: numerics.saturating_cast(x, y.dtype), like, tree)


def unzip(kind: Any, tree: PyTree) -> Any:
    """One NamedTuple of trees, from a tree of NamedTuples of this kind."""
    leaves, structure = jax.tree.flatten(
        tree, is_leaf=lambda node: isinstance(node, kind)
    )
    fields = [[leaf[i] for leaf in leaves] for i in range(len(kind._fields))]
    return kind(*(jax.tree.unflatten(structure, field) for field in fields))


def map_inexact(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """As `jax.tree.map`; a leaf that can have no gradient stays as it is."""
    return jax.tree.map(
        lambda x, *others: function(x, *others) if is_inexact(x) else x, tree, *rest
    )


def multiply(scale: Scalar, tree: PyTree) -> PyTree:
    """s x in at least float32."""
    return map_inexact(lambda x: numerics.scaled(scale, x), tree)


def add_multiple(tree: PyTree, scale: Scalar, other: PyTree) -> PyTree:
    """x + s y in at least float32; x itself, also its dtypes, if s is the number 0."""
    if numerics.is_number(scale, 0):
        return tree
    return map_inexact(lambda x, y: numerics.add_scaled(x, scale, y), tree, other)


def is_inexact(leaf: Any) -> bool:
    """Whether the leaf can have a gradient: its dtype is floating-point or complex."""
    return jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact)


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
