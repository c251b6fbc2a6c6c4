"""Targets come from a reference that reaches them; controls do not."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.experiment import targets
from benchmarks.experiment.plan import Settings
from benchmarks.experiment.targets import Targets, targets_of
from benchmarks.measure import calibrate
from benchmarks.problem import Problem
from benchmarks.problems import load_problem

SETTINGS = Settings(
    learning_rates=(1e-3, 1e-2, 1e-4),
    tune_seeds=(0, 1),
    test_seeds=(200, 201, 202, 203),
)


def bowl(**changes: Any) -> Problem:
    """|x - c|² / 2 from a start of the seed, its minimum kept secret."""
    given = {
        "name": "bowl",
        "summary": "",
        "formula": "",
        "source": "",
        "tags": frozenset(),
        "budget": 200,
        "init": lambda key: 3.0 + jax.random.normal(key, (4,)),
        "loss": lambda x, center: 0.5 * jnp.sum((x - center) ** 2),
        "data": np.full(4, 0.25, np.float32),
        "evaluate": lambda x, center: {"loss": 0.5 * jnp.sum((x - center) ** 2)},
    }
    return Problem(**(given | changes))


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    return calibrate.calibrate(bowl(), settings=SETTINGS)


def test_known_minimum_gives_five_relative_targets() -> None:
    found = targets_of(bowl(f_star=0.0))
    assert found == Targets("relative", (1e-1, 1e-2, 1e-3, 1e-4, 1e-5))


def test_every_problem_of_the_suite_has_targets() -> None:
    names = calibrate.uncalibrated()
    assert "mlp32_digits" in names
    for name in names:
        found = targets_of(load_problem(name))
        assert found.kind == "absolute"
        assert len(found.values) == 5
        assert (np.diff(found.values) < 0).all()


def test_targets_are_the_reference_at_fractions_of_the_budget(entry: dict) -> None:
    assert entry["learning_rate"] == 1e-2  # the others are too slow
    starts = [
        np.asarray(bowl().init(jax.random.fold_in(jax.random.key(s), 0)))
        for s in SETTINGS.test_seeds
    ]
    at = {round(share * 200) for share in calibrate.FRACTIONS}
    losses = np.array([adam_losses(start, 1e-2, 200) for start in starts])
    expected = np.sort(losses, axis=0)[2, sorted(at)]  # the upper one of four seeds
    np.testing.assert_allclose(entry["values"], expected, rtol=2e-3)
    assert (np.asarray(entry["values"]) >= expected * (1 - 1e-5)).all()


def adam_losses(x: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """Adam's loss on the bowl before each step and after the last, in float64."""
    x, mu, nu = x.astype(np.float64), np.zeros(4), np.zeros(4)
    losses = [0.5 * np.sum((x - 0.25) ** 2)]
    for t in range(1, steps + 1):
        grad = x - 0.25
        mu = 0.9 * mu + 0.1 * grad
        nu = 0.999 * nu + 0.001 * grad**2
        x = x - rate * (mu / (1 - 0.9**t)) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)
        losses.append(0.5 * np.sum((x - 0.25) ** 2))
    return np.array(losses)


def test_entry_records_how_it_was_made(entry: dict) -> None:
    assert entry["optimizer"] == "optax.adam"
    assert entry["seeds"] == [200, 201, 202, 203]
    assert entry["budget"] == 200
    assert "jax" in entry["versions"]
    assert json.loads(json.dumps(entry)) == entry


def test_known_minimum_is_not_calibrated() -> None:
    with pytest.raises(UserError, match="'bowl' needs no calibration"):
        calibrate.calibrate(bowl(f_star=0.0), settings=SETTINGS)


def test_reference_that_does_not_improve_gives_no_targets() -> None:
    flat = bowl(evaluate=lambda x, center: {"loss": jnp.float32(1.0)})
    with pytest.raises(UserError, match=r"at no learning rate .* still improve"):
        calibrate.calibrate(flat, settings=SETTINGS)


def test_target_that_doing_nothing_reaches_is_refused() -> None:
    # Starts differ by far more than the reference moves: half of them begin below.
    wide = bowl(init=lambda key: 1e3 * jax.random.normal(key, (4,)))
    with pytest.raises(UserError, match="control 'null' reaches the easiest target"):
        calibrate.calibrate(wide, settings=SETTINGS)


def test_rounding_goes_up_and_keeps_four_digits() -> None:
    assert calibrate._rounded_up(0.123401) == 0.1235
    assert calibrate._rounded_up(0.1234) == 0.1234
    assert calibrate._rounded_up(123456.0) == 123500.0
    assert calibrate._rounded_up(-0.123456) == -0.1234
    assert calibrate._rounded_up(0.0) == 0.0


def test_file_round_trip_and_what_is_missing(tmp_path: Path, entry: dict) -> None:
    path = tmp_path / "targets.json"
    assert targets.read(path) == {}
    with pytest.raises(UserError, match=r"no targets yet; make .* calibrate bowl"):
        targets_of(bowl(), path)
    targets.write({"bowl": entry}, path)
    assert targets_of(bowl(), path) == Targets("absolute", tuple(entry["values"]))
    assert [file.name for file in tmp_path.iterdir()] == ["targets.json"]


def test_targets_of_other_data_are_refused(tmp_path: Path, entry: dict) -> None:
    path = tmp_path / "targets.json"
    targets.write({"bowl": entry}, path)
    other = dataclasses.replace(bowl(), data=np.full(4, 0.5, np.float32))
    with pytest.raises(UserError, match="belong to other data; make"):
        targets_of(other, path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bowl": {}}', '{"bowl": 3}'])
def test_damaged_file_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "targets.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"targets\.json is damaged"):
        targets_of(bowl(), path)
