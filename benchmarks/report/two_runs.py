"""The comparison of two runs as tables for the terminal."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.analysis.comparison import MIN_SEEDS
from benchmarks.analysis.two_runs import Gain, SpeedUp, TwoRuns
from benchmarks.report import formats

_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}


def render_two_runs(found: TwoRuns) -> Group:
    """The tables: by problem where only one pair is compared."""
    parts = []
    if found.overall:
        parts.append(_speed_up_table(found))
    if found.gains:
        parts.append(_gain_table(found.gains))
    return Group(*parts)


def _speed_up_table(found: TwoRuns) -> Table:
    caption = (
        "speed-up: gradients of A ÷ gradients of B, geometric mean over targets, "
        "problems and seeds, paired by seed; above 1, B needs fewer\n"
        "p: paired sign-flip test, Holm-adjusted over the optimizers, or over the "
        "single problems\nidentical: every number of gradients is the same"
    )
    rows = found.overall
    if few := [row for row in rows if row.seeds < MIN_SEEDS]:
        caption += (
            f"\nintervals and p need {MIN_SEEDS} evaluation seeds; "
            f"{few[0].seeds} are in both"
        )
    table = Table(title="Speed-up of B over A", caption=caption, **_PLAIN)
    table.add_column("optimizer", no_wrap=True)
    table.add_column("problem" if len(rows) == 1 else "problems", no_wrap=True)
    for head in ("seeds", "speed-up", "95 % interval", "p"):
        table.add_column(head, justify="right")
    table.add_column("problems redrawn", justify="right")
    single = found.by_problem[0] if len(rows) == 1 else []
    if len(single) > 1:
        for row in single:
            _add(table, row, row.problems[0])
    for row in rows:
        count = len(row.problems)
        _add(table, row, f"all {count}" if count > 1 else row.problems[0])
    return table


def _add(table: Table, row: SpeedUp, problems: str) -> None:
    low, high = row.ratio.low, row.ratio.high
    table.add_row(
        Text(_names(row.first, row.second)),
        problems,
        str(row.seeds),
        "identical" if row.identical else f"{row.ratio.median:.3f}",
        "" if row.identical else _bounds((low, high)),
        "" if row.identical else _p(row.p_value),
        "" if row.identical else _bounds(row.wide),
    )


def _gain_table(gains: Sequence[Gain]) -> Table:
    table = Table(
        title="Gain of B over A in final accuracy, percentage points",
        caption="median of the differences, paired by seed, with its 95 % interval",
        **_PLAIN,
    )
    for head in ("optimizer", "problem", "accuracy"):
        table.add_column(head, no_wrap=True)
    for head in ("seeds", "gain", "p"):
        table.add_column(head, justify="right")
    for row in gains:
        table.add_row(
            Text(_names(row.first, row.second)),
            row.problem,
            row.metric,
            str(row.seeds),
            formats.percentage_points(row.gain),
            _p(row.p_value),
        )
    return table


def _names(first: str, second: str) -> str:
    """A pair of optimizers; one name if both are the same."""
    return first if first == second else f"{first} → {second}"


def _bounds(bounds: Iterable[float]) -> str:
    low, high = bounds
    return "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}"
