"""The plan of a run: settings, cells with their keys, evaluation steps."""

import dataclasses
import functools
import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence

import jax
import numpy as np

from benchmarks import provenance, sources
from benchmarks.errors import UserError
from benchmarks.experiment.suites import Suite
from benchmarks.experiment.targets import Targets, targets_of
from benchmarks.problem import Problem, data_hash
from benchmarks.problems import module_name
from benchmarks.roster import gradient_count, leaf_rules
from benchmarks.roster.resolver import Optimizer, default_names, resolve
from benchmarks.roster.specs import Sweep

DEFAULT_LEARNING_RATES = (
    *(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    *(1.0, 3.0, 10.0),
)
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that all cells of a plan share.

    Attributes:
      learning_rates: The grid of learning rates; kept in ascending order.
      tune_seeds: Tuning seeds, on which the best learning rate is chosen.
      test_seeds: Evaluation seeds, on which it is reported; none is a tuning seed.
      schedule: `constant`, or `cosine` decay to 0 at the end of the budget.

    Raises:
      UserError: A value is out of range or duplicated.
    """

    learning_rates: tuple[float, ...] = DEFAULT_LEARNING_RATES
    tune_seeds: tuple[int, ...] = (0, 1, 2)
    test_seeds: tuple[int, ...] = tuple(range(100, 110))
    schedule: str = "constant"

    def __post_init__(self) -> None:
        """Checks every value."""
        rates = self.learning_rates
        if not rates:
            msg = "the list of learning rates is empty: give one or more."
            raise UserError(msg)
        for rate in rates:
            # Programs compute in float32, where smaller numbers are 0.
            if not (math.isfinite(rate) and 1e-37 < rate < 1e38):
                msg = (
                    f"learning rate {rate!r} is not a positive, finite float32 number."
                )
                raise UserError(msg)
        if len({np.float32(rate) for rate in rates}) < len(rates):
            msg = f"duplicate learning rates in {rates!r}: name each one once."
            raise UserError(msg)
        object.__setattr__(self, "learning_rates", tuple(sorted(rates)))
        if not self.tune_seeds or not self.test_seeds:
            msg = "at least one tuning seed and one evaluation seed are needed."
            raise UserError(msg)
        if min(self.seeds) < 0 or max(self.seeds) >= 2**31:
            msg = f"seeds must be in [0, 2³¹), got {self.seeds!r}."
            raise UserError(msg)
        if len(set(self.seeds)) < len(self.seeds):
            msg = (
                f"duplicate seeds in {self.seeds!r}: tuning seeds and evaluation seeds "
                "must all differ."
            )
            raise UserError(msg)
        if self.schedule not in SCHEDULES:
            msg = f"unknown schedule {self.schedule!r}: use constant or cosine."
            raise UserError(msg)

    @functools.cached_property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, tuning seeds first."""
        return self.tune_seeds + self.test_seeds


@dataclasses.dataclass(frozen=True)
class Cell:
    """One optimizer on one problem.

    Attributes:
      problem: The problem.
      optimizer: The optimizer.
      key: SHA-256, in hex, of `ingredients`.
      steps: Number of steps of a run: the problem's budget divided by the gradients
        per step.
      eval_steps: Steps at which a run is evaluated, int32, from 0 to `steps`.
      gradients_per_step: Mean number of gradient evaluations of one step.
      asks_for_tail: Whether the optimizer asks for the gradients of rare classes.
      ingredients: Everything on which the numbers depend, by name.
      fallback: Why the optimizer falls back to another method on the problem; empty if
        it does not.
    """

    problem: Problem
    optimizer: Optimizer
    key: str
    steps: int
    eval_steps: np.ndarray
    gradients_per_step: float
    asks_for_tail: bool
    ingredients: dict[str, str]
    fallback: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a run is made of.

    Attributes:
      suite: Name of the suite, or another title.
      settings: Learning rates, seeds and schedule.
      cells: The cells to run.
      skipped: Pairs that cannot run, as `(problem, optimizer, reason)`.
      sweeps: Optimizers with an argument that is tuned; the cells are their variants'.
      targets: The targets of each problem, by name.
      versions: Versions of packages by name.
      machine: Processor and settings of XLA by name.
    """

    suite: str
    settings: Settings
    cells: tuple[Cell, ...]
    skipped: tuple[tuple[str, str, str], ...]
    targets: dict[str, Targets]
    versions: dict[str, str]
    machine: dict[str, str | int]
    sweeps: tuple[Sweep, ...] = ()


def make_plan(
    suite: str,
    problems: Sequence[Problem],
    optimizers: Sequence[Optimizer],
    settings: Settings,
    engine_source: str,
    targets: Callable[[Problem], Targets] = targets_of,
    sweeps: Sequence[Sweep] = (),
) -> Plan:
    """Plans every optimizer on every problem; skips pairs that cannot run.

    All optimizers get the same number of gradient evaluations. An optimizer that needs
    two gradients per step takes half as many steps, and its schedule ends with them.

    Args:
      suite: Name of the suite.
      problems: The problems.
      optimizers: The optimizers.
      settings: Learning rates, seeds and schedule.
      engine_source: Hash of the engine's source, part of the run keys.
      targets: The targets of a problem.
      sweeps: Which of the optimizers are variants of one; for the report.

    Raises:
      UserError: A problem has no targets.
    """
    given = {problem.name: targets(problem) for problem in problems}
    machine = provenance.machine(jax.devices()[0])
    versions = provenance.versions()
    # Seeds are left out, so that results stay valid when seeds are added.
    common = {
        "engine source": engine_source,
        "learning rates": repr(tuple(float(r) for r in settings.learning_rates)),
        "schedule": settings.schedule,
        **{f"{name} version": text for name, text in versions.items()},
        **{name: str(value) for name, value in machine.items()},
    }
    cells: dict[tuple[str, str], Cell] = {}
    skipped = []
    for problem in problems:
        of_problem = {
            "problem": problem.name,
            "problem source": source_hash(problem),
            "problem data": data_hash(problem),
        }
        offered = gradient_count.offered_by(problem)
        for optimizer in optimizers:
            pair = (problem.name, optimizer.name)
            if pair in cells:
                skipped.append((*pair, "named twice"))
                continue
            if reason := gradient_count.missing(optimizer.make, offered):
                skipped.append((*pair, reason))
                continue
            count = gradient_count.count_or_one(optimizer.make, offered)
            steps = max(1, round(problem.budget / count.gradients_per_step))
            evaluated = eval_steps(steps)
            of_cell = {
                "optimizer": optimizer.name,
                "optimizer source": optimizer.source_hash,
                "evaluation steps": repr(evaluated.tolist()),
            }
            ingredients = common | of_problem | of_cell
            cells[pair] = Cell(
                problem=problem,
                optimizer=optimizer,
                key=run_key(ingredients),
                steps=steps,
                eval_steps=evaluated,
                gradients_per_step=count.gradients_per_step,
                asks_for_tail=count.asks_for_tail,
                ingredients=ingredients,
                fallback=leaf_rules.fallback(optimizer.make, problem),
            )
    return Plan(
        suite=suite,
        settings=settings,
        cells=tuple(cells.values()),
        skipped=tuple(skipped),
        targets=given,
        versions=versions,
        machine=machine,
        sweeps=tuple(sweeps),
    )


def of_suite(suite: Suite) -> list[Optimizer]:
    """The optimizers of a suite, in the order of the report."""
    return [resolve(spec) for spec in suite.optimizers or default_names()]


def eval_steps(budget: int) -> np.ndarray:
    """The steps at which a run is evaluated: dense at the start, then evenly spaced.

    Returns:
      int32, strictly increasing from 0 to `budget`; 57 of them for a budget of 2000.
    """
    early = np.geomspace(1, max(1, budget / 20), 20)
    even = np.linspace(0, budget, 41)
    return np.unique(np.rint(np.r_[early, even])).astype(np.int32)


def run_key(ingredients: dict[str, str]) -> str:
    """SHA-256, in hex, of the ingredients, whatever their order."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def source_hash(problem: Problem) -> str:
    """SHA-256, in hex, of the modules that define a problem's functions."""
    functions = (
        problem.init,
        problem.loss,
        problem.sample,
        problem.evaluate,
        problem.evaluate_exact,
        problem.gradient,
        problem.project,
        problem.aux_loss,
        problem.tail_loss,
    )
    modules = {getattr(getattr(f, "func", f), "__module__", None) for f in functions}
    modules.add(module_name(problem.spec or problem.name))
    return sources.source_hash(*sorted(m for m in modules if m in sys.modules))
