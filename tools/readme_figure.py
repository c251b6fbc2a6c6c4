"""Draw the README's picture from the quick suite: `make figures` runs it first."""

from pathlib import Path

from benchmarks.report.figures import write_readme_figure

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    write_readme_figure(ROOT / "results" / "quick", ROOT / "docs" / "convergence.svg")
    print("wrote docs/convergence.svg")
