"""Two runs compared: ratios known beforehand, pairing, and what is left out."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.analysis.summary import analyse
from benchmarks.analysis.two_runs import compare_runs
from benchmarks.cli.main import main
from benchmarks.results import blocks, origins, paths
from benchmarks.results.store import Results
from tests.benchmarks import fakes

PROBLEMS = ("quad_diag", "quad_rot", "rosen10")
SIX = (*PROBLEMS, "rosen2", "logreg_bc", "softmax_digits")
EIGHT = tuple(range(100, 108))


def run(**changes: Any) -> Results:
    given: dict[str, Any] = {
        "problems": PROBLEMS,
        "optimizers": ("optax.adam", "adam"),
        "learning_rates": fakes.FEW_RATES,
        "test_seeds": EIGHT,
    }
    return fakes.results(**given | changes)


def twice_as_expensive(made: Results, name: str) -> Results:
    """Every step of an optimizer takes two gradients, and nothing else changes."""
    curves = {
        (problem, optimizer): dataclasses.replace(
            cell, gradients_per_step=2.0 if optimizer == name else 1.0
        )
        for (problem, optimizer), cell in made.curves.items()
    }
    return dataclasses.replace(made, curves=curves)


def test_twice_the_gradients_is_half_the_speed() -> None:
    made = run(problems=SIX)
    cells = analyse(made).cells
    assert all(np.isfinite(cells[p, "adam"].needed).all() for p in SIX)
    other = twice_as_expensive(made, "adam")
    pairs = [("optax.adam", "optax.adam"), ("adam", "adam")]
    found = compare_runs(made, other, pairs)
    same, half = found.overall
    assert (same.identical, half.identical) == (True, False)
    assert same.ratio.median == 1.0
    assert same.p_value == 1.0
    for number in (half.ratio.median, half.ratio.low, half.ratio.high, *half.wide):
        assert number == pytest.approx(0.5, rel=1e-6)
    assert half.p_value < 0.01
    assert (half.seeds, half.problems) == (8, SIX)
    assert [len(rows) for rows in found.by_problem] == [6, 6]
    for row in found.by_problem[1]:
        assert row.ratio.median == pytest.approx(0.5, rel=1e-6)
        # Of 2⁸ tosses two are as extreme; six problems are tested.
        assert row.p_value == pytest.approx(6 * 2 / 2**8)
    assert found.left_out == []


def test_two_optimizers_of_a_run_give_the_numbers_of_its_report() -> None:
    made = run(problems=SIX)
    comparison = analyse(made).comparison
    assert comparison is not None
    i = comparison.optimizers.index("adam")
    (found,) = compare_runs(made, made, [("optax.adam", "adam")]).overall
    assert found.ratio.median == pytest.approx(comparison.speedup[i])
    bounds = (found.ratio.low, found.ratio.high)
    np.testing.assert_allclose(bounds, comparison.interval[i])
    np.testing.assert_allclose(found.wide, comparison.wide_interval[i])
    assert comparison.p_values is not None
    assert found.p_value == pytest.approx(comparison.p_values[i, 1 - i])
    (back,) = compare_runs(made, made, [("adam", "optax.adam")]).overall
    assert back.ratio.median == pytest.approx(1 / found.ratio.median)


def test_seeds_are_paired_by_number() -> None:
    made = run()
    other = copy.deepcopy(twice_as_expensive(made, "adam"))
    backwards = {
        pair: dataclasses.replace(
            cell,
            seeds=cell.seeds[::-1],
            metrics={name: values[::-1] for name, values in cell.metrics.items()},
            diverged_at=cell.diverged_at[::-1],
        )
        for pair, cell in other.curves.items()
    }
    backwards["rosen10", "adam"] = backwards["rosen10", "adam"].of(
        (0, 1, 2, *EIGHT[2:])
    )
    other = dataclasses.replace(other, curves=backwards)
    (found,) = compare_runs(made, other, [("adam", "adam")]).overall
    assert found.seeds == 6
    assert found.ratio.median == pytest.approx(0.5, rel=1e-6)
    # Too few seeds for an interval or a test.
    assert np.isnan(
        [found.ratio.low, found.ratio.high, found.p_value, *found.wide]
    ).all()


def test_what_cannot_be_compared_is_named() -> None:
    made = run()
    changed = dict(made.manifest.problems)
    changed["quad_rot"] = dataclasses.replace(changed["quad_rot"], data_hash="other")
    changed["wgan"] = changed.pop("rosen10")
    manifest = dataclasses.replace(made.manifest, problems=changed)
    other = dataclasses.replace(
        fakes.without(made, *((p, n) for p, n in made.curves if p == "rosen10")),
        manifest=manifest,
    )
    found = compare_runs(made, other, [("adam", "adam")])
    assert [row.problems for row in found.overall] == [("quad_diag",)]
    assert found.left_out == [
        "quad_rot has other data, another budget or other targets",
        "rosen10 is in one run only",
        "wgan is in one run only",
    ]
    found = compare_runs(
        made, fakes.without(made, ("quad_diag", "adam")), [("adam", "adam")]
    )
    assert [row.problems for row in found.overall] == [PROBLEMS[1:]]
    assert found.left_out == ["quad_diag is not finished with adam"]


def test_accuracies_are_compared_by_their_differences() -> None:
    made = run(problems=("quad_diag",))
    entry = fakes.entry(1000, targets=fakes.UNSCORED)
    manifest = dataclasses.replace(made.manifest, problems={"noisy": entry})

    def accurate(gain: float) -> Results:
        curves = {}
        for (_, name), cell in made.curves.items():
            loss = cell.metrics["loss"]
            metrics = {"loss": loss, "accuracy": gain + 0.5 / (1.0 + loss)}
            curves["noisy", name] = dataclasses.replace(cell, metrics=metrics)
        return Results(manifest, curves, {})

    found = compare_runs(accurate(0.0), accurate(0.01), [("adam", "adam")])
    assert (found.overall, found.by_problem, found.left_out) == ([], [], [])
    (row,) = found.gains
    assert (row.problem, row.metric, row.seeds) == ("noisy", "accuracy", 8)
    np.testing.assert_allclose(dataclasses.astuple(row.gain), 0.01)
    assert row.p_value == pytest.approx(2 / 2**8)


def test_the_command_compares_folders_and_optimizers(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    fakes.write(run(), Path(a))
    fakes.write(run(problems=PROBLEMS[:2]), Path(b))

    def call(*arguments: str) -> tuple[int, str, str]:
        found = CliRunner().invoke(main, ["compare", *arguments])
        return found.exit_code, found.stdout, found.stderr

    code, out, err = call(a, b)
    assert code == 0
    assert out.startswith(f"A: {a}\nB: {b}\n")
    rows = [line.split() for line in out.splitlines()]
    assert ["adam", "all", "2", "8", "identical"] in rows
    assert err == "not compared: rosen10 is in one run only\n"
    code, out, _ = call(a, "-o", "optax.adam", "-o", "adam")
    (found,) = compare_runs(run(), run(), [("optax.adam", "adam")]).overall
    ratio = found.ratio
    interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    assert not math.isnan(ratio.low)
    assert f"{ratio.median:.3f}" in out
    assert interval in out
    assert out.count("optax.adam → adam") == 4  # three problems, and all
    for arguments, sentence in (
        ((a,), "compare needs two folders"),
        ((a, "-o", "adam"), "compare needs two folders"),
        ((a, b, "-o", "adma"), f"{a} has no results of 'adma'. Did you mean 'adam'?"),
        ((a, str(tmp_path / "c")), "c holds no results"),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert sentence in err


def test_what_differs_between_two_folders_is_said(tmp_path: Path) -> None:
    made = run(problems=("quad_diag",))
    fakes.write(made, tmp_path / "a")
    (template,) = list(tmp_path.rglob("seed-100.parquet"))[:1]
    read = blocks.read(template)
    assert read is not None
    old = {"optimizer": "x", "optimizer source": "1" * 64, "jax version": "0.8.0"}
    new = old | {"optimizer source": "2" * 64, "jax version": "0.9.0"}
    for folder, name, ingredients in (("a", "v1", old), ("b", "v1", new)):
        path = paths.block_path(tmp_path / folder, "p", name, 100)
        blocks.write(path, read[0], "key", ingredients)
    both = tmp_path / "a", tmp_path / "b"
    assert origins.differences(*both, [("v1", "v1")], ["p", "q"]) == [
        "optimizer source of v1",
        "jax version: 0.8.0 → 0.9.0",
    ]
    assert origins.differences(both[0], both[0], [("v1", "v1")], ["p"]) == []
