"""The whole analysis of a results folder, computed once."""

from dataclasses import dataclass

from benchmarks.analysis.accuracies import Accuracy, accuracies
from benchmarks.analysis.comparison import Comparison, compare, identical_optimizers
from benchmarks.analysis.fronts import ParetoFront, pareto_fronts
from benchmarks.analysis.stats import Cells, summarize
from benchmarks.results.manifest import Manifest
from benchmarks.results.store import Results


@dataclass(frozen=True)
class Analysis:
    """The results and statistics that tables, figures and the verdict show.

    Attributes:
      results: The results that were analysed.
      cells: Statistics by (problem, optimizer).
      comparison: The comparison over all scored problems; None while no optimizer has
        finished them all.
      identical: Optimizers with the same scores as an earlier one, and that one.
      fronts: Pareto fronts, best first, by problem with two objectives.
      accuracies: Tables of accuracies, by problem compared by accuracy.
    """

    results: Results
    cells: Cells
    comparison: Comparison | None
    identical: dict[str, str]
    fronts: dict[str, list[ParetoFront]]
    accuracies: dict[str, list[list[Accuracy]]]

    @property
    def manifest(self) -> Manifest:
        """The manifest of the results."""
        return self.results.manifest

    @property
    def ranked(self) -> tuple[str, ...]:
        """Optimizers by falling speed-up, then those that cannot be compared."""
        compared = self.comparison.optimizers if self.comparison else ()
        others = [n for n in self.manifest.optimizers if n not in compared]
        return (*compared, *others)

    def tuned(self, problem: str) -> list[str]:
        """Optimizers with a chosen learning rate on a problem, in the plan's order."""
        return [
            name
            for name in self.manifest.optimizers
            if (problem, name) in self.cells and self.cells[problem, name].lane >= 0
        ]


def analyse(results: Results) -> Analysis:
    """Analyses results; unfinished parts are left out."""
    manifest, cells = results.manifest, summarize(results)
    comparison = compare(cells, manifest.scored, tuple(manifest.optimizers))
    return Analysis(
        results=results,
        cells=cells,
        comparison=comparison,
        identical=identical_optimizers(comparison) if comparison else {},
        fronts={p: pareto_fronts(results, p) for p in manifest.with_fronts},
        accuracies={p: accuracies(results, cells, p) for p in manifest.with_accuracies},
    )
