"""The rows of the report's tables as text, for the terminal, Markdown and HTML."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.comparison import REFERENCES, Comparison, Pair
from benchmarks.analysis.stats import CellStats, Interval
from benchmarks.analysis.summary import Analysis
from benchmarks.report import formats
from benchmarks.results.manifest import Manifest, ProblemEntry


@dataclass(frozen=True)
class Entry:
    """One cell of the table of gradients.

    Attributes:
      needed: Median gradients to the middle target, or `∅`.
      interval: Its 95 % interval, as in `120–140` or `120–∅`; empty where there is
        none, or both bounds miss.
      final: Median of what the axis of its figure shows, after the last step.
      learning_rate: The chosen learning rate, and the value of an argument that was
        tuned beside it, as in `0.01, b1=0.9`.
      marks: The marks of `formats.SYMBOLS` other than `∅`.
      reached: How many seeds reach the middle target and how many end at or below it;
        empty where every seed does both.
      order: The number that the column is sorted by.
      shade: 1 for the fewest gradients on the problem of the cells that may lead,
        falling to 0 at ten times that; 0 for other cells, and where the optimizer falls
        back to another method.
    """

    needed: str
    interval: str
    final: str
    learning_rate: str
    marks: str
    reached: str
    order: float
    shade: float


@dataclass(frozen=True)
class SpeedRow:
    """The speed-up of one optimizer over the reference.

    Attributes:
      optimizer: Its name.
      speedup: The speed-up.
      interval: Its 95 % interval on these problems; empty where there is none.
      here: What holds on these problems: `faster`, `slower` or `undecided`; `baseline`
        for the reference; empty where nothing was tested.
      p_value: The p-value that `here` goes by.
      wide_interval: The 95 % interval with the problems resampled too.
      elsewhere: What can be expected on other problems of this kind: `faster`, `slower`
        or `undecided`.
    """

    optimizer: str
    speedup: str
    interval: str
    here: str
    p_value: str
    wide_interval: str
    elsewhere: str


@dataclass(frozen=True)
class CostRow:
    """The cost of one optimizer, relative to `optax.adam` where it ran.

    Attributes:
      optimizer: Its name.
      gradients_per_step: Gradients per step; two numbers where problems differ.
      state: Bytes of state per byte of parameters.
      time: Time per step, geometric mean over the problems that both finished.
      trace: Seconds of tracing, all problems together.
      compile: Seconds of compilation, all problems together.
    """

    optimizer: str
    gradients_per_step: str
    state: str
    time: str
    trace: str
    compile: str


def gradient_rows(analysis: Analysis) -> list[tuple[str, list[Entry | None]]]:
    """A row per optimizer, an entry per scored problem; None for cells not run."""
    cells = analysis.cells
    fewest = dict.fromkeys(analysis.scored, math.inf)
    for (p, name), cell in cells.items():
        if p in fewest and cell.may_lead and (p, name) not in analysis.fallbacks:
            fewest[p] = min(fewest[p], cell.middle_interval.median)
    return [
        (
            name,
            [
                _entry(
                    cells[p, name],
                    least,
                    fallback=(p, name) in analysis.fallbacks,
                    chosen=analysis.chosen.get((p, name), ""),
                )
                if (p, name) in cells
                else None
                for p, least in fewest.items()
            ],
        )
        for name in analysis.ranked
    ]


def speed_rows(comparison: Comparison) -> list[SpeedRow]:
    """A row per compared optimizer, best first."""
    rows = []
    for name, speedup in zip(comparison.optimizers, comparison.speedup, strict=True):
        row = SpeedRow(name, formats.factor(speedup), "", "", "", "", "")
        if name == comparison.reference:
            row = dataclasses.replace(row, here="baseline")
        elif comparison.p_values is not None:
            i = comparison.optimizers.index(name)
            pair = comparison.pair(name, comparison.reference)
            sign = "faster" if pair.first == name else "slower"
            wide = formats.factors(comparison.wide_interval[i])
            row = dataclasses.replace(
                row,
                interval=formats.factors(comparison.interval[i]),
                here=sign if pair.significant else "undecided",
                p_value=formats.p_value(pair.p_value),
                wide_interval=wide,
                elsewhere=(sign if pair.carries_over else "undecided") if wide else "",
            )
        rows.append(row)
    return rows


def pair_rows(comparison: Comparison) -> list[tuple[Pair, str, str, str, str]]:
    """Every pair with its ratio, its two intervals and its p-value as text."""
    return [
        (
            pair,
            formats.factor(pair.ratio),
            formats.factors(pair.interval),
            formats.factors(pair.wide_interval),
            formats.p_value(pair.p_value),
        )
        for pair in comparison.pairs.values()
    ]


def quantity(entry: ProblemEntry) -> str:
    """What the figures of a problem show, and its targets bound."""
    if entry.metric != "loss":
        return entry.metric
    return "loss − minimum" if entry.targets.kind == "relative" else "validation loss"


def middle_target(entry: ProblemEntry) -> str:
    """The middle target of a problem: `loss − minimum ≤ 0.001 × start`."""
    values = entry.targets.values
    text = f"{quantity(entry)} ≤ {values[len(values) // 2]:g}"
    return f"{text} × start" if entry.targets.kind == "relative" else text


def cost_baseline(analysis: Analysis) -> str:
    """The optimizer that times are relative to: that of the speed-ups, if any."""
    if analysis.comparison:
        return analysis.comparison.reference
    return next((n for n in REFERENCES if n in analysis.ranked), analysis.ranked[0])


def cost_rows(analysis: Analysis) -> list[CostRow]:
    """The costs of each optimizer that ran, relative to the baseline where it ran."""
    costs, baseline = analysis.costs, cost_baseline(analysis)
    per_step: dict[str, set[float]] = {name: set() for name in analysis.ranked}
    for cell in analysis.manifest.cells:
        per_step[cell.optimizer].add(cell.gradients_per_step)
    rows = []
    for name in analysis.ranked:
        own = {p: c for (p, n), c in costs.items() if n == name}
        if not own:
            continue
        shared = [p for p in own if (p, baseline) in costs]
        ratios = [
            own[p]["us_per_run_step"] / costs[p, baseline]["us_per_run_step"]
            for p in shared
            if costs[p, baseline]["us_per_run_step"] > 0
        ]
        known = bool(ratios) and min(ratios) > 0
        total = sum(c["param_bytes"] for c in own.values())
        rows.append(
            CostRow(
                optimizer=name,
                gradients_per_step=" or ".join(
                    f"{gradients:.3g}" for gradients in sorted(per_step[name])
                ),
                state=f"{sum(c['state_bytes'] for c in own.values()) / total:.2f}",
                time=f"{np.exp(np.mean(np.log(ratios))):.2f}" if known else "–",
                trace=f"{sum(c['trace_s'] for c in own.values()):.1f}",
                compile=f"{sum(c['compile_s'] for c in own.values()):.1f}",
            )
        )
    return rows


def provenance_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Where the numbers come from, as (what, text)."""
    settings, git = manifest.settings, manifest.git
    learning_rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    source = git.commit if git else "unknown"
    if git and git.dirty:
        source += " with uncommitted changes"
    return [
        ("command", manifest.command),
        ("started", manifest.started or "unknown"),
        ("finished", manifest.finished or "not finished"),
        ("source", source),
        ("versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
        ("machine", ", ".join(f"{k}: {v}" for k, v in manifest.machine.items())),
        ("learning rates", f"{learning_rates}; {settings.schedule} schedule"),
        ("tuning seeds", ", ".join(map(str, settings.tune_seeds))),
        ("evaluation seeds", ", ".join(map(str, settings.test_seeds))),
    ]


def _entry(cell: CellStats, fewest: float, *, fallback: bool, chosen: str) -> Entry:
    """The cell as text; `fewest` are the fewest median gradients on its problem."""
    middle = cell.middle_interval
    diverged = int(cell.diverged.sum())
    missed = math.isinf(middle.median)
    slower = (
        1.0
        if missed or fallback or not cell.may_lead
        else math.log10(max(middle.median, 1) / max(fewest, 1))
    )
    seeds, left = len(cell.seeds), int(cell.left.sum())
    reached, below = int(cell.reached.sum()), int(cell.ends_below.sum())
    counts = f"{below} of {seeds} end below"
    if reached < seeds:
        counts = f"{reached} of {seeds} reach it, {below} end below"
    if not reached:
        counts = f"none of {seeds} reach it"
    marks = f"{formats.LEFT}{left}" if left else ""
    marks += f"{formats.DIVERGED}{diverged}" if diverged else ""
    if cell.grid_boundary:
        marks += formats.BOUNDARY
    if fallback:
        marks += formats.FALLBACK
    return Entry(
        needed=formats.MISSED if missed else f"{middle.median:.0f}",
        interval=_bounds(middle),
        final=formats.number(cell.final_interval.median),
        learning_rate=", ".join(
            text for text in (formats.number(cell.learning_rate), chosen) if text
        ),
        marks=marks,
        reached=counts if below < seeds else "",
        order=middle.median,
        shade=max(0.0, 1.0 - slower),
    )


def _bounds(interval: Interval) -> str:
    """The bounds of an interval of gradients; empty without any, or if both miss."""
    if not math.isfinite(interval.low):
        return ""
    low, high = (
        f"{value:.0f}" if math.isfinite(value) else formats.MISSED
        for value in (interval.low, interval.high)
    )
    return low if low == high else f"{low}–{high}"
