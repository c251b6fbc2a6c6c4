"""An argument tuned beside the learning rate: parsed, run, chosen, shown."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.analysis.summary import analyse
from benchmarks.cli.main import main
from benchmarks.engine import compilation_cache
from benchmarks.errors import UserError
from benchmarks.experiment.plan import Plan, Settings
from benchmarks.report import csv_files, reproduce, tables, verdict
from benchmarks.results import manifest as manifests
from benchmarks.results.manifest import Failure
from benchmarks.results.store import Results
from benchmarks.roster import specs
from benchmarks.roster.specs import Sweep
from tests.benchmarks import fakes, toys

SWEEP = Sweep(
    "adam(b1={0.8, 0.9})", "b1", {"0.8": "adam(b1=0.8)", "0.9": "adam(b1=0.9)"}
)
LOW, HIGH = SWEEP.variants.values()
SETTINGS = Settings(fakes.FEW_RATES)
# The speed of each variant on the tuning seeds; on the others it is 1.5 minus that.
SPEEDS = {"steep": (1.0, 0.5), "flat": (0.5, 1.0)}


@pytest.mark.parametrize(
    ("spec", "argument", "variants"),
    [
        ("adam(b1={0.8,0.9})", "b1", ["adam(b1=0.8)", "adam(b1=0.9)"]),
        (
            "sam(adam(b2=0.99), rho={0.1, 1})",
            "rho",
            ["sam(adam(b2=0.99), rho=0.1)", "sam(adam(b2=0.99), rho=1)"],
        ),
        (
            "sam(a:b(x = {'u', None}), rho=1)",
            "x",
            ["sam(a:b(x = 'u'), rho=1)", "sam(a:b(x = None), rho=1)"],
        ),
    ],
)
def test_a_set_of_values_gives_variants(
    spec: str, argument: str, variants: list[str]
) -> None:
    found = specs.sweep(spec)
    assert found is not None
    assert (found.name, found.argument) == (spec, argument)
    assert list(found.variants.values()) == variants


@pytest.mark.parametrize("spec", ["adam", "adam(b1=0.9)", "f:g(x={'a': 1}, y={})"])
def test_other_specs_are_no_sweeps(spec: str) -> None:
    assert specs.sweep(spec) is None


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("adam(b1={0.8, 0.9}, b2={0.9, 0.99})", "b1 and b2 both have a set of values"),
        ("adam(b1={0.9})", "at least two values, all different"),
        ("adam(b1={0.9, 0.90})", "at least two values, all different"),
        ("adam(b1={x, 0.9})", r"cannot read the values b1={x, 0.9}"),
        ("adam(b1={0.8 0.9})", "write plain values with commas between them"),
    ],
)
def test_a_bad_set_is_told_in_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        specs.sweep(spec)


def test_only_runs_take_a_set() -> None:
    with pytest.raises(UserError, match="only `plan` and `run` take a set of values"):
        specs.parse("adam(b1={0.8, 0.9})")


def _results() -> Results:
    """Each value is the faster on one problem on the tuning seeds, by a factor of 2."""
    made = fakes.results(
        tuple(SPEEDS), ("adam", LOW, HIGH), learning_rates=fakes.FEW_RATES
    )
    for problem, speeds in SPEEDS.items():
        budget = made.manifest.problems[problem].budget
        for name, speed in zip((LOW, HIGH), speeds, strict=True):
            tuning, other = (
                fakes.curves(budget, SETTINGS, speed=s) for s in (speed, 1.5 - speed)
            )
            tested = np.isin(tuning.seeds, SETTINGS.test_seeds)
            tuning.metrics["loss"][tested] = other.metrics["loss"][tested]
            made.curves[problem, name] = tuning
    manifest = dataclasses.replace(made.manifest, sweeps=(SWEEP,))
    return dataclasses.replace(made, manifest=manifest)


def test_the_value_is_chosen_on_the_tuning_seeds() -> None:
    results = _results()
    analysis = analyse(results)
    chosen = {"steep": ("0.8", LOW), "flat": ("0.9", HIGH)}
    assert set(analysis.manifest.optimizers) == {"adam", SWEEP.name}
    assert set(analysis.cells) == {(p, o) for p in SPEEDS for o in ("adam", SWEEP.name)}
    for problem, (value, variant) in chosen.items():
        assert analysis.chosen[problem, SWEEP.name] == f"b1={value}"
        curves = results.curves[problem, variant].of(SETTINGS.test_seeds)
        cell = analysis.cells[problem, SWEEP.name]
        loss = curves.metrics["loss"][:, cell.lane, -1]
        np.testing.assert_array_equal(cell.metrics["loss"][:, -1], loss)
    comparison = analysis.comparison
    assert comparison is not None
    assert set(comparison.optimizers) == {"adam", SWEEP.name}


def test_the_choice_is_shown() -> None:
    analysis = analyse(_results())
    rows = dict(tables.gradient_rows(analysis))
    values = [e.learning_rate.partition(", ")[2] for e in rows[SWEEP.name] if e]
    assert values == ["b1=0.8", "b1=0.9"]
    text = " ".join(p.text for p in verdict.verdict(analysis))
    assert (
        "`adam(b1={0.8, 0.9})`: b1 was chosen with the learning rate on the tuning "
        "seeds, from 2 values and so with 2 times as many tuning runs: b1=0.8 on "
        "steep; b1=0.9 on flat."
    ) in text
    lines = csv_files.render_csv(analysis)["cells.csv"].splitlines()
    assert [line.rpartition(",")[2] for line in lines] == [
        *("chosen", "", "", "b1=0.8", "b1=0.9")
    ]
    (command, _) = reproduce.run_commands(analysis.manifest).values()
    assert "-o 'adam(b1={0.8, 0.9})'" in command


def test_a_sweep_waits_for_its_variants_unless_they_failed() -> None:
    results = fakes.without(_results(), ("steep", HIGH))
    assert ("steep", SWEEP.name) not in analyse(results).cells
    failed = (Failure("steep", HIGH, "no", "no"),)
    manifest = dataclasses.replace(results.manifest, failed=failed)
    analysis = analyse(dataclasses.replace(results, manifest=manifest))
    assert analysis.chosen["steep", SWEEP.name] == "b1=0.8"


def test_the_manifest_keeps_sweeps() -> None:
    described = _results().manifest
    assert manifests.from_json(manifests.to_json(described)) == described


def _tuned(*specs_: str) -> Plan:
    """A plan of plain optimizers and sweeps of names such as `x(b={1, 2})`."""
    found = [specs.sweep(spec) for spec in specs_]
    names = [
        name
        for spec, sweep in zip(specs_, found, strict=True)
        for name in (sweep.variants.values() if sweep else [spec])
    ]
    made = toys.plan(
        [toys.plane(4)],
        [toys.optimizer(name, toys.SGD.make) for name in names],
        toys.settings(0.1, seeds=2),
    )
    return dataclasses.replace(made, sweeps=tuple(s for s in found if s))


def test_a_sweep_stays_in_a_folder_that_gets_other_optimizers(tmp_path: Path) -> None:
    toys.run(_tuned("adam", "x(b={1, 2})"), tmp_path)
    toys.run(_tuned("sgd"), tmp_path)
    toys.run(_tuned("y(c={1, 2})"), tmp_path)
    results = toys.run(_tuned("x(b={2,1})"), tmp_path)  # as before, written otherwise
    rows = analyse(results).manifest.optimizers
    assert list(rows) == ["adam", "x(b={2,1})", "sgd", "y(c={1, 2})"]


def test_a_larger_set_takes_the_place_of_a_smaller_one(tmp_path: Path) -> None:
    toys.run(_tuned("adam", "x(b={1, 2})"), tmp_path)
    results = toys.run(_tuned("x(b={1, 2, 3})"), tmp_path)
    assert list(analyse(results).manifest.optimizers) == ["adam", "x(b={1, 2, 3})"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x(b={1, 2})", "x(b={2, 3})"),
        ("x(b={1, 2, 3})", "x(b={2, 3})"),
        ("x(b={1, 2})", "x(b=2)"),
    ],
)
def test_sets_that_share_some_values_cannot_share_a_folder(
    before: str, after: str, tmp_path: Path
) -> None:
    toys.run(_tuned(before), tmp_path)
    stored = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(UserError) as error:
        toys.run(_tuned(after), tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds results of {before!r}, and this command names {after!r}; "
        "both include 'x(b=2)': name one set with all values, on all problems of the "
        "folder, or choose another folder with --out."
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == stored


def test_a_sweep_runs_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda: None)
    settings = ("--learning-rates", "1e-2,1e-1", "--seeds", "1", "--tune-seeds", "1")

    def run(spec: str, *more: str) -> str:
        command = ("run", "-p", "quad_diag", "--only", "-o", spec, *settings, *more)
        result = CliRunner().invoke(main, [*command, "--out", "out"])
        assert result.exit_code in (0, 2), result.output
        return result.stdout + result.stderr

    first = run("optax.sgd(momentum={0.5, 0.9})")
    assert "tuned: optax.sgd(momentum={0.5, 0.9}): momentum is chosen from 2" in first
    assert "2 times as many tuning runs: momentum=0.9 on quad_diag." in " ".join(
        first.split()
    )
    again = run("optax.sgd(momentum={0.5, 0.9})", "--no-report")
    assert "8 of 8 runs are already done" in again
    more = ("-o", "optax.sgd(momentum=0.5)")
    twice = run("optax.sgd(momentum={0.5, 0.9})", *more)
    assert "'optax.sgd(momentum=0.5)' is named twice, once in a set of values" in twice
