"""Pareto fronts of the methods on a problem with two objectives."""

from collections.abc import Sequence

import numpy as np

from benchmarks.analysis.fronts import ParetoFront
from benchmarks.analysis.stats import Interval
from benchmarks.report import plotting, svg
from benchmarks.report.plotting import OTHER
from benchmarks.report.svg import RenderedFigure
from benchmarks.results.manifest import FrontEntry


def front_figure(
    problem: str, metric: str, entry: FrontEntry, fronts: Sequence[ParetoFront]
) -> RenderedFigure:
    """Medians of the evaluation seeds with their intervals; `metric` is the x axis."""
    curves = [f.method for f in fronts if len(f.points) > 1]
    styles = plotting.named_styles({m: plotting.in_lines(m) for m in curves})
    figure, axes = plotting.panel(4.8, 3.6, right=plotting.label_room(styles) + 0.2)
    reference, level = entry.reference, entry.level
    ends, inside = {}, []
    for front in fronts:
        main = np.array([p.main.median for p in front.points])
        aux = np.array([p.aux.median for p in front.points])
        style = styles.get(front.method, OTHER)
        axes.errorbar(
            main,
            aux,
            xerr=_bars([p.main for p in front.points]),
            yerr=_bars([p.aux for p in front.points]),
            color=style.color,
            marker=style.marker or "x",
            markersize=4,
            linewidth=1.2 if style.marker else 0,
            elinewidth=0.7,
            alpha=1.0 if style.marker else 0.7,
            zorder=3,
        )
        # Points beyond the reference count for nothing, and may lie far away.
        counted = (main > 0) & (main <= reference[0])
        inside += zip(main[counted], aux[counted], strict=True)
        if front.method in styles:
            ends[front.method] = float(aux[counted][-1] if counted.any() else aux[0])
        elif counted.any():
            axes.annotate(
                front.method,
                (float(main[0]), float(aux[0])),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=8,
                alpha=0.8,
            )
    low = min([main for main, _ in inside], default=reference[0] / 10) / 2
    heights = [aux for _, aux in inside] + [reference[1], level]
    margin = 0.06 * (max(heights) - min(heights))
    if entry.points is not None:
        x, y = np.array(entry.points).T
        axes.plot(x[x > low], y[x > low], color=svg.INK, lw=0.9, alpha=0.7, zorder=2)
    plotting.log_axis(axes, "x", low, reference[0])
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
    axes.axhline(level, color=svg.INK, linewidth=0.6, alpha=0.5, dashes=(1, 2.5))
    axes.plot(*reference, marker="+", ms=8, color=svg.INK, clip_on=False)
    axes.set(xlabel=metric, ylabel="auxiliary loss", title=problem)
    plotting.label_ends(axes, ends, styles)
    return svg.render(
        figure,
        "front",
        problem,
        f"{problem}: Pareto fronts of the methods",
        f"Largest hypervolume: {fronts[0].method}.",
    )


def _bars(intervals: Sequence[Interval]) -> np.ndarray | None:
    """Distances from the medians to the bounds `[2, n]`; None where there are none."""
    middle = np.array([i.median for i in intervals])
    bounds = np.array([[i.low for i in intervals], [i.high for i in intervals]])
    return None if np.isnan(bounds).any() else np.abs(bounds - middle)
