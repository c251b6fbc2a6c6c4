"""The part of the command line that `plan` and `run` share: what is to be run."""

from typing import TYPE_CHECKING, Any

import click

from benchmarks.errors import UserError
from benchmarks.experiment.suites import SUITES

if TYPE_CHECKING:
    from benchmarks.experiment.plan import Plan


def options(command: Any) -> Any:
    """Adds the argument and options that say what is run."""
    parts = (
        click.argument("suite", default="quick"),
        click.option(
            "-o",
            "--optimizer",
            "specs",
            multiple=True,
            metavar="SPEC",
            help="Also run this optimizer, in the same table: NAME, optax.NAME or "
            "MODULE:FACTORY (a module in the current folder or installed), with "
            "arguments if you like: 'optax.sgd(momentum=0.9)'; around another: "
            "'sam(adam, rho=0.1)'. Repeatable.",
        ),
        click.option(
            "--only",
            is_flag=True,
            help="Run the optimizers named with -o, and no others.",
        ),
        click.option(
            "-p",
            "--problem",
            "problems",
            multiple=True,
            metavar="NAME",
            help="Run this problem instead of all problems of the suite. Repeatable.",
        ),
        click.option(
            "--learning-rates",
            metavar="LIST",
            help="Grid of rates, as in 1e-3,1e-2,1e-1.  "
            "[default: the suite's; in most 13 from 1e-5 to 10, two per decade]",
        ),
        click.option(
            "--seeds",
            type=int,
            metavar="N",
            help="Number of seeds that are reported, from 100 on.  [default: 10]",
        ),
        click.option(
            "--tune-seeds",
            type=int,
            metavar="N",
            help="Number of seeds that choose the learning rate, from 0 on.  "
            "[default: the suite's, 2 or 3]",
        ),
        click.option(
            "--schedule",
            metavar="constant|cosine",
            help="The learning rate over time; cosine ends at 0.  "
            "[default: the suite's, in most constant]",
        ),
    )
    for part in reversed(parts):
        command = part(command)
    return command


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
      UserError: An option makes no sense.
    """
    from benchmarks.engine import runner
    from benchmarks.experiment import plan, targets
    from benchmarks.problems import load_problem
    from benchmarks.roster import resolver
    from benchmarks.roster.specs import suggest

    if suite not in SUITES:
        hint = suggest(suite, SUITES) or f" There are: {', '.join(SUITES)}."
        msg = f"unknown suite {suite!r}.{hint}"
        raise UserError(msg)
    usual = SUITES[suite]
    seeds = usual.seeds if seeds is None else seeds
    tune_seeds = usual.tune_seeds if tune_seeds is None else tune_seeds
    if only and not specs:
        msg = "--only runs what -o names, but there is no -o: name one."
        raise UserError(msg)
    for option, count in (("--seeds", seeds), ("--tune-seeds", tune_seeds)):
        if count < 1:
            msg = f"{option} must be at least 1, got {count}."
            raise UserError(msg)
    rates = usual.learning_rates or plan.DEFAULT_LEARNING_RATES
    settings = plan.Settings(
        learning_rates=rates if learning_rates is None else _rates(learning_rates),
        tune_seeds=tuple(range(tune_seeds)),
        test_seeds=tuple(range(100, 100 + seeds)),
        schedule=usual.schedule if schedule is None else schedule,
    )
    chosen = [load_problem(name) for name in dict.fromkeys(problems or usual.problems)]
    for problem in chosen:
        targets.targets_of(problem)  # a problem without targets fails here, not late
    named = [resolver.resolve(spec) for spec in specs]
    everything = named if only else plan.of_suite(usual) + named
    # Naming what the roster already has is no mistake.
    optimizers = {optimizer.name: optimizer for optimizer in everything}
    made = plan.make_plan(
        suite, chosen, list(optimizers.values()), settings, runner.source_hash()
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
