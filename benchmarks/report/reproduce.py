"""The commands that reproduce runs and reports."""

import shlex
from pathlib import Path

from benchmarks.results.commands import run_command
from benchmarks.results.manifest import Manifest


def run_commands(manifest: Manifest) -> dict[str, str]:
    """By problem, the command that repeats its runs in a folder of its own."""
    optimizers = tuple(manifest.optimizers)
    return {
        name: run_command(
            manifest.suite,
            [entry.spec or name],
            optimizers,
            manifest.settings,
            Path("results") / name,
        )
        for name, entry in manifest.problems.items()
    }


def report_command(folder: Path) -> str:
    """The command that writes the report of a results folder again."""
    return shlex.join(["python", "-m", "benchmarks", "report", str(folder)])
