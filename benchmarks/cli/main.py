"""The command line. Commands import JAX only when they need it, so that -h is fast."""

import errno
from pathlib import Path
from typing import Any

import click

from benchmarks.cli import commands, options
from benchmarks.errors import UserError

_INTERRUPTED = 130
# Of what is missing, as many lines are printed; the report has all.
_LINES = 5


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            resumable = ctx.invoked_subcommand == "run"
            hint = "; run the same command to resume" if resumable else ""
            click.echo(f"stopped{hint}", err=True)
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has closed it
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

\b
Every command has its own help: python -m benchmarks run -h
Exit codes: 0 done, 1 some runs failed, 2 bad input, 130 stopped by Ctrl-C.""",
)
def main() -> None:
    """Compares optimizers on small models and classic test functions.

    Every optimizer runs on every problem with several learning rates. All optimizers
    get the same starting points, batches and number of gradients. The best learning
    rate of each is chosen on tuning seeds; results are reported on evaluation seeds.
    """


@main.command("list")
@click.argument(
    "what", type=click.Choice(["problems", "optimizers", "suites"]), required=False
)
def list_(what: str | None) -> None:
    """Lists problems, optimizers and suites.

    Without an argument, lists all three.
    """
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
            "Optimizers of optax work too, as optax.NAME or optax.contrib.NAME, and "
            "your own as MODULE:FUNCTION or path/to/FILE.py:FUNCTION."
        )


@main.command(
    epilog="""\b
Examples:
  python -m benchmarks describe rosen2
  python -m benchmarks describe optax.lion"""
)
@click.argument("name")
def describe(name: str) -> None:
    """Describes a problem or an optimizer.

    For a problem, shows its formula, source, budget and targets. For an optimizer,
    shows its signature, description, size of the state and gradients per step.
    """
    from benchmarks.cli import show

    show.console().print(show.describe(name))


@main.command("plan")
@options.options
@options.out
def plan_(out: Path | None, **chosen: Any) -> None:
    """Shows what `run` would do and how long it would take.

    Nothing is run or written. The default SUITE is quick; `list suites` shows all
    suites.
    """
    from benchmarks.cli import show
    from benchmarks.experiment.cost import estimate
    from benchmarks.results import previous

    plan = options.chosen_plan(**chosen)
    costs = estimate(plan)
    show.console().print(show.plan_table(plan, costs))
    click.echo(
        f"optimizers: {', '.join(dict.fromkeys(c.optimizer.name for c in plan.cells))}"
    )
    for note in show.plan_notes(plan):
        click.echo(note)
    folder = options.results_folder(plan, out)
    click.echo(f"{show.plan_line(plan, costs)}\nresults: {folder}")
    previous.check_folder(folder)
    previous.previous_manifest(plan, folder)
    finished, _, _ = previous.finished(plan, folder)
    if finished:
        click.echo(show.done_line(plan, finished))


@main.command(
    epilog="""\b
Examples:
  python -m benchmarks run quick
  python -m benchmarks run quick -o my_module:my_optimizer
  python -m benchmarks run smoke --only -o adam -o 'optax.sgd(momentum=0.9)'
  python -m benchmarks run -p rosen2 --learning-rates 1e-2,1e-1,1 --schedule cosine"""
)
@options.options
@options.out
@click.option(
    "--fresh",
    is_flag=True,
    help="Discards results in DIR of the same optimizers and problems that come from "
    "other code, data or settings. Without it, such results are an error.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of worker threads; the results do not depend on it.  "
    "[default: one per CPU core, or one per accelerator]",
)
@click.option("--no-report", is_flag=True, help="Skips the table and the report.")
def run(
    out: Path | None,
    fresh: bool,
    workers: int | None,
    no_report: bool,
    **chosen: Any,
) -> None:
    """Runs a suite, prints the table and writes the report.

    The default SUITE is quick; `list suites` shows all suites. To resume a run that was
    stopped, give the same command again. Finished runs are never repeated. A run with
    other optimizers or problems of the same suite adds to the results in DIR.
    """
    from benchmarks.cli import show
    from benchmarks.cli.bars import Bars
    from benchmarks.engine import compilation_cache, runner
    from benchmarks.experiment.cost import estimate

    plan = options.chosen_plan(**chosen)
    folder = options.results_folder(plan, out)
    compilation_cache.enable_compilation_cache()
    costs = estimate(plan)
    console = show.console(stderr=True)
    click.echo(f"{show.plan_line(plan, costs)}\nresults: {folder}", err=True)
    for note in show.plan_notes(plan):
        click.echo(note, err=True)
    weights = {name: c.cpu_seconds / c.compilations for name, c in costs.items()}
    with Bars(console, weights) as bars:
        failures = runner.run_plan(
            plan, folder, workers=workers, progress=bars, fresh=fresh
        )
    if not no_report:
        _print_report(folder)
    if failures:
        click.echo(
            f"error: {len(failures)} of {len(plan.cells)} pairs of problem and "
            f"optimizer failed; their tracebacks are in {folder / 'manifest.json'}",
            err=True,
        )
        raise SystemExit(1)


@main.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report_(folder: Path) -> None:
    """Regenerates the report of a results folder.

    Reads the results in DIR, prints the table and writes the report.
    """
    _print_report(folder)


@main.command(
    epilog="""\b
Examples:
  python -m benchmarks compare results/before results/after
  python -m benchmarks compare results/before results/after -o my_module:my_optimizer
  python -m benchmarks compare results/quick -o my_module:v1 -o my_module:v2"""
)
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--optimizer",
    "chosen",
    multiple=True,
    metavar="SPEC",
    help="Optimizer to compare, as the results name it. Give two to compare the first "
    "in A with the second in B.  [default: every optimizer that both have]",
)
def compare(a: Path, b: Path | None, chosen: tuple[str, ...]) -> None:
    """Compares two results folders, or two optimizers.

    Prints the speed-up of B over A: the ratio of the gradients to the targets, paired
    by seed, with its 95 % interval. The learning rate is tuned in each folder. Without
    B, compares two optimizers of A. Nothing is run or written.
    """
    from benchmarks.analysis.two_runs import compare_runs
    from benchmarks.cli import show
    from benchmarks.report.two_runs import render_two_runs
    from benchmarks.results import origins, store

    if len(chosen) > 2 or (b is None and len(chosen) < 2):
        msg = (
            "compare needs two folders and at most two optimizers, or one folder and "
            "two optimizers: compare A B, compare A B -o SPEC, or compare A -o SPEC "
            "-o SPEC."
        )
        raise UserError(msg)
    folders = a, b or a
    first, second = map(store.load, folders)
    pairs = options.chosen_pairs(first.manifest, second.manifest, folders, chosen)
    found = compare_runs(first, second, pairs)
    for name, folder in zip("AB", folders, strict=True):
        click.echo(f"{name}: {folder}")
    for line in origins.differences(*folders, pairs, list(first.manifest.problems)):
        click.echo(f"differs: {line}")
    show.console().print(render_two_runs(found))
    for line in found.left_out:
        click.echo(f"not compared: {line}", err=True)
    for folder, results in dict(zip(folders, (first, second), strict=True)).items():
        if results.missing:
            click.echo(
                f"{folder} is incomplete: python -m benchmarks report {folder} names "
                "what is missing",
                err=True,
            )


def _print_report(folder: Path) -> None:
    from benchmarks.analysis.summary import analyse
    from benchmarks.cli import show
    from benchmarks.report.missing import missing_lines, missing_summary
    from benchmarks.report.terminal import render_terminal
    from benchmarks.report.write import write_report
    from benchmarks.results import store

    analysis = analyse(store.load(folder))
    path = write_report(analysis, folder)
    show.console().print(render_terminal(analysis))
    if summary := missing_summary(analysis, folder):
        click.echo(summary.replace("`", ""), err=True)
    lines = missing_lines(analysis, folder)
    for line in lines[:_LINES]:
        click.echo(line, err=True)
    if len(lines) > _LINES:
        click.echo(f"and {len(lines) - _LINES} more, all named in the report", err=True)
    click.echo(f"report: {path}")


for _command in (
    commands.profile,
    commands.throughput,
    commands.calibrate,
    commands.check_problem,
):
    main.add_command(_command)
