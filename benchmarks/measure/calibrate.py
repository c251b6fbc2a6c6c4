"""Makes the targets of problems whose optimum is unknown, from a reference run.

The reference is optax's Adam at a constant learning rate of the default grid. Its curve
is the running minimum of the median loss over seeds. The five targets are the values of
the curve at five fractions of the budget. The learning rate is the best one on other
seeds among those whose five targets all differ: at learning rates that overfit early, a
held-out loss stops falling and targets coincide. Two controls must miss every target:
an optimizer that does nothing, and gradient ascent.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax

from benchmarks import provenance
from benchmarks.analysis import stats
from benchmarks.engine import runner
from benchmarks.engine.progress import Progress
from benchmarks.errors import UserError
from benchmarks.experiment.plan import Settings, make_plan
from benchmarks.experiment.targets import NO_TARGETS
from benchmarks.problem import Problem, data_hash
from benchmarks.problems import load_problem, problem_names
from benchmarks.results import store
from benchmarks.results.store import Curves
from benchmarks.roster import resolver
from benchmarks.roster.resolver import Optimizer

REFERENCE = "optax.adam"
FRACTIONS = (0.10, 0.25, 0.50, 0.75, 0.90)
SETTINGS = Settings(test_seeds=tuple(range(200, 210)))


def _null(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    del learning_rate
    return optax.with_extra_args_support(optax.set_to_zero())


def _uphill(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return optax.chain(optax.adam(learning_rate), optax.scale(-1.0))


# They must miss every target.
CONTROLS = (
    Optimizer("null", _null, "null"),
    Optimizer("uphill", _uphill, "uphill"),
)


def uncalibrated() -> list[str]:
    """Names of all problems that need calibration, because f* is unknown."""
    problems = map(load_problem, problem_names())
    return [p.name for p in problems if p.f_star is None and p.scored]


def calibrate(
    problem: Problem,
    *,
    settings: Settings = SETTINGS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The targets of a problem, and how they were made.

    Args:
      problem: A problem without `f_star`.
      settings: Learning rates, seeds and schedule of the reference.
      progress: Progress callbacks.

    Returns:
      The problem's entry in the file of targets.

    Raises:
      UserError: The problem needs no targets, the reference does not improve between
        two targets, or a control reaches one.
    """
    if problem.f_star is not None:
        msg = (
            f"{problem.name!r} needs no calibration: its optimum is known, so its "
            "targets are relative."
        )
        raise UserError(msg)
    if not problem.scored:
        msg = f"{problem.name!r} needs no calibration: it is not scored by targets."
        raise UserError(msg)
    reference = resolver.resolve(REFERENCE)
    plan = make_plan(
        "calibrate",
        [problem],
        [reference, *CONTROLS],
        settings,
        runner.source_hash(),
        targets=lambda _: NO_TARGETS,
    )
    with tempfile.TemporaryDirectory() as folder:
        failures = runner.run_plan(plan, Path(folder), progress=progress)
        if failures:
            msg = f"{problem.name!r} cannot be calibrated: {failures[0].message}"
            raise UserError(msg)
        curves = store.load(Path(folder)).curves
    best, values = _targets(
        problem.name, curves[problem.name, reference.name], settings
    )
    for control in CONTROLS:
        _refuse_if_passed(problem.name, control.name, curves, values[0], settings)
    return {
        "values": values,
        "shares": list(FRACTIONS),
        "optimizer": reference.name,
        "learning_rate": settings.learning_rates[best],
        "schedule": settings.schedule,
        "budget": problem.budget,
        "tune_seeds": list(settings.tune_seeds),
        "seeds": list(settings.test_seeds),
        "data_hash": data_hash(problem),
        "versions": provenance.versions(),
    }


def _losses(curves: Curves, seeds: Sequence[int]) -> np.ndarray:
    """Loss `[seed, lane, step]` of some seeds; infinite once a run has diverged."""
    return stats.gap(curves.of(seeds))


def _targets(name: str, curves: Curves, settings: Settings) -> tuple[int, list[float]]:
    """Index of the reference's learning rate in the grid, and the targets."""
    final = np.median(_losses(curves, settings.tune_seeds)[:, :, -1], axis=0)
    # The upper median, so that more than half of the seeds reach it.
    median = np.quantile(
        _losses(curves, settings.test_seeds), 0.5, axis=0, method="higher"
    )
    best_so_far = np.minimum.accumulate(median, axis=1)
    steps = np.array(FRACTIONS) * curves.eval_steps[-1]
    at = np.searchsorted(curves.eval_steps, steps, side="right") - 1
    for candidate in np.argsort(final, kind="stable"):
        values = [_rounded_up(value) for value in best_so_far[candidate, at]]
        if np.isfinite(values).all() and (np.diff(values) < 0).all():
            return int(candidate), values
    msg = (
        f"{name!r}: at no learning rate does {REFERENCE} still improve between "
        f"{FRACTIONS[0]:.0%} and {FRACTIONS[-1]:.0%} of the budget: change the budget."
    )
    raise UserError(msg)


def _rounded_up(value: float) -> float:
    """Rounds up to four digits, so that a run that reached the value still does."""
    if not (math.isfinite(value) and value != 0):
        return float(value)
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return float(f"{math.ceil(value / unit) * unit:.4g}")


def _refuse_if_passed(
    name: str,
    control: str,
    curves: dict[tuple[str, str], Curves],
    easiest: float,
    settings: Settings,
) -> None:
    losses = _losses(curves[name, control], settings.test_seeds)
    reached = (losses <= easiest).any(axis=2).mean(axis=0)
    if (reached >= 0.5).any():
        msg = (
            f"{name!r}: the control {control!r} reaches the easiest target {easiest}, "
            "so that target is too easy: change the problem's start or budget."
        )
        raise UserError(msg)
