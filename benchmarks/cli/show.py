"""Tables and descriptions that the command line prints."""

import inspect
import sys

import jax
import jax.numpy as jnp
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.errors import UserError, suggest
from benchmarks.experiment import targets
from benchmarks.experiment.cost import START_SECONDS, Estimate
from benchmarks.experiment.plan import Plan
from benchmarks.experiment.suites import SUITES
from benchmarks.problem import Problem
from benchmarks.problems import load_problem, problem_names
from benchmarks.roster import gradient_count, resolver, specs

_NUMBERS = ("gradients", "minimum", "optimizers", "runs", "time", "disk")


def console(*, stderr: bool = False) -> Console:
    """The console for results, or with `stderr` the one for everything else.

    Output to a file or pipe is not wrapped.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else 10_000,
    )


def problems() -> Table:
    """Every problem with its tags, budget and optimum."""
    table = _table("problem", "gradients per run", "minimum", "tags", "description")
    for name in problem_names():
        problem = load_problem(name)
        table.add_row(
            name,
            str(problem.budget),
            "unknown" if problem.f_star is None else f"{problem.f_star:.6g}",
            " ".join(sorted(problem.tags)),
            problem.summary,
        )
    return table


def optimizers() -> Table:
    """The default optimizers, then wrappers and gradient transformations."""
    table = _table("optimizer", "description")
    for spec in resolver.default_names():
        factory, _ = specs.find(specs.parse(spec).target)
        table.add_row(spec, _first_sentence(factory))
    for name in specs.around_names():
        table.add_row(f"{name}(…)", _first_sentence(specs.find(name, around=True)[0]))
    return table


def suites() -> Table:
    """Every suite with its problems."""
    table = _table("suite", "problems", "question")
    for name, suite in SUITES.items():
        table.add_row(name, " ".join(suite.problems), suite.question)
    return table


def describe(name: str) -> Table:
    """Describes a problem or an optimizer.

    Raises:
      UserError: Neither has this name.
    """
    if name in problem_names():
        return problem_facts(load_problem(name))
    known = (*problem_names(), *resolver.default_names())
    plain = name.isidentifier()
    if plain and name not in specs.alias_names() and (hint := suggest(name, known)):
        msg = f"no problem or optimizer is called {name!r}.{hint}"
        raise UserError(msg)
    return _facts(_optimizer_facts(resolver.resolve(name)))


def problem_facts(problem: Problem) -> Table:
    """Describes a problem."""
    return _facts(_problem_facts(problem))


def plan_line(plan: Plan, costs: dict[str, Estimate]) -> str:
    """The number of runs, and their estimated cost."""
    settings = plan.settings
    count = {
        "problems": len(costs),
        "optimizers": len({cell.optimizer.name for cell in plan.cells}),
        "learning rates": len(settings.learning_rates),
        "seeds": len(settings.seeds),
    }
    runs = len(plan.cells) * count["learning rates"] * count["seeds"]
    parts = " × ".join(
        f"{n} {noun if n > 1 else noun[:-1]}" for noun, n in count.items()
    )
    seconds = START_SECONDS + sum(cost.cpu_seconds for cost in costs.values())
    size = max(sum(cost.disk_bytes for cost in costs.values()) / 1e6, 0.1)
    compilations = len(plan.cells)
    return (
        f"{plan.suite}: {parts} = {runs:,} runs\n"
        f"estimated cost: {duration(seconds)} on one core, {compilations} "
        f"compilation{'s' if compilations > 1 else ''}, {size:.1f} MB (less if some "
        "runs are already done)"
    )


def done_line(plan: Plan, finished: set[tuple[str, int]]) -> str:
    """How many runs of a plan are already done."""
    rates, seeds = len(plan.settings.learning_rates), plan.settings.seeds
    runs = [(cell.key, seed) in finished for cell in plan.cells for seed in seeds]
    return f"{sum(runs) * rates:,} of {len(runs) * rates:,} runs are already done"


def plan_notes(plan: Plan) -> list[str]:
    """Lines on sweeps, on skipped cells, and on optimizers that fall back."""
    fallbacks: dict[tuple[str, str], list[str]] = {}
    for cell in plan.cells:
        if cell.fallback:
            key = cell.optimizer.name, cell.fallback
            fallbacks.setdefault(key, []).append(cell.problem.name)
    return [
        *(
            f"tuned: {sweep.name}: {sweep.argument} is chosen from "
            f"{len(sweep.variants)} values; each counts as one optimizer here"
            for sweep in plan.sweeps
        ),
        *(f"skipped: {p} × {o}: {reason}" for p, o, reason in plan.skipped),
        *(
            f"fallback: {', '.join(problems)} × {name}: {reason}"
            for (name, reason), problems in fallbacks.items()
        ),
    ]


def plan_table(plan: Plan, costs: dict[str, Estimate]) -> Table:
    """One row per problem: its runs and their estimated cost."""
    heads = ("gradients per run", "optimizers", "runs", "time on one core", "disk")
    table = _table("problem", *heads)
    runs = len(plan.settings.learning_rates) * len(plan.settings.seeds)
    budgets = {cell.problem.name: cell.problem.budget for cell in plan.cells}
    for name, cost in costs.items():
        table.add_row(
            name,
            str(budgets[name]),
            str(cost.compilations),
            f"{cost.compilations * runs:,}",
            duration(cost.cpu_seconds),
            f"{cost.disk_bytes / 1e6:.1f} MB",
        )
    return table


def duration(seconds: float) -> str:
    """A time in a readable unit: `40 s`, `3 min`, `1.5 h`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _problem_facts(problem: Problem) -> dict[str, str]:
    params = jax.eval_shape(problem.init, jax.random.key(0))
    dimension = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {
        "problem": problem.name,
        "description": problem.summary,
        "formula": problem.formula,
        "source": problem.source,
        "tags": " ".join(sorted(problem.tags)),
        "parameters": str(dimension),
        "budget": f"{problem.budget} gradients per run",
        "minimum f*": "unknown" if problem.f_star is None else f"{problem.f_star:.9g}",
        "targets": _describe_targets(problem),
        "suites": " ".join(
            s for s, suite in SUITES.items() if problem.name in suite.problems
        )
        or "none",
    }


def _describe_targets(problem: Problem) -> str:
    try:
        found = targets.targets_of(problem)
    except UserError as error:
        return str(error)
    if not problem.scored:
        return f"none: reported in a separate table, by {problem.metric}"
    values = ", ".join(f"{value:.4g}" for value in found.values)
    if found.kind == "relative":
        return f"loss − f* at most {values} times its value at the start"
    return f"loss at most {values}"


def _optimizer_facts(optimizer: resolver.Optimizer) -> dict[str, str]:
    target, base, _ = specs.parse(optimizer.name)
    factory, module = specs.find(target, around=base is not None)
    offered = frozenset(gradient_count.OFFERED)
    count = gradient_count.count_or_one(optimizer.make, offered)
    kernel = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    state = jax.eval_shape(lambda: optimizer.make(1e-3).init(jnp.zeros((1000, 1000))))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return {
        "optimizer": optimizer.name,
        "signature": f"{target}{_signature(factory)}",
        "module": module,
        "description": _head(factory),
        "state": f"{size / kernel.size:.3g} bytes per float32 parameter, for a matrix",
        "gradients": f"{count.gradients_per_step:.3g} per step",
        "source hash": optimizer.source_hash[:16],
    }


def _signature(factory: specs.Factory) -> str:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return "(…)"
    bare = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in signature.parameters.values()
    ]
    return str(
        signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    )


def _first_sentence(factory: specs.Factory) -> str:
    return _head(factory).replace("\n", " ").partition(". ")[0]


def _head(factory: specs.Factory) -> str:
    """The first paragraph of the docstring."""
    text = inspect.getdoc(factory) or "(no docstring)"
    return text.split("\n\n")[0].strip()


def _table(*heads: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        right = head.partition(" ")[0] in _NUMBERS
        table.add_column(head, justify="right" if right else "left", no_wrap=right)
    return table


def _facts(facts: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for key, value in facts.items():
        table.add_row(key, value)
    return table
