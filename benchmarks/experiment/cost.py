"""Estimates the cost of a plan before anything runs."""

import dataclasses

import jax

from benchmarks.experiment.plan import Plan, eval_steps
from benchmarks.problem import Problem

# Fitted to the standard suite with Adam on one core of a server of 2023.
_SECONDS_PER_COMPILATION = 1.0
_SECONDS_PER_STEP = 5e-8
_SECONDS_PER_FLOP = 1 / 3e10
_SECONDS_PER_PARAMETER = 2e-9
_BLOCK_BYTES = 6000
_ROW_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a plan costs: seconds of one core, compilations, bytes on disk."""

    cpu_seconds: float
    compilations: int
    disk_bytes: int


def estimate(plan: Plan) -> Estimate:
    """What a plan costs when nothing of it is done yet, within a factor of about 2.

    Time comes from XLA's count of floating-point operations of one gradient and from
    the number of parameters; an optimizer that works more than Adam costs more.
    """
    rates = len(plan.settings.learning_rates)
    seeds = len(plan.settings.seeds)
    seconds = disk = 0.0
    per_problem = {c.problem.name: c.problem for c in plan.cells}
    step = {name: _seconds_per_step(problem) for name, problem in per_problem.items()}
    for cell in plan.cells:
        budget = plan.settings.budget(cell.problem)
        seconds += _SECONDS_PER_COMPILATION
        seconds += rates * seeds * budget * step[cell.problem.name]
        points = len(eval_steps(cell.steps))
        disk += seeds * (_BLOCK_BYTES + rates * points * _ROW_BYTES)
    return Estimate(seconds, len(plan.cells), int(disk))


def _seconds_per_step(problem: Problem) -> float:
    key = jax.random.key(0)
    params = jax.eval_shape(problem.init, key)
    batch = jax.eval_shape(problem.sample, key, problem.data)
    gradient = problem.gradient or jax.grad(problem.loss)
    lowered = jax.jit(gradient).lower(params, batch)
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return _SECONDS_PER_STEP + flops * _SECONDS_PER_FLOP + size * _SECONDS_PER_PARAMETER
