"""Sequences: a start and given gradients to run an optimizer through.

The gradients are given, not computed from the parameters, so that a loss can neither
hide nor amplify the error of a step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from optimizers.testing._inputs import Tree, is_shape

__tracebackhide__ = True  # pytest shows the message alone


class Sequence(NamedTuple):
    """The start of a run and the gradients of its steps.

    Attributes:
        start: The parameters before the first step, a tree of arrays.
        gradients: The same tree, with a leading axis of steps in every leaf; or a list
            with such a tree, without the axis, for each step.
    """

    start: Tree
    gradients: Tree


def random_sequence(steps: int = 50, seed: int = 0) -> Sequence:
    """Returns a small float64 tree with gradients that span six decades.

    The tree is `{"bias": (3,), "layers": [(2, 3)], "scale": ()}`. Every entry has its
    own scale between 1e-3 and 1e3, and a tenth of the gradients are exactly zero.

    Args:
        steps: The number of gradients.
        seed: The seed of NumPy's generator.

    Returns:
        The same sequence for the same arguments.

    Examples:
        >>> from optimizers import testing
        >>> testing.random_sequence(steps=20).gradients["layers"][0].shape
        (20, 2, 3)
    """
    rng = np.random.default_rng(seed)
    shapes = {"bias": (3,), "layers": [(2, 3)], "scale": ()}

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        size = 10 ** rng.uniform(-3, 3, shape)
        gradients = rng.normal(size=(steps, *shape)) * size
        return np.where(rng.random((steps, *shape)) < 0.1, 0.0, gradients)

    start = jax.tree.map(
        lambda s: np.asarray(rng.normal(size=s)), shapes, is_leaf=is_shape
    )
    return Sequence(start, jax.tree.map(draw, shapes, is_leaf=is_shape))


def checked(sequence: Sequence | None, steps: int) -> Sequence:
    """Returns the sequence as NumPy arrays; a random one of `steps` steps for None.

    Raises:
        TypeError: It is not a `Sequence`.
        ValueError: Start and gradients do not match.
    """
    if sequence is None:
        return random_sequence(steps)
    if not isinstance(sequence, Sequence):
        msg = (
            f"sequence must be a testing.Sequence(start, gradients), got a "
            f"{type(sequence).__name__}."
        )
        raise TypeError(msg)
    # An open .npz file is a mapping, but no tree.
    start, gradients = (
        dict(tree) if isinstance(tree, np.lib.npyio.NpzFile) else tree
        for tree in sequence
    )
    gradients = _stacked(start, gradients)
    if jax.tree.structure(start) != jax.tree.structure(gradients):
        msg = (
            f"sequence: start is {jax.tree.structure(start)}, gradients are "
            f"{jax.tree.structure(gradients)}; give both the same structure."
        )
        raise ValueError(msg)
    lengths = set()
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    for (path, g), x in zip(leaves, jax.tree.leaves(start), strict=True):
        if np.ndim(g) == 0 or np.shape(g)[1:] != np.shape(x):
            name = f"gradients{jax.tree_util.keystr(path)}"
            msg = (
                f"sequence: {name} has shape {np.shape(g)}, expected (steps, "
                f"*{np.shape(x)}), where {np.shape(x)} is the shape of the start."
            )
            raise ValueError(msg)
        lengths.add(len(g))
    if len(lengths) != 1 or 0 in lengths:
        msg = (
            "sequence: every leaf of gradients needs the same number of steps, at "
            f"least one, got {sorted(lengths)}."
        )
        raise ValueError(msg)
    return jax.tree.map(np.asarray, Sequence(start, gradients))


def _stacked(start: Tree, gradients: Any) -> Tree:
    """Returns gradients with steps first, also if they are a list of steps."""
    structure = jax.tree.structure(start)
    if not isinstance(gradients, list) or jax.tree.structure(gradients) == structure:
        return gradients
    trees = [jax.tree.structure(step) for step in gradients]
    if set(trees) != {structure}:
        return gradients
    for i, step in enumerate(gradients):
        for (path, g), x in zip(
            jax.tree_util.tree_leaves_with_path(step),
            jax.tree.leaves(start),
            strict=True,
        ):
            if np.shape(g) != np.shape(x):
                msg = (
                    f"sequence: gradients[{i}]{jax.tree_util.keystr(path)} has shape "
                    f"{np.shape(g)}, expected {np.shape(x)}, that of the start."
                )
                raise ValueError(msg)
    return jax.tree.map(lambda *steps: np.stack(steps), *gradients)


def number_of_steps(sequence: Sequence) -> int:
    """Returns the number of gradients in a sequence."""
    return len(jax.tree.leaves(sequence.gradients)[0])


def with_leaves(sequence: Sequence, function: Callable[..., Any]) -> Sequence:
    """Returns the sequence with `function(start, gradients)` applied to each leaf."""
    start, structure = jax.tree.flatten(sequence.start)
    pairs = [
        function(np.asarray(x), np.asarray(g))
        for x, g in zip(start, jax.tree.leaves(sequence.gradients), strict=True)
    ]
    return Sequence(*(structure.unflatten(side) for side in zip(*pairs, strict=True)))


def as_vector(sequence: Sequence) -> Sequence:
    """Returns the sequence with all entries in one vector, in the order of leaves."""
    steps = number_of_steps(sequence)
    start = [np.ravel(x) for x in jax.tree.leaves(sequence.start)]
    gradients = [
        np.reshape(g, (steps, -1)) for g in jax.tree.leaves(sequence.gradients)
    ]
    return Sequence(np.concatenate(start), np.concatenate(gradients, axis=1))


def as_tree(vectors: np.ndarray, like: Tree) -> Tree:
    """Inverts `as_vector`: returns the vectors of all steps as trees."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([np.size(x) for x in leaves])
    parts = np.split(vectors, ends[:-1], axis=1)
    return structure.unflatten(
        [
            part.reshape(len(vectors), *np.shape(x))
            for part, x in zip(parts, leaves, strict=True)
        ]
    )
