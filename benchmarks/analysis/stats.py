"""Statistics of one cell (problem × optimizer): pure functions of its curves.

The learning rate is chosen on the tuning seeds; everything else is computed from the
evaluation seeds at that learning rate. Cost is counted in gradients, so an optimizer
that takes two for each step gets half as many steps for the same budget. A run that
misses a target takes `inf` gradients to it, and a run that diverges has an infinite
gap from then on: both stay in every number.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from benchmarks.experiment.plan import Settings
from benchmarks.experiment.targets import Targets
from benchmarks.results.manifest import ProblemEntry
from benchmarks.results.store import Curves, Results

ALPHA = 0.05
# The cost of a missed target, in budgets.
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
      learning_rate: The chosen one; NaN when every run on a tuning seed diverged.
      lane: Index of the chosen learning rate in the grid; -1 when there is none.
      grid_boundary: `"lowest"` or `"highest"` when the chosen learning rate lies at
        the boundary of the grid, else `""`.
      seeds: Finished evaluation seeds `[S]`.
      needed: Gradients to each target, easiest first `[S, 5]`; `inf` when missed.
        `[S, 0]` on a problem that is not scored.
      middle: Gradients to the middle target `[S]`; `inf` on a problem that is not
        scored.
      middle_interval: Their median.
      ends_below: Whether the run is at or below the middle target after the last step
        `[S]`: a run may reach the target and leave it again.
      expected_runtime: Expected number of gradients to the middle target.
      final: The gap after the last step `[S]`; `inf` when the run diverged.
      final_interval: Their median.
      diverged: Whether the run diverged `[S]`.
      budget: Gradients of a full run.
      gradients_per_step: Gradients that a step takes.
      gradients: Gradients taken up to each evaluation `[E]`.
      gaps: Gap at each evaluation `[S, E]`.
      metrics: By name, the values at each evaluation `[S, E]`; empty when no learning
        rate is chosen.
      learning_rates: The grid, ascending `[L]`.
      final_by_rate: Median final gap at each learning rate of the grid `[L]`.
      reaching: Number of learning rates that reach the middle target in the median
        run.
      tolerance: Decades from the lowest to the highest learning rate of the unbroken
        stretch around the chosen one that reaches the middle target; NaN when the
        chosen one does not.
      complete: Whether all seeds are finished.
      start: Median gap at the start, over all seeds.
      smallest: Smallest gap of any run; smallest positive one on a problem that is
        not scored.
      levels: Median value of each target on the scale of the gap, over all seeds `[5]`.
    """

    problem: str
    optimizer: str
    learning_rate: float
    lane: int
    grid_boundary: str
    seeds: np.ndarray
    needed: np.ndarray
    middle: np.ndarray
    middle_interval: Interval
    ends_below: np.ndarray
    expected_runtime: float
    final: np.ndarray
    final_interval: Interval
    diverged: np.ndarray
    budget: int
    gradients_per_step: float
    gradients: np.ndarray
    gaps: np.ndarray
    metrics: dict[str, np.ndarray]
    learning_rates: np.ndarray
    final_by_rate: np.ndarray
    reaching: int
    tolerance: float
    complete: bool
    start: float
    smallest: float
    levels: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """Whether the run is at or below the middle target at any time `[S]`."""
        return np.isfinite(self.middle)

    @property
    def left(self) -> np.ndarray:
        """Whether it reached the middle target and ends above it `[S]`."""
        return self.reached & ~self.ends_below

    @property
    def may_lead(self) -> bool:
        """Whether all seeds are finished and half end at or below the middle target."""
        return self.complete and 2 * int(self.ends_below.sum()) >= len(self.seeds)


Cells = dict[tuple[str, str], CellStats]
"""Statistics by (problem, optimizer)."""


def baseline(entry: ProblemEntry) -> float:
    """The loss at which the gap is 0: f* with relative targets, otherwise 0."""
    if entry.targets.kind != "relative" or entry.f_star is None:
        return 0.0
    return entry.f_star


def gap(curves: Curves, baseline: float = 0.0) -> np.ndarray:
    """Loss minus a baseline, which targets are compared with `[S, L, E]`.

    `inf` from the step at which a run diverged, but never at the start.
    """
    at = curves.diverged_at[:, :, None]
    dead = (at >= 0) & (curves.eval_steps >= np.maximum(at, 1))
    return np.where(dead, np.inf, curves.metrics["loss"] - baseline)


def target_levels(curves: Curves, targets: Targets, baseline: float) -> np.ndarray:
    """Value of each target on the scale of `gap`, per seed `[S, 5]`."""
    values = np.asarray(targets.values, float)
    if targets.kind != "relative":
        return np.broadcast_to(values, (len(curves.seeds), len(values)))
    start = curves.metrics["loss"][:, 0, 0] - baseline
    return start[:, None] * values


def gradients_to_targets(
    gaps: np.ndarray, gradients: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Gradients to each target `[S, L, 5]`; `inf` where no evaluation is at or below.

    Between the first evaluation at or below the target and the one before, the
    logarithm of the gap is interpolated linearly in the gradients. Whole evaluations
    instead would round by up to a quarter of the number, equally for every seed, and
    the rounding would look like a difference between optimizers.

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
    fraction = np.divide(drop, fall, out=np.ones_like(fall), where=fall > 0)
    crossing = gradients[before] + fraction * (gradients[after] - gradients[before])
    return np.where(hit.any(-1), crossing, np.inf)


def log_cost(needed: np.ndarray, budget: np.ndarray | float) -> np.ndarray:
    """Natural logarithm of gradients to targets, a miss costing `MISSED` budgets."""
    return np.log(np.where(np.isfinite(needed), np.maximum(needed, 1), MISSED * budget))


def tuning_scores(
    gaps: np.ndarray, gradients: np.ndarray, levels: np.ndarray, budget: float
) -> tuple[np.ndarray, np.ndarray]:
    """What a learning rate is chosen by, the first before the second, each `[L]`.

    The summed logarithms of the gradients to all targets, and the median final gap.
    """
    needed = gradients_to_targets(gaps, gradients, levels)
    cost = log_cost(needed, budget).sum((0, 2))
    return cost, np.median(gaps[:, :, -1], 0)


def choose_learning_rate(
    gaps: np.ndarray, gradients: np.ndarray, levels: np.ndarray, budget: float
) -> int:
    """Index of the best learning rate over the tuning seeds; -1 if all diverged.

    Learning rates ascend along axis 1 of `gaps`. The best has the smallest geometric
    mean of the gradients to all targets, the same score that optimizers are compared
    by. Ties, and problems without targets, are decided by the lowest median of the
    final gap, then by the smaller learning rate.
    """
    if np.isinf(gaps[:, :, -1]).all():
        return -1
    cost, final = tuning_scores(gaps, gradients, levels, budget)
    return int(np.lexsort((final, cost))[0])


def median_interval(values: np.ndarray) -> Interval:
    """Median with its exact distribution-free 95 % interval.

    The bounds are order statistics: for n values the k-th smallest and k-th largest,
    k the largest number for which a Binomial(n, ½) falls below k with probability at
    most 2.5 %. The coverage is at least 95 % for any distribution, and infinite values
    (missed targets) are allowed. Below 6 values no such interval exists and the bounds
    are NaN.
    """
    ordered = np.sort(np.asarray(values, float))
    count = len(ordered)
    k = int((binom.cdf(np.arange(count), count, 0.5) <= ALPHA / 2).sum())
    median = float(np.median(ordered)) if count else math.nan
    if k < 1:
        return Interval(median, math.nan, math.nan)
    return Interval(median, float(ordered[k - 1]), float(ordered[count - k]))


def expected_runtime(needed: np.ndarray, budget: int) -> float:
    """ERT: gradients of all runs, a miss counted as the budget, ÷ number of hits."""
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
    problem: str,
    optimizer: str,
    curves: Curves,
    entry: ProblemEntry,
    settings: Settings,
) -> CellStats | None:
    """Statistics of one cell.

    Args:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      curves: The finished runs of the cell.
      entry: The problem.
      settings: Seeds for tuning and evaluation.

    Returns:
      The statistics; None while no tuning or no evaluation seed is finished.
    """
    tune, test = (
        np.isin(curves.seeds, seeds)
        for seeds in (settings.tune_seeds, settings.test_seeds)
    )
    if not tune.any() or not test.any():
        return None
    zero, middle_target = baseline(entry), len(entry.targets.values) // 2
    # The user may list the learning rates in any order.
    ascending = np.argsort(curves.learning_rates)
    learning_rates = curves.learning_rates[ascending]
    gradients = curves.eval_steps * curves.gradients_per_step
    gaps = gap(curves, zero)[:, ascending]
    levels = target_levels(curves, entry.targets, zero)
    scored = levels.shape[1] > 0
    best = choose_learning_rate(gaps[tune], gradients, levels[tune], entry.budget)
    tested, seeds = gaps[test], curves.seeds[test]
    hits = gradients_to_targets(tested, gradients, levels[test])
    reaching = np.full(len(learning_rates), False)
    if scored:
        reaching = np.isfinite(np.median(hits[:, :, middle_target], 0))
    tolerance, boundary = math.nan, ""
    if best >= 0 and reaching[best]:
        first, last = stretch(reaching, best)
        tolerance = float(np.log10(learning_rates[last] / learning_rates[first]))
    if best >= 0 and len(learning_rates) > 1:
        ends = {0: "lowest", len(learning_rates) - 1: "highest"}
        boundary = ends.get(best, "")
    if best >= 0:
        lane, learning_rate = int(ascending[best]), float(learning_rates[best])
        needed, chosen = hits[:, best], tested[:, best]
        metrics = {name: m[test, lane] for name, m in curves.metrics.items()}
    else:
        lane, learning_rate, metrics = -1, math.nan, {}
        needed, chosen = (
            np.full_like(hits[:, 0], np.inf),
            np.full_like(tested[:, 0], np.inf),
        )
    final = chosen[:, -1]
    middle, ends_below = np.full(len(seeds), np.inf), np.full(len(seeds), False)
    if scored:
        middle = needed[:, middle_target]
        ends_below = final <= levels[test][:, middle_target]
    return CellStats(
        problem=problem,
        optimizer=optimizer,
        learning_rate=learning_rate,
        lane=lane,
        grid_boundary=boundary,
        seeds=seeds,
        needed=needed,
        middle=middle,
        middle_interval=median_interval(middle),
        ends_below=ends_below,
        expected_runtime=expected_runtime(middle, entry.budget),
        final=final,
        final_interval=median_interval(final),
        diverged=np.isinf(final),
        budget=entry.budget,
        gradients_per_step=curves.gradients_per_step,
        gradients=gradients,
        gaps=chosen,
        metrics=metrics,
        learning_rates=learning_rates,
        final_by_rate=np.median(tested[:, :, -1], 0),
        reaching=int(reaching.sum()),
        tolerance=tolerance,
        complete=int(tune.sum() + test.sum()) == len(settings.seeds),
        start=float(np.median(gaps[:, 0, 0])),
        smallest=float(gaps.min(initial=np.inf, where=scored | (gaps > 0))),
        levels=np.median(levels, 0),
    )


def summarize(results: Results) -> Cells:
    """Statistics of every cell with a finished tuning seed and evaluation seed."""
    manifest = results.manifest
    found = {
        (problem, optimizer): cell_stats(
            problem, optimizer, curves, manifest.problems[problem], manifest.settings
        )
        for (problem, optimizer), curves in results.curves.items()
    }
    return {pair: cell for pair, cell in found.items() if cell is not None}
