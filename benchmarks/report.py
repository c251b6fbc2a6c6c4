"""The report of a results folder: one HTML file that works offline, and its twin."""

import html
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table

from benchmarks import files, store, svg, tables
from benchmarks.comparison import Comparison, compare
from benchmarks.figures import (
    Drawing,
    ecdf_figure,
    looks,
    problem_panels,
    speedup_figure,
)
from benchmarks.stats import CellStats, summarize
from benchmarks.store import Results
from benchmarks.trajectories import trajectory_panels
from benchmarks.verdict import verdict

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
    for name, text in tables.csv_files(cells, comparison).items():
        files.write_text(out / "summary" / name, text)
    content = _content(results, cells, comparison, drawings, out)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    for name in ("report.md", "report.html"):
        text = environment.get_template(name).render(content)
        files.write_text(out / name, text)
    return out / "report.html"


def summary_table(results: Results) -> Table:
    """The raw table for the terminal."""
    return tables.terminal_table(results, *_summary(results))


def draw_all(
    results: Results, cells: Cells, comparison: Comparison | None
) -> list[Drawing]:
    """Every figure of the report."""
    shown = looks(comparison, list(results.manifest["optimizers"]))
    with svg.style():
        drawings = problem_panels(results, cells, shown)
        drawings += trajectory_panels(results, cells, shown)
        if comparison is not None:
            drawings.append(ecdf_figure(cells, comparison, shown))
            if comparison.p_values is not None and len(comparison.optimizers) > 1:
                drawings.append(speedup_figure(comparison))
    return drawings


def _summary(results: Results) -> tuple[Cells, Comparison | None]:
    manifest, cells = results.manifest, summarize(results)
    return cells, compare(
        cells, tuple(manifest["problems"]), tuple(manifest["optimizers"])
    )


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
        "rows": tables.raw_table(results, cells, names),
        "comparison": comparison,
        "figures": {
            kind: [d for d in drawings if d.kind == kind]
            for kind in ("speedup", "convergence", "sensitivity", "ecdf", "trajectory")
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
