"""The calls of docs/migrating.md against what the other frameworks did."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from tools import dialects, sync

ROWS = dialects.rows()
WITH_CALL = [row for row in ROWS if row["call"] is not None]


def identity(row: dict[str, Any]) -> str:
    arguments = ",".join(f"{k}={v}" for k, v in row["arguments"].items())
    return f"{row['package']}-{row['class']}({arguments})"


@pytest.mark.parametrize("row", WITH_CALL, ids=identity)
def test_the_call_does_what_the_package_did(row: dict[str, Any]) -> None:
    actual = dialects.trajectory(row["call"], row["lr"])
    assert_agrees(actual, row)
    assert np.isfinite(actual).all()


def assert_agrees(actual: np.ndarray, row: dict[str, Any]) -> None:
    """The relative tolerance is for the parameter that hardly moves at first."""
    expected = np.array(row["recorded"], float)
    known = ~np.isnan(expected)
    assert known.all(axis=0).any()
    actual, expected, tolerance = actual[known], expected[known], row["tolerance"]
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=tolerance)
    np.testing.assert_allclose(actual, expected, rtol=1000 * tolerance)


def test_the_recorded_gradients_tell_the_forms_apart() -> None:
    """Zeros, also at first; spikes; and 1e-12."""
    gradients = np.array(dialects.data()["gradients"])
    assert gradients.shape == (50, 4)
    assert (gradients[:3] == 0.0).all(axis=0).any()
    assert np.abs(gradients).max() == 1000.0
    assert gradients[0].min() <= 1e-12 in gradients[0]
    assert dialects.data()["steps"][-1] == 50


@pytest.mark.parametrize(
    "row", [row for row in WITH_CALL if "guess" in row], ids=identity
)
def test_the_guess_is_not_the_call(row: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        assert_agrees(dialects.trajectory(row["guess"], row["lr"]), row)


def test_rows_are_unique_and_explained() -> None:
    assert len(set(map(identity, ROWS))) == len(ROWS)
    assert all(row.get("note") for row in ROWS if row["call"] is None)
    wide = [p for p in dialects.data()["packages"] if "tolerance" in json.dumps(p)]
    assert all("float32" in package["about"] for package in wide)


def test_the_list_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dialects", "list", "--json"])
    dialects.main()
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(ROWS)
    for row in listed:
        assert {"package", "version", "class", "arguments", "call"} <= row.keys()
        assert isinstance(row["arguments"], dict)
    keras = next(row for row in listed if row["package"] == "keras")
    assert keras["class"] == "Adam"
    assert keras["call"] == (
        "optimizers.adam(lr, eps=optimizers.epsilon_hat(1e-07, b2=0.999))"
    )


def test_the_page_is_fresh() -> None:
    assert sync.MIGRATING.read_text() == sync.migrating(), (
        "The tables of docs/migrating.md are stale; run make sync."
    )
