"""Writes the report of an analysis into a folder."""

from pathlib import Path

from benchmarks.analysis.summary import Analysis
from benchmarks.report.csv_files import render_csv
from benchmarks.report.figures import render_figures
from benchmarks.report.pages import render_pages
from benchmarks.results import files


def write_report(analysis: Analysis, folder: Path) -> Path:
    """Writes report.html, report.md, figures/*.svg and summary/*.csv.

    Removes the figures and tables of an earlier report that this one does not have.

    Returns:
      The path of report.html.

    Raises:
      UserError: A file cannot be written.
    """
    figures = render_figures(analysis)
    texts = {f"figures/{figure.name}.svg": figure.file() for figure in figures}
    for name, text in render_csv(analysis).items():
        texts[f"summary/{name}"] = text
    texts |= render_pages(analysis, figures, folder)
    for name, text in texts.items():
        files.write_text(folder / name, text)
    for old in (*folder.glob("figures/*.svg"), *folder.glob("summary/*.csv")):
        if str(old.relative_to(folder)) not in texts:
            old.unlink()
    return folder / "report.html"
