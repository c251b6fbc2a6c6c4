"""The command line of a run, made from what a results folder holds."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiment.plan import DEFAULT_LEARNING_RATES, Settings
from benchmarks.experiment.suites import SUITES
from benchmarks.roster.resolver import default_names


def run_command(
    suite: str,
    problems: Sequence[str],
    optimizers: Sequence[str],
    settings: Settings,
    out: Path,
) -> str:
    """The command that runs these optimizers on these problems in a folder.

    Options that equal the defaults of the suite are left out. `suite` may be a title
    that is no suite; the command then starts from the default suite.
    """
    words = ["python", "-m", "benchmarks", "run"]
    if suite in SUITES:
        words.append(suite)
    defaults = SUITES.get(suite, SUITES["quick"])
    if tuple(problems) != defaults.problems:
        for name in problems:
            words += ["-p", name]
    roster = defaults.optimizers or default_names()
    extra = [name for name in optimizers if name not in roster]
    if len(optimizers) - len(extra) < len(roster):
        words.append("--only")
        extra = list(optimizers)
    for name in extra:
        words += ["-o", name]
    if settings.learning_rates != (defaults.learning_rates or DEFAULT_LEARNING_RATES):
        rates = ",".join(repr(rate) for rate in settings.learning_rates)
        words += ["--learning-rates", rates]
    if len(settings.test_seeds) != defaults.seeds:
        words += ["--seeds", str(len(settings.test_seeds))]
    if len(settings.tune_seeds) != defaults.tune_seeds:
        words += ["--tune-seeds", str(len(settings.tune_seeds))]
    if settings.schedule != defaults.schedule:
        words += ["--schedule", settings.schedule]
    return shlex.join([*words, "--out", str(out)])


def suite_of(problems: Sequence[str], settings: Settings) -> str:
    """The suite with exactly these problems, grid and schedule; empty if none has."""
    for name, suite in SUITES.items():
        rates = suite.learning_rates or DEFAULT_LEARNING_RATES
        if (
            set(problems) == set(suite.problems)
            and settings.learning_rates == rates
            and settings.schedule == suite.schedule
        ):
            return name
    return ""
