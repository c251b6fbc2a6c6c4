"""The rows of the report's tables as text, for the terminal, Markdown and HTML."""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.stats import CellStats, Interval
from benchmarks.analysis.summary import Analysis
from benchmarks.report import formats
from benchmarks.results.manifest import Manifest


@dataclass(frozen=True)
class Entry:
    """One cell of the table of gradients.

    Attributes:
      needed: Median gradients to the middle target, or `∅`.
      interval: Its 95 % interval, as in `120–140`; empty where there is none.
      final: Median final gap.
      learning_rate: The chosen learning rate, and the value of an argument that was
        tuned beside it, as in `0.01, b1=0.9`.
      marks: `†n` for n diverged seeds, `◊` for a learning rate at the grid boundary,
        `‡` where the optimizer falls back to another method.
      order: The number that the column is sorted by.
      shade: 1 for the fewest gradients on the problem, falling to 0 at ten times
        that; 0 where the optimizer falls back to another method.
    """

    needed: str
    interval: str
    final: str
    learning_rate: str
    marks: str
    order: float
    shade: float


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
        if p in fewest and (p, name) not in analysis.fallbacks:
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


def cost_rows(analysis: Analysis) -> list[CostRow]:
    """The costs of each optimizer that ran."""
    costs = analysis.costs
    per_step: dict[str, set[float]] = {name: set() for name in analysis.ranked}
    for cell in analysis.manifest.cells:
        per_step[cell.optimizer].add(cell.gradients_per_step)
    rows = []
    for name in analysis.ranked:
        own = {p: c for (p, n), c in costs.items() if n == name}
        if not own:
            continue
        shared = [p for p in own if (p, "optax.adam") in costs]
        ratios = [
            own[p]["us_per_run_step"] / costs[p, "optax.adam"]["us_per_run_step"]
            for p in shared
            if costs[p, "optax.adam"]["us_per_run_step"] > 0
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
        if missed or fallback
        else math.log10(max(middle.median, 1) / max(fewest, 1))
    )
    marks = f"{formats.DIVERGED}{diverged}" if diverged else ""
    if cell.grid_boundary:
        marks += formats.BOUNDARY
    if fallback:
        marks += formats.FALLBACK
    return Entry(
        needed=formats.MISSED if missed else f"{middle.median:.0f}",
        interval=_bounds(middle, cell.budget),
        final=formats.number(cell.final_interval.median),
        learning_rate=", ".join(
            text for text in (formats.number(cell.learning_rate), chosen) if text
        ),
        marks=marks,
        order=middle.median,
        shade=max(0.0, 1.0 - slower),
    )


def _gradients(value: float, budget: int) -> str:
    """A number of gradients; `>budget` for a missed target."""
    return f"{value:.0f}" if math.isfinite(value) else f">{budget}"


def _bounds(interval: Interval, budget: int) -> str:
    """The bounds of an interval of gradients; empty where the seeds are too few."""
    if math.isnan(interval.low):
        return ""
    low, high = _gradients(interval.low, budget), _gradients(interval.high, budget)
    if low == high:
        return low
    return f"{low} to {high}" if math.isinf(interval.high) else f"{low}–{high}"
