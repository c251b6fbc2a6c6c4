"""Runs an optimizer through a sequence, and finds the fields of its states."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing._inputs import ExtraArgs, Tree
from optimizers.testing._jit import quick_jit
from optimizers.testing._reference.sequence import Sequence, number_of_steps

__tracebackhide__ = True  # pytest shows the message alone


class Replay(NamedTuple):
    """The params, updates and states of an optimizer on a sequence."""

    params: Tree  # after each step, along the first axis
    updates: Tree  # of each step, likewise
    states: list[Tree]  # before the first step and after each


def require_transformation(tx: Any) -> None:
    """Raises TypeError for a factory or anything else in place of an optimizer."""
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        name = getattr(tx, "__name__", type(tx).__name__)
        msg = f"tx must be an optimizer, got {name}: call it, as in {name}(0.1)."
        if not callable(tx):
            msg = f"tx must be an optimizer, got a {name}."
        raise TypeError(msg)


def replay(tx: Any, sequence: Sequence, extra_args: ExtraArgs | None = None) -> Replay:
    """Runs an optimizer through a sequence, with 64-bit types enabled."""
    require_transformation(tx)
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
        return Replay(_stack(seen), _stack(moved), states)


# Assertions on many sequences compile an optimizer once.
@lru_cache(maxsize=32)
def _jitted_step(tx: Any, extra_args: ExtraArgs | None) -> Callable[..., Any]:
    update = optax.with_extra_args_support(tx).update

    @quick_jit
    def step(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree, Tree]:
        extras = extra_args(grads, params) if extra_args else {}
        updates, state = update(grads, state, params, **extras)
        return updates, state, optax.apply_updates(params, updates)

    return step


def field_of_states(states: list[Tree], field: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns every field of that name, at any depth of the state.

    If no attribute has the name, entries of dictionaries count: injected
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
            # A dictionary may also hold the state of a hyperparameter.
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
        f"the state has no field {field!r} that holds arrays; its fields are: "
        f"{', '.join(names) or 'none'}."
    )
    raise ValueError(msg)


def _attributes(path: tuple[Any, ...]) -> list[str]:
    return [key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)]


def _stack(trees: list[Tree]) -> Tree:
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *trees)
