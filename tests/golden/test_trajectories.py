"""The recorded trajectories of all public methods: they notice that numbers changed.

Whether the numbers are right is for the tests against references to say. To record one
file: `pytest tests/golden --update-golden -k NAME`; to record all, leave `-k` out; then
read the diff, and tell users in CHANGELOG.md what moved and why.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind


def methods() -> dict[str, Callable[..., Any]]:
    """The public factories of transformations; primitives are parts of them."""
    return catalog.functions(
        optimizers, Kind.OPTIMIZER, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION
    )


@pytest.mark.parametrize("name", methods())
def test_trajectory_is_the_recorded_one(
    name: str, golden_trajectory: Callable[..., None]
) -> None:
    method = methods()[name]
    golden_trajectory(method, name=name, **catalog.required_arguments(method))


def test_no_recording_is_left_over() -> None:
    folder = Path(__file__).with_suffix("")
    assert {path.stem for path in folder.glob("*.json")} == set(methods())
