"""What a results folder says about itself: problems, optimizers, versions, machine."""

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks import provenance
from benchmarks.experiment.plan import Plan, Settings
from benchmarks.problem import Problem, data_hash


@dataclasses.dataclass(frozen=True)
class Failure:
    """A cell that could not be run: why in a line, and where in the code."""

    problem: str
    optimizer: str
    message: str
    traceback: str


def describe(
    plan: Plan, device: jax.Device, targets: Callable[[Problem], dict[str, Any]]
) -> dict[str, Any]:
    """The manifest of a plan, as JSON values, before anything has run.

    Raises:
      UserError: A problem has no targets.
    """
    problems = {c.problem.name: c.problem for c in plan.cells}
    return {
        "suite": plan.suite,
        "settings": dataclasses.asdict(plan.settings),
        "problems": {
            name: _describe_problem(problem, plan.settings, targets)
            for name, problem in problems.items()
        },
        "optimizers": {
            c.optimizer.name: {"source_hash": c.optimizer.source_hash}
            for c in plan.cells
        },
        "cells": [
            {
                "problem": c.problem.name,
                "optimizer": c.optimizer.name,
                "key": c.key,
                "gradients": c.gradients_per_step,
            }
            for c in plan.cells
        ],
        "skipped": [list(pair) for pair in plan.skipped],
        "failed": [],
        "versions": provenance.versions(),
        "git": provenance.git(),
        "machine": provenance.machine(device),
        "command": provenance.command(),
        "started": now(),
        "finished": None,
    }


def completed(manifest: dict[str, Any], failures: Sequence[Failure]) -> dict[str, Any]:
    """The manifest after the run."""
    failed = [dataclasses.asdict(failure) for failure in failures]
    return manifest | {"failed": failed, "finished": now()}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _describe_problem(
    problem: Problem, settings: Settings, targets: Callable[[Problem], dict[str, Any]]
) -> dict[str, Any]:
    params = jax.eval_shape(problem.init, jax.random.key(0))
    return {
        "summary": problem.summary,
        "formula": problem.formula,
        "source": problem.source,
        "tags": sorted(problem.tags),
        "budget": problem.budget,
        "f_star": problem.f_star,
        "metric": problem.metric,
        "targets": targets(problem),
        "front": problem.front
        and {
            "reference": list(problem.front.reference),
            "level": problem.front.level,
            "points": None
            if problem.front.points is None
            else problem.front.points.tolist(),
        },
        "data_hash": data_hash(problem),
        "dimension": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
