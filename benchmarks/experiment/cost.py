"""Estimates the cost of a plan before it runs."""

import dataclasses

import jax

from benchmarks.experiment.plan import Cell, Plan
from benchmarks.problem import Problem

# Fitted to the standard suite with Adam, on one core of a server of 2023.
_SECONDS_PER_COMPILATION = 1.0
_SECONDS_PER_STEP = 5e-8
_SECONDS_PER_FLOP = 1 / 3e10
_SECONDS_PER_PARAMETER = 2e-9
_FILE_BYTES = 6000
_ROW_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Cost on one problem: seconds of one core, compilations, bytes on disk."""

    cpu_seconds: float
    compilations: int
    disk_bytes: int


def estimate(plan: Plan) -> dict[str, Estimate]:
    """The cost of a plan by problem if nothing is done yet, within a factor of 2 or so.

    The time is estimated from XLA's count of the floating-point operations of one
    gradient and from the number of parameters, for an optimizer as cheap as Adam.
    """
    rates, seeds = len(plan.settings.learning_rates), len(plan.settings.seeds)
    cells: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        cells.setdefault(cell.problem.name, []).append(cell)
    estimates = {}
    for name, part in cells.items():
        problem = part[0].problem
        run_s = rates * seeds * problem.budget * _seconds_per_step(problem)
        rows = [rates * len(cell.eval_steps) for cell in part]
        estimates[name] = Estimate(
            cpu_seconds=len(part) * (_SECONDS_PER_COMPILATION + run_s),
            compilations=len(part),
            disk_bytes=seeds * sum(_FILE_BYTES + _ROW_BYTES * n for n in rows),
        )
    return estimates


def _seconds_per_step(problem: Problem) -> float:
    key = jax.random.key(0)
    params = jax.eval_shape(problem.init, key)
    batch = jax.eval_shape(problem.sample, key, problem.data)
    gradient = problem.gradient or jax.grad(problem.loss)
    lowered = jax.jit(gradient).lower(params, batch)
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return _SECONDS_PER_STEP + flops * _SECONDS_PER_FLOP + size * _SECONDS_PER_PARAMETER
