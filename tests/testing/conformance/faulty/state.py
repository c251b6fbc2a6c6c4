"""Faults for the rules in `state`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tests.testing.conformance.faulty.support import (
    Fault,
    broken_init,
    broken_leaf,
    broken_update,
    counts_in_a_dict,
    drifts,
    first_leaf_is_read,
    has_a_local_state,
    other_state,
)
from tests.testing.conformance.sound import Tree


class ForeignState(NamedTuple):
    count: Any
    exp_avg: Tree
    exp_avg_sq: Tree


def divides_by_old_count(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, new = update(g, state, params)
    # 1 at every step of a run, 0/0 when mu is kept and the count is not.
    moved = jnp.where(jnp.any(state.mu["layer"]["bias"] != 0), state.count, 1)
    return jax.tree.map(lambda u: u * (moved / moved).astype(u.dtype), updates), new


def _copy_of_params(state: Any, params: Tree) -> Any:
    scale = lambda p: p * float(jnp.sum(p))  # noqa: E731
    return state._replace(mu=jax.tree.map(scale, params))


def corrects_with_the_old_count(update: Any, g: Tree, old: Any, params: Tree) -> Any:
    updates, new = update(g, old, params)
    mass = 1 - 0.9 ** old.count.astype(jnp.float32)
    return jax.tree.map(lambda u: (u / mass).astype(u.dtype), updates), new


def _narrow_params(state: Any, params: Tree) -> Any:
    return state._replace(mu=jax.tree.map(lambda p: p.astype(jnp.bfloat16), params))


FAULTS = {
    "counts with a Python int": Fault(
        broken_init(lambda s, p: s._replace(count=0)), "state_is_plain", "has type int"
    ),
    "has a local state class": Fault(
        has_a_local_state, "state_is_plain", "pickle cannot import"
    ),
    "calls a moment exp_avg": Fault(
        other_state(ForeignState), "state_vocabulary", "exp_avg"
    ),
    "relies on a count that was reset": Fault(
        broken_update(divides_by_old_count), "state_is_resettable", "resetting"
    ),
    "corrects the bias with the old count": Fault(
        broken_update(corrects_with_the_old_count), "trajectory_is_finite", "inf"
    ),
    "gives no update": Fault(
        broken_leaf(lambda u, g: 0 * u), "trajectory_is_finite", "are zero"
    ),
    "has a weak count": Fault(
        broken_init(lambda s, p: s._replace(count=jnp.asarray(0))),
        "state_types_are_stable",
        "weak int32[]",
    ),
    "turns the count into a float": Fault(
        drifts, "state_types_are_stable", "float32[], expected int32[]"
    ),
    "shares a buffer": Fault(
        broken_init(lambda s, p: s._replace(nu=s.mu)), "buffers_are_fresh", "shares"
    ),
    "keeps the params": Fault(
        broken_init(lambda s, p: s._replace(mu=p)), "buffers_are_fresh", "params"
    ),
    "reads values in init": Fault(
        broken_init(_copy_of_params), "init_is_abstract", "oncret"
    ),
    "reads the first leaf in init": Fault(
        broken_init(first_leaf_is_read), "params_are_found_in_state", "IndexError"
    ),
    "counts steps in a dict": Fault(
        counts_in_a_dict("step_count", 1), "state_vocabulary", "'step_count'"
    ),
    "shares bfloat16 params": Fault(
        broken_init(_narrow_params), "buffers_are_fresh", "bfloat16 params"
    ),
}
