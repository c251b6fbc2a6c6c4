"""The numbers of a report as text: the raw table, costs, provenance, CSV files."""

import csv
import io
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from benchmarks.analysis.accuracies import Accuracy
from benchmarks.analysis.comparison import Comparison
from benchmarks.analysis.fronts import Front
from benchmarks.analysis.stats import (
    CellStats,
    Interval,
    expected_runtime,
    median_interval,
)
from benchmarks.experiment.plan import DEFAULT_LEARNING_RATES
from benchmarks.experiment.suites import SUITES, Suite
from benchmarks.results.store import Results
from benchmarks.roster.resolver import default_names

Cells = dict[tuple[str, str], CellStats]

_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}
MISSED, EDGE, DIVERGED, NOT_RUN = "∅", "◊", "†", "not run"


@dataclass(frozen=True)
class Entry:
    """One cell of the raw table.

    Attributes:
      needed: Median gradients to the middle target, or `∅`.
      interval: Its 95 % interval, as in `120–140`; empty where there is none.
      final: Median final gap.
      rate: The chosen learning rate.
      marks: `†n` for n diverged seeds, `◊` for a rate at the end of the grid.
      order: What the column is sorted by.
      shade: 1 for the fewest gradients on the problem, falling to 0 at ten times
        that.
    """

    needed: str
    interval: str
    final: str
    rate: str
    marks: str
    order: float
    shade: float


def number(value: float) -> str:
    """Three significant digits, or two and an exponent."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        lead, exponent = f"{value:.1e}".split("e")
        return f"{lead}e{int(exponent)}"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def within(value: float, budget: int) -> str:
    """A number of gradients; a miss is more than the budget."""
    return f"{value:.0f}" if math.isfinite(value) else f">{budget}"


def span(interval: Interval, budget: int) -> str:
    """The bounds of an interval of gradients; empty where the seeds are too few."""
    if math.isnan(interval.low):
        return ""
    low, high = within(interval.low, budget), within(interval.high, budget)
    if low == high:
        return low
    return f"{low} to {high}" if math.isinf(interval.high) else f"{low}–{high}"


def entry(cell: CellStats, fewest: float) -> Entry:
    """The cell as text; `fewest` are the fewest median gradients on its problem."""
    middle = median_interval(cell.middle)
    diverged = int(cell.diverged.sum())
    missed = math.isinf(middle.median)
    slower = 1.0 if missed else math.log10(max(middle.median, 1) / max(fewest, 1))
    return Entry(
        needed=MISSED if missed else f"{middle.median:.0f}",
        interval=span(middle, cell.budget),
        final=number(float(np.median(cell.final))),
        rate=number(cell.learning_rate),
        marks=(f"{DIVERGED}{diverged}" if diverged else "")
        + (EDGE if cell.edge else ""),
        order=middle.median,
        shade=max(0.0, 1.0 - slower),
    )


def ordered(results: Results, comparison: Comparison | None) -> list[str]:
    """Optimizers by falling speed-up, then those that cannot be compared."""
    ranked = list(comparison.optimizers) if comparison else []
    return ranked + [n for n in results.manifest["optimizers"] if n not in ranked]


def raw_table(
    results: Results, cells: Cells, optimizers: Sequence[str]
) -> list[tuple[str, list[Entry | None]]]:
    """A row for every optimizer, an entry for every scored problem; None: not run."""
    problems = results.scored
    fewest = {
        p: min(
            (np.median(c.middle) for (q, _), c in cells.items() if q == p),
            default=math.inf,
        )
        for p in problems
    }
    return [
        (
            name,
            [
                entry(cells[p, name], fewest[p]) if (p, name) in cells else None
                for p in problems
            ],
        )
        for name in optimizers
    ]


def terminal_table(
    results: Results, cells: Cells, comparison: Comparison | None
) -> Table:
    """Median gradients to the middle target, for the terminal."""
    table = Table(
        title="median gradients to the middle target; fewest in bold",
        caption=f"{MISSED} missed   {DIVERGED} diverged seeds   "
        f"{EDGE} best rate ends the grid   speed-up: over "
        f"{comparison.reference if comparison else 'nobody'}",
        **_PLAIN,
    )
    table.add_column("optimizer", no_wrap=True)
    if comparison:
        table.add_column("speed-up", justify="right")
    for problem in results.scored:
        table.add_column(problem, justify="right", overflow="fold")
    speedups = dict(
        zip(comparison.optimizers, comparison.speedup, strict=True)
        if comparison
        else ()
    )
    for name, entries in raw_table(results, cells, ordered(results, comparison)):
        row = [Text(name)]
        if comparison:
            row.append(Text(f"{speedups[name]:.2f}" if name in speedups else "–"))
        for e in entries:
            text = f"{e.needed}{e.marks}" if e else NOT_RUN
            row.append(Text(text, "bold" if e and e.shade == 1.0 else ""))
        table.add_row(*row)
    return table


def interval(value: Interval) -> str:
    """A median with its bounds, where there are any."""
    if math.isnan(value.low):
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)} to {number(value.high)})"


def percent(share: Interval) -> str:
    """A share of 1 in per cent, with its bounds, where there are any."""
    text = f"{100 * share.median:.1f} %"
    if math.isnan(share.low):
        return text
    return f"{text} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def terminal_fronts(problem: str, found: Sequence[Front]) -> Table:
    """What the methods reach on a problem with two objectives, for the terminal."""
    table = Table(title=f"{problem}: fronts over weights and rates", **_PLAIN)
    table.add_column("method", no_wrap=True)
    for head in ("gradients/step", "hypervolume", "main at level", "points"):
        table.add_column(head, justify="right")
    for front in found:
        table.add_row(
            Text(front.method),
            f"{front.gradients:.3g}",
            percent(median_interval(front.share)),
            interval(median_interval(front.main_at_level)),
            str(len(front.points)),
        )
    return table


def terminal_accuracies(rows: Sequence[Accuracy]) -> Table:
    """Accuracy at the end and at its best, for the terminal."""
    table = Table(title=f"{rows[0].problem}: {rows[0].metric}", **_PLAIN)
    table.add_column("optimizer", no_wrap=True)
    for head in ("gradients/step", "at the end", "best on the way", "rate"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            Text(row.optimizer),
            f"{row.gradients:.3g}",
            percent(row.final),
            percent(row.best),
            f"{row.rate:g}{EDGE if row.edge else ''}",
        )
    return table


def fronts_csv(found: Iterable[Sequence[Front]]) -> str:
    """Every point of every front."""
    return csv_text(
        {
            "problem": front.problem,
            "method": front.method,
            "gradients_per_step": front.gradients,
            "aux_weight": point.weight,
            "learning_rate": point.rate,
            "main_median": point.main.median,
            "main_low": point.main.low,
            "main_high": point.main.high,
            "aux_median": point.aux.median,
            "aux_low": point.aux.low,
            "aux_high": point.aux.high,
            "hypervolume_share": float(np.median(front.share)),
            "main_at_level": float(np.median(front.main_at_level)),
        }
        for fronts in found
        for front in fronts
        for point in front.points
    )


def accuracies_csv(found: Iterable[Sequence[Sequence[Accuracy]]]) -> str:
    """Every accuracy of every optimizer."""
    return csv_text(
        {
            "problem": row.problem,
            "optimizer": row.optimizer,
            "metric": row.metric,
            "gradients_per_step": row.gradients,
            "learning_rate": row.rate,
            "diverged": row.diverged,
            "final_median": row.final.median,
            "final_low": row.final.low,
            "final_high": row.final.high,
            "best_median": row.best.median,
            "best_low": row.best.low,
            "best_high": row.best.high,
            "gain_median": row.gain.median,
            "gain_low": row.gain.low,
            "gain_high": row.gain.high,
            "p_value": row.p_value,
        }
        for tables in found
        for rows in tables
        for row in rows
    )


def cost_table(results: Results, optimizers: Sequence[str]) -> list[dict[str, str]]:
    """What each optimizer costs, beside the reference `optax.adam` where it ran.

    Times are geometric means over the problems that both finished.
    """
    costs = results.costs
    rows = []
    for name in optimizers:
        mine = {p: c for (p, n), c in costs.items() if n == name}
        if not mine:
            continue
        shared = [p for p in mine if (p, "optax.adam") in costs]
        ratios = [
            mine[p]["us_per_run_step"] / costs[p, "optax.adam"]["us_per_run_step"]
            for p in shared
            if costs[p, "optax.adam"]["us_per_run_step"] > 0
        ]
        total = sum(c["param_bytes"] for c in mine.values())
        rows.append(
            {
                "optimizer": name,
                "gradients": " or ".join(f"{g:.3g}" for g in results.per_step(name)),
                "state": f"{sum(c['state_bytes'] for c in mine.values()) / total:.2f}",
                "time": f"{np.exp(np.mean(np.log(ratios))):.2f}"
                if ratios and min(ratios) > 0
                else "–",
                "compile": f"{sum(c['compile_s'] for c in mine.values()):.1f}",
                "trace": f"{sum(c['trace_s'] for c in mine.values()):.1f}",
            }
        )
    return rows


def command(manifest: dict[str, Any], problem: str) -> str:
    """What makes the runs on one problem again, in a folder of its own."""
    settings = manifest["settings"]
    words = ["python", "-m", "benchmarks", "run", manifest["suite"], "-p", problem]
    usual = SUITES.get(manifest["suite"], Suite("", ()))
    defaults = usual.optimizers or default_names()
    names = list(manifest["optimizers"])
    extra = [n for n in names if n not in defaults]
    if len(names) - len(extra) < len(defaults):
        words, extra = [*words, "--only"], names
    for name in extra:
        words += ["-o", name]
    if tuple(settings["learning_rates"]) != (
        usual.learning_rates or DEFAULT_LEARNING_RATES
    ):
        rates = ",".join(f"{rate:g}" for rate in settings["learning_rates"])
        words += ["--learning-rates", rates]
    if len(settings["test_seeds"]) != usual.seeds:
        words += ["--seeds", str(len(settings["test_seeds"]))]
    if len(settings["tune_seeds"]) != usual.tune_seeds:
        words += ["--tune-seeds", str(len(settings["tune_seeds"]))]
    if settings["schedule"] != usual.schedule:
        words += ["--schedule", settings["schedule"]]
    return shlex.join([*words, "--out", f"results/{problem}"])


def provenance(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the numbers come from, as (what, text)."""
    settings, git = manifest["settings"], manifest["git"] or {}
    rates = ", ".join(f"{rate:g}" for rate in settings["learning_rates"])
    commit = git.get("commit") or "unknown"
    return [
        ("command", manifest["command"]),
        ("started", str(manifest.get("started") or "unknown")),
        ("finished", str(manifest.get("finished") or "not finished")),
        ("source", commit + (" with uncommitted changes" if git.get("dirty") else "")),
        ("versions", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items())),
        ("machine", ", ".join(f"{k}: {v}" for k, v in manifest["machine"].items())),
        ("learning rates", f"{rates}; {settings['schedule']}"),
        ("tune seeds", ", ".join(map(str, settings["tune_seeds"]))),
        ("test seeds", ", ".join(map(str, settings["test_seeds"]))),
    ]


def csv_files(cells: Cells, comparison: Comparison | None) -> dict[str, str]:
    """The contents of the CSV files, by name."""
    scored = [cell for cell in cells.values() if cell.needed.shape[1]]
    files = {"cells.csv": csv_text(map(_cell_row, scored))}
    files["targets.csv"] = csv_text(
        {
            "problem": cell.problem,
            "optimizer": cell.optimizer,
            "seed": int(seed),
            "target": i + 1,
            "gradients": float(cell.needed[s, i]),
        }
        for cell in scored
        for s, seed in enumerate(cell.seeds)
        for i in range(cell.needed.shape[1])
    )
    if comparison is not None:
        files["comparison.csv"] = csv_text(
            {
                "optimizer": name,
                "reference": comparison.reference,
                "speedup": comparison.speedup[i],
                "low": comparison.interval[i, 0],
                "high": comparison.interval[i, 1],
                "low_other_problems": comparison.wide_interval[i, 0],
                "high_other_problems": comparison.wide_interval[i, 1],
                "iqm": comparison.iqm[i],
            }
            for i, name in enumerate(comparison.optimizers)
        )
    return files


def _cell_row(cell: CellStats) -> dict[str, Any]:
    middle, final = median_interval(cell.middle), median_interval(cell.final)
    return {
        "problem": cell.problem,
        "optimizer": cell.optimizer,
        "learning_rate": cell.learning_rate,
        "grid_edge": cell.edge,
        "seeds": len(cell.seeds),
        "diverged": int(cell.diverged.sum()),
        "gradients_median": middle.median,
        "gradients_low": middle.low,
        "gradients_high": middle.high,
        "expected_runtime": expected_runtime(cell.middle, cell.budget),
        "final_median": final.median,
        "final_low": final.low,
        "final_high": final.high,
        "budget": cell.budget,
        "rates_reaching": cell.rates_reaching,
        "rates": cell.rates,
        "tolerance_decades": cell.tolerance,
        "complete": cell.complete,
    }


def csv_text(rows: Any) -> str:
    """Rows of equal keys as the text of a CSV file."""
    rows = list(rows)
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
