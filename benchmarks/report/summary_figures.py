"""Figures over all problems: speed-up, and targets reached."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.analysis.comparison import Comparison
from benchmarks.report import plotting, svg
from benchmarks.report.plotting import LineStyles
from benchmarks.report.svg import RenderedFigure


def speedup_figure(
    comparison: Comparison, groups: Sequence[tuple[str, ...]]
) -> RenderedFigure:
    """Speed-up over the reference with both intervals, best first.

    Bars at the right join the optimizers of each of the `groups`.
    """
    names = comparison.optimizers
    height, width = 0.75 + 0.21 * len(names), 4.6
    left = 0.15 + 0.07 * max(len("speed-up"), *map(len, names))
    right = 0.6 + 0.09 * len(groups)
    figure = Figure(figsize=(width, height))
    inside = width - left - right
    axes = figure.add_axes(
        (left / width, 0.45 / height, inside / width, 1 - 0.55 / height)
    )
    rows = dict(zip(names, range(len(names))[::-1], strict=True))
    bounds = np.column_stack(
        [comparison.interval, comparison.wide_interval, comparison.speedup]
    )
    low, high = np.nanmin(bounds) / 1.15, np.nanmax(bounds) * 1.15
    axes.axvline(1.0, color=svg.INK, linewidth=0.8, alpha=0.6, dashes=(1, 2.5))
    beside = {"transform": axes.get_yaxis_transform(), "clip_on": False}
    for i, row in enumerate(rows.values()):
        for interval, thickness, alpha in (
            (comparison.wide_interval[i], 1.0, 0.75),
            (comparison.interval[i], 4.5, 0.9),
        ):
            axes.plot(interval, [row, row], color="#0072B2", lw=thickness, alpha=alpha)
        axes.plot(comparison.speedup[i], row, marker="o", ms=3.5, color=svg.INK)
        speedup = f"{comparison.speedup[i]:.2f}×"
        axes.text(1 + 0.06 / inside, row, speedup, va="center", **beside)
    for i, group in enumerate(groups):
        x = 1 + (0.55 + 0.09 * i) / inside
        ends = [rows[group[0]] + 0.3, rows[group[-1]] - 0.3]
        axes.plot([x, x], ends, color=svg.INK, lw=2, alpha=0.7, **beside)
    plotting.log_axis(axes, "x", low, high)
    axes.set_yticks(list(rows.values()), names)
    axes.set(ylim=(-0.6, len(names) - 0.4))
    axes.set_xlabel(f"speed-up over {comparison.reference}")
    axes.grid(visible=True, axis="x", color=svg.INK, alpha=0.1, linewidth=0.5)
    return svg.render(
        figure,
        "speedup",
        "",
        f"Speed-up over {comparison.reference}",
        f"Largest: {names[0]} with {comparison.speedup[0]:.2f}; "
        f"smallest: {names[-1]} with {comparison.speedup[-1]:.2f}.",
    )


def ecdf_figure(
    reached: dict[str, tuple[np.ndarray, np.ndarray]], styles: LineStyles
) -> RenderedFigure:
    """Fraction of targets reached against fraction of the budget, over all seeds.

    Args:
      reached: Fractions of the budget and of the targets reached, by optimizer.
      styles: The line styles.
    """
    figure, axes = plotting.panel(4.6, 3.2, right=plotting.label_room(styles))
    ends, start = {}, 0.5
    for name in sorted(reached, key=styles.__contains__):
        budgets, targets = reached[name]
        start = min([start, *budgets[budgets > 0]])
        end = float(targets[-1]) if len(targets) else 0.0
        x, y = np.append(budgets, 1.0), np.append(targets, end)
        plotting.curve(axes, x, y, name, styles, drawstyle="steps-post")
        if name in styles:
            ends[name] = end
    plotting.log_axis(axes, "x", start, 1.0)
    axes.set(
        ylim=(0, 1.02),
        xlabel="gradients ÷ budget of the problem",
        ylabel="fraction of targets reached",
    )
    plotting.label_ends(axes, ends, styles)
    best = max(ends, key=ends.__getitem__, default="none")
    return svg.render(
        figure,
        "ecdf",
        "",
        "Fraction of targets reached within a fraction of the budget",
        f"Most targets at the end of the budget: {best}.",
    )
