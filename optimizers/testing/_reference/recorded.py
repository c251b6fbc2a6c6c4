"""Recorded trajectories: arrays by leaf or by step, as other libraries leave them."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing._inputs import Tree

__tracebackhide__ = True  # pytest shows the message alone


def is_recorded(reference: Any) -> bool:
    """Returns whether a reference is a recorded trajectory, and not a function."""
    # A module with arrays may be callable, too.
    return not (callable(reference) and jax.tree_util.all_leaves([reference]))


def leaves_of_steps(recorded: Any, start: Tree, steps: int) -> list[np.ndarray]:
    """Returns the recorded leaves in the order of the start, with steps first.

    Args:
        recorded: A tree with the leaves of the start and a leading axis of steps in
            each, or a list with such a tree, without the axis, for each step.
        start: The params before the first step.
        steps: The number of gradients.

    Raises:
        ValueError: It has another form.
    """
    shapes = {path: np.shape(leaf) for path, leaf in _by_path(start).items()}
    by_step = isinstance(recorded, list) and _by_path(recorded).keys() != shapes.keys()
    if not by_step:
        arrays = _arrays(recorded, shapes, "reference")
        for path, shape in shapes.items():
            if arrays[path].ndim and arrays[path].shape[1:] == shape:
                _require_steps(len(arrays[path]), steps, f"reference{path}")
            _require_shape(arrays[path], (steps, *shape), f"reference{path}")
        return [arrays[path] for path in shapes]
    _require_steps(len(recorded), steps, "reference")
    trees = []
    for i, tree in enumerate(recorded):
        trees.append(_arrays(tree, shapes, f"reference[{i}]"))
        for path, shape in shapes.items():
            _require_shape(trees[i][path], shape, f"reference[{i}]{path}")
    return [np.stack([tree[path] for tree in trees]) for path in shapes]


def _by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path, whether a dict is ordered or not."""
    if isinstance(tree, Mapping):
        tree = dict(tree)  # what numpy.load returns is no tree
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _arrays(tree: Any, paths: Iterable[str], what: str) -> dict[str, np.ndarray]:
    """Returns the leaves by path, which must be these."""
    found = _by_path(tree)
    missing = [path for path in paths if path not in found]
    surplus = [path for path in found if path not in paths]
    if missing or surplus:
        problem = (
            f"{what} has no {missing[0] or 'array'}"
            if missing
            else f"the start has no {surplus[0] or 'array'}, which {what} has"
        )
        msg = (
            f"{problem}. Give the params after each step: the tree of the start with "
            "steps along the first axis of each leaf, or a list with one tree for each "
            "step."
        )
        raise ValueError(msg)
    return {path: _as_array(leaf, f"{what}{path}") for path, leaf in found.items()}


def _require_steps(got: int, steps: int, what: str) -> None:
    if got != steps:
        msg = (
            f"{what} has {got} steps for {steps} gradients; give the params after each "
            "step, without the start."
        )
        raise ValueError(msg)


def _require_shape(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        msg = f"{what} has shape {array.shape}, expected {shape}."
        raise ValueError(msg)


def _as_array(leaf: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(leaf)
    except Exception as error:  # of another library, whose tensor this is
        msg = (
            f"{what} is a {type(leaf).__name__}, which NumPy cannot read ({error}); "
            "give arrays, such as tensor.detach().numpy()."
        )
        raise ValueError(msg) from error
    if not jnp.issubdtype(array.dtype, jnp.number):
        msg = f"{what} is {leaf!r}, expected an array of numbers."
        raise ValueError(msg)
    return array
