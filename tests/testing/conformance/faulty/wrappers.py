"""Faults for the rules in `wrappers`."""

from typing import Any

from tests.testing.conformance.faulty.support import (
    Fault,
    branches_on_values,
    broken_extras,
    broken_update,
    counts_in_python,
    drifts,
    indexes_params,
)
from tests.testing.conformance.sound import Tree, sound_ascent


def reads_masked_params(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    _ = params["layer"]["bias"].dtype
    return update(g, **extras)


def calls_a_masked_loss(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    extras.get("grad_fn", extras.get("value_fn"))(params)
    return update(g, **extras)


FAULTS = {
    "reads masked params": Fault(
        broken_extras(sound_ascent, reads_masked_params),
        "works_under_masked",
        "AttributeError",
    ),
    "calls the loss with masked params": Fault(
        broken_extras(sound_ascent, calls_a_masked_loss),
        "works_under_masked",
        "the loss of a model was called with optax.MaskedNode",
    ),
    "counts in Python in a chain": Fault(
        counts_in_python, "works_in_chain", "in a chain"
    ),
    "branches on values, held back": Fault(
        broken_update(branches_on_values), "works_under_apply_if_finite", "Tracer"
    ),
    "indexes params, masked": Fault(
        broken_update(indexes_params), "works_under_masked", "KeyError"
    ),
    "indexes params, in a partition": Fault(
        broken_update(indexes_params), "works_in_partition", "raised"
    ),
    "counts in Python, accumulated": Fault(
        counts_in_python, "works_under_multi_steps", "MultiSteps"
    ),
    "drifts, looking ahead": Fault(drifts, "works_under_lookahead", "count"),
    "drifts, schedule-free": Fault(drifts, "works_under_schedule_free", "count"),
    "drifts, mechanized": Fault(drifts, "works_under_mechanize", "count"),
    "drifts, in sam": Fault(drifts, "works_under_sam", "count"),
    "drifts, flattened": Fault(drifts, "works_under_flatten", "count"),
    "drifts, held back": Fault(drifts, "works_conditionally", "raised"),
    "drifts, followed": Fault(drifts, "works_before_other_transformations", "count"),
}
