"""State trees, validation of gradients, and arithmetic of trees.

Trees may hold leaves that have no gradient, such as integers and random keys. The
arithmetic leaves them as they are; `zeros_like` and the like refuse them.

The containers belong to the user, whose constructors may check or convert their fields.
Only arrays of the shapes of the params go into them: `per_leaf` returns all else in a
list.
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

    Complex leaves stay complex: in complex64 if the given dtype is narrower. Where the
    params have at most 8 bits, the zeros are bfloat16: a float8 average with decay rate
    0.9 stops at half to three quarters of a constant gradient.

    Raises:
      ValueError: A leaf is not of a floating-point or complex dtype; names its path.
    """
    _require_inexact(function, "params", params)
    dtype = None if dtype is None else jax.dtypes.canonicalize_dtype(dtype)

    def leaf(p: Any) -> jax.Array:
        own = numerics.dtype_of(p)
        if dtype is None:
            return jnp.zeros_like(p, dtype=jnp.bfloat16 if own.itemsize == 1 else own)
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


def optional_averages_like(params: PyTree) -> PyTree:
    """Zeros in at least float32, also for a leaf that is an array without a gradient.

    None for what is no array, as in the gradients.
    """

    def leaf(p: Any) -> jax.Array | None:
        if is_inexact(p):
            return jnp.zeros_like(p, dtype=numerics.compute_dtype(numerics.dtype_of(p)))
        is_array = hasattr(p, "dtype") or isinstance(p, int)
        return jnp.zeros(jnp.shape(p), jnp.float32) if is_array else None

    return jax.tree.map(leaf, params)


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
        found = difference(tree, what, like, other) or difference(
            like, other, tree, what
        )
        msg = (
            f"{function}: {what} must have the structure of {other}: {found}. {advice}"
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


def with_gradients(function: str, grads: PyTree, params: PyTree) -> PyTree:
    """The params in the structure of the gradients, with None where those have None.

    What has no gradient may be anything, such as a function, and is left out.

    Raises:
      ValueError: The params do not have the structure of the gradients elsewhere.
    """
    if params is None:
        return None
    kept = without_others(params, grads)
    if jax.tree.structure(kept) != jax.tree.structure(grads):
        names = "the gradients", "the params"
        found = difference(grads, names[0], params, names[1], _is_none) or difference(
            kept, names[1], grads, names[0]
        )
        msg = (
            f"{function}: the params must have the structure of the gradients: {found}."
        )
        raise ValueError(msg)
    return kept


def without_others(tree: PyTree, like: PyTree) -> PyTree:
    """The tree with None where the other has None; as it is if they differ elsewhere.

    What was there may be anything.
    """
    leaves, structure = jax.tree.flatten(like, is_leaf=_is_none)
    try:
        own = structure.flatten_up_to(tree)
    except ValueError:
        return tree
    return structure.unflatten(
        [None if x is None else y for x, y in zip(leaves, own, strict=True)]
    )


def replaced(params: PyTree, new: PyTree) -> PyTree:
    """The params, with the leaves of the result of `with_gradients` in their places."""
    leaves, structure = jax.tree.flatten(new, is_leaf=_is_none)
    own = structure.flatten_up_to(params)
    return structure.unflatten(
        [p if x is None else x for x, p in zip(leaves, own, strict=True)]
    )


def difference(
    prefix: PyTree,
    name: str,
    tree: PyTree,
    other: str,
    is_leaf: Callable[[Any], bool] | None = None,
) -> str | None:
    """Why the first tree is not a prefix of the other; None if it is.

    Args:
      prefix: A tree.
      name: Its name.
      tree: The other tree.
      other: Its name.
      is_leaf: Which nodes of the first tree are leaves, as for `jax.tree.flatten`.

    Returns:
      A clause for an error message, with the path of the first leaf that differs.
    """
    try:
        jax.tree.structure(prefix, is_leaf).flatten_up_to(tree)
    except ValueError:
        pass
    else:
        return None
    own = [path for path, _ in jax.tree_util.tree_leaves_with_path(prefix, is_leaf)]
    others = {
        path: {path[:i] for i in range(len(path) + 1)}
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }
    starts = set().union(*others.values())
    missing = next((path for path in others if others[path].isdisjoint(own)), None)
    surplus = next((path for path in own if path not in starts), None)
    places = [
        f"at {where(path)} in {of}"
        for path, of in ((missing, name), (surplus, other))
        if path is not None
    ]
    if places:
        return f"there is no leaf {', and none '.join(places)}"
    try:  # only containers differ, which JAX describes
        jax.tree.map(lambda *_: None, prefix, tree, is_leaf=is_leaf)
    except ValueError as error:
        return " ".join(str(error).split()).rstrip(".")
    return None


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


def per_leaf(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> list[Any]:
    """As `jax.tree.map`, but the results are in a list, one for each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    others = (structure.flatten_up_to(other) for other in rest)
    return list(map(function, leaves, *others))


def unzip(like: PyTree, rows: list[Any], *fields: str) -> list[PyTree]:
    """For each field, a tree like the first one, from a NamedTuple for each leaf."""
    structure = jax.tree.structure(like)
    return [
        structure.unflatten([getattr(row, field) for row in rows]) for field in fields
    ]


def map_inexact(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """As `jax.tree.map`; a leaf that can have no gradient stays as it is."""
    return jax.tree.map(
        lambda x, *others: function(x, *others) if is_inexact(x) else x, tree, *rest
    )


def map_chosen(
    function: Callable[..., Any], chosen: list[bool], tree: PyTree, *rest: PyTree
) -> PyTree:
    """As `jax.tree.map`; a leaf that is not chosen stays as it is."""
    leaves, structure = jax.tree.flatten(tree)
    rows = zip(
        chosen, leaves, *(structure.flatten_up_to(other) for other in rest), strict=True
    )
    return structure.unflatten(
        [function(x, *others) if yes else x for yes, x, *others in rows]
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


def _is_none(node: Any) -> bool:
    return node is None


def _require_inexact(function: str, what: str, tree: PyTree) -> None:
    if all(is_inexact(x) for x in jax.tree.leaves(tree)):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not is_inexact(leaf):
            dtype = getattr(leaf, "dtype", type(leaf).__name__)
            msg = (
                f"{function}: the {what} leaf at {where(path)} has dtype {dtype}; only "
                "floating-point and complex leaves have gradients. Put None in its "
                "place, or leave it out with optax.masked or optax.partition."
            )
            raise ValueError(msg)
