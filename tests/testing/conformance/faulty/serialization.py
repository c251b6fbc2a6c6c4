"""Faults for the rules in `serialization`."""

from tests.testing.conformance.faulty.support import (
    Fault,
    counts_in_python,
    has_a_local_state,
)

FAULTS = {
    "has a local state class to pickle": Fault(
        has_a_local_state, "state_survives_pickle", "local object"
    ),
    "counts in Python after a checkpoint": Fault(
        counts_in_python, "state_survives_numpy", "next step"
    ),
}
