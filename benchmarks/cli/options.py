"""The options that `plan` and `run` share, and the plan that they choose."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.errors import UserError, suggest
from benchmarks.experiment.suites import SUITES, title

if TYPE_CHECKING:
    from benchmarks.experiment.plan import Plan
    from benchmarks.results.manifest import Manifest


def options(command: Any) -> Any:
    """Adds the argument SUITE and the options that change it."""
    parts = (
        click.argument("suite", default="quick"),
        click.option(
            "-o",
            "--optimizer",
            "specs",
            multiple=True,
            metavar="SPEC",
            help="Adds an optimizer: NAME, optax.NAME, or MODULE:FUNCTION or "
            "path/to/FILE.py:FUNCTION for one of your own. Arguments are optional: "
            "'optax.sgd(momentum=0.9)'. A set of values is tuned beside the learning "
            "rate: 'adam(b1={0.8, 0.9})'. Wrappers and gradient transformations take "
            "an optimizer as first argument: 'sam(adam, rho=0.1)'. Repeatable.",
        ),
        click.option(
            "--only",
            is_flag=True,
            help="Runs only the optimizers added with -o. Speed-ups are relative to "
            "optax.adam or, without it, to adam, and without both to the first -o.",
        ),
        click.option(
            "-p",
            "--problem",
            "problems",
            multiple=True,
            metavar="NAME",
            help="Runs this problem instead of the problems of the suite: a name, or "
            "MODULE:FUNCTION or path/to/FILE.py:FUNCTION for one of your own, which "
            "check-problem checks. Repeatable.",
        ),
        click.option(
            "--learning-rates",
            metavar="LIST",
            help="Learning rates to try, as in 1e-3,1e-2,1e-1.  "
            "[default: set by the suite; in most, 13 from 1e-5 to 10]",
        ),
        click.option(
            "--seeds",
            type=int,
            metavar="N",
            help="Number of evaluation seeds, on which results are reported: 100, 101, "
            "...  [default: 10]",
        ),
        click.option(
            "--tune-seeds",
            type=int,
            metavar="N",
            help="Number of tuning seeds, on which the learning rate is chosen: 0, 1, "
            "...  [default: set by the suite, 2 or 3]",
        ),
        click.option(
            "--schedule",
            metavar="constant|cosine",
            help="Learning rate schedule; cosine decays to 0.  "
            "[default: set by the suite; in most, constant]",
        ),
    )
    for part in reversed(parts):
        command = part(command)
    return command


out = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the results.  [default: results/SUITE, or results/PROBLEM with "
    "a problem that is not in the suite]",
)


def results_folder(plan: "Plan", out: Path | None) -> Path:
    """The folder for the results of a plan: the one that is given, or the default."""
    from benchmarks.results import paths

    return out or Path("results") / paths.slug(plan.suite.replace(", ", "_"))


def chosen_plan(
    suite: str,
    specs: tuple[str, ...],
    only: bool,
    problems: tuple[str, ...],
    learning_rates: str | None,
    seeds: int | None,
    tune_seeds: int | None,
    schedule: str | None,
) -> "Plan":
    """The plan that the options choose.

    Raises:
      UserError: An option has an invalid value, or nothing is left to run.
    """
    from benchmarks.engine import runner
    from benchmarks.experiment import plan
    from benchmarks.problems import load_problem
    from benchmarks.roster import resolver
    from benchmarks.roster.specs import sweep

    if suite not in SUITES:
        hint = suggest(suite, SUITES) or f" The suites are: {', '.join(SUITES)}."
        msg = f"unknown suite {suite!r}.{hint}"
        raise UserError(msg)
    defaults = SUITES[suite]
    seeds = defaults.seeds if seeds is None else seeds
    tune_seeds = defaults.tune_seeds if tune_seeds is None else tune_seeds
    if only and not specs:
        msg = "--only needs at least one optimizer: add one with -o."
        raise UserError(msg)
    for option, count in (("--seeds", seeds), ("--tune-seeds", tune_seeds)):
        if count < 1:
            msg = f"{option} must be at least 1, got {count}."
            raise UserError(msg)
    rates = defaults.learning_rates or plan.DEFAULT_LEARNING_RATES
    settings = plan.Settings(
        learning_rates=rates if learning_rates is None else _rates(learning_rates),
        tune_seeds=tuple(range(tune_seeds)),
        test_seeds=tuple(range(100, 100 + seeds)),
        schedule=defaults.schedule if schedule is None else schedule,
    )
    chosen = list(map(load_problem, dict.fromkeys(problems or defaults.problems)))
    names = [problem.name for problem in chosen]
    if double := next((n for n in names if names.count(n) > 1), None):
        msg = f"two problems are named {double!r}: give one of them another name."
        raise UserError(msg)
    sweeps, variants = [], []
    for spec in specs:
        if found := sweep(spec):
            sweeps.append(found)
            variants += found.variants.values()
    plain = [spec for spec in specs if sweep(spec) is None]
    named = list(map(resolver.resolve, (*plain, *variants)))
    everything = named if only else plan.of_suite(defaults) + named
    # -o may repeat an optimizer of the suite.
    optimizers = {optimizer.name: optimizer for optimizer in everything}
    others = {o.name for o in everything[: len(everything) - len(variants)]}
    if twice := next(
        (v for v in variants if v in others or variants.count(v) > 1), None
    ):
        msg = (
            f"{twice!r} is named twice, once in a set of values: name it once; --only "
            "leaves out the optimizers of the suite."
        )
        raise UserError(msg)
    made = plan.make_plan(
        title(suite, [problem.name for problem in chosen]),
        chosen,
        list(optimizers.values()),
        settings,
        runner.source_hash(),
        sweeps=sweeps,
    )
    if not made.cells:
        problem, optimizer, reason = made.skipped[0]
        msg = f"nothing is left to run: {problem} × {optimizer} is skipped: {reason}."
        raise UserError(msg)
    return made


def _rates(text: str) -> tuple[float, ...]:
    rates = []
    for word in text.split(","):
        try:
            rates.append(float(word))
        except ValueError:
            msg = (
                f"--learning-rates: {word.strip()!r} is not a number; write numbers "
                "with commas between them, as in 1e-3,1e-2."
            )
            raise UserError(msg) from None
    return tuple(rates)


def chosen_pairs(
    first: "Manifest",
    second: "Manifest",
    folders: tuple[Path, Path],
    chosen: tuple[str, ...],
) -> list[tuple[str, str]]:
    """The pairs of optimizers to compare: the first's name in one folder, the second's.

    Raises:
      UserError: A folder lacks an optimizer, or they have none in common.
    """
    if not chosen:
        if shared := [name for name in first.optimizers if name in second.optimizers]:
            return [(name, name) for name in shared]
        msg = (
            f"{folders[0]} and {folders[1]} have no optimizer in common: name one of "
            "each with -o."
        )
        raise UserError(msg)
    pair = chosen[0], chosen[-1]
    for name, manifest, folder in zip(pair, (first, second), folders, strict=True):
        if name not in manifest.optimizers:
            known = list(manifest.optimizers)
            hint = suggest(name, known) or f" It has: {', '.join(known)}."
            msg = f"{folder} has no results of {name!r}.{hint}"
            raise UserError(msg)
    return [pair]
