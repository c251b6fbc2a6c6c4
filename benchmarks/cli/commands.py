"""The measuring commands: profile, throughput, calibrate, check-problem."""

import dataclasses
import json
import time
from typing import Any

import click


def _emit(rows: list[Any], table: Any, *, as_json: bool) -> None:
    from benchmarks.cli import show

    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        show.console().print(table(rows))


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks profile
  python -m benchmarks profile -o amsgrad --tree one --tree tiny --seconds 30
  python -m benchmarks profile --mesh data=8,model=4"""
)
@click.option(
    "-o",
    "--optimizer",
    "chosen",
    multiple=True,
    metavar="SPEC",
    help="Optimizer to measure. Repeatable.  [default: all optimizers of this library]",
)
@click.option(
    "--tree",
    "trees",
    multiple=True,
    metavar="NAME",
    help="Parameters to update: one (1 array of 10 M entries), many (300 arrays of "
    "33 k), tiny (1000 arrays of 100) or transformer (12 layers, 10 M entries); with "
    "--mesh also billion (18 layers, 1.01 G entries). Repeatable.  [default: all; with "
    "--mesh billion]",
)
@click.option(
    "--mesh",
    "mesh_text",
    metavar="AXIS=SIZE,...",
    help="Measures nothing, but adds up the bytes per device of params, gradients and "
    "state on a mesh with these axes: replicated, with the state sharded over the "
    "first axis (ZeRO-1), and with everything sharded over all axes. Needs no devices.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time limit for timing the updates, and again for timing compilations, of "
    "which each optimizer gets at least four: on a large tree these take minutes. The "
    "timing of updates stops earlier once the ratio is known to 2 per cent.",
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON instead of a table.")
def profile(
    chosen: tuple[str, ...],
    trees: tuple[str, ...],
    mesh_text: str | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Measures the cost of one update of an optimizer.

    Compares it with the same method in optax. Reports the time per update, the time to
    trace and to compile without a cache, the bytes of state and of temporary memory,
    and the bytes read or written. Parameters and state are donated. The two optimizers
    are timed alternately in one process. Ratios vary less on an idle machine.
    """
    from benchmarks.cli import show
    from benchmarks.measure import memory_plan, profile
    from benchmarks.roster import resolver, specs

    if mesh_text is not None:
        mesh = memory_plan.parse_mesh(mesh_text)
        plans = [
            memory_plan.plan(spec, tree, mesh)
            for tree in trees or ("billion",)
            for spec in chosen or specs.alias_names()
        ]
        _emit(plans, memory_plan.table, as_json=as_json)
        return
    for spec in chosen:
        resolver.resolve(spec)  # fail before the first measurement
    tasks = [
        (spec, tree)
        for tree in trees or profile.TREES
        for spec in chosen or specs.alias_names()
    ]
    rows, start = [], time.monotonic()
    for done, (spec, tree) in enumerate(tasks):
        left = "each optimizer is compiled at least four times"
        if done:
            per_task = (time.monotonic() - start) / done
            left = f"about {show.duration(per_task * (len(tasks) - done))} left"
        click.echo(
            f"measuring {spec} on {tree}, {done + 1} of {len(tasks)}; {left}", err=True
        )
        rows.append(profile.compare(spec, tree, seconds=seconds))
    _emit(rows, profile.table, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks throughput
  python -m benchmarks throughput -p mlp32_digits -o amsgrad"""
)
@click.option(
    "-p",
    "--problem",
    "problems",
    multiple=True,
    metavar="NAME",
    help="Problem to train. Repeatable.  [default: rosen2, rosen10, quad_diag, "
    "quad_rot, mlp32_digits]",
)
@click.option(
    "-o",
    "--optimizer",
    "spec",
    default="adam",
    show_default=True,
    metavar="SPEC",
    help="Optimizer to train with.",
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON instead of a table.")
def throughput(problems: tuple[str, ...], spec: str, as_json: bool) -> None:
    """Measures the speed-up over a plain Python loop.

    The plain loop calls one jitted step from Python for each step of each run, and
    reads the loss as a float each time. Reports the microseconds per step and run of
    both, timed alternately in one process, and their ratio.
    """
    from benchmarks.measure import throughput
    from benchmarks.problems import load_problem
    from benchmarks.roster import resolver

    optimizer = resolver.resolve(spec)
    rows = []
    for problem in [load_problem(name) for name in problems or throughput.PROBLEMS]:
        click.echo(f"measuring {problem.name}", err=True)
        rows.append(throughput.measure(problem, optimizer))
    _emit(rows, throughput.table, as_json=as_json)


@click.command()
@click.argument("names", metavar="[PROBLEM]...", nargs=-1)
def calibrate(names: tuple[str, ...]) -> None:
    """Sets the targets of problems whose optimum is unknown.

    Runs Adam with a tuned learning rate. The targets are its losses at 10, 25, 50, 75
    and 90 per cent of the budget. Checks that doing nothing and gradient ascent both
    miss all of them, and writes benchmarks/experiment/targets.json, or for a problem of
    your own (MODULE:FUNCTION or FILE.py:FUNCTION) FILE.targets.json beside its file.
    Run this command after adding such a problem or changing its data. Without PROBLEM,
    calibrates all such problems.
    """
    from benchmarks.cli import show
    from benchmarks.cli.bars import Bars
    from benchmarks.engine import compilation_cache
    from benchmarks.experiment import targets
    from benchmarks.measure import calibrate
    from benchmarks.problems import load_problem

    problems = [load_problem(name) for name in names or calibrate.uncalibrated()]
    compilation_cache.enable_compilation_cache()
    for problem in problems:
        with Bars(show.console(stderr=True), {problem.name: 1.0}) as bars:
            entry = calibrate.calibrate(problem, progress=bars)
        path = targets.path_of(problem)
        targets.write({**targets.read(path), problem.name: entry}, path)
        values = ", ".join(f"{value:g}" for value in entry["values"])
        click.echo(f"{problem.name}: loss at most {values}")


@click.command(
    "check-problem",
    epilog="""\b
Examples:
  python -m benchmarks check-problem rosen2
  python -m benchmarks check-problem my_module:my_problem
  python -m benchmarks check-problem path/to/my_file.py:my_problem""",
)
@click.argument("name", metavar="PROBLEM")
def check_problem(name: str) -> None:
    """Checks that a problem measures what it says.

    Shows the problem, and applies the checks that every problem of this suite passes:
    the minimum, the gradient, the evaluation, seeds and batches, and that standing
    still and gradient ascent miss all targets, which tuned Adam reaches. A dash (–)
    marks a check that needs a field that the problem lacks, such as `minimizer`. Exits
    with 1 if a check fails. Takes about a minute.
    """
    from benchmarks.cli import show
    from benchmarks.engine import compilation_cache
    from benchmarks.measure import problem_checks
    from benchmarks.problems import load_problem

    problem = load_problem(name)
    compilation_cache.enable_compilation_cache()
    show.console().print(show.problem_facts(problem))
    failed = 0
    for title, sentences in problem_checks.check(problem):
        failed += bool(sentences)
        result = "failed" if sentences else "ok" if sentences is not None else "–"
        click.echo(f"{result:6}  {title}")
        for sentence in sentences or ():
            click.echo(f"        {sentence}")
    if failed:
        noun = "check" if failed == 1 else "checks"
        click.echo(f"error: {problem.name}: {failed} {noun} failed", err=True)
        raise SystemExit(1)
