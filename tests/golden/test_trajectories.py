"""The recorded trajectory of every public alias: they notice that numbers changed.

Whether the numbers are right is for the tests against references to say. To record
anew: `pytest tests/golden --update-golden`; then read the diff, and tell users in
CHANGELOG.md what moved and why.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.optimizer_table import aliases


@pytest.mark.parametrize("alias", aliases())
def test_trajectory_is_the_recorded_one(
    alias: str, golden_trajectory: Callable[..., None]
) -> None:
    golden_trajectory(aliases()[alias])


def test_no_recording_is_left_over() -> None:
    folder = Path(__file__).with_suffix("")
    assert {path.stem for path in folder.glob("*.json")} == set(aliases())
