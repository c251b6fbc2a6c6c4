"""The step counter."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._compare import leaves
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import rule
from optimizers.testing._conformance.run import Run
from optimizers.testing._extras import abstract_steps, update
from optimizers.testing._jit import quick_jit


def counter_is_int32(case: Case) -> None:
    """Integer scalars of the state are int32, even if 64-bit types are enabled.

    A counter that is int64 in 64-bit mode changes the type of the state between
    programs.
    """
    for x64 in (False, True):
        with jax.enable_x64(x64):
            params = _inputs.make_params()
            state, last, _ = abstract_steps(case.tx, params, _inputs.make_grads(0))
            for path, leaf in (*leaves(state), *leaves(last)):
                if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.shape == ():
                    kind = _compare.type_of(leaf)
                    assert kind == "int32[]", (
                        f"state{path} is {kind}, expected int32[] with "
                        f"jax_enable_x64={x64}"
                    )


def counter_saturates(case: Case) -> None:
    """A counter stops at the largest int32, and updates there are finite.

    A counter that overflows restarts the bias correction after two billion steps.
    """
    largest = jnp.iinfo(jnp.int32).max
    state = case.tx.init(case.params)
    full = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, largest) if _is_count(path) else leaf,
        state,
    )
    updates, last = update(case.tx, case.stream[0], full, case.params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(last):
        if _is_count(path):
            where = jax.tree_util.keystr(path)
            assert leaf == largest, (
                f"state{where} changed from {largest} to {leaf}, expected no change"
            )
    case.assert_finite(Run([updates], last), "after 2³¹ - 1 steps")


def counter_advances(case: Case) -> None:
    """Every counter starts at 0 and every update adds 1.

    Schedules and bias corrections depend on the step count.
    """
    states = (case.tx.init(case.params), case.expected[1])
    for wanted, state in zip((0, len(case.stream)), states, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if _is_count(path):
                where = jax.tree_util.keystr(path)
                # A wrapper may pause or reset the counter of the optimizer inside.
                right = 0 <= leaf <= wanted if case.wraps else leaf == wanted
                assert right, f"state{where} is {leaf}, expected {wanted}"
    if case.is_wrapper:
        _assert_own_counters_move(case)


def _assert_own_counters_move(case: Case) -> None:
    """Asserts that a wrapper with a counter changes one of its integers.

    The optimizer inside has no counter, so all integers are the wrapper's own. Some
    restart every few steps, others wait for the end of a period: one change is enough.
    """
    tx = case.make_around(case.wrap(optax.scale(-case.learning_rate)))
    step = quick_jit(partial(update, tx))
    state = tx.init(case.params)
    moved, counters = False, set()
    for grads in 2 * case.stream:
        _, state = step(grads, state, case.params)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.shape == ():
                moved |= bool(leaf != 0)
                counters |= {jax.tree_util.keystr(path)} if _is_count(path) else set()
    assert moved or not counters, (
        f"state{', state'.join(sorted(counters))} stays 0 for six updates, expected a "
        "step count"
    )


def _is_count(path: tuple[Any, ...]) -> bool:
    return _compare.names(path)[-1:] == ["count"]


RULES = (
    rule(
        counter_is_int32,
        "polish",
        (11, 24),
        "Start with jnp.zeros([], jnp.int32) and increment with optax.safe_increment.",
    ),
    rule(
        counter_saturates,
        "numerics",
        (11,),
        "Increment counters with optax.safe_increment.",
    ),
    rule(
        counter_advances,
        "promise",
        (11,),
        "Increment the counter exactly once per update, and reserve the name `count` "
        "for it.",
    ),
)
