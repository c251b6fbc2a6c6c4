"""The plan of a run: settings, cells with their keys, evaluation steps."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import provenance, sources
from benchmarks.errors import UserError
from benchmarks.experiment.suites import Suite
from benchmarks.problem import Problem, data_hash
from benchmarks.roster import gradient_count
from benchmarks.roster.resolver import Optimizer, default_names, resolve

DEFAULT_LEARNING_RATES = (
    *(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    *(1.0, 3.0, 10.0),
)
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How every cell of a plan is run.

    Attributes:
      learning_rates: The grid, one lane each; kept in ascending order.
      tune_seeds: Seeds on which the best rate is chosen.
      test_seeds: Seeds on which it is reported; others than the tune seeds.
      schedule: `constant`, or `cosine` down to 0 at the end of the budget.
      budget_scale: Multiplies every problem's number of gradients.

    Raises:
      UserError: A value is out of range, or two are the same.
    """

    learning_rates: tuple[float, ...] = DEFAULT_LEARNING_RATES
    tune_seeds: tuple[int, ...] = (0, 1, 2)
    test_seeds: tuple[int, ...] = tuple(range(100, 110))
    schedule: str = "constant"
    budget_scale: float = 1.0

    def __post_init__(self) -> None:
        """Checks every value."""
        rates = self.learning_rates
        if not rates:
            msg = "the list of learning rates is empty: give one or more."
            raise UserError(msg)
        for rate in rates:
            # Programs compute in float32, where the smallest numbers are 0.
            if not (math.isfinite(rate) and 1e-37 < rate < 1e38):
                msg = f"learning rate {rate!r} is no positive, finite float32 number."
                raise UserError(msg)
        if len({np.float32(rate) for rate in rates}) < len(rates):
            msg = f"the learning rates {rates!r} name one twice: name each once."
            raise UserError(msg)
        object.__setattr__(self, "learning_rates", tuple(sorted(rates)))
        if not self.tune_seeds or not self.test_seeds:
            msg = "at least one tune seed and one test seed are needed."
            raise UserError(msg)
        if min(self.seeds) < 0 or max(self.seeds) >= 2**31:
            msg = f"seeds must be in [0, 2³¹), got {self.seeds!r}."
            raise UserError(msg)
        if len(set(self.seeds)) < len(self.seeds):
            msg = (
                f"the seeds {self.seeds!r} name one twice: a rate must be reported on "
                "other seeds than those that chose it."
            )
            raise UserError(msg)
        if self.schedule not in SCHEDULES:
            msg = f"unknown schedule {self.schedule!r}: take constant or cosine."
            raise UserError(msg)
        if not (math.isfinite(self.budget_scale) and self.budget_scale > 0):
            msg = f"budget_scale must be positive and finite, got {self.budget_scale}."
            raise UserError(msg)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, those for tuning first."""
        return self.tune_seeds + self.test_seeds

    def budget(self, problem: Problem) -> int:
        """Number of gradients of one run, at least 1."""
        return max(1, round(problem.budget * self.budget_scale))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One optimizer on one problem.

    Attributes:
      problem: The problem.
      optimizer: The optimizer.
      key: SHA-256, in hex, of `ingredients`.
      steps: Number of steps of one run: as many as the budget has gradients for.
      gradients: Gradients that one step takes.
      ingredients: Everything on which the numbers depend, by name.
    """

    problem: Problem
    optimizer: Optimizer
    key: str
    steps: int
    gradients: float = 1.0
    ingredients: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cells of a run, and the pairs left out as `(problem, optimizer, reason)`."""

    suite: str
    settings: Settings
    cells: tuple[Cell, ...]
    skipped: tuple[tuple[str, str, str], ...]


def make_plan(
    suite: str,
    problems: Sequence[Problem],
    optimizers: Sequence[Optimizer],
    settings: Settings,
    engine_source: str,
) -> Plan:
    """Every optimizer on every problem that has what it needs, each once.

    All get the same number of gradients, so that one that takes two for each step
    makes half as many steps, and its schedule ends with them.
    """
    cells: dict[tuple[str, str], Cell] = {}
    skipped = []
    for problem in problems:
        common = problem_ingredients(problem, settings, engine_source)
        for optimizer in optimizers:
            pair = (problem.name, optimizer.name)
            if pair in cells:
                skipped.append((*pair, "named twice"))
                continue
            offered = gradient_count.offered_by(problem)
            if reason := gradient_count.missing(optimizer.make, offered):
                skipped.append((*pair, reason))
                continue
            taken = gradient_count.per_step(optimizer.make, offered)
            steps = max(1, round(settings.budget(problem) / taken))
            found = common | cell_ingredients(optimizer, steps)
            cells[pair] = Cell(problem, optimizer, run_key(found), steps, taken, found)
    return Plan(suite, settings, tuple(cells.values()), tuple(skipped))


def of_suite(suite: Suite) -> list[Optimizer]:
    """The optimizers that a suite compares, in the order of the report."""
    return [resolve(spec) for spec in suite.optimizers or default_names()]


def eval_steps(budget: int) -> np.ndarray:
    """Steps at which a run is evaluated: 0, early ones dense, then evenly spaced.

    Returns:
      int32, strictly increasing from 0 to `budget`; 57 of them for a budget of 2000.
    """
    early = np.geomspace(1, max(1, budget / 20), 20)
    even = np.linspace(0, budget, 41)
    return np.unique(np.rint(np.r_[early, even])).astype(np.int32)


def problem_ingredients(
    problem: Problem, settings: Settings, engine_source: str
) -> dict[str, str]:
    """Everything but the optimizer on which a cell's numbers depend, as short texts.

    Seeds are not among them: the block of a seed stays valid when others are added.
    The number of devices is not: numbers do not depend on it.
    """
    machine = provenance.machine(jax.devices()[0])
    return {
        "problem": problem.name,
        "problem source": source_hash(problem),
        "problem data": data_hash(problem),
        "engine source": engine_source,
        "learning rates": repr(tuple(float(r) for r in settings.learning_rates)),
        "schedule": settings.schedule,
        **{f"{name} version": text for name, text in provenance.versions().items()},
        **{name: str(value) for name, value in machine.items()},
    }


def cell_ingredients(optimizer: Optimizer, steps: int) -> dict[str, str]:
    """What a cell's numbers owe to the optimizer, and to how long it runs."""
    return {
        "optimizer": optimizer.name,
        "optimizer source": optimizer.source_hash,
        "evaluation steps": repr(eval_steps(steps).tolist()),
    }


def run_key(ingredients: dict[str, str]) -> str:
    """SHA-256, in hex, of ingredients in any order."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def source_hash(problem: Problem) -> str:
    """SHA-256, in hex, of the modules that a problem's functions come from."""
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
    modules.add(f"benchmarks.problems.{problem.name}")
    names = sorted(m for m in modules if m in sys.modules)
    text = " ".join(f"{name} {sources.source_hash(name)}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()
