"""The report as pages: HTML that works offline, and the same in Markdown."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.analysis.comparison import groups
from benchmarks.analysis.stats import median_interval
from benchmarks.analysis.summary import Analysis
from benchmarks.report import formats, reproduce, tables
from benchmarks.report.plotting import line_styles
from benchmarks.report.svg import RenderedFigure
from benchmarks.report.verdict import verdict

_KINDS = ("speedup", "front", "convergence", "sensitivity", "ecdf", "trajectory")


def render_html(
    analysis: Analysis, figures: Sequence[RenderedFigure], folder: Path
) -> str:
    """The report as one HTML page.

    Args:
      analysis: The analysis.
      figures: Its figures, which become part of the page.
      folder: The results folder, for the command that writes the report again.
    """
    return _render("report.html", analysis, figures, folder)


def render_markdown(
    analysis: Analysis, figures: Sequence[RenderedFigure], folder: Path
) -> str:
    """The report as Markdown, which links to `figures/*.svg`."""
    return _render("report.md", analysis, figures, folder)


def _render(
    template: str, analysis: Analysis, figures: Sequence[RenderedFigure], folder: Path
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": _code,
        "number": formats.number,
        "interval": formats.interval,
        "percent": formats.percent,
        "points": formats.percentage_points,
        "median": median_interval,
    }
    content = _content(analysis, figures, folder)
    return environment.get_template(template).render(content)


def _content(
    analysis: Analysis, figures: Sequence[RenderedFigure], folder: Path
) -> dict[str, Any]:
    manifest, styles = analysis.manifest, line_styles(analysis)
    return {
        "suite": manifest.suite,
        "verdict": verdict(analysis),
        "problems": manifest.problems,
        "scored": manifest.scored,
        "fronts": analysis.fronts,
        "accuracies": analysis.accuracies,
        "rows": tables.gradient_rows(analysis),
        "comparison": analysis.comparison,
        "groups": groups(analysis.comparison) if analysis.comparison else [],
        "figures": {kind: [f for f in figures if f.kind == kind] for kind in _KINDS},
        "gray": [name for name in manifest.optimizers if name not in styles],
        "costs": tables.cost_rows(analysis),
        "skipped": manifest.skipped,
        "failed": manifest.failed,
        "provenance": tables.provenance_rows(manifest),
        "commands": {p: reproduce.run_command(manifest, p) for p in manifest.problems},
        "redraw": reproduce.report_command(folder),
    }


def _code(text: str) -> str:
    """Escaped HTML in which `names` are set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
