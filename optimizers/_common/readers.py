"""Reading the state of an optimizer, also as flax.nnx keeps it or a file restores it.

nnx wraps each array of a state in a variable, which is a tree of one leaf. Checkpoints
that are restored without a target, and `flax.serialization.to_state_dict`, have dicts
in place of NamedTuples, and lists or dicts in place of tuples.
"""

from collections.abc import Mapping
from typing import Any

import jax

from optimizers._common.typing import PyTree

Path = tuple[Any, ...]


def require_state(function: str, state: PyTree) -> None:
    """Raises TypeError if this cannot be the state of an optimizer."""
    for leaf in jax.tree.leaves(state):
        if not (hasattr(leaf, "dtype") or isinstance(leaf, int | float | complex)):
            msg = (
                f"{function}: state must be the state of an optimizer, which init() "
                f"and update() return, got a {type(state).__name__}."
            )
            raise TypeError(msg)


def nodes(state: PyTree, *names: str) -> list[tuple[Path, Any]]:
    """The nodes of a state that have fields with these names, and their paths."""

    def has_fields(node: Any) -> bool:
        return set(names) <= set(fields(node))

    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=has_fields)
    return [(path, node) for path, node in found if has_fields(node)]


def fields(node: Any) -> Mapping[str, Any]:
    """The fields of a NamedTuple, or of the dict in its place; none for other nodes."""
    if isinstance(node, Mapping):
        return node
    return node._asdict() if hasattr(node, "_asdict") else {}


def leaves_by_names(tree: PyTree) -> dict[tuple[str, ...], Any]:
    """The leaves by the names on their paths, whatever containers have the names."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {names(path): leaf for path, leaf in leaves}


def names(path: Path) -> tuple[str, ...]:
    """The names on a path, without the kinds of their containers."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
