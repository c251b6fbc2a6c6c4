"""Compares two runs, or two optimizers of one run, paired by seed.

The statistics are those of `comparison`; the first run takes the place of the
reference.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.comparison import (
    MIN_PROBLEMS,
    MIN_SEEDS,
    bootstrap,
    holm,
    log_speedups,
    sign_flip,
    testable,
)
from benchmarks.analysis.stats import (
    Cells,
    CellStats,
    Interval,
    median_interval,
    summarize,
)
from benchmarks.results.manifest import ProblemEntry
from benchmarks.results.store import Results


@dataclass(frozen=True)
class SpeedUp:
    """The second optimizer against the first, on the evaluation seeds of both.

    Attributes:
      first: Name of the optimizer in the first run.
      second: Name of the optimizer in the second run.
      problems: The problems.
      seeds: Number of seeds.
      ratio: Geometric mean, over targets, problems and seeds, of the first's gradients
        ÷ the second's, with its 95 % bounds for these problems; NaN below `MIN_SEEDS`
        seeds.
      wide: The bounds with the problems resampled too `[2]`; NaN below
        `MIN_PROBLEMS` problems.
      p_value: Of equal gradients, Holm-adjusted over all pairs; NaN below `MIN_SEEDS`
        seeds.
      identical: Whether every number of gradients is the same.
    """

    first: str
    second: str
    problems: tuple[str, ...]
    seeds: int
    ratio: Interval
    wide: np.ndarray
    p_value: float
    identical: bool


@dataclass(frozen=True)
class Gain:
    """The difference of the final accuracy on a problem without targets.

    Attributes:
      first: Name of the optimizer in the first run.
      second: Name of the optimizer in the second run.
      problem: Name of the problem.
      metric: Which accuracy.
      seeds: Number of seeds.
      gain: Median of the second's accuracy minus the first's.
      p_value: Of equal accuracy, Holm-adjusted over all pairs; NaN where the seeds are
        too few for a test.
    """

    first: str
    second: str
    problem: str
    metric: str
    seeds: int
    gain: Interval
    p_value: float


@dataclass(frozen=True)
class TwoRuns:
    """The comparison of two runs.

    Attributes:
      overall: For each pair of optimizers, their speed-up over all its problems.
      by_problem: For each pair, its speed-up on each problem; p-values are adjusted
        over these problems.
      gains: For each problem without targets and each of its accuracies, all pairs.
      left_out: What is not compared, and why, in words.
    """

    overall: list[SpeedUp]
    by_problem: list[list[SpeedUp]]
    gains: list[Gain]
    left_out: list[str]


def compare_runs(
    first: Results, second: Results, pairs: Sequence[tuple[str, str]]
) -> TwoRuns:
    """Compares the first optimizer of each pair in one run with the second in another.

    Only problems with the same data, budget and targets are compared, on the evaluation
    seeds that both have finished on all of them.
    """
    cells = summarize(first), summarize(second)
    names, left_out = _same_problems(first.manifest.problems, second.manifest.problems)
    scored, others = [], []
    for name in names:
        has_targets = bool(first.manifest.problems[name].targets.values)
        (scored if has_targets else others).append(name)
    compared, matched = [], []
    for pair in pairs:
        found = {name: _match(cells, name, pair) for name in names}
        left_out += [
            f"{name} is not finished with {' and '.join(dict.fromkeys(pair))}"
            for name, both in found.items()
            if both is None
        ]
        ready = {n: both for n in scored if (both := found[n]) is not None}
        matched.append({n: both for n in others if (both := found[n]) is not None})
        if ready:
            compared.append((pair, ready))
    return TwoRuns(
        overall=_speed_ups(compared),
        by_problem=[
            _speed_ups([(pair, {name: both}) for name, both in ready.items()])
            for pair, ready in compared
        ],
        gains=[gain for name in others for gain in _gains(name, pairs, matched)],
        left_out=left_out,
    )


def _same_problems(
    ours: dict[str, ProblemEntry], theirs: dict[str, ProblemEntry]
) -> tuple[list[str], list[str]]:
    """The problems that are the same in both runs, and why others are not."""
    same, left_out = [], []
    for name in ours | theirs:
        if name not in ours or name not in theirs:
            left_out.append(f"{name} is in one run only")
        elif any(
            getattr(ours[name], field) != getattr(theirs[name], field)
            for field in ("budget", "targets", "data_hash", "f_star")
        ):
            left_out.append(f"{name} has other data, another budget or other targets")
        else:
            same.append(name)
    return same, left_out


_Both = tuple[CellStats, CellStats]


def _match(
    cells: tuple[Cells, Cells], problem: str, pair: tuple[str, str]
) -> _Both | None:
    """The cells of a pair, if they have evaluation seeds in common."""
    first, second = (c.get((problem, n)) for c, n in zip(cells, pair, strict=True))
    if first is None or second is None or not np.isin(first.seeds, second.seeds).any():
        return None
    return first, second


def _common(cells: Sequence[CellStats]) -> np.ndarray:
    """The seeds that all cells have, ascending."""
    seeds = cells[0].seeds
    for cell in cells[1:]:
        seeds = np.intersect1d(seeds, cell.seeds)
    return np.sort(seeds)


def _of(cell: CellStats, seeds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values of these seeds, in their order."""
    rows = [cell.seeds.tolist().index(seed) for seed in seeds]
    return values[rows]


def _speed_ups(
    compared: Sequence[tuple[tuple[str, str], dict[str, _Both]]],
) -> list[SpeedUp]:
    """The speed-ups of pairs, each over its problems."""
    found, p_values = [], []
    for (first, second), problems in compared:
        every = [cell for both in problems.values() for cell in both]
        seeds = _common(every)
        needed = np.array(
            [
                [_of(both[i], seeds, both[i].needed) for both in problems.values()]
                for i in (0, 1)
            ]
        )
        budgets = np.array([both[0].budget for both in problems.values()], float)
        scores = log_speedups(needed, 0, budgets)[1:]
        low = high = math.nan
        wide, p_value = np.full(2, np.nan), math.nan
        if len(seeds) >= MIN_SEEDS:
            low, high = np.exp(bootstrap(scores, resample_problems=False)[0])
            (p_value,) = sign_flip(scores)
            if len(problems) >= MIN_PROBLEMS:
                wide = np.exp(bootstrap(scores, resample_problems=True)[0])
        p_values.append(p_value)
        found.append(
            SpeedUp(
                first=first,
                second=second,
                problems=tuple(problems),
                seeds=len(seeds),
                ratio=Interval(float(np.exp(scores.mean())), float(low), float(high)),
                wide=wide,
                p_value=math.nan,
                identical=bool(np.array_equal(needed[0], needed[1])),
            )
        )
    return [
        dataclasses.replace(one, p_value=p)
        for one, p in zip(found, _adjusted(p_values), strict=True)
    ]


def _gains(
    problem: str,
    pairs: Sequence[tuple[str, str]],
    matched: Sequence[dict[str, _Both]],
) -> list[Gain]:
    """The differences of final accuracy on a problem without targets."""
    ready = [
        (pair, both[problem])
        for pair, both in zip(pairs, matched, strict=True)
        if problem in both
    ]
    metrics = {m: None for _, both in ready for m in both[0].metrics}
    found = []
    for metric in metrics:
        if not metric.startswith("accuracy"):
            continue
        rows, p_values = [], []
        for pair, cells in ready:
            if not all(metric in cell.metrics for cell in cells):
                continue  # every run on a tuning seed diverged
            seeds = _common(cells)
            old, new = (_of(c, seeds, c.metrics[metric][:, -1]) for c in cells)
            gain = new - old
            tested = testable(len(seeds), len(ready))
            p_value = sign_flip(gain[None, None])[0] if tested else math.nan
            p_values.append(p_value)
            rows.append(
                Gain(
                    *pair, problem, metric, len(seeds), median_interval(gain), math.nan
                )
            )
        found += [
            dataclasses.replace(row, p_value=p)
            for row, p in zip(rows, _adjusted(p_values), strict=True)
        ]
    return found


def _adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted; NaN where there is no test."""
    values = np.array(p_values, float)
    tested = np.isfinite(values)
    values[tested] = holm(values[tested])
    return values.tolist()
