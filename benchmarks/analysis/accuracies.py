"""Problems compared by accuracy: at the end, and the best during training.

The best during training is oracle early stopping: the step is chosen on the evaluation
data, so it is an upper bound on what early stopping can reach.
"""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.comparison import holm, sign_flip, testable
from benchmarks.analysis.stats import Cells, CellStats, Interval, median_interval


@dataclass(frozen=True)
class Accuracy:
    """One optimizer on one problem, at its chosen learning rate, on evaluation seeds.

    Attributes:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      metric: Which accuracy: `accuracy`, or that of some classes.
      gradients_per_step: Gradients that a step takes.
      learning_rate: The chosen learning rate; NaN if all diverged.
      at_boundary: Whether it lies at the boundary of the grid.
      diverged: Number of seeds that diverged; they count with the accuracy that they
        had before.
      final: Accuracy at the end of the budget.
      best: The highest during training.
      gain: Median of the paired differences of final accuracy to the reference.
      p_value: Holm-adjusted p-value of equal final accuracy with the reference; NaN
        for the reference, and where the seeds are too few for a test.
    """

    problem: str
    optimizer: str
    metric: str
    gradients_per_step: float
    learning_rate: float
    at_boundary: bool
    diverged: int
    final: Interval
    best: Interval
    gain: Interval
    p_value: float


def accuracies(cells: Cells, problem: str) -> list[list[Accuracy]]:
    """One table per accuracy metric, a row per finished optimizer, best first.

    The first optimizer of the run is the reference.
    """
    found = [c for c in cells.values() if c.problem == problem and c.lane >= 0]
    metrics = [m for m in found[0].metrics if m.startswith("accuracy")] if found else []
    return [_rows(found, metric) for metric in metrics]


def _rows(cells: list[CellStats], metric: str) -> list[Accuracy]:
    paths = {cell.optimizer: cell.metrics[metric] for cell in cells}
    names = list(paths)
    home = paths[names[0]][:, -1]
    gains = {n: p[:, -1] - home for n, p in paths.items() if len(p) == len(home)}
    others = [name for name in gains if name != names[0]]
    p_values = dict.fromkeys(names, math.nan)
    if testable(len(home), len(others)):
        adjusted = holm(sign_flip(np.stack([gains[n] for n in others])[:, None, :]))
        p_values |= dict(zip(others, map(float, adjusted), strict=True))
    rows = [
        Accuracy(
            problem=cell.problem,
            optimizer=cell.optimizer,
            metric=metric,
            gradients_per_step=cell.gradients_per_step,
            learning_rate=cell.learning_rate,
            at_boundary=bool(cell.grid_boundary),
            diverged=int(cell.diverged.sum()),
            final=median_interval(cell.metrics[metric][:, -1]),
            best=median_interval(cell.metrics[metric].max(axis=1)),
            gain=median_interval(gains.get(cell.optimizer, np.array([]))),
            p_value=p_values[cell.optimizer],
        )
        for cell in cells
    ]
    return sorted(rows, key=lambda row: -row.final.median)
