"""Convergence and sensitivity: one panel per problem."""

from collections.abc import Collection

import numpy as np
from matplotlib.axes import Axes

from benchmarks.analysis.stats import CellStats
from benchmarks.analysis.summary import Analysis
from benchmarks.report import plotting, svg
from benchmarks.report.plotting import LineStyles
from benchmarks.report.svg import RenderedFigure
from benchmarks.report.tables import quantity

SIZE = (4.6, 3.1)
# The panel ends this far below the hardest target.
BELOW_TARGETS = 0.03


def problem_panels(analysis: Analysis, styles: LineStyles) -> list[RenderedFigure]:
    """Convergence and sensitivity of every problem with one objective and results."""
    figures = []
    for kind, draw, what in (
        ("convergence", convergence, "{} against gradients"),
        ("sensitivity", sensitivity, "final {} against learning rate"),
    ):
        for problem, cells in analysis.tuned.items():
            if not cells or problem in analysis.fronts:
                continue
            shown = what.format(quantity(analysis.manifest.problems[problem]))
            title, description = f"{problem}: {shown}", _description(cells.values())
            figure, axes = plotting.panel(*SIZE, right=plotting.label_room(styles))
            draw(axes, analysis, problem, styles)
            figures.append(svg.render(figure, kind, problem, title, description))
    return figures


def convergence(
    axes: Axes,
    analysis: Analysis,
    problem: str,
    styles: LineStyles,
    *,
    labels: bool = True,
) -> None:
    """Median gap of the evaluation seeds against gradients, with a 10–90 % band."""
    entry, cells = analysis.manifest.problems[problem], analysis.tuned[problem]
    low, high = y_range(cells.values())
    axes.set(xlabel="gradients", ylabel=quantity(entry), title=problem)
    ends = {}
    for name in sorted(cells, key=styles.__contains__):
        cell = cells[name]
        gradients = cell.gradients[1:]
        visible = np.maximum(cell.gaps[:, 1:], low * 1e-3)
        # Infinite, and so not drawn, once half of the seeds have diverged.
        middle = np.median(visible, 0)
        plotting.curve(axes, gradients, middle, name, styles)
        if name in styles:
            # Diverged seeds lift the band above the upper edge.
            inside = np.minimum(visible, 2 * high)
            lower, upper = np.quantile(
                inside, (0.1, 0.9), axis=0, method="inverted_cdf"
            )
            axes.fill_between(
                gradients,
                lower,
                upper,
                color=styles[name].color,
                alpha=0.13,
                linewidth=0,
            )
            finite = middle[np.isfinite(middle)]
            ends[name] = float(finite[-1]) if len(finite) else high
    plotting.log_axis(axes, "x", 1, entry.budget)
    plotting.log_axis(axes, "y", low, high)
    plotting.targets(axes, next(iter(cells.values())).levels)
    if labels:
        plotting.label_ends(axes, ends, styles)


def sensitivity(
    axes: Axes, analysis: Analysis, problem: str, styles: LineStyles
) -> None:
    """Median final gap against learning rate; a ring marks the chosen one."""
    entry, cells = analysis.manifest.problems[problem], analysis.tuned[problem]
    low, high = y_range(cells.values())
    label = f"final {quantity(entry)}"
    axes.set(xlabel="learning rate", ylabel=label, title=problem)
    ends, learning_rates = {}, np.empty(0)
    for name in sorted(cells, key=styles.__contains__):
        cell = cells[name]
        learning_rates = cell.learning_rates
        # A learning rate that diverges in the median run lies on the upper edge.
        final = np.clip(cell.final_by_rate, low, high)
        plotting.curve(axes, learning_rates, final, name, styles, every=None)
        if name in styles:
            axes.plot(
                cell.learning_rate,
                final[learning_rates == cell.learning_rate],
                color=styles[name].color,
                marker="o",
                markersize=8,
                fillstyle="none",
                clip_on=False,
            )
            ends[name] = float(final[-1])
    if len(learning_rates) > 1:
        plotting.log_axis(axes, "x", learning_rates[0], learning_rates[-1])
    plotting.log_axis(axes, "y", low, high)
    plotting.targets(axes, next(iter(cells.values())).levels)
    plotting.label_ends(axes, ends, styles)


def y_range(cells: Collection[CellStats]) -> tuple[float, float]:
    """Limits of the gap axis: from the start to a little below the hardest target."""
    smallest = min(cell.smallest for cell in cells)
    hardest = min(cell.levels[-1] if cell.levels.size else 0.0 for cell in cells)
    lowest = max(smallest, BELOW_TARGETS * hardest)
    return float(lowest / 1.3), 2.0 * max(cell.start for cell in cells)


def _description(cells: Collection[CellStats]) -> str:
    noun = "optimizer at its" if len(cells) == 1 else "optimizers at their"
    text = f"{len(cells)} {noun} chosen learning rate. "
    if all(cell.levels.size for cell in cells):
        best = min(cells, key=lambda cell: cell.middle_interval.median)
        what = "Fewest median gradients to the middle target"
    else:
        best = min(cells, key=lambda cell: cell.final_interval.median)
        what = "Lowest median at the end"
    return f"{text}{what}: {best.optimizer}."
