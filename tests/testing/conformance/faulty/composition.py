"""Faults for the rules in `composition`."""

from typing import Any

import optax

from optimizers import bloop, imbsam, sam, sharpness_aware
from optimizers._imbsam import imbsam_gradient
from tests.testing.conformance.faulty.support import Fault, Transformation


def explores_downhill(learning_rate: Any = 0.1) -> Transformation:
    return optax.chain(optax.adam(learning_rate), sharpness_aware(0.05))


def explores_downhill_without_a_learning_rate() -> Transformation:
    return optax.chain(optax.adam(0.1), sharpness_aware(0.05))


def has_no_learning_rate() -> Transformation:
    return optax.chain(sharpness_aware(0.05), optax.adam(0.1))


def adds_auxiliary_gradients() -> Transformation:
    return optax.chain(optax.adam(0.1), bloop(0.1))


def adds_gradients_of_the_tail() -> Transformation:
    return optax.chain(optax.adam(0.1), imbsam_gradient(0.05))


def has_the_learning_rate_first(learning_rate: Any = 0.1) -> Transformation:
    return optax.chain(
        optax.scale_by_learning_rate(learning_rate), optax.scale_by_adam()
    )


def _accumulated(tx: Any, steps: int = 2) -> Transformation:
    accumulating = optax.MultiSteps(tx, steps)
    return Transformation(accumulating.init, accumulating.update)


def accumulates_around_sam(learning_rate: Any = 0.1) -> Transformation:
    return _accumulated(sam(optax.sgd(learning_rate)), 3)


def accumulates_around_bloop(learning_rate: Any = 0.1) -> Transformation:
    return _accumulated(optax.chain(bloop(0.1), optax.sgd(learning_rate)))


def accumulates_around_imbsam(learning_rate: Any = 0.1) -> Transformation:
    return _accumulated(imbsam(optax.adam(learning_rate)))


_FIRST = "gradient_transformations_come_first"
_EVERY = "accumulation_sees_every_micro_batch"
FAULTS = {
    "explores downhill": Fault(explores_downhill, _FIRST, "downhill"),
    "explores downhill, without a learning rate": Fault(
        explores_downhill_without_a_learning_rate, _FIRST, "downhill"
    ),
    "has no learning rate": Fault(
        has_no_learning_rate, "has_right_sign", "needs a learning_rate"
    ),
    "adds auxiliary gradients to updates": Fault(
        adds_auxiliary_gradients, _FIRST, "opposite signs"
    ),
    "adds gradients of the tail to updates": Fault(
        adds_gradients_of_the_tail, _FIRST, "opposite signs"
    ),
    "has the learning rate first": Fault(
        has_the_learning_rate_first,
        "learning_rate_changes_the_updates",
        "0.05 give the same updates",
    ),
    "accumulates around SAM": Fault(accumulates_around_sam, _EVERY, "of 3 micro"),
    "accumulates around Bloop": Fault(accumulates_around_bloop, _EVERY, "the last"),
    "accumulates around ImbSAM": Fault(accumulates_around_imbsam, _EVERY, "the last"),
}
