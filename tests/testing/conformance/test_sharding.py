"""The rules about sharding find their faults, on eight devices."""

from typing import Any

import pytest

from tests.devices import check_on_eight_devices
from tests.testing.conformance.faulty import sharding
from tests.testing.conformance.faulty.sharding import SHARDING_FAULTS


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    names = dict.fromkeys(name for name, _ in SHARDING_FAULTS)
    return check_on_eight_devices((sharding.__name__, name, {}) for name in names)


@pytest.mark.parametrize(("name", "rule"), SHARDING_FAULTS)
def test_a_fault_is_found_by_its_rule(
    answers: dict[str, Any], name: str, rule: str
) -> None:
    outcome, reason = answers[name][rule]
    assert outcome == "failed"
    assert reason
