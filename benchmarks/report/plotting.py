"""Parts of a panel: line styles, logarithmic axes, lines, targets, labels."""

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from benchmarks.analysis.summary import Analysis
from benchmarks.report import svg
from benchmarks.report.svg import INK

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class LineStyle:
    """How one optimizer is drawn: never distinguished by colour alone.

    Attributes:
      color: The colour.
      dashes: Lengths of dashes and gaps; empty for a solid line.
      marker: The marker.
      start: Where the first marker lies, so that lines on top of each other show the
        markers of both.
      width: The width.
      label: The text at the end of the line.
    """

    color: str
    dashes: tuple[float, ...]
    marker: str
    start: float = 0.0
    width: float = 1.4
    label: str = ""


# Okabe and Ito's colours, orange and pink darkened to stand out on white too; the
# first, for the reference, is the ink of the page, and wide enough to be seen under
# another line.
LINE_STYLES = (
    LineStyle(INK, (), "o", width=2.6),
    LineStyle("#0072B2", (), "s", 0.04),
    LineStyle("#D55E00", (), "^", 0.08),
    LineStyle("#009E73", (5, 1.5), "D", 0.12),
    LineStyle("#B5679A", (5, 1.5), "v", 0.16),
    LineStyle("#A87900", (2, 1.2), "P", 0.2),
)
OTHER = LineStyle(INK, (), "", width=0.7)

LineStyles = dict[str, LineStyle]
"""The optimizers that get a style of their own, by name."""


def named_styles(labels: dict[str, str]) -> LineStyles:
    """Styles for the first few names, each with its label."""
    return {
        name: dataclasses.replace(style, label=label)
        for (name, label), style in zip(labels.items(), LINE_STYLES, strict=False)
    }


def line_styles(analysis: Analysis) -> LineStyles:
    """The at most six optimizers that get colours, the same in every figure.

    The reference, then the user's own (`module:factory`), then by speed-up, then those
    that cannot be compared. Of optimizers with identical results only one, whose label
    names the others.
    """
    comparison = analysis.comparison
    reference = comparison.reference if comparison else ""
    ranked = [n for n in analysis.ranked if n not in analysis.identical]
    ranked.sort(key=lambda name: (name != reference, ":" not in name))
    labels = {}
    for name in ranked:
        copies = [n for n, of in analysis.identical.items() if of == name]
        labels[name] = in_lines(name)
        if copies:
            same = in_lines(copies[0]) if len(copies) == 1 else f"{len(copies)} others"
            labels[name] += f"\n= {same}"
    return named_styles(labels)


def in_lines(name: str) -> str:
    """A long spec on two lines, so that it leaves room for the lines of a figure."""
    return name.replace("(", "\n(", 1) if len(name) > 16 else name


def power_of_ten(value: float) -> str:
    """`10⁻⁵`; plain from 0.01 to 10 000; `3×10⁻⁵` for other numbers."""
    if 0.01 <= value <= 10_000:
        return f"{value:.10g}"
    exponent = int(np.floor(np.log10(value) + 1e-9))
    lead = round(value / 10.0**exponent)
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return power if lead == 1 else f"{lead}×{power}"


def log_axis(axis: Axes, which: str, low: float, high: float) -> None:
    """Logarithmic scale with few round ticks on `"x"` or `"y"`."""
    decades = np.arange(np.ceil(np.log10(low) - 1e-9), np.log10(high) + 1e-9)
    ticks = 10.0 ** decades[:: max(1, -(-len(decades) // 6))]
    if len(decades) < 3:
        for lead in ((1, 2, 5), (1, 3)):
            ticks = np.array([m * 10.0**e for e in range(-12, 12) for m in lead])
            ticks = ticks[(ticks >= low / 1.0001) & (ticks <= high * 1.0001)]
            if len(ticks) <= 6:
                break
    axis.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    target = axis.xaxis if which == "x" else axis.yaxis
    target.set_ticks(ticks.tolist(), [power_of_ten(tick) for tick in ticks])
    target.set_minor_locator(FixedLocator([]))


def panel(width: float, height: float, right: float) -> tuple[Figure, Axes]:
    """An empty figure with one axes; `right` inches are left for labels."""
    figure = Figure(figsize=(width, height))
    left, bottom, top = 0.7, 0.47, 0.3
    axes = figure.add_axes(
        (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - bottom - top) / height,
        )
    )
    axes.grid(visible=True, color=INK, alpha=0.1, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def curve(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    name: str,
    styles: LineStyles,
    *,
    every: float | None = 0.22,
    drawstyle: str = "default",
) -> None:
    """One line, grey and thin without a style of its own; none without points.

    Args:
      axes: Where it is drawn.
      x: Its points.
      y: Its points.
      name: The optimizer, which a page shows when the pointer is on the line.
      styles: The line styles.
      every: Distance of markers, as a fraction of the axes; None for a marker at every
        point.
      drawstyle: As in matplotlib.
    """
    if not np.isfinite(y).any():
        return
    style, shown = styles.get(name, OTHER), name in styles
    places = 1 if every is None else (style.start, every)
    axes.plot(
        x,
        y,
        color=style.color,
        dashes=style.dashes or (None, None),
        linewidth=style.width,
        alpha=1.0 if shown else 0.28,
        marker=style.marker or None,
        markersize=2.0 + 0.9 * style.width,
        markeredgewidth=0,
        markevery=places if shown else None,
        drawstyle=drawstyle,
        zorder=3 - 0.1 * style.width if shown else 2,
        gid=svg.line_id(name),
    )


def targets(axes: Axes, levels: np.ndarray) -> None:
    """Faint horizontal lines at the targets; the middle one is named."""
    for i, level in enumerate(levels):
        middle = i == len(levels) // 2
        axes.axhline(
            level,
            color=INK,
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
                fontsize=8,
                alpha=0.75,
            )


def label_room(styles: LineStyles) -> float:
    """Inches that the longest label needs at the right of a panel."""
    lines = [line for style in styles.values() for line in style.label.split("\n")]
    return 0.3 + 0.075 * max(map(len, lines), default=0)


def label_ends(axes: Axes, ends: dict[str, float], styles: LineStyles) -> None:
    """Labels at the right ends of their lines, without overlap, each with its marker.

    `ends` holds the value at each end, on the y axis.
    """
    ends = {name: _height_of(axes, value) for name, value in ends.items()}
    figure = axes.figure.figure  # of a subfigure, the one that holds it
    line = 11 / 72 / (figure.get_figheight() * axes.get_position().height)
    order = sorted(ends, key=ends.__getitem__)
    sizes = [line * (1 + styles[name].label.count("\n")) for name in order]
    between = [(low + high) / 2 for low, high in itertools.pairwise(sizes)]
    heights: list[float] = []
    for i, name in enumerate(order):
        below = heights[-1] + between[i - 1] if heights else 0.0
        heights.append(max(min(max(ends[name], 0.0), 1.0), below))
    ceiling = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], ceiling)
        if i:
            ceiling = heights[i] - between[i - 1]
    width = figure.get_figwidth() * axes.get_position().width
    turn, marker, text = (1.0 + inches / width for inches in (0.11, 0.14, 0.2))
    for name, height in zip(order, heights, strict=True):
        style = styles[name]
        start = min(max(ends[name], 0.0), 1.0)
        place = {"transform": axes.transAxes, "clip_on": False}
        axes.plot(
            [1.0, turn],
            [start, height],
            color=style.color,
            linewidth=0.8,
            alpha=0.8,
            **place,
        )
        axes.plot(
            [marker],
            [height],
            color=style.color,
            marker=style.marker,
            markersize=4,
            markeredgewidth=0,
            **place,
        )
        axes.text(
            text,
            height,
            style.label,
            va="center",
            fontsize=8.5,
            linespacing=1.0,
            **place,
        )


def _height_of(axes: Axes, value: float) -> float:
    """A value on the y axis as a fraction of the axes' height."""
    low, high = axes.get_ylim()
    if axes.get_yscale() != "log":
        return (value - low) / (high - low)
    low, high = np.log((low, high))
    return float((np.log(value) - low) / (high - low)) if value > 0 else 0.0
