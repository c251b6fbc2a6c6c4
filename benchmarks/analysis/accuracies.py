"""Problems whose loss says little: accuracy at the end, and the best on the way.

The best on the way is what stopping early would give to somebody who knew when: it is
chosen with the held-out data it is measured on, and so an upper bound.
"""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.comparison import holm, sign_flip, testable
from benchmarks.analysis.stats import CellStats, Interval, median_interval
from benchmarks.results.store import Results


@dataclass(frozen=True)
class Accuracy:
    """One optimizer on one problem at its chosen rate, on the test seeds.

    Attributes:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      metric: Which accuracy: `accuracy`, or that of some classes.
      gradients: Gradients that a step takes.
      rate: The chosen learning rate; NaN if all diverged.
      edge: Whether that rate ends the grid.
      diverged: Number of seeds that diverged; they count with the accuracy that they
        had before.
      final: At the end of the budget.
      best: The highest on the way.
      gain: Median difference at the end to the reference, seed by seed.
      p_value: Holm-adjusted, of having the accuracy of the reference at the end; NaN
        where the seeds are too few to tell, and for the reference.
    """

    problem: str
    optimizer: str
    metric: str
    gradients: float
    rate: float
    edge: bool
    diverged: int
    final: Interval
    best: Interval
    gain: Interval
    p_value: float


def accuracies(
    results: Results, cells: dict[tuple[str, str], CellStats], problem: str
) -> list[list[Accuracy]]:
    """A row for each accuracy of each finished optimizer, best first, by metric.

    The first optimizer of the run is the reference.
    """
    names = [
        name
        for name in results.manifest["optimizers"]
        if (problem, name) in cells and cells[problem, name].lane >= 0
    ]
    if not names:
        return []
    metrics = [
        m for m in results.curves[problem, names[0]].metrics if m.startswith("accuracy")
    ]
    return [_rows(results, cells, problem, names, metric) for metric in metrics]


def _rows(
    results: Results,
    cells: dict[tuple[str, str], CellStats],
    problem: str,
    names: list[str],
    metric: str,
) -> list[Accuracy]:
    paths = {}
    for name in names:
        curves, cell = results.curves[problem, name], cells[problem, name]
        test = np.isin(curves.seeds, cell.seeds)
        paths[name] = curves.metrics[metric][test, cell.lane]
    home = paths[names[0]][:, -1]
    gains = {n: p[:, -1] - home for n, p in paths.items() if len(p) == len(home)}
    others = [name for name in gains if name != names[0]]
    p_values = dict.fromkeys(names, math.nan)
    if testable(len(home), len(others)):
        adjusted = holm(sign_flip(np.stack([gains[n] for n in others])[:, None, :]))
        p_values |= dict(zip(others, map(float, adjusted), strict=True))
    rows = [
        Accuracy(
            problem=problem,
            optimizer=name,
            metric=metric,
            gradients=results.curves[problem, name].per_step,
            rate=cells[problem, name].learning_rate,
            edge=bool(cells[problem, name].edge),
            diverged=int(cells[problem, name].diverged.sum()),
            final=median_interval(path[:, -1]),
            best=median_interval(path.max(axis=1)),
            gain=median_interval(gains.get(name, np.array([]))),
            p_value=p_values[name],
        )
        for name, path in paths.items()
    ]
    return sorted(rows, key=lambda row: -row.final.median)
