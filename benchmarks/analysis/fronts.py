"""Two objectives: Pareto fronts of methods over all weights and learning rates.

At equal weight two methods solve different problems, so methods are compared by their
Pareto fronts. The points of a method are the ends of its runs, one for each weight and
learning rate. Its front are the points that are not dominated, by the median of the
tuning seeds. The front is measured on the evaluation seeds:

- the hypervolume, the area between the front and a reference point, as a fraction of
  the closed-form front's where that is known, else of the best front's median;
- the main loss at a given auxiliary loss, interpolated linearly between neighbours on
  the front: with convex losses an upper bound.
"""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.comparison import holm, sign_flip, testable
from benchmarks.analysis.stats import Interval, gap, median_interval
from benchmarks.results.manifest import FrontEntry
from benchmarks.results.store import Curves, Results
from benchmarks.roster import specs


@dataclass(frozen=True)
class Point:
    """One point of a method's Pareto front, on the evaluation seeds.

    Attributes:
      weight: The auxiliary weight; NaN for a method without one.
      learning_rate: The learning rate.
      main: Main loss at the end.
      aux: Auxiliary loss at the end.
    """

    weight: float
    learning_rate: float
    main: Interval
    aux: Interval


@dataclass(frozen=True)
class ParetoFront:
    """The Pareto front of one method on one problem.

    Attributes:
      problem: Name of the problem.
      method: Its spec without the weight.
      gradients_per_step: Gradients that a step takes.
      points: The points, main loss ascending.
      hypervolume: As a fraction, on each evaluation seed `[S]`.
      hypervolume_interval: Its median.
      main_at_level: Main loss at the problem's level of the auxiliary loss on each
        evaluation seed `[S]`; infinite where no point reaches that level.
      main_interval: Its median.
      p_value: Holm-adjusted p-value of equal hypervolume with the largest; 1 for the
        largest, NaN where the seeds are too few for a test.
    """

    problem: str
    method: str
    gradients_per_step: float
    points: tuple[Point, ...]
    hypervolume: np.ndarray
    hypervolume_interval: Interval
    main_at_level: np.ndarray
    main_interval: Interval
    p_value: float


def method_and_weight(optimizer: str) -> tuple[str, float]:
    """A spec without its `aux_weight`, and that weight; NaN where there is none."""
    target, base, arguments = specs.parse(optimizer)
    if "aux_weight" not in arguments:
        return optimizer, math.nan
    weight = float(arguments.pop("aux_weight"))
    rest = [] if base is None else [base]
    rest += [f"{k}={v!r}" for k, v in arguments.items()]
    return f"{target}({', '.join(rest)})", weight


def undominated(points: np.ndarray) -> np.ndarray:
    """Indices of the points `[n, 2]` that are not dominated, first column ascending.

    Of equal points only the first counts, and points that are not finite never count.
    """
    order = np.lexsort((points[:, 1], points[:, 0]))
    kept, lowest = [], math.inf
    for i in order:
        if np.isfinite(points[i]).all() and points[i, 1] < lowest:
            kept.append(i)
            lowest = points[i, 1]
    return np.array(kept, int)


def hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    """Area between the front of the points `[n, 2]` and the reference point."""
    front = points[undominated(points)]
    front = front[(front < reference).all(axis=1)]
    ceilings = np.append(reference[1], front[:-1, 1])
    return float(((reference[0] - front[:, 0]) * (ceilings - front[:, 1])).sum())


def main_at(points: np.ndarray, level: float) -> float:
    """Main loss of the front of points `[n, 2]` where the auxiliary loss is `level`.

    Interpolated linearly. The smallest main loss if the whole front lies below the
    level; infinite if it lies above.
    """
    front = points[undominated(points)]
    if not len(front) or front[-1, 1] > level:
        return math.inf
    after = int(np.argmax(front[:, 1] <= level))
    if after == 0:
        return float(front[0, 0])
    (left, high), (right, low) = front[after - 1], front[after]
    fraction = (high - level) / (high - low)
    return float(left + fraction * (right - left))


def pareto_fronts(results: Results, problem: str) -> list[ParetoFront]:
    """The Pareto front of every finished method on a problem, best first."""
    entry = results.manifest.problems[problem].front
    if entry is None:
        return []
    members: dict[str, list[tuple[str, float]]] = {}
    for optimizer in results.manifest.optimizers:
        if (problem, optimizer) in results.curves:
            method, weight = method_and_weight(optimizer)
            members.setdefault(method, []).append((optimizer, weight))
    found = {}
    for method, optimizers in members.items():
        ends = _ends(results, problem, optimizers)
        if ends is not None:
            found[method] = ends
    if not found:
        return []
    areas = {
        method: np.array([hypervolume(seed, entry.reference) for seed in test])
        for method, (_, test) in found.items()
    }
    best = max(areas, key=lambda method: float(np.median(areas[method])))
    scale = (
        float(np.median(areas[best]))
        if entry.points is None
        else hypervolume(np.array(entry.points), entry.reference)
    )
    p_values = _against(areas, best)
    described = []
    for method, (labels, test) in found.items():
        area = areas[method] / scale if scale > 0 else areas[method]
        at_level = np.array([main_at(seed, entry.level) for seed in test])
        first, _ = members[method][0]
        described.append(
            ParetoFront(
                problem=problem,
                method=method,
                gradients_per_step=results.curves[problem, first].gradients_per_step,
                points=tuple(
                    Point(weight, rate, median_interval(main), median_interval(aux))
                    for (weight, rate), (main, aux) in zip(
                        labels, test.transpose(1, 2, 0), strict=True
                    )
                ),
                hypervolume=area,
                hypervolume_interval=median_interval(area),
                main_at_level=at_level,
                main_interval=median_interval(at_level),
                p_value=p_values[method],
            )
        )
    return sorted(described, key=lambda f: -f.hypervolume_interval.median)


def closed_form_at_level(entry: FrontEntry) -> float:
    """Main loss of the closed-form front at the level; NaN where it is unknown."""
    if entry.points is None:
        return math.nan
    return main_at(np.array(entry.points), entry.level)


def _ends(
    results: Results, problem: str, optimizers: list[tuple[str, float]]
) -> tuple[list[tuple[float, float]], np.ndarray] | None:
    """Weights and learning rates of a method's front, and its ends `[S, n, 2]`.

    The ends are those of the evaluation seeds. None while no tuning seed is finished,
    or while an evaluation seed is missing.
    """
    settings = results.manifest.settings
    labels, tuned, tested = [], [], []
    for optimizer, weight in optimizers:
        curves = results.curves[problem, optimizer]
        tune, test = curves.of(settings.tune_seeds), curves.of(settings.test_seeds)
        if not len(tune.seeds) or len(test.seeds) < len(settings.test_seeds):
            return None
        labels += [(weight, float(rate)) for rate in curves.learning_rates]
        tuned.append(np.median(_last_losses(tune), axis=0))
        tested.append(_last_losses(test))
    kept = undominated(np.concatenate(tuned))
    return [labels[i] for i in kept], np.concatenate(tested, axis=1)[:, kept]


def _last_losses(curves: Curves) -> np.ndarray:
    """Main and auxiliary loss at the end `[S, L, 2]`; infinite if it diverged."""
    last = [curves.metrics[name][:, :, -1] for name in ("loss", "aux")]
    diverged = ~np.isfinite(gap(curves)[:, :, -1])
    return np.where(diverged[:, :, None], np.inf, np.stack(last, -1))


def _against(areas: dict[str, np.ndarray], best: str) -> dict[str, float]:
    others = [method for method in areas if method != best]
    adjusted = np.full(len(others), math.nan)
    if testable(len(areas[best]), len(others)):
        differences = np.stack([areas[best] - areas[method] for method in others])
        adjusted = holm(sign_flip(differences[:, None, :]))
    return {best: 1.0, **dict(zip(others, map(float, adjusted), strict=True))}
