"""The recorded trajectories of all public methods: they notice that numbers changed.

Whether the numbers are right is for the tests against references to say. To record
anew: `pytest tests/golden --update-golden`; then read the diff, and tell users in
CHANGELOG.md what moved and why.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax
import pytest

import optimizers

# What an argument without a default gets; rates and optimizers come by themselves.
ARGUMENTS: dict[str, Any] = {
    "aux_weight": 0.1,
    "clipping": 0.1,
    "labels": "hidden",
    "max_norm": 1.0,
    "width_ratio": 4.0,
}


def methods() -> dict[str, Callable[..., Any]]:
    """The public factories of transformations; primitives are parts of them."""
    functions = {
        name: getattr(optimizers, name)
        for name in optimizers.__all__
        if inspect.isfunction(getattr(optimizers, name))
    }
    return {
        name: function
        for name, function in functions.items()
        if not name.startswith("scale_by_")
        and inspect.signature(function).return_annotation
        is optax.GradientTransformationExtraArgs
    }


@pytest.mark.parametrize("name", methods())
def test_trajectory_is_the_recorded_one(
    name: str, golden_trajectory: Callable[..., None]
) -> None:
    method = methods()[name]
    required = {
        parameter.name: ARGUMENTS[parameter.name]
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty
        and parameter.name not in ("learning_rate", "optimizer")
    }
    golden_trajectory(method, name=name, **required)


def test_no_recording_is_left_over() -> None:
    folder = Path(__file__).with_suffix("")
    assert {path.stem for path in folder.glob("*.json")} == set(methods())
