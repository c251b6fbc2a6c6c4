"""Faults for the rules in `counters`."""

from typing import Any

import jax.numpy as jnp

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    broken_init,
    broken_state,
    counts_in_a_dict,
)
from tests.testing.conformance.sound import Tree, sound_pause


def wraps_around(new: Any, old: Any, g: Tree) -> Any:
    del g
    return new._replace(count=old.count + 1)


def never_counts(optimizer: Any) -> Transformation:
    tx = sound_pause(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, new = tx.update(g, state, params, **extra_args)
        return updates, new._replace(count=state.count)

    return Transformation(tx.init, update)


FAULTS = {
    "counts twice in a dict": Fault(
        counts_in_a_dict("count", 2), "counter_advances", "is 6, expected 3"
    ),
    "never counts": Fault(never_counts, "counter_advances", "0 for six updates"),
    "has an int64 count": Fault(
        broken_init(lambda s, p: s._replace(count=jnp.zeros([], int))),
        "counter_is_int32",
        "int64",
    ),
    "lets the count wrap around": Fault(
        broken_state(wraps_around), "counter_saturates", "-2147483648"
    ),
    "counts from one": Fault(
        broken_init(lambda s, p: s._replace(count=jnp.ones([], jnp.int32))),
        "counter_advances",
        "is 1, expected 0",
    ),
}
