"""The rules about devices, on eight of them."""

from typing import Any

import optax
import pytest

import optimizers
from optimizers.testing import Case
from tests.contract.faulty import SHARDING_FAULTS
from tests.devices import run_on_eight_devices

# Prints, for each [module, name, arguments], the outcome and reason of each rule.
# Where the rules allow for methods that blow roundings up, ours agree to 1e-6.
PROGRAM = """
import functools, importlib, json, sys
import jax
from optimizers import testing
from optimizers.testing import _compare

assert jax.device_count() == 8
_compare.assert_agree = functools.partial(_compare.assert_close, rtol=1e-6)
rules = [
    rule
    for rule in testing.conformance_rules()
    if rule.check.__module__.endswith(".sharding")
]
answers = {}
for module, name, kwargs in json.load(sys.stdin):
    factory = getattr(importlib.import_module(module), name)
    report = testing.check(factory, rules=rules, **kwargs)
    answers[name] = {r.rule: [r.outcome, r.reason] for r in report.results}
json.dump(answers, sys.stdout)
"""


def optimistic_amsgrad_with_rmpe(
    learning_rate: float = 0.1,
) -> optax.GradientTransformationExtraArgs:
    """The predictor sums over whole leaves, wherever their parts are."""
    predictor = optimizers.rmpe_predictor(2)
    return optimizers.optimistic_amsgrad(learning_rate, predictor=predictor)


@pytest.fixture(scope="module")
def answers(wholes: list[Case]) -> dict[str, Any]:
    factories = [("optimizers", c.base_name, c.kwargs) for c in wholes]
    factories += [("tests.contract.faulty", name, {}) for name, _ in SHARDING_FAULTS]
    factories.append((__name__, "optimistic_amsgrad_with_rmpe", {}))
    return run_on_eight_devices(PROGRAM, factories)


def test_eight_devices_equal_one(answers: dict[str, Any], wholes: list[Case]) -> None:
    names = [case.base_name for case in wholes]
    for name in [*names, "optimistic_amsgrad_with_rmpe"]:
        assert len(answers[name]) == 4
        for rule, (outcome, reason) in answers[name].items():
            assert outcome == "passed", f"{name}, {rule}: {reason}"


@pytest.mark.parametrize(("name", "rule"), SHARDING_FAULTS)
def test_a_fault_meets_its_rule(answers: dict[str, Any], name: str, rule: str) -> None:
    outcome, reason = answers[name][rule]
    assert outcome == "failed"
    assert reason
