"""The report's tables for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    RenderableType,
    RenderResult,
)
from rich.table import Table
from rich.text import Text

from benchmarks.analysis.accuracies import Accuracy
from benchmarks.analysis.comparison import Comparison
from benchmarks.analysis.fronts import ParetoFront
from benchmarks.analysis.summary import Analysis
from benchmarks.report import formats
from benchmarks.report.tables import gradient_rows, speed_rows
from benchmarks.report.verdict import chosen_values, fallbacks, setup, verdict

_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}


def render_terminal(analysis: Analysis) -> Group:
    """All tables that the analysis has rows for, after what was run."""
    parts: list[RenderableType] = [Text(setup(analysis)), Text()]
    for paragraph in verdict(analysis):
        if paragraph.heading == "Verdict":
            parts += [Text(paragraph.text.replace("`", "")), Text()]
    if analysis.comparison:
        parts += [_speed_table(analysis.comparison), Text()]
    if analysis.scored:
        parts.append(_Gradients(analysis))
    parts += [_front_table(p, found) for p, found in analysis.fronts.items()]
    for tables in analysis.accuracies.values():
        parts += [_accuracy_table(rows) for rows in tables]
    return Group(*parts)


def _speed_table(comparison: Comparison) -> Table:
    """Speed-ups with their intervals, on these problems and on others."""
    rows = speed_rows(comparison)
    others = any(row.elsewhere for row in rows)
    table = Table(
        title=f"Speed-up over {comparison.reference}, geometric mean over all "
        "problems, targets and seeds",
        caption="95 % intervals; for other problems, the problems are resampled too"
        if others
        else None,
        padding=(0, 1, 0, 0),
        **_PLAIN,
    )
    table.add_column("optimizer", overflow="fold")
    for head in ("these problems", "other problems")[: 1 + others]:
        table.add_column(head, justify="right")
        table.add_column("")
    for row in rows:
        cells = [f"{row.speedup} ({row.interval})" if row.interval else row.speedup]
        cells += [row.here, row.wide_interval, row.elsewhere]
        table.add_row(Text(row.optimizer), *cells[: 2 + 2 * others])
    return table


@dataclass(frozen=True)
class _Gradients:
    """Median gradients to the middle target, in as many parts as the width needs."""

    analysis: Analysis

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        yield Text(
            "Median gradients until the middle target is reached for the first time, "
            "with 95 % intervals; bold: the fewest on a problem, among optimizers with "
            "at least half of their seeds below the target at the end",
            "italic",
        )
        first, count = 0, len(self.analysis.scored)
        unlimited = options.update(max_width=10_000)
        while first < count:
            last = count
            table = self._table(first, last)
            while (
                last - first > 1
                and console.measure(table, options=unlimited).maximum
                > options.max_width
            ):
                last -= 1
                table = self._table(first, last)
            yield table
            first = last
        yield Text(" · ".join(f"{k} {v}" for k, v in formats.SYMBOLS.items()), "italic")
        for sentence in (*fallbacks(self.analysis), *chosen_values(self.analysis)):
            yield Text(sentence.replace("`", ""))

    def _table(self, first: int, last: int) -> Table:
        """The columns of some of the problems."""
        table = Table(**_PLAIN)
        table.add_column("optimizer", overflow="fold")
        for problem in self.analysis.scored[first:last]:
            table.add_column(problem, justify="right", overflow="fold")
        for name, entries in gradient_rows(self.analysis):
            row = [Text(name)]
            for e in entries[first:last]:
                bounds = f" ({e.interval})" if e and e.interval else ""
                text = f"{e.needed}{e.marks}{bounds}" if e else formats.NOT_RUN
                row.append(Text(text, "bold" if e and e.shade == 1.0 else ""))
            table.add_row(*row)
        return table


def _front_table(problem: str, fronts: Sequence[ParetoFront]) -> Table:
    """Pareto fronts of the methods on a problem with two objectives."""
    title = f"{problem}: Pareto fronts over weights and learning rates"
    table = Table(title=title, **_PLAIN)
    table.add_column("method", no_wrap=True)
    for head in ("gradients/step", "hypervolume", "main loss at level", "points"):
        table.add_column(head, justify="right")
    for front in fronts:
        table.add_row(
            Text(front.method),
            f"{front.gradients_per_step:.3g}",
            formats.percent(front.hypervolume_interval),
            formats.interval(front.main_interval),
            str(len(front.points)),
        )
    return table


def _accuracy_table(rows: Sequence[Accuracy]) -> Table:
    """Accuracy at the end and the best during training."""
    table = Table(
        title=f"{rows[0].problem}: {rows[0].metric}",
        caption="best during training: oracle early stopping, an upper bound",
        **_PLAIN,
    )
    table.add_column("optimizer", no_wrap=True)
    heads = ("gradients/step", "final", "best during training", "learning rate")
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        boundary = formats.BOUNDARY if row.at_boundary else ""
        table.add_row(
            Text(row.optimizer),
            f"{row.gradients_per_step:.3g}",
            formats.percent(row.final),
            formats.percent(row.best),
            f"{row.learning_rate:g}{boundary}",
        )
    return table
