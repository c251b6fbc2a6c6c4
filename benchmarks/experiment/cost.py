"""Estimates the cost of a plan before it runs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from benchmarks.experiment.plan import Cell, Plan
from benchmarks.problem import Problem, extra_arguments

# Seconds to import everything, to plan, and to write the report.
START_SECONDS = 5.0
# Fitted to problems of the quick suite with nine optimizers, from SGD to Muon, on one
# core of a server of 2023. Lines are those of the program that XLA compiles.
_SECONDS_PER_COMPILATION = 0.3
_SECONDS_PER_LINE = 0.006
_SECONDS_PER_STEP = 1.2e-7
_SECONDS_PER_FLOP = 1 / 2.7e10
_SECONDS_PER_PARAMETER = 2e-9
_FILE_BYTES = 6000
_ROW_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Cost on one problem: seconds of one core, compilations, bytes on disk."""

    cpu_seconds: float
    compilations: int
    disk_bytes: int


@dataclasses.dataclass(frozen=True)
class _Work:
    """Floating-point operations, and lines of the program that does them."""

    flops: float
    lines: float


def estimate(plan: Plan) -> dict[str, Estimate]:
    """The cost of a plan by problem if nothing is done yet, within a factor of 2 or so.

    The time is estimated from the size of the programs and from XLA's count of their
    floating-point operations: of the gradient of each problem, and of a step of each
    optimizer on the largest problem that it runs on.
    """
    rates, seeds = len(plan.settings.learning_rates), len(plan.settings.seeds)
    problems = {cell.problem.name: cell.problem for cell in plan.cells}
    gradients = {name: _gradient(problem) for name, problem in problems.items()}
    largest: dict[str, Cell] = {}
    for cell in sorted(plan.cells, key=lambda cell: gradients[cell.problem.name].flops):
        largest[cell.optimizer.name] = cell
    updates = {
        name: _update(cell, gradients[cell.problem.name])
        for name, cell in largest.items()
    }
    estimates = {}
    for name, problem in problems.items():
        leaves = jax.tree.leaves(_params(problem))
        size = sum(leaf.size for leaf in leaves)
        part = [cell for cell in plan.cells if cell.problem.name == name]
        seconds = 0.0
        for cell in part:
            gradient, update = gradients[name], updates[cell.optimizer.name]
            count = cell.gradients_per_step
            flops = count * gradient.flops + size * update.flops
            lines = count * gradient.lines + len(leaves) * update.lines
            seconds += _SECONDS_PER_COMPILATION + lines * _SECONDS_PER_LINE
            seconds += (rates * seeds * cell.steps) * (
                _SECONDS_PER_STEP
                + flops * _SECONDS_PER_FLOP
                + size * _SECONDS_PER_PARAMETER
            )
        rows = [rates * len(cell.eval_steps) for cell in part]
        estimates[name] = Estimate(
            cpu_seconds=seconds,
            compilations=len(part),
            disk_bytes=seeds * sum(_FILE_BYTES + _ROW_BYTES * n for n in rows),
        )
    return estimates


def _gradient(problem: Problem) -> _Work:
    gradient = problem.gradient or jax.grad(problem.loss)
    return _work(gradient, _params(problem), _batch(problem))


def _update(cell: Cell, gradient: _Work) -> _Work:
    """What a step of the optimizer adds: flops per parameter, lines per leaf."""
    problem, params = cell.problem, _params(cell.problem)
    leaves = jax.tree.leaves(params)

    def step(params: Any, state: Any, batch: Any) -> Any:
        given = extra_arguments(problem, params, batch)
        return optimizer.update(given["grad"], state, params, **given)

    try:
        optimizer = optax.with_extra_args_support(cell.optimizer.make(1e-3))
        state = jax.eval_shape(optimizer.init, params)
        whole = _work(step, params, state, _batch(problem))
    except (Exception, SystemExit):  # it fails again when it runs, and says why
        return _Work(0.0, 0.0)
    count, size = cell.gradients_per_step, sum(leaf.size for leaf in leaves)
    return _Work(
        max(0.0, whole.flops - count * gradient.flops) / size,
        max(0.0, whole.lines - count * gradient.lines) / len(leaves),
    )


def _work(function: Callable[..., Any], *arguments: Any) -> _Work:
    lowered = jax.jit(function).lower(*arguments)
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    return _Work(flops, lowered.as_text().count("\n"))


def _params(problem: Problem) -> Any:
    return jax.eval_shape(problem.init, jax.random.key(0))


def _batch(problem: Problem) -> Any:
    return jax.eval_shape(problem.sample, jax.random.key(0), problem.data)
