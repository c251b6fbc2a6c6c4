"""Pareto fronts and accuracies against numbers worked by hand, and in reports."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.analysis import comparison
from benchmarks.analysis.accuracies import accuracies
from benchmarks.analysis.fronts import (
    hypervolume,
    main_at,
    method_and_weight,
    pareto_fronts,
    undominated,
)
from benchmarks.analysis.stats import median_interval, summarize
from benchmarks.analysis.summary import analyse
from benchmarks.report import formats
from benchmarks.report.verdict import verdict
from benchmarks.report.write import write_report
from benchmarks.results.manifest import FrontEntry, ProblemEntry
from benchmarks.results.store import Curves, Results
from tests.benchmarks import fakes
from tests.benchmarks.test_report import Page, assert_self_contained

UNSCORED: dict[str, Any] = {"targets": fakes.UNSCORED, "f_star": None}
TWO = fakes.entry(
    100,
    **UNSCORED,
    metric="main loss",
    front=FrontEntry((10.0, 10.0), 4.0, ((0.0, 9.0), (9.0, 0.0))),
)
SEEDS = tuple(range(100, 110))


def test_undominated_points_by_hand() -> None:
    points = np.array(
        [[3.0, 1], [1, 3], [2, 2], [2, 2], [3, 2], [math.inf, 0], [0, math.nan]]
    )
    assert undominated(points).tolist() == [1, 2, 0]


def test_hypervolume_by_hand() -> None:
    points = np.array([[1.0, 3], [2, 2], [3, 1], [9, 9], [20, 0]])
    # Three slabs: 9 x 7, 8 x 1, 7 x 1; what is beyond the reference counts nothing.
    assert hypervolume(points, (10, 10)) == 63 + 8 + 7
    assert hypervolume(points[:1], (1, 10)) == 0
    assert hypervolume(np.empty((0, 2)), (1, 1)) == 0


def test_main_loss_at_a_level_by_hand() -> None:
    points = np.array([[1.0, 8], [3, 4], [7, 2], [8, 3]])
    assert main_at(points, 8) == 1
    assert main_at(points, 9) == 1
    assert main_at(points, 5) == 2.5
    assert main_at(points, 3) == 5
    assert main_at(points, 2) == 7
    assert main_at(points, 1) == math.inf
    assert main_at(np.full((1, 2), math.inf), 1) == math.inf


@pytest.mark.parametrize(
    ("spec", "method", "weight"),
    [
        ("bloop(adam, aux_weight=0.1)", "bloop(adam)", 0.1),
        ("m:f(m:g(b1=0.5), aux_weight=3, k='x')", "m:f(m:g(b1=0.5), k='x')", 3.0),
        ("mgda(adam)", "mgda(adam)", math.nan),
    ],
)
def test_a_method_is_a_spec_without_its_weight(
    spec: str, method: str, weight: float
) -> None:
    found = method_and_weight(spec)
    assert found[0] == method
    np.testing.assert_equal(found[1], weight)


def test_too_few_seeds_are_not_testable() -> None:
    assert comparison.testable(10, 7)
    assert not comparison.testable(8, 7)
    assert comparison.testable(8, 6)
    assert not comparison.testable(10, 0)


def ending(ends: dict[str, list[tuple[float, float]]], entry: ProblemEntry) -> Results:
    """A run in which each lane ends at the given point, later seeds a bit higher.

    A point is (main, aux) or, without a front, (accuracy at best, at the end).
    """
    settings = fakes.Settings(learning_rates=(0.1, 1.0), test_seeds=SEEDS)
    seeds = np.array(settings.seeds)
    made = {}
    for name, points in ends.items():
        first, second = np.array(points, float).T
        shift = 1 + 1e-3 * (seeds - 100)[:, None, None]
        path = np.ones((len(seeds), 2, 3))
        if entry.front:
            metrics = {"loss": path * first[:, None], "aux": path * second[:, None]}
        else:
            accuracy = path * 0.1
            accuracy[:, :, 1], accuracy[:, :, 2] = first, second
            metrics = {"loss": 1 - accuracy, "accuracy": accuracy}
        made["p", name] = Curves(
            seeds,
            np.array([0.1, 1.0]),
            np.array([0, 25, 50]),
            {m: values * shift for m, values in metrics.items()},
            np.full((len(seeds), 2), -1),
            2.0,
        )
    manifest = fakes.manifest({"p": entry}, tuple(ends), settings)
    return Results(manifest, made, {pair: fakes.cost(1) for pair in made})


GOOD = {f"good(adam, aux_weight={w})": [(w, 5 - w), (w, 9.0)] for w in (1, 2, 3)}
BAD = {f"bad(adam, aux_weight={w})": [(w, 8 - w), (9.0, 9.0)] for w in (1, 2, 3)}


def test_fronts_by_hand() -> None:
    results = ending({**BAD, **GOOD}, TWO)
    results.curves["p", "good(adam, aux_weight=2)"].diverged_at[:] = 7
    good, bad = pareto_fronts(results, "p")
    assert (good.method, bad.method) == ("good(adam)", "bad(adam)")
    assert [(p.weight, p.learning_rate) for p in good.points] == [(1, 0.1), (3, 0.1)]
    assert good.gradients_per_step == 2
    # On seed 100: (1, 4) and (3, 2) against (10, 10); the closed form has 10 + 9.
    assert good.hypervolume[0] == pytest.approx((9 * 6 + 7 * 2) / 19)
    # Linear from (1, 4) to (3, 2), and below the level from the start.
    assert good.main_at_level[0] == pytest.approx(1)
    assert bad.main_at_level[0] == math.inf
    # Ten seeds, all on one side: 2 of the 1024 signs.
    assert bad.p_value == pytest.approx(2 / 1024)


def test_points_of_a_front_are_chosen_on_the_tuning_seeds() -> None:
    results = ending(GOOD, TWO)
    curves = results.curves["p", "good(adam, aux_weight=1)"]
    curves.metrics["loss"][:3, 0] = 9.9
    (found,) = pareto_fronts(results, "p")
    assert [(p.weight, p.learning_rate) for p in found.points] == [
        (1, 1.0),
        (2, 0.1),
        (3, 0.1),
    ]


ACCURATE = fakes.entry(100, **UNSCORED, metric="clean test error", front=None)


def test_accuracies_by_hand() -> None:
    results = ending(
        {"sgd": [(0.9, 0.5), (0.8, 0.6)], "sam(sgd)": [(0.8, 0.75), (0.7, 0.7)]},
        ACCURATE,
    )
    ((best, home),) = accuracies(summarize(results), "p")
    assert (best.optimizer, best.learning_rate, home.learning_rate) == (
        "sam(sgd)",
        0.1,
        1.0,
    )
    shift = 1 + 1e-3 * 4.5
    assert best.final.median == pytest.approx(0.75 * shift)
    assert home.best.median == pytest.approx(0.8 * shift)
    assert best.gain.median == pytest.approx(0.15 * shift)
    assert best.p_value == pytest.approx(2 / 1024)
    assert math.isnan(home.p_value)
    paragraphs = {p.heading: p.text for p in verdict(analyse(results))}
    assert "that has the lowest final error" in paragraphs["What was run"]
    text = " ".join(paragraphs.values())
    assert "`sgd` ends at 60.3 %" in text
    assert (
        "Significantly higher at the end: `sam(sgd)` by +15.1 (+15.0 to +15.1) "
        "percentage points."
    ) in text
    assert "middle target" not in text


@pytest.mark.parametrize("kind", ["front", "accuracy"])
def test_reports_show_fronts_and_accuracies(kind: str, tmp_path: Path) -> None:
    ends: dict[str, Any] = {"sgd": [(0.9, 0.5), (0.8, 0.6)], "s": [(0.8, 0.7)] * 2}
    if kind == "front":
        results = ending({**GOOD, **BAD, "adam": [(8.0, 8.0)] * 2}, TWO)
    else:
        results = ending(ends, ACCURATE)
    text = write_report(analyse(results), tmp_path).read_text("utf-8")
    page = Page(text)
    assert_self_contained(text, page)
    sections = {a.get("id") for tag, a in page.tags if tag == "h2"}
    assert ("fronts" in sections) == (kind == "front")
    assert ("accuracy" in sections) == (kind == "accuracy")
    assert not sections & {"table", "speedup", "ecdf"}
    name = "fronts" if kind == "front" else "accuracies"
    files = {path.name for path in (tmp_path / "summary").iterdir()}
    assert files == {f"{name}.csv"}
    markdown = (tmp_path / "report.md").read_text("utf-8")
    words = {"front": "with equal numbers of", "accuracy": "have the same number of"}
    assert f"{words[kind]} gradients" in " ".join(markdown.split())
    if kind == "front":
        assert (tmp_path / "figures" / "front-p.svg").exists()
        (found, *_) = pareto_fronts(results, "p")
        assert f"| {formats.percent(median_interval(found.hypervolume))} |" in markdown
        with (tmp_path / "summary/fronts.csv").open(encoding="utf-8") as file:
            exported = {row["method"]: row for row in csv.DictReader(file)}
        for front in pareto_fronts(results, "p"):
            row = exported[front.method]
            assert float(row["hypervolume_p_value"]) == front.p_value
            assert float(row["hypervolume_low"]) == front.hypervolume_interval.low
            line = next(x for x in markdown.splitlines() if f"| `{front.method}`" in x)
            assert f"| {formats.p_value(front.p_value)} |" in line
    else:
        assert (tmp_path / "figures" / "convergence-p.svg").exists()
        assert "clean test error" in text
