"""Draw the README's picture from the quick suite: `make figures` runs it first."""

from pathlib import Path

from benchmarks.analysis.summary import analyse
from benchmarks.report.readme import readme_figure
from benchmarks.results import files, store

ROOT = Path(__file__).parents[1]


def write_readme_figure(folder: Path, path: Path) -> None:
    """Draws the README's picture from a results folder into `path`.

    Raises:
      UserError: The folder holds no finished runs.
    """
    files.write_text(path, readme_figure(analyse(store.load(folder))).file())


if __name__ == "__main__":
    write_readme_figure(ROOT / "results" / "quick", ROOT / "docs" / "convergence.svg")
    print("wrote docs/convergence.svg")
