"""What a results folder lacks or does not show, in words."""

from pathlib import Path

from benchmarks.analysis.summary import Analysis
from benchmarks.results import strays
from benchmarks.results.commands import run_command
from benchmarks.results.store import Missing


def missing_lines(analysis: Analysis, folder: Path) -> list[str]:
    """One line for each incomplete cell, one for results that are not shown."""
    count = len(analysis.manifest.settings.seeds)
    lines = [_line(lacks, count) for lacks in analysis.missing]
    if others := analysis.unlisted:
        lines.append(
            "Not shown, because the manifest does not list them: "
            f"{strays.describe(others)}; {strays.way_to_list(folder)}"
        )
    return lines


def missing_summary(analysis: Analysis, folder: Path) -> str:
    """How much is missing, and the command that computes it; empty if nothing is."""
    if not analysis.missing:
        return ""
    manifest = analysis.manifest
    runs = sum(len(lacks.seeds) for lacks in analysis.missing)
    every = analysis.planned * len(manifest.settings.seeds)
    command = run_command(
        manifest.suite,
        [entry.spec or name for name, entry in manifest.problems.items()],
        tuple(manifest.optimizers),
        manifest.settings,
        folder,
    )
    if any(lacks.foreign for lacks in analysis.missing):
        command += " --fresh"
    verb = "is" if runs == 1 else "are"
    what = (
        f"{runs} of {every} seed runs {verb} missing" if runs else "Files are damaged"
    )
    return f"{what}. This command completes the folder: `{command}`"


def _line(lacks: Missing, count: int) -> str:
    parts = []
    if lacks.seeds:
        seeds = ", ".join(map(str, lacks.seeds))
        verb, noun = ("is", "seed") if len(lacks.seeds) == 1 else ("are", "seeds")
        some = f"{len(lacks.seeds)} of {count} seed runs {verb} missing"
        parts.append(
            "nothing is stored"
            if len(lacks.seeds) == count and not lacks.damaged and not lacks.foreign
            else f"{some} ({noun} {seeds})"
        )
    parts += [f"{path} is damaged" for path in lacks.damaged]
    parts += [f"{path} was made by other code or settings" for path in lacks.foreign]
    return f"{lacks.problem} × {lacks.optimizer}: {'; '.join(parts)}"
