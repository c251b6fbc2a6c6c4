"""The figure of the README: convergence on three problems side by side."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.analysis.summary import Analysis
from benchmarks.errors import UserError
from benchmarks.report import panels, plotting, svg
from benchmarks.report.plotting import LineStyles, line_styles
from benchmarks.report.svg import RenderedFigure

PROBLEMS = ("quad_rot", "rosen10", "mlp32_digits")


def readme_figure(analysis: Analysis) -> RenderedFigure:
    """Convergence on three problems with a legend.

    Raises:
      UserError: No run is finished.
    """
    styles = line_styles(analysis)
    ready = [p for p in analysis.scored if analysis.tuned[p]]
    picked = [p for p in PROBLEMS if p in ready] or ready[:3]
    if not picked:
        msg = "no finished runs to draw: run the suite first."
        raise UserError(msg)
    with svg.style():
        width = 3.0 * len(picked) + 2.6
        figure = Figure(figsize=(width, 2.7))
        widths = [3.0] * len(picked) + [2.5]
        grid = figure.subplots(1, len(picked) + 1, width_ratios=widths)
        for axes, problem in zip(grid, picked, strict=False):
            axes.grid(visible=True, color=svg.INK, alpha=0.1, linewidth=0.5)
            panels.convergence(axes, analysis, problem, styles, labels=False)
        _legend(grid[-1], styles)
        figure.subplots_adjust(0.68 / width, 0.18, 0.995, 0.9, wspace=0.34)
        return svg.render(
            figure,
            "convergence",
            "readme",
            f"Loss against gradients on {', '.join(picked)}",
            "Median and 10–90 % band over the evaluation seeds, learning rates tuned "
            "per problem on other seeds.",
        )


def _legend(axes: Axes, styles: LineStyles) -> None:
    """The line styles with their names, in place of a panel."""
    axes.axis("off")
    for i, (name, style) in enumerate(styles.items()):
        x, y = np.array([0.0, 0.5, 1.0]), np.full(3, -i)
        plotting.curve(axes, x, y, name, styles, every=None)
        axes.text(
            1.3,
            -i,
            style.label.replace("\n(", "(").replace("\n", " "),
            va="center",
            fontsize=8,
        )
    axes.set(xlim=(0, 7), ylim=(-max(len(styles), 7) + 0.5, 0.5))
