"""Figures over all problems: speed-up, and targets reached."""

import numpy as np
from matplotlib.figure import Figure

from benchmarks.analysis.comparison import Comparison
from benchmarks.report import plotting, svg
from benchmarks.report.plotting import OTHER, LineStyles
from benchmarks.report.svg import RenderedFigure


def speedup_figure(comparison: Comparison) -> RenderedFigure:
    """Speed-up over the reference with both intervals, best first."""
    count = len(comparison.optimizers)
    height = 0.75 + 0.21 * count
    figure = Figure(figsize=(7.2, height))
    left = max(0.27, 0.02 + 0.062 * max(map(len, comparison.optimizers)) / 7.2)
    axes = figure.add_axes((left, 0.45 / height, 0.89 - left, 1 - 0.55 / height))
    rows = np.arange(count)[::-1]
    bounds = np.column_stack(
        [comparison.interval, comparison.wide_interval, comparison.speedup]
    )
    low, high = np.nanmin(bounds) / 1.15, np.nanmax(bounds) * 1.15
    axes.axvline(1.0, color=svg.INK, linewidth=0.8, alpha=0.6, dashes=(1, 2.5))
    for i, row in enumerate(rows):
        for interval, width, alpha in (
            (comparison.wide_interval[i], 1.0, 0.75),
            (comparison.interval[i], 3.5, 0.9),
        ):
            axes.plot(interval, [row, row], color="#0072B2", lw=width, alpha=alpha)
        axes.plot(comparison.speedup[i], row, marker="o", ms=5, color=svg.INK)
        axes.text(
            1.02,
            row,
            f"{comparison.speedup[i]:.2f}×",
            va="center",
            transform=axes.get_yaxis_transform(),
        )
    plotting.log_axis(axes, "x", low, high)
    axes.set_yticks(rows, comparison.optimizers)
    axes.set(ylim=(-0.6, count - 0.4), xlabel=f"speed-up over {comparison.reference}")
    axes.grid(visible=True, axis="x", color=svg.INK, alpha=0.1, linewidth=0.5)
    return svg.render(
        figure,
        "speedup",
        "",
        f"Speed-up over {comparison.reference}",
        f"Largest: {comparison.optimizers[0]} with {comparison.speedup[0]:.2f}; "
        f"smallest: {comparison.optimizers[-1]} with {comparison.speedup[-1]:.2f}.",
    )


def ecdf_figure(
    reached: dict[str, tuple[np.ndarray, np.ndarray]], styles: LineStyles
) -> RenderedFigure:
    """Fraction of targets reached against fraction of the budget, over all seeds.

    Args:
      reached: Fractions of the budget and of the targets reached, by optimizer.
      styles: The line styles.
    """
    figure, axes = plotting.panel(7.2, 3.6, right=plotting.label_room(styles))
    ends, start = {}, 0.5
    for name in sorted(reached, key=styles.__contains__):
        budgets, targets = reached[name]
        start = min([start, *budgets[budgets > 0]])
        end = float(targets[-1]) if len(targets) else 0.0
        x, y = np.append(budgets, 1.0), np.append(targets, end)
        style = styles.get(name, OTHER)
        plotting.curve(axes, x, y, style, drawstyle="steps-post")
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
