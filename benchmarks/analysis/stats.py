"""What the runs of one cell (problem × optimizer) say: pure functions of `Results`.

The learning rate is chosen on the tune seeds; everything else is read from the
test seeds at that rate. What a run has cost is counted in gradients, so that an
optimizer that takes two for each step gets half as many steps for the same budget.
A run that misses a target takes `inf` gradients to it, and a run that diverges has an
infinite gap from then on: both stay in every number.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from benchmarks.results.store import Curves, Results

ALPHA = 0.05
# What a missed target costs, in budgets.
MISSED = 2.0


@dataclass(frozen=True)
class Interval:
    """A median with its confidence interval; NaN bounds where seeds are too few."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class CellStats:
    """One optimizer on one problem, at its chosen learning rate.

    Attributes:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      learning_rate: The chosen rate; NaN when every run on a tune seed diverged.
      lane: Index of the chosen rate in the grid; -1 when there is none.
      edge: `"lowest"` or `"highest"` when the chosen rate ends the grid, else `""`.
      seeds: Finished test seeds `[S]`.
      needed: Gradients to each target, easiest first `[S, 5]`; `inf` when missed.
        `[S, 0]` on a problem that is not scored.
      final: Gap to the optimum (or validation loss) after the last step `[S]`;
        `inf` when the run diverged.
      diverged: Whether the run diverged `[S]`.
      budget: Gradients of a full run.
      rates: Number of learning rates in the grid.
      rates_reaching: How many of them reach the middle target in the median run.
      tolerance: Decades from the lowest to the highest rate of the unbroken stretch
        around the chosen one that reaches the middle target; NaN when it does not.
      complete: Whether all tune and test seeds are finished.
    """

    problem: str
    optimizer: str
    learning_rate: float
    lane: int
    edge: str
    seeds: np.ndarray
    needed: np.ndarray
    final: np.ndarray
    diverged: np.ndarray
    budget: int
    rates: int
    rates_reaching: int
    tolerance: float
    complete: bool

    @property
    def middle(self) -> np.ndarray:
        """Gradients to the middle target `[S]`."""
        return self.needed[:, self.needed.shape[1] // 2]


def gap(curves: Curves, entry: dict) -> np.ndarray:
    """What targets are compared with `[S, L, E]`: loss - f*, or the loss itself.

    `inf` from the step at which a run diverged, but never at the start. `entry` is
    the problem's part of the manifest.
    """
    relative = entry["targets"]["kind"] == "relative"
    offset = entry["f_star"] if relative else 0.0
    at = curves.diverged_at[:, :, None]
    dead = (at >= 0) & (curves.steps >= np.maximum(at, 1))
    return np.where(dead, np.inf, curves.metrics["loss"] - offset)


def target_levels(curves: Curves, entry: dict) -> np.ndarray:
    """Value of each target on the scale of `gap`, per seed `[S, 5]`."""
    values = np.asarray(entry["targets"]["values"], float)
    if entry["targets"]["kind"] != "relative":
        return np.broadcast_to(values, (len(curves.seeds), len(values)))
    start = curves.metrics["loss"][:, 0, 0] - entry["f_star"]
    return start[:, None] * values


def gradients_to_targets(
    gaps: np.ndarray, gradients: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Gradients to each target `[S, L, 5]`; `inf` where no evaluation is at or below.

    Between the first evaluation at or below the target and the one before, the
    logarithm of the gap is taken as linear in the gradients. Counting in whole
    evaluations instead would round by up to a quarter of the number, alike for every
    seed, and pass off the rounding as a difference between optimizers.

    Args:
      gaps: `[S, L, E]`.
      gradients: `[E]`, ascending.
      levels: `[S, 5]`, positive.
    """
    hit = gaps[:, :, None, :] <= levels[:, None, :, None]
    after = hit.argmax(-1)
    before = np.maximum(after - 1, 0)
    # A gap of 0, or rounded below it, has no logarithm.
    logs = np.log(np.maximum(gaps, np.finfo(float).tiny))
    high = np.take_along_axis(logs, before, -1)
    low = np.take_along_axis(logs, after, -1)
    fall = high - low
    drop = high - np.log(np.maximum(levels, np.finfo(float).tiny))[:, None, :]
    share = np.divide(drop, fall, out=np.ones_like(fall), where=fall > 0)
    crossing = gradients[before] + share * (gradients[after] - gradients[before])
    return np.where(hit.any(-1), crossing, np.inf)


def log_cost(needed: np.ndarray, budget: np.ndarray | float) -> np.ndarray:
    """Natural logarithm of gradients to targets, a miss costing `MISSED` budgets."""
    return np.log(np.where(np.isfinite(needed), np.maximum(needed, 1), MISSED * budget))


def choose_rate(
    gaps: np.ndarray, gradients: np.ndarray, levels: np.ndarray, budget: float
) -> int:
    """Index of the best learning rate over the tune seeds; -1 if all diverged.

    Rates ascend along axis 1 of `gaps`. The best has the smallest geometric mean of
    the gradients to all targets, on which optimizers are compared too. Then, and on a
    problem without targets at once, the lowest median of the final gap, then the
    smaller rate.
    """
    if np.isinf(gaps[:, :, -1]).all():
        return -1
    needed = gradients_to_targets(gaps, gradients, levels)
    cost = log_cost(needed, budget).sum((0, 2))
    return int(np.lexsort((np.median(gaps[:, :, -1], 0), cost))[0])


def median_interval(values: np.ndarray) -> Interval:
    """Median with its exact distribution-free 95 % interval.

    The bounds are order statistics: for n values the k-th smallest and k-th largest,
    k the largest number for which a Binomial(n, ½) falls below k with probability at
    most 2.5 %. Nothing is assumed or drawn, the coverage is at least 95 %, and
    infinite values (missed targets) only need an order. Below 6 values no such
    interval exists and the bounds are NaN.
    """
    ordered = np.sort(np.asarray(values, float))
    count = len(ordered)
    k = int((binom.cdf(np.arange(count), count, 0.5) <= ALPHA / 2).sum())
    median = float(np.median(ordered)) if count else math.nan
    if k < 1:
        return Interval(median, math.nan, math.nan)
    return Interval(median, float(ordered[k - 1]), float(ordered[count - k]))


def expected_runtime(needed: np.ndarray, budget: int) -> float:
    """ERT: gradients spent by all runs, a miss costing the budget, ÷ number of hits."""
    hits = np.isfinite(needed)
    if not hits.any():
        return math.inf
    return float(np.where(hits, needed, budget).sum() / hits.sum())


def stretch(flags: np.ndarray, position: int) -> tuple[int, int]:
    """First and last index of the unbroken run of True that holds `position`."""
    first = last = position
    while first > 0 and flags[first - 1]:
        first -= 1
    while last < len(flags) - 1 and flags[last + 1]:
        last += 1
    return first, last


def cell_stats(
    problem: str, optimizer: str, curves: Curves, manifest: dict
) -> CellStats | None:
    """Statistics of one cell; None while no tune or no test seed is finished."""
    entry, settings = manifest["problems"][problem], manifest["settings"]
    tune = np.isin(curves.seeds, settings["tune_seeds"])
    test = np.isin(curves.seeds, settings["test_seeds"])
    if not tune.any() or not test.any():
        return None
    gaps, levels = gap(curves, entry), target_levels(curves, entry)
    # The user may name the rates in any order.
    ascending = np.argsort(curves.learning_rates)
    rates = curves.learning_rates[ascending]
    spent, budget = curves.gradients, int(entry["budget"])
    best = choose_rate(gaps[tune][:, ascending], spent, levels[tune], budget)
    lane = int(ascending[best]) if best >= 0 else -1
    hits = gradients_to_targets(gaps[test], spent, levels[test])
    reaching = np.full(len(rates), False)
    if hits.shape[2]:
        middle = hits[:, :, hits.shape[2] // 2]
        reaching = np.isfinite(np.median(middle, 0))[ascending]
    tolerance, edge = math.nan, ""
    if best >= 0 and reaching[best]:
        first, last = stretch(reaching, best)
        tolerance = float(np.log10(rates[last] / rates[first]))
    if best >= 0 and len(rates) > 1:
        edge = {0: "lowest", len(rates) - 1: "highest"}.get(best, "")
    wanted = len(settings["tune_seeds"]) + len(settings["test_seeds"])
    seeds = curves.seeds[test]
    none = lane < 0
    return CellStats(
        problem=problem,
        optimizer=optimizer,
        learning_rate=math.nan if none else float(rates[best]),
        lane=lane,
        edge=edge,
        seeds=seeds,
        needed=np.full(levels[test].shape, np.inf) if none else hits[:, lane],
        final=np.full(len(seeds), np.inf) if none else gaps[test, lane, -1],
        diverged=np.full(len(seeds), True) if none else np.isinf(gaps[test, lane, -1]),
        budget=budget,
        rates=len(rates),
        rates_reaching=int(reaching.sum()),
        tolerance=tolerance,
        complete=int(tune.sum() + test.sum()) == wanted,
    )


def summarize(results: Results) -> dict[tuple[str, str], CellStats]:
    """Statistics of every cell with at least one finished tune and test seed."""
    found = {
        (problem, optimizer): cell_stats(problem, optimizer, curves, results.manifest)
        for (problem, optimizer), curves in results.curves.items()
    }
    return {key: cell for key, cell in found.items() if cell is not None}
