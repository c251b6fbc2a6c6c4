"""Paths of the evaluated runs on the contours of problems in the plane."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.analysis.summary import Analysis
from benchmarks.problems import load_problem
from benchmarks.report import svg
from benchmarks.report.plotting import LineStyle, LineStyles
from benchmarks.report.svg import RenderedFigure

SIZE = (2.9, 2.6)
GRID = 160
LEVELS = 9


def window(points: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right corner that show most of the points `[..., 2]`.

    Of the ends `[..., 2]`, those that are at most twice as far out are shown too.
    """
    low, high = np.quantile(points.reshape(-1, 2), (0.02, 0.98), axis=0)
    margin = 0.3 * (high - low) + 1e-6
    low, high = low - margin, high + margin
    near = np.clip(ends.reshape(-1, 2), low - (high - low), high + (high - low))
    near = near[(near == ends.reshape(-1, 2)).all(axis=1)]
    low = np.minimum(low, np.min(near - 0.2 * margin, axis=0, initial=np.inf))
    return low, np.maximum(high, np.max(near + 0.2 * margin, axis=0, initial=-np.inf))


def contours(
    problem: str, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates and gap of the problem on a grid, in float64."""
    definition = load_problem(problem)
    if definition.evaluate_exact is None:
        msg = f"{problem}: contours need evaluate_exact, the loss in NumPy."
        raise ValueError(msg)
    x, y = (np.linspace(low[i], high[i], GRID) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), -1)
    loss = definition.evaluate_exact(grid)["loss"]
    return x, y, loss - (definition.f_star or 0.0)


def draw_path(axes: Axes, points: np.ndarray, style: LineStyle) -> None:
    """All seeds thin, the first one bold; circle: start, cross: end."""
    for i, run in enumerate(points):
        axes.plot(
            *run.T,
            color=style.color,
            linewidth=0.5 if i else 1.3,
            alpha=0.3 if i else 1.0,
            marker=None if i else ".",
            markersize=3,
            markeredgewidth=0,
            zorder=3 if i else 4,
        )
    start, end = points[0, 0], points[0, -1]
    axes.plot(*start, marker="o", ms=6, mec=style.color, mfc="none", zorder=5)
    axes.plot(*end, marker="x", ms=6, mew=1.6, color=style.color, zorder=5)


def trajectory_panels(analysis: Analysis, styles: LineStyles) -> list[RenderedFigure]:
    """One panel per optimizer with a line style, for every problem in the plane."""
    figures = []
    for problem, cells in analysis.tuned.items():
        runs = {
            name: np.stack([cell.metrics["x_0"], cell.metrics["x_1"]], -1)
            for name, cell in cells.items()
            if name in styles and {"x_0", "x_1"} <= cell.metrics.keys()
        }
        if not runs:
            continue
        ends = np.stack([points[0, [0, -1]] for points in runs.values()])
        low, high = window(np.concatenate(list(runs.values())), ends)
        x, y, values = contours(problem, low, high)
        positive = np.maximum(values, values.max() * 1e-6)
        levels = np.geomspace(positive.min(), positive.max(), LEVELS + 1)[1:]
        minimizer = load_problem(problem).minimizer
        for number, (name, points) in enumerate(runs.items()):
            figure = Figure(figsize=SIZE)
            axes = figure.add_axes((0.21, 0.17, 0.76, 0.67))
            axes.contour(
                x, y, positive, levels, colors=svg.INK, linewidths=0.5, alpha=0.35
            )
            draw_path(axes, points, styles[name])
            if minimizer is not None:
                axes.plot(*minimizer, marker="*", ms=9, color=svg.INK, zorder=6)
            rate = cells[name].learning_rate
            axes.set(xlabel="x₁", ylabel="x₂", xlim=(low[0], high[0]))
            axes.set(ylim=(low[1], high[1]))
            heading = f"{name}\nlearning rate {rate:g}"
            axes.set_title(heading, fontsize=8.5, fontweight="normal")
            title = f"{problem}: path of {name}"
            end = ", ".join(f"{v:.3g}" for v in points[0, -1])
            description = f"Contours of the loss; the bold run ends at ({end})."
            subject = f"{problem}-{number}"
            figures.append(
                svg.render(figure, "trajectory", subject, title, description)
            )
    return figures
