"""Chooses the value of an argument that is tuned beside the learning rate.

The variants of a sweep, one for each value, are run like any other optimizer. On each
problem the variant and the learning rate with the best score on the tuning seeds are
chosen together; the evaluation seeds of that variant are the results of the sweep.
"""

import dataclasses
import math

from benchmarks.analysis import stats
from benchmarks.results.manifest import Manifest
from benchmarks.results.store import Curves, Results
from benchmarks.roster.specs import Sweep


def choose(results: Results) -> tuple[Results, dict[tuple[str, str], str]]:
    """Results with sweeps in the place of their variants, and the values chosen.

    A sweep has a cell on a problem once all its variants have finished the tuning
    seeds. Variants that failed or were skipped are not waited for.

    Returns:
      The results, and text such as `b1=0.9` by (problem, sweep).
    """
    manifest = results.manifest
    curves, costs = dict(results.curves), dict(results.costs)
    cells = {(cell.problem, cell.optimizer): cell for cell in manifest.cells}
    chosen = {}
    for sweep in manifest.sweeps:
        for problem in manifest.problems:
            best = _best(results, sweep, problem)
            pairs = [(problem, name) for name in sweep.variants.values()]
            merged = problem, sweep.name
            if best is not None:
                pair = problem, sweep.variants[best]
                chosen[merged] = f"{sweep.argument}={best}"
                curves[merged] = results.curves[pair]
                if pair in results.costs:
                    costs[merged] = results.costs[pair]
                cells[merged] = dataclasses.replace(cells[pair], optimizer=sweep.name)
            for pair in pairs:
                for table in (curves, costs, cells):
                    table.pop(pair, None)
    replaced = dataclasses.replace(
        manifest, optimizers=_optimizers(manifest), cells=tuple(cells.values())
    )
    merged_results = dataclasses.replace(
        results, manifest=replaced, curves=curves, costs=costs
    )
    return merged_results, chosen


def _optimizers(manifest: Manifest) -> dict[str, str]:
    """The optimizers with sweeps in the place of their variants."""
    sweep_of = {v: s.name for s in manifest.sweeps for v in s.variants.values()}
    return {sweep_of.get(n, n): source for n, source in manifest.optimizers.items()}


def _best(results: Results, sweep: Sweep, problem: str) -> str | None:
    """The value with the best score on the tuning seeds; None while one is missing."""
    manifest = results.manifest
    ended = {(f.problem, f.optimizer) for f in (*manifest.failed, *manifest.skipped)}
    scores = {}
    for value, name in sweep.variants.items():
        if (problem, name) in ended:
            continue
        if (problem, name) not in results.curves:
            return None
        tuning = results.curves[problem, name].of(manifest.settings.tune_seeds)
        if len(tuning.seeds) < len(manifest.settings.tune_seeds):
            return None
        scores[value] = _score(manifest, problem, tuning)
    return min(scores, key=scores.__getitem__, default=None)


def _score(manifest: Manifest, problem: str, tuning: Curves) -> tuple[float, float]:
    """The score of the best learning rate, by which it is chosen; less is better."""
    entry = manifest.problems[problem]
    zero = stats.baseline(entry)
    gaps = stats.gap(tuning, zero)
    gradients = tuning.eval_steps * tuning.gradients_per_step
    levels = stats.target_levels(tuning, entry.targets, zero)
    best = stats.choose_learning_rate(gaps, gradients, levels, entry.budget)
    if best < 0:
        return math.inf, math.inf
    cost, final = stats.tuning_scores(gaps, gradients, levels, entry.budget)
    return float(cost[best]), float(final[best])
