"""Faults for the rules in `compilation`."""

from typing import Any

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    branches_on_values,
    broken_init,
    broken_leaf,
    broken_update,
    counts_in_python,
)


def keeps_tracers(learning_rate: Any = 0.1) -> Transformation:
    kept: list[Any] = []
    return broken_leaf(lambda u, g: kept.append(u) or u)(learning_rate)


FAULTS = {
    "shares a buffer to donate": Fault(
        broken_init(lambda s, p: s._replace(nu=s.mu)),
        "params_and_state_may_be_donated",
        "donate",
    ),
    "branches on values": Fault(
        broken_update(branches_on_values), "jit_equals_eager", "Tracer"
    ),
    "branches on values in a scan": Fault(
        broken_update(branches_on_values), "scan_equals_loop", "Tracer"
    ),
    "counts in Python under jit": Fault(
        counts_in_python, "jit_equals_eager", "differs"
    ),
    "branches on values of many models": Fault(
        broken_update(branches_on_values), "vmap_over_models", "Tracer"
    ),
    "keeps tracers": Fault(keeps_tracers, "no_leaked_tracers", "raised"),
}
