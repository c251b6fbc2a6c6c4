"""The figures of the report, one panel per file, drawn from `Results` alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.analysis.comparison import Comparison, compare, ecdf, twins
from benchmarks.analysis.fronts import Front
from benchmarks.analysis.stats import CellStats, Interval, gap, summarize, target_levels
from benchmarks.errors import UserError
from benchmarks.report import plotting, svg
from benchmarks.report.plotting import LOOKS, OTHER, Look
from benchmarks.results import files, store
from benchmarks.results.store import Results

Cells = dict[tuple[str, str], CellStats]
Looks = dict[str, Look]

PANEL = (4.8, 2.9)
# Where a curve has fallen this far below the hardest target it leaves the panel.
BELOW_TARGETS = 0.03
README_PROBLEMS = ("quad_rot", "rosen10", "mlp32_digits")


@dataclass(frozen=True)
class Drawing:
    """One finished figure.

    Attributes:
      name: File stem, unique.
      kind: `convergence`, `sensitivity`, `speedup`, `ecdf`, `front` or `trajectory`.
      title: What it shows.
      inline: `<svg>` element for a page.
      width: Inches.
      height: Inches.
    """

    name: str
    kind: str
    title: str
    inline: str
    width: float
    height: float

    def file(self) -> str:
        """The picture as the text of an SVG file."""
        return svg.standalone(self.inline, self.width, self.height)


def draw(figure: Figure, kind: str, name: str, title: str, description: str) -> Drawing:
    """Renders a figure; `name` is what it is about, a problem or an optimizer."""
    stem = f"{kind}-{name}" if name else kind
    width, height = figure.get_size_inches()
    inline = svg.render(figure, stem, title, description)
    return Drawing(stem, kind, title, inline, width, height)


def looks(comparison: Comparison | None, optimizers: Sequence[str]) -> Looks:
    """The at most six optimizers that get colours, the same in every figure.

    The reference, then the user's own (`module:factory`), then by speed-up; of
    optimizers whose every score is equal only one, for its curve hides the others.
    """
    if comparison is None:
        return dict(zip(optimizers, LOOKS, strict=False))
    hidden = twins(comparison)
    ranked = [name for name in comparison.optimizers if name not in hidden]
    ranked.sort(key=lambda name: (name != comparison.reference, ":" not in name))
    return dict(zip(ranked, LOOKS, strict=False))


def label_room(shown: Looks) -> float:
    """Inches that the longest name needs right of a panel."""
    return 0.34 + 0.062 * max(map(len, shown), default=0)


def y_range(
    results: Results, problem: str, optimizers: list[str]
) -> tuple[float, float]:
    """Limits of the gap axis: from the start to a little below the hardest target."""
    entry = results.manifest["problems"][problem]
    starts, floors, ends = [], [], []
    for name in optimizers:
        curves = results.curves[problem, name]
        gaps = gap(curves, entry)
        starts.append(np.median(gaps[:, 0, 0]))
        levels = target_levels(curves, entry)
        floors.append(np.median(levels[:, -1]) if levels.size else 0.0)
        ends.append(gaps.min() if levels.size else gaps[gaps > 0].min())
    lowest = max(min(ends), BELOW_TARGETS * min(floors))
    return lowest / 1.3, 2.0 * max(starts)


def gap_label(entry: dict) -> str:
    """What the gap axis shows."""
    if entry.get("metric", "loss") != "loss":
        return entry["metric"]
    relative = entry["targets"]["kind"] == "relative"
    return "loss − minimum" if relative else "validation loss"


def drawn_on(results: Results, cells: Cells, problem: str) -> list[str]:
    """Optimizers with a curve to draw on this problem, in the manifest's order."""
    names = results.manifest["optimizers"]
    return [n for n in names if (problem, n) in cells and cells[problem, n].lane >= 0]


def draw_targets(axes: Axes, results: Results, problem: str, name: str) -> None:
    """Faint lines at the five targets, if there are any; the middle one is named."""
    entry = results.manifest["problems"][problem]
    levels = np.median(target_levels(results.curves[problem, name], entry), 0)
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


def convergence(
    axes: Axes,
    results: Results,
    cells: Cells,
    problem: str,
    shown: Looks,
    *,
    labels: bool = True,
) -> None:
    """Median gap of the test seeds against gradients, with the band of 10–90 %."""
    entry = results.manifest["problems"][problem]
    names = drawn_on(results, cells, problem)
    low, high = y_range(results, problem, names)
    ends = {}
    for name in sorted(names, key=lambda n: n in shown):
        curves, cell = results.curves[problem, name], cells[problem, name]
        test = np.isin(curves.seeds, cell.seeds)
        gaps = gap(curves, entry)[test, cell.lane, 1:]
        spent = curves.gradients[1:]
        visible = np.maximum(gaps, low * 1e-3)
        # Ends where half of the seeds have diverged.
        middle = np.median(visible, 0)
        plotting.curve(axes, spent, middle, shown.get(name, OTHER))
        if name in shown:
            # Diverged seeds carry the band over the upper edge.
            inside = np.minimum(visible, 2 * high)
            band = np.quantile(inside, (0.1, 0.9), axis=0, method="inverted_cdf")
            axes.fill_between(
                spent, *band, color=shown[name].color, alpha=0.13, linewidth=0
            )
            alive = middle[np.isfinite(middle)]
            ends[name] = float(alive[-1]) if len(alive) else high
    plotting.log_axis(axes, "x", 1, cells[problem, names[0]].budget)
    plotting.log_axis(axes, "y", low, high)
    draw_targets(axes, results, problem, names[0])
    axes.set(xlabel="gradients", ylabel=gap_label(entry), title=problem)
    if labels:
        heights = {n: plotting.height_of(axes, y) for n, y in ends.items()}
        plotting.label_ends(axes, heights, shown)


def sensitivity(
    axes: Axes, results: Results, cells: Cells, problem: str, shown: Looks
) -> None:
    """Median final gap of the test seeds against learning rate; ring: chosen rate."""
    entry = results.manifest["problems"][problem]
    names = drawn_on(results, cells, problem)
    low, high = y_range(results, problem, names)
    ends = {}
    for name in sorted(names, key=lambda n: n in shown):
        curves, cell = results.curves[problem, name], cells[problem, name]
        test = np.isin(curves.seeds, cell.seeds)
        final = np.median(gap(curves, entry)[test, :, -1], 0)
        # A rate that diverges in the median run ends at the upper edge.
        final = np.clip(final, low, high)
        order = np.argsort(curves.learning_rates)
        rates, look = curves.learning_rates[order], shown.get(name, OTHER)
        plotting.curve(axes, rates, final[order], look, every=1)
        if name in shown:
            axes.plot(
                cell.learning_rate,
                final[cell.lane],
                color=look.color,
                marker="o",
                markersize=8,
                fillstyle="none",
                clip_on=False,
            )
            ends[name] = float(final[order[-1]])
    if len(rates) > 1:
        plotting.log_axis(axes, "x", rates[0], rates[-1])
    plotting.log_axis(axes, "y", low, high)
    draw_targets(axes, results, problem, names[0])
    axes.set(xlabel="learning rate", ylabel=f"final {gap_label(entry)}", title=problem)
    plotting.label_ends(
        axes, {n: plotting.height_of(axes, y) for n, y in ends.items()}, shown
    )


def problem_panels(results: Results, cells: Cells, shown: Looks) -> list[Drawing]:
    """Convergence and sensitivity of every problem with results."""
    drawings = []
    for kind, plot, what in (
        ("convergence", convergence, "loss against gradients"),
        ("sensitivity", sensitivity, "final loss against learning rate"),
    ):
        for problem in results.manifest["problems"]:
            names = drawn_on(results, cells, problem)
            if not names or problem in results.with_fronts:
                continue
            figure, axes = plotting.panel(*PANEL, right=label_room(shown))
            plot(axes, results, cells, problem, shown)
            described = f"{len(names)} optimizers at their chosen rates. "
            if problem in results.scored:
                best = min(names, key=lambda n: np.median(cells[problem, n].middle))
                described += f"Fewest median gradients to the middle target: {best}."
            else:
                best = min(names, key=lambda n: np.median(cells[problem, n].final))
                described += f"Lowest median at the end: {best}."
            drawings.append(
                draw(figure, kind, problem, f"{problem}: {what}", described)
            )
    return drawings


def speedup_figure(comparison: Comparison) -> Drawing:
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
            (comparison.wide_interval[i], 1.0, 0.6),
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
    return draw(
        figure,
        "speedup",
        "",
        f"Speed-up over {comparison.reference}",
        f"Largest: {comparison.optimizers[0]} with {comparison.speedup[0]:.2f}; "
        f"smallest: {comparison.optimizers[-1]} with {comparison.speedup[-1]:.2f}.",
    )


def ecdf_figure(cells: Cells, comparison: Comparison, shown: Looks) -> Drawing:
    """Share of (problem, target, seed) reached against the share of the budget."""
    figure, axes = plotting.panel(7.2, 3.6, right=label_room(shown))
    ends, start = {}, 0.5
    for name in sorted(comparison.optimizers, key=lambda n: n in shown):
        shares, reached = ecdf(cells, comparison.problems, name)
        start = min([start, *shares[shares > 0]])
        end = reached[-1] if len(reached) else 0.0
        x, y = np.r_[shares, 1.0], np.r_[reached, end]
        look = shown.get(name, OTHER)
        plotting.curve(axes, x, y, look, drawstyle="steps-post")
        if name in shown:
            ends[name] = float(end)
    plotting.log_axis(axes, "x", start, 1.0)
    axes.set(
        ylim=(0, 1.02),
        xlabel="gradients ÷ budget of the problem",
        ylabel="share of targets reached",
    )
    plotting.label_ends(axes, {n: y / 1.02 for n, y in ends.items()}, shown)
    best = max(ends, key=ends.__getitem__, default="none")
    return draw(
        figure,
        "ecdf",
        "",
        "Share of all targets reached within a share of the budget",
        f"Most targets at the end of the budget: {best}.",
    )


def front_figure(problem: str, entry: dict, found: Sequence[Front]) -> Drawing:
    """Fronts of the methods: medians of the test seeds, bars from seed to seed."""
    curves = [f for f in found if len(f.points) > 1][: len(LOOKS)]
    shown = {f.method: look for f, look in zip(curves, LOOKS, strict=False)}
    figure, axes = plotting.panel(7.2, 4.2, right=label_room(shown) + 0.2)
    reference, level = entry["front"]["reference"], entry["front"]["level"]
    ends, inside = {}, []
    for front in found:
        main = np.array([p.main.median for p in front.points])
        aux = np.array([p.aux.median for p in front.points])
        look = shown.get(front.method, OTHER)
        axes.errorbar(
            main,
            aux,
            xerr=_bars([p.main for p in front.points]),
            yerr=_bars([p.aux for p in front.points]),
            color=look.color,
            marker=look.marker or "x",
            markersize=4,
            linewidth=1.2 if look.marker else 0,
            elinewidth=0.7,
            alpha=1.0 if look.marker else 0.7,
            zorder=3,
        )
        # What lies beyond the reference point counts nothing, and may lie far away.
        counted = (main > 0) & (main <= reference[0])
        inside += zip(main[counted], aux[counted], strict=True)
        if front.method in shown:
            ends[front.method] = float(aux[counted][-1] if counted.any() else aux[0])
        elif counted.any():
            place = {"textcoords": "offset points", "xytext": (5, 4), "fontsize": 7}
            axes.annotate(front.method, (main[0], aux[0]), alpha=0.8, **place)
    low = min([main for main, _ in inside], default=reference[0] / 10) / 2
    heights = [aux for _, aux in inside] + [reference[1], level]
    margin = 0.06 * (max(heights) - min(heights))
    if entry["front"]["points"] is not None:
        x, y = np.array(entry["front"]["points"]).T
        axes.plot(x[x > low], y[x > low], color=svg.INK, lw=0.9, alpha=0.7, zorder=2)
    plotting.log_axis(axes, "x", low, reference[0])
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
    axes.axhline(level, color=svg.INK, linewidth=0.6, alpha=0.5, dashes=(1, 2.5))
    axes.plot(*reference, marker="+", ms=8, color=svg.INK, clip_on=False)
    axes.set(xlabel=entry["metric"], ylabel="auxiliary loss", title=problem)
    bottom, top = axes.get_ylim()
    shares = {n: (y - bottom) / (top - bottom) for n, y in ends.items()}
    plotting.label_ends(axes, shares, shown)
    return draw(
        figure,
        "front",
        problem,
        f"{problem}: fronts of the methods",
        f"Largest hypervolume: {found[0].method}.",
    )


def _bars(intervals: Sequence[Interval]) -> np.ndarray | None:
    """Distances from the medians to the bounds `[2, n]`; None where there are none."""
    middle = np.array([i.median for i in intervals])
    bounds = np.array([[i.low for i in intervals], [i.high for i in intervals]])
    return None if np.isnan(bounds).any() else np.abs(bounds - middle)


def legend(axes: Axes, shown: Looks) -> None:
    """The looks with their names, in place of a panel."""
    axes.axis("off")
    for i, (name, look) in enumerate(shown.items()):
        plotting.curve(axes, np.array([0.0, 0.5, 1.0]), np.full(3, -i), look, every=1)
        axes.text(1.3, -i, name, va="center", fontsize=8)
    axes.set(xlim=(0, 7), ylim=(-max(len(shown), 7) + 0.5, 0.5))


def readme_figure(results: Results) -> Drawing:
    """Convergence on three problems side by side, with a legend."""
    manifest = results.manifest
    problems, optimizers = results.scored, tuple(manifest["optimizers"])
    cells = summarize(results)
    shown = looks(compare(cells, problems, optimizers), optimizers)
    ready = [p for p in problems if drawn_on(results, cells, p)]
    picked = [p for p in README_PROBLEMS if p in ready] or ready[:3]
    if not picked:
        msg = "no finished runs to draw; run the suite first."
        raise UserError(msg)
    figure = Figure(figsize=(3.0 * len(picked) + 2.6, 2.7))
    grid = figure.subplots(1, len(picked) + 1, width_ratios=[3.0] * len(picked) + [2.5])
    for axes, problem in zip(grid, picked, strict=False):
        axes.grid(visible=True, color=svg.INK, alpha=0.1, linewidth=0.5)
        convergence(axes, results, cells, problem, shown, labels=False)
    legend(grid[-1], shown)
    figure.subplots_adjust(0.055, 0.17, 0.995, 0.9, wspace=0.32)
    return draw(
        figure,
        "convergence",
        "readme",
        f"Loss against gradients on {', '.join(picked)}",
        "Median over the test seeds and 10–90 % band, learning rates tuned per "
        "problem on other seeds.",
    )


def write_readme_figure(out: Path, path: Path) -> None:
    """Draws the README's picture from the results folder `out` into `path`.

    Raises:
      UserError: The folder holds no finished runs.
    """
    results = store.load(out)
    with svg.style():
        files.write_text(path, readme_figure(results).file())
