"""The commands that reproduce runs and reports."""

import shlex
from pathlib import Path

from benchmarks.experiment.plan import DEFAULT_LEARNING_RATES
from benchmarks.experiment.suites import SUITES, Suite
from benchmarks.results.manifest import Manifest
from benchmarks.roster.resolver import default_names


def run_commands(manifest: Manifest) -> dict[str, str]:
    """By problem, the command that repeats its runs in a folder of its own."""
    settings = manifest.settings
    words = []
    suite = SUITES.get(manifest.suite, Suite("", ()))
    defaults = suite.optimizers or default_names()
    names = list(manifest.optimizers)
    extra = [n for n in names if n not in defaults]
    if len(names) - len(extra) < len(defaults):
        words, extra = ["--only"], names
    for name in extra:
        words += ["-o", name]
    if settings.learning_rates != (suite.learning_rates or DEFAULT_LEARNING_RATES):
        rates = ",".join(f"{rate:g}" for rate in settings.learning_rates)
        words += ["--learning-rates", rates]
    if len(settings.test_seeds) != suite.seeds:
        words += ["--seeds", str(len(settings.test_seeds))]
    if len(settings.tune_seeds) != suite.tune_seeds:
        words += ["--tune-seeds", str(len(settings.tune_seeds))]
    if settings.schedule != suite.schedule:
        words += ["--schedule", settings.schedule]
    start = ["python", "-m", "benchmarks", "run", manifest.suite]
    return {
        name: shlex.join(
            [*start, "-p", entry.spec or name, *words, "--out", f"results/{name}"]
        )
        for name, entry in manifest.problems.items()
    }


def report_command(folder: Path) -> str:
    """The command that writes the report of a results folder again."""
    return shlex.join(["python", "-m", "benchmarks", "report", str(folder)])
