"""The manifest of a results folder: its runs, settings, code versions and machine.

Only this module reads and writes `manifest.json`; other modules use `Manifest`.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import provenance
from benchmarks.errors import UserError
from benchmarks.experiment.plan import Plan, Settings
from benchmarks.experiment.targets import Targets
from benchmarks.problem import FrontSpec, Problem, data_hash
from benchmarks.results import files
from benchmarks.roster.specs import Sweep


@dataclasses.dataclass(frozen=True)
class FrontEntry:
    """How Pareto fronts are compared on a problem with two objectives.

    Attributes:
      reference: Main and auxiliary loss that bound the hypervolume.
      level: Auxiliary loss at which main losses are compared.
      points: The Pareto front in closed form, main loss ascending; None where it is
        unknown.
    """

    reference: tuple[float, float]
    level: float
    points: tuple[tuple[float, float], ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemEntry:
    """A problem as it was run.

    Attributes:
      summary: One sentence about it.
      formula: The loss as one line of plain text mathematics.
      source: Where it comes from.
      tags: Words such as `convex`, in alphabetical order.
      budget: Gradients of one run.
      f_star: The smallest loss; None where it is unknown.
      metric: Name of the loss on the axes of figures.
      targets: Its targets.
      front: How Pareto fronts are compared; None with a single objective.
      data_hash: SHA-256 of its data, in hex.
      dimension: Number of parameters.
      spec: The command line's name of a problem of the user's own; empty for others.
    """

    summary: str
    formula: str
    source: str
    tags: tuple[str, ...]
    budget: int
    f_star: float | None
    metric: str = "loss"
    targets: Targets
    front: FrontEntry | None = None
    data_hash: str
    dimension: int
    spec: str = ""


@dataclasses.dataclass(frozen=True)
class CellEntry:
    """One optimizer on one problem.

    Attributes:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      key: Run key.
      gradients_per_step: Gradients that a step takes.
      fallback: Why the optimizer falls back to another method on this problem; empty if
        it does not.
    """

    problem: str
    optimizer: str
    key: str
    gradients_per_step: float = 1.0
    fallback: str = ""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A cell that was left out, and the reason."""

    problem: str
    optimizer: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Failure:
    """A cell that failed: its error in one line, and the traceback."""

    problem: str
    optimizer: str
    message: str
    traceback: str


@dataclasses.dataclass(frozen=True)
class Git:
    """The commit of the checkout, and whether it had uncommitted changes."""

    commit: str
    dirty: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of a results folder, as stored in `manifest.json`.

    Attributes:
      suite: Name of the suite, or another title.
      settings: Learning rates, seeds and schedule.
      problems: Problems by name, in the order of the plan.
      optimizers: Hash of each optimizer's source by name, in the order of the plan.
      cells: The cells that were run.
      skipped: The cells that were left out.
      failed: The cells that ended with an error.
      versions: Versions of packages by name.
      git: The state of the checkout; None outside a checkout.
      machine: Processor and settings of XLA by name.
      command: The command line.
      started: UTC, to the second.
      finished: UTC, to the second; None for a run that has not finished.
      sweeps: Optimizers with an argument that is tuned beside the learning rate.
    """

    suite: str
    settings: Settings
    problems: dict[str, ProblemEntry]
    optimizers: dict[str, str]
    cells: tuple[CellEntry, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Failure, ...]
    versions: dict[str, str]
    git: Git | None
    machine: dict[str, str | int]
    command: str
    started: str | None = None
    finished: str | None = None
    sweeps: tuple[Sweep, ...] = ()


def describe(plan: Plan) -> Manifest:
    """The manifest of a plan before anything has run."""
    problems = {c.problem.name: c.problem for c in plan.cells}
    git, command = provenance.git(), provenance.command()
    return Manifest(
        suite=plan.suite,
        settings=plan.settings,
        problems={
            name: _describe_problem(problem, plan.targets[name])
            for name, problem in problems.items()
        },
        optimizers={c.optimizer.name: c.optimizer.source_hash for c in plan.cells},
        cells=tuple(
            CellEntry(
                c.problem.name,
                c.optimizer.name,
                c.key,
                c.gradients_per_step,
                c.fallback,
            )
            for c in plan.cells
        ),
        skipped=tuple(Skipped(*parts) for parts in plan.skipped),
        failed=(),
        versions=plan.versions,
        git=_git(git),
        machine=plan.machine,
        command=command,
        started=_now(),
        sweeps=plan.sweeps,
    )


def completed(manifest: Manifest, failures: Sequence[Failure]) -> Manifest:
    """The manifest after the run."""
    failed = (*manifest.failed, *failures)
    return dataclasses.replace(manifest, failed=failed, finished=_now())


def path_in(folder: Path) -> Path:
    """The file of the manifest."""
    return folder / "manifest.json"


def write(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically.

    Raises:
      UserError: The file cannot be written.
    """
    files.write_json(path_in(folder), to_json(manifest))


def read(folder: Path) -> Manifest | None:
    """Reads `manifest.json`; None if there is no such file.

    Raises:
      UserError: The file is damaged or was written by a version with other keys.
    """
    path = path_in(folder)
    try:
        return from_json(files.read_json(path))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        msg = (
            f"{path} is damaged or was written by another version of the benchmarks "
            f"({error})"
        )
        raise UserError(msg) from error


def to_json(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values."""
    content = dataclasses.asdict(manifest)
    content["optimizers"] = {
        name: {"source_hash": source_hash}
        for name, source_hash in manifest.optimizers.items()
    }
    content["cells"] = [
        {
            "problem": cell.problem,
            "optimizer": cell.optimizer,
            "key": cell.key,
            "gradients": cell.gradients_per_step,
            "fallback": cell.fallback,
        }
        for cell in manifest.cells
    ]
    content["skipped"] = [list(dataclasses.astuple(s)) for s in manifest.skipped]
    return content


def from_json(content: Any) -> Manifest:
    """The manifest from JSON values.

    Raises:
      ValueError: A key is missing or unknown, or a value has the wrong form.
      UserError: The settings are out of range.
    """
    given = _checked(Manifest, content, "the manifest")
    return Manifest(
        **given
        | {
            "settings": _settings(given["settings"]),
            "problems": {n: _problem(n, p) for n, p in given["problems"].items()},
            "optimizers": {
                name: str(entry["source_hash"])
                for name, entry in given["optimizers"].items()
            },
            "git": _git(given["git"]),
            "cells": tuple(map(_cell, given["cells"])),
            "skipped": tuple(Skipped(*parts) for parts in given["skipped"]),
            "failed": tuple(
                Failure(**_checked(Failure, f, "a failure")) for f in given["failed"]
            ),
            "sweeps": tuple(
                Sweep(**_checked(Sweep, s, "a sweep")) for s in given.get("sweeps", ())
            ),
        }
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _describe_problem(problem: Problem, targets: Targets) -> ProblemEntry:
    params = jax.eval_shape(problem.init, jax.random.key(0))
    return ProblemEntry(
        summary=problem.summary,
        formula=problem.formula,
        source=problem.source,
        tags=tuple(sorted(problem.tags)),
        budget=problem.budget,
        f_star=problem.f_star,
        metric=problem.metric,
        targets=targets,
        front=None if problem.front is None else _describe_front(problem.front),
        data_hash=data_hash(problem),
        dimension=sum(leaf.size for leaf in jax.tree.leaves(params)),
        spec=problem.spec,
    )


def _describe_front(front: FrontSpec) -> FrontEntry:
    points = None if front.points is None else _pairs(front.points.tolist())
    return FrontEntry(front.reference, front.level, points)


def _settings(raw: dict[str, Any]) -> Settings:
    # budget_scale, which old folders hold, is not needed: each problem has its budget.
    return Settings(
        learning_rates=tuple(map(float, raw["learning_rates"])),
        tune_seeds=tuple(map(int, raw["tune_seeds"])),
        test_seeds=tuple(map(int, raw["test_seeds"])),
        schedule=raw["schedule"],
    )


def _problem(name: str, raw: Any) -> ProblemEntry:
    given = _checked(ProblemEntry, raw, f"problem {name!r}")
    targets = _checked(Targets, given["targets"], f"the targets of {name!r}")
    f_star, front = given["f_star"], given.get("front")
    return ProblemEntry(
        **given
        | {
            "tags": tuple(given["tags"]),
            "budget": int(given["budget"]),
            "f_star": None if f_star is None else float(f_star),
            "targets": Targets(targets["kind"], tuple(map(float, targets["values"]))),
            "front": None if front is None else _front(name, front),
            "dimension": int(given["dimension"]),
        }
    )


def _git(raw: Any) -> Git | None:
    return None if raw is None else Git(**_checked(Git, raw, "git"))


def _front(name: str, raw: Any) -> FrontEntry:
    given = _checked(FrontEntry, raw, f"the front of {name!r}")
    main, aux = given["reference"]
    points = given.get("points")
    return FrontEntry(
        reference=(float(main), float(aux)),
        level=float(given["level"]),
        points=None if points is None else _pairs(points),
    )


def _cell(raw: dict[str, Any]) -> CellEntry:
    gradients_per_step = float(raw.get("gradients", 1.0))
    return CellEntry(
        problem=raw["problem"],
        optimizer=raw["optimizer"],
        key=raw["key"],
        gradients_per_step=gradients_per_step,
        fallback=raw.get("fallback", ""),
    )


def _pairs(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(main), float(aux)) for main, aux in points)


def _checked(cls: type[Any], raw: Any, what: str) -> dict[str, Any]:
    """The raw values of a dataclass, after a check of their keys."""
    fields = dataclasses.fields(cls)
    needed = {f.name for f in fields if f.default is dataclasses.MISSING}
    if missing := sorted(needed - raw.keys()):
        msg = f"{what} lacks {', '.join(missing)}"
        raise ValueError(msg)
    if unknown := sorted(raw.keys() - {f.name for f in fields}):
        msg = f"{what} has unknown keys: {', '.join(unknown)}"
        raise ValueError(msg)
    return raw
