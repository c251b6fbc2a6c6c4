"""Runs an optimizer through given gradients, and tells where two runs part.

The gradients are given, not computed from the parameters, so that an error of one step
is neither hidden nor blown up by a loss.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing._data import Tree
from optimizers.testing._jit import quick_jit

# (gradients, params) -> keyword arguments of `update`
ExtraArgs = Callable[[Tree, Tree], dict[str, Any]]
_SHOWN = 5  # leaves in a message


class Sequence(NamedTuple):
    """Where a run starts and the gradients it meets.

    Attributes:
        start: The parameters before the first step, a tree of arrays.
        gradients: The same tree; every leaf has one more axis in front, of steps.
    """

    start: Tree
    gradients: Tree


class Run(NamedTuple):
    """What an optimizer made of a sequence."""

    params: Tree  # after each step, along the first axis
    updates: Tree  # of each step, likewise
    states: list[Tree]  # before the first step and after each


def random_sequence(steps: int = 50, seed: int = 0) -> Sequence:
    """Returns a small tree in float64 whose gradients span six decades.

    The tree is `{"bias": (3,), "layers": [(2, 3)], "scale": ()}`. Every entry has its
    own size between 1e-3 and 1e3, and a tenth of the gradients are exactly zero.

    Args:
      steps: How many gradients there are.
      seed: Of NumPy's generator.

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

    def is_shape(node: object) -> bool:
        return isinstance(node, tuple)

    start = jax.tree.map(
        lambda s: np.asarray(rng.normal(size=s)), shapes, is_leaf=is_shape
    )
    return Sequence(start, jax.tree.map(draw, shapes, is_leaf=is_shape))


def replay(tx: Any, sequence: Sequence, extra_args: ExtraArgs | None = None) -> Run:
    """Returns the run of an optimizer, in the dtypes of the sequence, also 64 bits."""
    step = _jitted_step(tx, extra_args)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, sequence.start)
        state = tx.init(params)
        states, moved, seen = [state], [], []
        for i in range(number_of_steps(sequence)):
            grads = jax.tree.map(lambda g, i=i: jnp.asarray(g[i]), sequence.gradients)
            updates, state, params = step(grads, state, params)
            states.append(state)
            moved.append(updates)
            seen.append(params)
        return Run(_stack(seen), _stack(moved), states)


# A property that is asserted for many sequences compiles its optimizer once.
@lru_cache(maxsize=32)
def _jitted_step(tx: Any, extra_args: ExtraArgs | None) -> Callable[..., Any]:
    update = optax.with_extra_args_support(tx).update

    @quick_jit
    def step(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree, Tree]:
        extras = extra_args(grads, params) if extra_args else {}
        updates, state = update(grads, state, params, **extras)
        return updates, state, optax.apply_updates(params, updates)

    return step


def checked(sequence: Sequence | None, steps: int) -> Sequence:
    """Returns the sequence in NumPy, or the random one of that many steps for None.

    Raises:
      ValueError: Start and gradients do not fit together.
    """
    if sequence is None:
        return random_sequence(steps)
    start, gradients = sequence
    if jax.tree.structure(start) != jax.tree.structure(gradients):
        msg = (
            f"sequence: start is {jax.tree.structure(start)}, gradients are "
            f"{jax.tree.structure(gradients)}; give both one structure."
        )
        raise ValueError(msg)
    lengths = set()
    leaves = named("gradients", gradients)
    for (name, g), x in zip(leaves.items(), jax.tree.leaves(start), strict=True):
        if np.ndim(g) == 0 or np.shape(g)[1:] != np.shape(x):
            msg = (
                f"sequence: {name} has shape {np.shape(g)}, expected an axis of steps "
                f"and then {np.shape(x)}, the shape of the start."
            )
            raise ValueError(msg)
        lengths.add(len(g))
    if len(lengths) != 1 or 0 in lengths:
        msg = (
            "sequence: every leaf of gradients needs the same number of steps, at "
            f"least one, got {sorted(lengths)}."
        )
        raise ValueError(msg)
    return jax.tree.map(np.asarray, sequence)


def number_of_steps(sequence: Sequence) -> int:
    """Returns how many gradients a sequence has."""
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
    """Returns vectors, one for each step, as the trees that `as_vector` took apart."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([np.size(x) for x in leaves])
    parts = np.split(vectors, ends[:-1], axis=1)
    return structure.unflatten(
        [
            part.reshape(len(vectors), *np.shape(x))
            for part, x in zip(parts, leaves, strict=True)
        ]
    )


def field_of_states(states: list[Tree], field: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns every field of that name, at whatever depth of the state.

    Entries of dictionaries count where no attribute has the name: injected
    hyperparameters are such entries, and so are the moments of a parameter.

    Returns:
      Path of the field, such as `[0].mu`, to its leaves by name, such as
      `mu['bias']`; each leaf has an axis of states in front.

    Raises:
      ValueError: The state has no such field; the message lists those it has.
    """
    columns = [jax.tree.leaves(state) for state in states]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(states[0])]
    for key in (jax.tree_util.GetAttrKey(field), jax.tree_util.DictKey(field)):
        found: dict[str, dict[str, np.ndarray]] = {}
        for i, path in enumerate(paths):
            end = path.index(key) + 1 if key in path else 0
            # What a dictionary holds for a hyperparameter may also be a state.
            if not end or (
                isinstance(key, jax.tree_util.DictKey) and _attributes(path[end:])
            ):
                continue
            leaves = found.setdefault(jax.tree_util.keystr(path[:end]), {})
            name = f"{field}{jax.tree_util.keystr(path[end:])}"
            leaves[name] = np.stack([np.asarray(column[i]) for column in columns])
        if found:
            return found
    names = dict.fromkeys(name for path in paths for name in _attributes(path))
    msg = (
        f"the state has no field {field!r} with arrays; its fields are: "
        f"{', '.join(names) or 'none'}."
    )
    raise ValueError(msg)


def _attributes(path: tuple[Any, ...]) -> list[str]:
    return [key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)]


class Difference(NamedTuple):
    """Where two runs part: the step, counted from 1, and a line that shows it."""

    step: int
    line: str


def differences(
    actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float
) -> list[Difference]:
    """Returns, for each named leaf that differs, the first step where it does.

    An error is relative to the largest size that the expected entry has had so far: a
    difference of large numbers is exact to their rounding, not to its own. NaN differs
    from everything.
    """
    found = []
    for name, leaf in actual.items():
        a, e = as_wide(leaf), as_wide(expected[name])
        if a.shape[1:] != e.shape[1:]:
            msg = f"{name} has shape {a.shape[1:]}, expected {e.shape[1:]}."
            raise AssertionError(msg)
        scale = np.maximum.accumulate(np.abs(e), axis=0)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.abs(a - e)
            wrong = (a != e) & ~(error <= rtol * scale)
            relative = np.where(wrong, error / scale, -1.0)
        if wrong.any():
            step = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
            # Of this step, the entry that is most wrong; a NaN counts as that.
            index = np.unravel_index(np.argmax(relative[step]), relative[step].shape)
            entry = f"{name}{[int(i) for i in index] if index else ''}"
            line = (
                f"step {step + 1}: {entry} is {a[step][index]:.15g}, expected "
                f"{e[step][index]:.15g}, relative error {relative[step][index]:.2g}"
            )
            found.append(Difference(step + 1, line))
    return found


def raise_for(found: list[Difference], headline: str, hint: str = "") -> None:
    """Raises an `AssertionError` with the earliest differences, if there are any."""
    if found:
        ordered = sorted(found, key=lambda difference: difference.step)
        lines = [f"  {difference.line}" for difference in ordered[:_SHOWN]]
        if len(ordered) > _SHOWN:
            lines.append(f"  and {len(ordered) - _SHOWN} more, not earlier")
        raise AssertionError("\n".join([headline, *lines, *([hint] if hint else [])]))


def named(what: str, tree: Tree) -> dict[str, np.ndarray]:
    """Returns the leaves by name, such as `params['bias']`."""
    return {
        f"{what}{jax.tree_util.keystr(path)}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def as_wide(leaf: Any) -> np.ndarray:
    """Returns the leaf in float64, or in complex128 if it is complex."""
    array = np.asarray(leaf)
    is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
    return array.astype(np.complex128 if is_complex else np.float64)


def _stack(trees: list[Tree]) -> Tree:
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *trees)
