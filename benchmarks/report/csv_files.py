"""The numbers of the report as CSV files."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from benchmarks.analysis.accuracies import Accuracy
from benchmarks.analysis.comparison import Comparison, Pair
from benchmarks.analysis.fronts import ParetoFront
from benchmarks.analysis.stats import CellStats
from benchmarks.analysis.summary import Analysis


def render_csv(analysis: Analysis) -> dict[str, str]:
    """The text of each CSV file by name; files without rows are left out."""
    scored = [cell for cell in analysis.cells.values() if cell.needed.shape[1]]
    comparison = analysis.comparison
    fronts = [f for found in analysis.fronts.values() for f in found]
    accuracies = [
        row for found in analysis.accuracies.values() for rows in found for row in rows
    ]
    rows = {
        "cells.csv": [
            _cell_row(c)
            | {
                "fallback": analysis.fallbacks.get((c.problem, c.optimizer), ""),
                "chosen": analysis.chosen.get((c.problem, c.optimizer), ""),
            }
            for c in scored
        ],
        "targets.csv": _target_rows(scored),
        "comparison.csv": _comparison_rows(comparison) if comparison else (),
        "pairs.csv": map(_pair_row, comparison.pairs.values()) if comparison else (),
        "fronts.csv": _front_rows(fronts),
        "accuracies.csv": map(_accuracy_row, accuracies),
    }
    texts = {name: csv_text(found) for name, found in rows.items()}
    return {name: text for name, text in texts.items() if text}


def csv_text(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of equal keys as the text of a CSV file; empty without rows."""
    rows = list(rows)
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _cell_row(cell: CellStats) -> dict[str, Any]:
    middle, final = cell.middle_interval, cell.final_interval
    return {
        "problem": cell.problem,
        "optimizer": cell.optimizer,
        "learning_rate": cell.learning_rate,
        "grid_boundary": cell.grid_boundary,
        "seeds": len(cell.seeds),
        "diverged": int(cell.diverged.sum()),
        "reached": int(cell.reached.sum()),
        "ends_below": int(cell.ends_below.sum()),
        "gradients_median": middle.median,
        "gradients_low": middle.low,
        "gradients_high": middle.high,
        "expected_runtime": cell.expected_runtime,
        "final_median": final.median,
        "final_low": final.low,
        "final_high": final.high,
        "budget": cell.budget,
        "learning_rates_reaching": cell.reaching,
        "learning_rates": len(cell.learning_rates),
        "tolerance_decades": cell.tolerance,
        "complete": cell.complete,
    }


def _target_rows(cells: Iterable[CellStats]) -> Iterable[dict[str, Any]]:
    for cell in cells:
        for s, seed in enumerate(cell.seeds):
            for i in range(cell.needed.shape[1]):
                yield {
                    "problem": cell.problem,
                    "optimizer": cell.optimizer,
                    "seed": int(seed),
                    "target": i + 1,
                    "gradients": float(cell.needed[s, i]),
                }


def _comparison_rows(comparison: Comparison) -> Iterable[dict[str, Any]]:
    for i, name in enumerate(comparison.optimizers):
        yield {
            "optimizer": name,
            "reference": comparison.reference,
            "speedup": comparison.speedup[i],
            "low": comparison.interval[i, 0],
            "high": comparison.interval[i, 1],
            "low_other_problems": comparison.wide_interval[i, 0],
            "high_other_problems": comparison.wide_interval[i, 1],
            "iqm": comparison.iqm[i],
        }


def _pair_row(pair: Pair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "ratio": pair.ratio,
        "low": pair.interval[0],
        "high": pair.interval[1],
        "low_other_problems": pair.wide_interval[0],
        "high_other_problems": pair.wide_interval[1],
        "p_value": pair.p_value,
    }


def _front_rows(fronts: Iterable[ParetoFront]) -> Iterable[dict[str, Any]]:
    for front in fronts:
        for point in front.points:
            yield {
                "problem": front.problem,
                "method": front.method,
                "gradients_per_step": front.gradients_per_step,
                "aux_weight": point.weight,
                "learning_rate": point.learning_rate,
                "main_median": point.main.median,
                "main_low": point.main.low,
                "main_high": point.main.high,
                "aux_median": point.aux.median,
                "aux_low": point.aux.low,
                "aux_high": point.aux.high,
                "hypervolume_fraction": front.hypervolume_interval.median,
                "hypervolume_low": front.hypervolume_interval.low,
                "hypervolume_high": front.hypervolume_interval.high,
                "hypervolume_p_value": front.p_value,
                "main_at_level": front.main_interval.median,
                "main_at_level_low": front.main_interval.low,
                "main_at_level_high": front.main_interval.high,
            }


def _accuracy_row(row: Accuracy) -> dict[str, Any]:
    return {
        "problem": row.problem,
        "optimizer": row.optimizer,
        "metric": row.metric,
        "gradients_per_step": row.gradients_per_step,
        "learning_rate": row.learning_rate,
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
