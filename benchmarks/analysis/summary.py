"""The whole analysis of a results folder, computed once."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis import sweeps
from benchmarks.analysis.accuracies import Accuracy, accuracies
from benchmarks.analysis.comparison import (
    Comparison,
    compare,
    ecdf,
    groups,
    identical_optimizers,
)
from benchmarks.analysis.fronts import ParetoFront, pareto_fronts
from benchmarks.analysis.stats import Cells, CellStats, summarize
from benchmarks.results.manifest import Manifest
from benchmarks.results.store import Missing, Results
from benchmarks.results.strays import Unlisted


@dataclass(frozen=True)
class Analysis:
    """The statistics that tables, figures and the verdict show.

    Attributes:
      manifest: The manifest of the results.
      costs: The costs of each cell, by (problem, optimizer).
      cells: Statistics by (problem, optimizer).
      fallbacks: By (problem, optimizer), why the optimizer falls back to another method
        there. These cells are only in `cells`, and their optimizers in no comparison.
      chosen: By (problem, optimizer), the value of an argument that was tuned beside
        the learning rate, as in `b1=0.9`.
      tuned: By problem and optimizer, the cells with a chosen learning rate.
      scored: Names of the problems with targets, which optimizers are compared on.
      comparison: The comparison over all scored problems; None while no optimizer has
        finished them all.
      ranked: Optimizers by falling speed-up, then those that cannot be compared.
      groups: Groups of optimizers without a significant difference.
      identical: Optimizers with the same runs as an earlier one, and that one.
      reached: By compared optimizer, fractions of the budget and the fraction of
        targets reached within each.
      fronts: Pareto fronts, best first, by problem with two objectives.
      planned: Number of cells that the manifest lists, with all variants of a sweep.
      missing: What the manifest lists and the folder does not hold.
      unlisted: What the folder holds and the manifest does not list.
      accuracies: Tables of accuracies, by problem that has neither targets nor two
        objectives.
    """

    manifest: Manifest
    costs: dict[tuple[str, str], dict[str, float]]
    cells: Cells
    fallbacks: dict[tuple[str, str], str]
    chosen: dict[tuple[str, str], str]
    tuned: dict[str, dict[str, CellStats]]
    scored: tuple[str, ...]
    comparison: Comparison | None
    ranked: tuple[str, ...]
    groups: list[tuple[str, ...]]
    identical: dict[str, str]
    reached: dict[str, tuple[np.ndarray, np.ndarray]]
    fronts: dict[str, list[ParetoFront]]
    accuracies: dict[str, list[list[Accuracy]]]
    planned: int
    missing: tuple[Missing, ...]
    unlisted: tuple[Unlisted, ...]


def analyse(results: Results) -> Analysis:
    """Analyses results; unfinished parts are left out."""
    of_variants = results
    results, chosen = sweeps.choose(results)
    manifest, optimizers = results.manifest, tuple(results.manifest.optimizers)
    scored, two_objectives, others = [], [], []
    for name, problem in manifest.problems.items():
        if problem.targets.kind != "none":
            scored.append(name)
        if problem.front is not None:
            two_objectives.append(name)
        elif problem.targets.kind == "none":
            others.append(name)
    cells = summarize(results)
    fallbacks = {
        (c.problem, c.optimizer): c.fallback for c in manifest.cells if c.fallback
    }
    sound = {pair: cell for pair, cell in cells.items() if pair not in fallbacks}
    comparison = compare(sound, tuple(scored), optimizers)
    alike = groups(comparison) if comparison else []
    identical = identical_optimizers(cells, comparison) if comparison else {}
    compared = comparison.optimizers if comparison else ()
    tuned: dict[str, dict[str, CellStats]] = {name: {} for name in manifest.problems}
    for (problem, optimizer), cell in sound.items():
        if cell.lane >= 0:
            tuned[problem][optimizer] = cell
    return Analysis(
        manifest=manifest,
        costs=results.costs,
        cells=cells,
        fallbacks=fallbacks,
        chosen=chosen,
        tuned=tuned,
        scored=tuple(scored),
        comparison=comparison,
        ranked=(*compared, *(n for n in optimizers if n not in compared)),
        groups=alike,
        identical=identical,
        reached={name: ecdf(cells, tuple(scored), name) for name in compared},
        # Every variant is a point of the front.
        fronts={p: pareto_fronts(_sound(of_variants), p) for p in two_objectives},
        accuracies={p: accuracies(sound, p) for p in others},
        planned=len(of_variants.manifest.cells),
        missing=results.missing,
        unlisted=results.unlisted,
    )


def _sound(results: Results) -> Results:
    """The results without cells in which an optimizer falls back to another method."""
    kept = {(c.problem, c.optimizer) for c in results.manifest.cells if not c.fallback}
    curves = {pair: c for pair, c in results.curves.items() if pair in kept}
    return dataclasses.replace(results, curves=curves)
