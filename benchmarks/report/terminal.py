"""The report's tables for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.analysis.accuracies import Accuracy
from benchmarks.analysis.fronts import ParetoFront
from benchmarks.analysis.summary import Analysis
from benchmarks.report import formats
from benchmarks.report.tables import gradient_rows
from benchmarks.report.verdict import chosen_values, fallbacks

_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}


def render_terminal(analysis: Analysis) -> Group:
    """All tables that the analysis has rows for."""
    parts = [_gradient_table(analysis)] if analysis.scored else []
    parts += [_front_table(p, found) for p, found in analysis.fronts.items()]
    for tables in analysis.accuracies.values():
        parts += [_accuracy_table(rows) for rows in tables]
    return Group(*parts)


def _gradient_table(analysis: Analysis) -> Table:
    """Median gradients to the middle target."""
    comparison = analysis.comparison
    caption = (
        f"{formats.MISSED} target missed   {formats.DIVERGED}n n seeds diverged\n"
        f"{formats.BOUNDARY} best learning rate at the grid boundary"
    )
    for sentence in (*fallbacks(analysis), *chosen_values(analysis)):
        caption += f"\n{sentence.replace('`', '')}"
    if comparison:
        caption += (
            "\nspeed-up: geometric mean over all targets, relative to "
            f"{comparison.reference}"
        )
    table = Table(
        title="Median gradients to the middle target; fewest in bold",
        caption=caption,
        **_PLAIN,
    )
    table.add_column("optimizer", no_wrap=True)
    speedups: dict[str, float] = {}
    if comparison:
        table.add_column("speed-up", justify="right")
        speedups = dict(zip(comparison.optimizers, comparison.speedup, strict=True))
    for problem in analysis.scored:
        table.add_column(problem, justify="right", overflow="fold")
    for name, entries in gradient_rows(analysis):
        row = [Text(name)]
        if comparison:
            row.append(Text(f"{speedups[name]:.2f}" if name in speedups else "–"))
        for e in entries:
            text = f"{e.needed}{e.marks}" if e else formats.NOT_RUN
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
