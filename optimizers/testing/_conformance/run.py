"""Runs a transformation through a few gradients, with fixed params."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from optimizers.testing._extras import update
from optimizers.testing._inputs import Tree
from optimizers.testing._jit import quick_jit


class Run(NamedTuple):
    """The updates of each step, and the last state."""

    updates: list[Tree]
    state: Tree


def follow(
    step: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    state: Tree,
    params: Tree,
    stream: Sequence[Tree],
) -> Run:
    """Calls `step(grads, state, params)` for each gradient; params stay fixed."""
    updates = []
    for grads in stream:
        new, state = step(grads, state, params)
        updates.append(new)
    return Run(updates, state)


def run(tx: Any, params: Tree, stream: Sequence[Tree]) -> Run:
    """Runs `tx` from a fresh state, without jit."""
    return follow(partial(update, tx), tx.init(params), params, stream)


def run_jitted(tx: Any, params: Tree, stream: Sequence[Tree]) -> Run:
    """Runs `tx` from a fresh state, with jitted steps.

    For wrappers that use lax.cond: without jit, JAX compiles it at every call.
    """
    return follow(quick_jit(partial(update, tx)), tx.init(params), params, stream)
