"""Convergence and sensitivity: one panel per problem."""

import numpy as np
from matplotlib.axes import Axes

from benchmarks.analysis.stats import gap, target_levels
from benchmarks.analysis.summary import Analysis
from benchmarks.report import plotting, svg
from benchmarks.report.plotting import OTHER, LineStyles
from benchmarks.report.svg import RenderedFigure
from benchmarks.results.manifest import ProblemEntry

SIZE = (4.8, 2.9)
# The panel ends this far below the hardest target.
BELOW_TARGETS = 0.03


def y_range(analysis: Analysis, problem: str) -> tuple[float, float]:
    """Limits of the gap axis: from the start to a little below the hardest target."""
    entry = analysis.manifest.problems[problem]
    starts, floors, ends = [], [], []
    for name in analysis.tuned(problem):
        curves = analysis.results.curves[problem, name]
        gaps = gap(curves, entry.baseline)
        starts.append(np.median(gaps[:, 0, 0]))
        levels = target_levels(curves, entry.targets, entry.baseline)
        floors.append(np.median(levels[:, -1]) if levels.size else 0.0)
        ends.append(gaps.min() if levels.size else gaps[gaps > 0].min())
    lowest = max(min(ends), BELOW_TARGETS * min(floors))
    return float(lowest / 1.3), float(2.0 * max(starts))


def gap_label(entry: ProblemEntry) -> str:
    """The label of the gap axis."""
    if entry.metric != "loss":
        return entry.metric
    return "loss − minimum" if entry.targets.kind == "relative" else "validation loss"


def convergence(
    axes: Axes,
    analysis: Analysis,
    problem: str,
    styles: LineStyles,
    *,
    labels: bool = True,
) -> None:
    """Median gap of the evaluation seeds against gradients, with a 10–90 % band."""
    entry, names = analysis.manifest.problems[problem], analysis.tuned(problem)
    low, high = y_range(analysis, problem)
    ends = {}
    for name in sorted(names, key=lambda n: n in styles):
        cell = analysis.cells[problem, name]
        curves = analysis.results.curves[problem, name].of(cell.seeds)
        gaps = gap(curves, entry.baseline)[:, cell.lane, 1:]
        gradients = curves.gradients[1:]
        visible = np.maximum(gaps, low * 1e-3)
        # Infinite, and so not drawn, once half of the seeds have diverged.
        middle = np.median(visible, 0)
        plotting.curve(axes, gradients, middle, styles.get(name, OTHER))
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
    _draw_targets(axes, analysis, problem)
    axes.set(xlabel="gradients", ylabel=gap_label(entry), title=problem)
    if labels:
        heights = {n: plotting.height_of(axes, y) for n, y in ends.items()}
        plotting.label_ends(axes, heights, styles)


def sensitivity(
    axes: Axes, analysis: Analysis, problem: str, styles: LineStyles
) -> None:
    """Median final gap against learning rate; a ring marks the chosen one."""
    entry, names = analysis.manifest.problems[problem], analysis.tuned(problem)
    low, high = y_range(analysis, problem)
    ends, learning_rates = {}, np.empty(0)
    for name in sorted(names, key=lambda n: n in styles):
        cell = analysis.cells[problem, name]
        curves = analysis.results.curves[problem, name].of(cell.seeds)
        final = np.median(gap(curves, entry.baseline)[:, :, -1], 0)
        # A learning rate that diverges in the median run lies on the upper edge.
        final = np.clip(final, low, high)
        order = np.argsort(curves.learning_rates)
        learning_rates, style = curves.learning_rates[order], styles.get(name, OTHER)
        plotting.curve(axes, learning_rates, final[order], style, every=1)
        if name in styles:
            axes.plot(
                cell.learning_rate,
                final[cell.lane],
                color=style.color,
                marker="o",
                markersize=8,
                fillstyle="none",
                clip_on=False,
            )
            ends[name] = float(final[order[-1]])
    if len(learning_rates) > 1:
        plotting.log_axis(axes, "x", learning_rates[0], learning_rates[-1])
    plotting.log_axis(axes, "y", low, high)
    _draw_targets(axes, analysis, problem)
    axes.set(xlabel="learning rate", ylabel=f"final {gap_label(entry)}", title=problem)
    heights = {n: plotting.height_of(axes, y) for n, y in ends.items()}
    plotting.label_ends(axes, heights, styles)


def problem_panels(analysis: Analysis, styles: LineStyles) -> list[RenderedFigure]:
    """Convergence and sensitivity of every problem with one objective and results."""
    figures = []
    for kind, draw, what in (
        ("convergence", convergence, "loss against gradients"),
        ("sensitivity", sensitivity, "final loss against learning rate"),
    ):
        for problem in analysis.manifest.problems:
            names = analysis.tuned(problem)
            if not names or problem in analysis.manifest.with_fronts:
                continue
            figure, axes = plotting.panel(*SIZE, right=plotting.label_room(styles))
            draw(axes, analysis, problem, styles)
            title = f"{problem}: {what}"
            description = _description(analysis, problem, names)
            figures.append(svg.render(figure, kind, problem, title, description))
    return figures


def _draw_targets(axes: Axes, analysis: Analysis, problem: str) -> None:
    """Faint lines at the five targets, if there are any; the middle one is named."""
    entry, name = analysis.manifest.problems[problem], analysis.tuned(problem)[0]
    curves = analysis.results.curves[problem, name]
    levels = np.median(target_levels(curves, entry.targets, entry.baseline), 0)
    for i, level in enumerate(levels):
        middle = i == len(levels) // 2
        axes.axhline(
            level,
            color=svg.INK,
            linewidth=0.8 if middle else 0.6,
            alpha=0.55 if middle else 0.25,
            dashes=(1, 2.5),
            zorder=1,
        )
        if middle:
            axes.annotate(
                "middle target",
                (0.01, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                fontsize=6.5,
                alpha=0.75,
            )


def _description(analysis: Analysis, problem: str, names: list[str]) -> str:
    count, cells = len(names), analysis.cells
    noun = "optimizer at its" if count == 1 else "optimizers at their"
    text = f"{count} {noun} chosen learning rate. "
    if problem in analysis.manifest.scored:
        best = min(names, key=lambda n: float(np.median(cells[problem, n].middle)))
        return f"{text}Fewest median gradients to the middle target: {best}."
    best = min(names, key=lambda n: float(np.median(cells[problem, n].final)))
    return f"{text}Lowest median at the end: {best}."
