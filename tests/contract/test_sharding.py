"""The rules about sharding, on eight devices."""

from typing import Any

import optax
import pytest

import optimizers
from optimizers.testing import Case
from tests.devices import check_on_eight_devices


def optimistic_amsgrad_with_rmpe(
    learning_rate: float = 0.1,
) -> optax.GradientTransformationExtraArgs:
    """Its predictor sums over whole leaves, however they are sharded."""
    predictor = optimizers.rmpe_predictor(2)
    return optimizers.optimistic_amsgrad(learning_rate, predictor=predictor)


@pytest.fixture(scope="module")
def answers(wholes: list[Case]) -> dict[str, Any]:
    factories = [("optimizers", c.base_name, c.kwargs) for c in wholes]
    factories.append((__name__, "optimistic_amsgrad_with_rmpe", {}))
    return check_on_eight_devices(factories)


def test_eight_devices_equal_one(answers: dict[str, Any], wholes: list[Case]) -> None:
    names = [case.base_name for case in wholes]
    for name in [*names, "optimistic_amsgrad_with_rmpe"]:
        assert len(answers[name]) == 4
        for rule, (outcome, reason) in answers[name].items():
            assert outcome == "passed", f"{name}, {rule}: {reason}"
