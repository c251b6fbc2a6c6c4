"""Two objectives: what trade-offs a method reaches, over all its weights and rates.

At equal weight two methods solve different problems, so methods are compared by their
fronts. The points of a method are the ends of its runs, one for each weight and
learning rate; those that no other one beats in both losses, by the median of the tune
seeds, are its front, and the test seeds say what it is worth:

- the hypervolume, the area between the front and a reference point, as a share of the
  closed-form front's where that is known, else of the best front's;
- the main loss at a given auxiliary loss, taken as linear between neighbours on the
  front: where losses are convex, that is no better than what lies between them.
"""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.comparison import holm, sign_flip, testable
from benchmarks.analysis.stats import Interval, gap, median_interval
from benchmarks.results.store import Results
from benchmarks.roster import specs


@dataclass(frozen=True)
class Point:
    """A weight and a rate on a method's front, on the test seeds.

    Attributes:
      weight: The auxiliary weight; NaN for a method without one.
      rate: The learning rate.
      main: Main loss at the end.
      aux: Auxiliary loss at the end.
    """

    weight: float
    rate: float
    main: Interval
    aux: Interval


@dataclass(frozen=True)
class Front:
    """What one method reaches on one problem.

    Attributes:
      problem: Name of the problem.
      method: Its spec without the weight.
      gradients: Gradients that a step takes.
      points: Its front, main loss ascending.
      share: Hypervolume on each test seed, as a share, `[S]`.
      main_at_level: Main loss at the problem's level of the auxiliary loss on each
        test seed `[S]`; infinite where no point has so low a one.
      p_value: Holm-adjusted, of having the same hypervolume as the largest; NaN where
        the seeds are too few to tell, 1 for the largest.
    """

    problem: str
    method: str
    gradients: float
    points: tuple[Point, ...]
    share: np.ndarray
    main_at_level: np.ndarray
    p_value: float


def method_and_weight(optimizer: str) -> tuple[str, float]:
    """A spec without its `aux_weight`, and that weight; NaN where there is none."""
    target, base, arguments = specs.parse(optimizer)
    if "aux_weight" not in arguments:
        return optimizer, math.nan
    weight = float(arguments.pop("aux_weight"))
    rest = [base] * (base is not None) + [f"{k}={v!r}" for k, v in arguments.items()]
    return f"{target}({', '.join(rest)})", weight


def undominated(points: np.ndarray) -> np.ndarray:
    """Indices of the points `[n, 2]` that none beats in both, first column ascending.

    Of equal points the first; points that are not finite never.
    """
    order = np.lexsort((points[:, 1], points[:, 0]))
    kept, lowest = [], math.inf
    for i in order:
        if np.isfinite(points[i]).all() and points[i, 1] < lowest:
            kept.append(i)
            lowest = points[i, 1]
    return np.array(kept, int)


def hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    """Area that is beaten by a point `[n, 2]` and beats the reference."""
    front = points[undominated(points)]
    front = front[(front < reference).all(axis=1)]
    ceilings = np.append(reference[1], front[:-1, 1])
    return float(((reference[0] - front[:, 0]) * (ceilings - front[:, 1])).sum())


def main_at(points: np.ndarray, level: float) -> float:
    """Main loss of the front of the points `[n, 2]` where the auxiliary is `level`.

    Linear between neighbours. If all of the front is below the level, its smallest
    main loss; infinite if all is above.
    """
    front = points[undominated(points)]
    if not len(front) or front[-1, 1] > level:
        return math.inf
    after = int(np.argmax(front[:, 1] <= level))
    if after == 0:
        return float(front[0, 0])
    (left, high), (right, low) = front[after - 1], front[after]
    share = (high - level) / (high - low)
    return float(left + share * (right - left))


def fronts(results: Results, problem: str) -> list[Front]:
    """The front of every method that finished on a problem, best first."""
    entry = results.manifest["problems"][problem]
    reference, level = entry["front"]["reference"], entry["front"]["level"]
    members: dict[str, list[tuple[str, float]]] = {}
    for optimizer in results.manifest["optimizers"]:
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
        method: np.array([hypervolume(seed, reference) for seed in test])
        for method, (_, test) in found.items()
    }
    whole = entry["front"]["points"]
    best = max(areas, key=lambda method: float(np.median(areas[method])))
    scale = (
        float(np.median(areas[best]))
        if whole is None
        else hypervolume(np.array(whole), reference)
    )
    p_values = _against(areas, best)
    described = [
        Front(
            problem=problem,
            method=method,
            gradients=results.curves[problem, members[method][0][0]].per_step,
            points=tuple(
                Point(weight, rate, median_interval(s[:, 0]), median_interval(s[:, 1]))
                for (weight, rate), s in zip(labels, test.swapaxes(0, 1), strict=True)
            ),
            share=areas[method] / scale if scale > 0 else areas[method],
            main_at_level=np.array([main_at(seed, level) for seed in test]),
            p_value=p_values[method],
        )
        for method, (labels, test) in found.items()
    ]
    return sorted(described, key=lambda f: -float(np.median(f.share)))


def level_of_closed_form(entry: dict) -> float:
    """Main loss of the closed-form front at the level; NaN where it is unknown."""
    front = entry["front"]
    if front["points"] is None:
        return math.nan
    return main_at(np.array(front["points"]), front["level"])


def _ends(
    results: Results, problem: str, optimizers: list[tuple[str, float]]
) -> tuple[list[tuple[float, float]], np.ndarray] | None:
    """Weights and rates of a method's front, and its ends on test seeds `[S, n, 2]`.

    None while no tune seed or no test seed is finished everywhere.
    """
    settings = results.manifest["settings"]
    labels, tuned, tested = [], [], []
    for optimizer, weight in optimizers:
        curves = results.curves[problem, optimizer]
        dead = ~np.isfinite(gap(curves, {"targets": {"kind": "none"}})[:, :, -1])
        ends = np.stack(
            [curves.metrics["loss"][:, :, -1], curves.metrics["aux"][:, :, -1]], -1
        )
        ends = np.where(dead[:, :, None], np.inf, ends)
        tune = np.isin(curves.seeds, settings["tune_seeds"])
        test = np.isin(curves.seeds, settings["test_seeds"])
        if not tune.any() or test.sum() < len(settings["test_seeds"]):
            return None
        labels += [(weight, float(rate)) for rate in curves.learning_rates]
        tuned.append(np.median(ends[tune], axis=0))
        tested.append(ends[test])
    kept = undominated(np.concatenate(tuned))
    return [labels[i] for i in kept], np.concatenate(tested, axis=1)[:, kept]


def _against(areas: dict[str, np.ndarray], best: str) -> dict[str, float]:
    others = [method for method in areas if method != best]
    adjusted = np.full(len(others), math.nan)
    if testable(len(areas[best]), len(others)):
        differences = np.stack([areas[best] - areas[method] for method in others])
        adjusted = holm(sign_flip(differences[:, None, :]))
    return {best: 1.0, **dict(zip(others, map(float, adjusted), strict=True))}
