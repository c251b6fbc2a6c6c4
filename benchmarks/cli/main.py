"""The command line: parses, calls, prints; jax is imported only by what needs it."""

import errno
from pathlib import Path
from typing import Any

import click

from benchmarks.cli import commands, options
from benchmarks.errors import UserError

_INTERRUPTED = 130


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            resumable = ctx.invoked_subcommand == "run"
            hint = "; run the same command to continue" if resumable else ""
            click.echo(f"stopped{hint}", err=True)
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough
                raise
            where = f" {error.filename!r}" if error.filename else ""
            full = error.errno == errno.ENOSPC
            cure = "; free some space and run the same command again" if full else ""
            click.echo(f"error: {error.strerror or error}{where}{cure}", err=True)
            ctx.exit(2)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    epilog="""\b
Examples:
  python -m benchmarks run quick
  python -m benchmarks run quick -o my_module:my_optimizer
  python -m benchmarks describe "amsgrad(variant='paper')"

Each command explains itself with -h. Exit codes: 0 done, 1 some runs failed,
2 bad input, 130 stopped by Ctrl-C.""",
)
def main() -> None:
    """Trains small models and classic functions with many optimizers, and reports.

    Every optimizer runs on every problem over a grid of learning rates, from the
    same starts and with the same batches; its rate is chosen on some seeds and
    reported on others.
    """


@main.command("list")
@click.argument(
    "what", type=click.Choice(["problems", "optimizers", "suites"]), required=False
)
def list_(what: str | None) -> None:
    """Lists problems, optimizers or suites; all three without an argument."""
    from benchmarks.cli import show

    tables = {
        "suites": show.suites,
        "problems": show.problems,
        "optimizers": show.optimizers,
    }
    out = show.console()
    for name, make in tables.items():
        if what in (None, name):
            out.print(make())
    if what in (None, "optimizers"):
        click.echo(
            "Any optax.NAME or optax.contrib.NAME works as well, and MODULE:FACTORY "
            "for your own."
        )


@main.command(
    epilog="""\b
Examples:
  python -m benchmarks describe rosen2
  python -m benchmarks describe optax.lion"""
)
@click.argument("name")
def describe(name: str) -> None:
    """Says what a problem or an optimizer is.

    For a problem: formula, source, budget and targets. For an optimizer: signature,
    idea and the size of its state.
    """
    from benchmarks.cli import show

    show.console().print(show.describe(name))


@main.command("plan")
@options.options
def plan_(**chosen: Any) -> None:
    """Shows what `run` would do and what it would cost; runs nothing.

    SUITE is quick by default; `list suites` shows all.
    """
    from benchmarks.cli import show

    plan = options.chosen_plan(**chosen)
    costs = show.costs(plan)
    show.console().print(show.plan_table(plan, costs))
    click.echo(
        f"optimizers: {', '.join(dict.fromkeys(c.optimizer.name for c in plan.cells))}"
    )
    for problem, optimizer, reason in plan.skipped:
        click.echo(f"skipped: {problem} × {optimizer}: {reason}")
    click.echo(show.plan_line(plan, costs))


@main.command(
    epilog="""\b
Examples:
  python -m benchmarks run quick
  python -m benchmarks run quick -o my_module:my_optimizer
  python -m benchmarks run smoke --only -o adam -o 'optax.sgd(momentum=0.9)'
  python -m benchmarks run -p rosen2 --learning-rates 1e-2,1e-1,1 --schedule cosine"""
)
@options.options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the results.  [default: results/SUITE]",
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Discard what other code, data or settings left of this plan in DIR, instead "
    "of refusing to mix.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs at the same time; numbers do not depend on it.  "
    "[default: one per core and device]",
)
@click.option("--no-report", is_flag=True, help="Leave out the report.")
def run(
    out: Path | None,
    fresh: bool,
    workers: int | None,
    no_report: bool,
    **chosen: Any,
) -> None:
    """Runs a suite, prints the table and writes the report.

    SUITE is quick by default; `list suites` shows all. A run that was stopped, however
    it was, goes on where it stood when the same command is given again; finished
    runs are never repeated.
    """
    from benchmarks.cli import show
    from benchmarks.cli.bars import Bars
    from benchmarks.engine import compilation_cache, runner

    plan = options.chosen_plan(**chosen)
    folder = out or Path("results") / plan.suite
    compilation_cache.enable_compilation_cache()
    costs = show.costs(plan)
    click.echo(f"{show.plan_line(plan, costs)}; in {folder}", err=True)
    for problem, optimizer, reason in plan.skipped:
        click.echo(f"skipped: {problem} × {optimizer}: {reason}", err=True)
    blocks = show.seconds_per_block(plan, costs)
    with Bars(show.console(stderr=True), blocks) as bars:
        failures = runner.run_plan(
            plan, folder, workers=workers, progress=bars, fresh=fresh
        )
    if not no_report:
        _print_report(folder)
    if failures:
        click.echo(
            f"error: {len(failures)} of {len(plan.cells)} cells failed; their "
            f"tracebacks are in {folder / 'manifest.json'}",
            err=True,
        )
        raise SystemExit(1)


@main.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report_(folder: Path) -> None:
    """Writes the report of the results in DIR again, and prints the table."""
    _print_report(folder)


def _print_report(folder: Path) -> None:
    from benchmarks.analysis.summary import analyse
    from benchmarks.cli import show
    from benchmarks.report.terminal import render_terminal
    from benchmarks.report.write import write_report
    from benchmarks.results import store

    analysis = analyse(store.load(folder))
    path = write_report(analysis, folder)
    show.console().print(render_terminal(analysis))
    click.echo(f"report: {path}")


for _command in (commands.profile, commands.throughput, commands.calibrate):
    main.add_command(_command)
