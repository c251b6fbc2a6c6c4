"""The report of a results folder: one HTML file that works offline, and its twin."""

import html
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Group

from benchmarks.analysis.accuracies import accuracies
from benchmarks.analysis.comparison import Comparison, compare
from benchmarks.analysis.fronts import fronts
from benchmarks.analysis.stats import CellStats, median_interval, summarize
from benchmarks.report import svg, tables
from benchmarks.report.figures import (
    Drawing,
    ecdf_figure,
    front_figure,
    looks,
    problem_panels,
    speedup_figure,
)
from benchmarks.report.trajectories import trajectory_panels
from benchmarks.report.verdict import verdict
from benchmarks.results import files, store
from benchmarks.results.store import Results

Cells = dict[tuple[str, str], CellStats]


def write_report(out: Path) -> Path:
    """Writes report.html, report.md, figures/*.svg and summary/*.csv.

    Whatever is finished is reported; the rest is shown as not run.

    Returns:
      The path of report.html.

    Raises:
      UserError: The folder holds no run, a file in it is damaged, or it cannot be
        written.
    """
    results = store.load(out)
    cells, comparison = _summary(results)
    drawings = draw_all(results, cells, comparison)
    for drawing in drawings:
        files.write_text(out / "figures" / f"{drawing.name}.svg", drawing.file())
    texts = tables.csv_files(cells, comparison)
    content = _content(results, cells, comparison, drawings, out)
    texts["fronts.csv"] = tables.fronts_csv(content["fronts"].values())
    texts["accuracies.csv"] = tables.accuracies_csv(content["accuracies"].values())
    for name, text in texts.items():
        if not text:  # nothing of that kind was run
            continue
        files.write_text(out / "summary" / name, text)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": _code,
        "number": tables.number,
        "interval": tables.interval,
        "percent": tables.percent,
        "median": median_interval,
    }
    for name in ("report.md", "report.html"):
        text = environment.get_template(name).render(content)
        files.write_text(out / name, text)
    return out / "report.html"


def summary_table(results: Results) -> Group:
    """The tables for the terminal."""
    cells, comparison = _summary(results)
    parts = [tables.terminal_table(results, cells, comparison)] * bool(results.scored)
    for problem in results.with_fronts:
        parts.append(tables.terminal_fronts(problem, fronts(results, problem)))
    for problem in results.with_accuracies:
        parts += map(tables.terminal_accuracies, accuracies(results, cells, problem))
    return Group(*parts)


def draw_all(
    results: Results, cells: Cells, comparison: Comparison | None
) -> list[Drawing]:
    """Every figure of the report."""
    shown = looks(comparison, list(results.manifest["optimizers"]))
    with svg.style():
        drawings = problem_panels(results, cells, shown)
        drawings += trajectory_panels(results, cells, shown)
        for problem in results.with_fronts:
            entry, found = (
                results.manifest["problems"][problem],
                fronts(results, problem),
            )
            drawings += [front_figure(problem, entry, found)] if found else []
        if comparison is not None:
            drawings.append(ecdf_figure(cells, comparison, shown))
            if comparison.p_values is not None and len(comparison.optimizers) > 1:
                drawings.append(speedup_figure(comparison))
    return drawings


def _summary(results: Results) -> tuple[Cells, Comparison | None]:
    manifest, cells = results.manifest, summarize(results)
    return cells, compare(cells, results.scored, tuple(manifest["optimizers"]))


def _content(
    results: Results,
    cells: Cells,
    comparison: Comparison | None,
    drawings: list[Drawing],
    out: Path,
) -> dict[str, Any]:
    manifest = results.manifest
    names = tables.ordered(results, comparison)
    shown = looks(comparison, list(manifest["optimizers"]))
    return {
        "suite": manifest["suite"],
        "verdict": verdict(results, cells, comparison),
        "problems": manifest["problems"],
        "scored": results.scored,
        "fronts": {p: fronts(results, p) for p in results.with_fronts},
        "accuracies": {
            p: accuracies(results, cells, p) for p in results.with_accuracies
        },
        "rows": tables.raw_table(results, cells, names),
        "comparison": comparison,
        "figures": {
            kind: [d for d in drawings if d.kind == kind]
            for kind in (
                *("speedup", "front", "convergence", "sensitivity", "ecdf"),
                "trajectory",
            )
        },
        "hidden": [n for n in manifest["optimizers"] if n not in shown],
        "costs": tables.cost_table(results, names),
        "skipped": manifest["skipped"],
        "failed": manifest["failed"],
        "provenance": tables.provenance(manifest),
        "commands": {p: tables.command(manifest, p) for p in manifest["problems"]},
        "redraw": shlex.join(["python", "-m", "benchmarks", "report", str(out)]),
    }


def _code(text: str) -> str:
    """Escaped HTML in which `names` are set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
