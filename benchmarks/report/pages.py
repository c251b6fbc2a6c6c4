"""The report as pages: HTML that works offline, and the same in Markdown."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.analysis.comparison import FLIPS
from benchmarks.analysis.summary import Analysis
from benchmarks.experiment.suites import SUITES
from benchmarks.report import formats, reproduce, tables
from benchmarks.report.missing import missing_lines, missing_summary
from benchmarks.report.plotting import line_styles
from benchmarks.report.svg import RenderedFigure
from benchmarks.report.verdict import Paragraph, verdict

_KINDS = ("speedup", "front", "convergence", "sensitivity", "ecdf", "trajectory")


def render_pages(
    analysis: Analysis, figures: Sequence[RenderedFigure], folder: Path
) -> dict[str, str]:
    """The text of report.md and report.html by name.

    The HTML page contains the figures; the Markdown links to `figures/*.svg`.

    Args:
      analysis: The analysis.
      figures: Its figures.
      folder: The results folder, for the command that writes the report again.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": formats.number,
        "interval": formats.interval,
        "percent": formats.percent,
        "points": formats.percentage_points,
        "p_value": formats.p_value,
        "code": _html,
    }
    content = _content(analysis, figures, folder)
    return {
        "report.md": environment.get_template("report.md").render(content),
        "report.html": environment.get_template("report.html").render(content),
    }


def _content(
    analysis: Analysis, figures: Sequence[RenderedFigure], folder: Path
) -> dict[str, Any]:
    manifest, styles = analysis.manifest, line_styles(analysis)
    comparison = analysis.comparison
    speeds = tables.speed_rows(comparison) if comparison else []
    named = {*styles, *analysis.identical}
    paragraphs = verdict(analysis)
    if summary := missing_summary(analysis, folder):
        paragraphs.insert(0, Paragraph("Incomplete", summary))
    return {
        "title": f"the {manifest.suite} suite"
        if manifest.suite in SUITES
        else manifest.suite,
        "figures": {kind: [f for f in figures if f.kind == kind] for kind in _KINDS},
        "gray": [name for name in manifest.optimizers if name not in named],
        "verdict": paragraphs,
        "problems": manifest.problems,
        "scored": analysis.scored,
        "fronts": analysis.fronts,
        "accuracies": analysis.accuracies,
        "rows": tables.gradient_rows(analysis),
        "middle_targets": {
            p: tables.middle_target(manifest.problems[p]) for p in analysis.scored
        },
        "symbols": formats.SYMBOLS,
        "comparison": comparison,
        "speeds": speeds,
        "tested": any(row.p_value for row in speeds),
        "others": any(row.elsewhere for row in speeds),
        "flips": FLIPS,
        "pairs": tables.pair_rows(comparison) if comparison else [],
        "costs": tables.cost_rows(analysis),
        "cost_baseline": tables.cost_baseline(analysis),
        "skipped": manifest.skipped,
        "failed": manifest.failed,
        "missing": missing_lines(analysis, folder),
        "provenance": tables.provenance_rows(manifest),
        "commands": reproduce.run_commands(manifest),
        "redraw": reproduce.report_command(folder),
    }


def _html(text: str) -> str:
    """Escaped HTML in which `names` are set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
