"""The results folder: where everything lies, and how it is read back."""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import UserError
from benchmarks.experiment.plan import Cell, Plan
from benchmarks.results import blocks, files


@dataclasses.dataclass(frozen=True)
class Curves:
    """One cell: S finished seeds, L learning rates, E evaluation points.

    Attributes:
      seeds: `[S]`, integers, in the manifest's order: those for tuning first.
      learning_rates: `[L]`, float64.
      steps: `[E]`, integers.
      metrics: By name, `"loss"` first, each `[S, L, E]`, float64. A diverged lane
        repeats the values of its last finite state.
      diverged_at: `[S, L]`, integers: updates done when the lane was frozen; -1 for
        never.
      per_step: Gradients that one step takes.
    """

    seeds: np.ndarray
    learning_rates: np.ndarray
    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray
    per_step: float = 1.0

    @property
    def gradients(self) -> np.ndarray:
        """Gradients taken up to each evaluation, `[E]`."""
        return self.steps * self.per_step


@dataclasses.dataclass(frozen=True)
class Results:
    """A results folder in memory; curves and costs by (problem, optimizer)."""

    manifest: dict[str, Any]
    curves: dict[tuple[str, str], Curves]
    costs: dict[tuple[str, str], dict[str, float]]

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the problems with targets, which optimizers are compared on."""
        problems = self.manifest["problems"].items()
        return tuple(n for n, p in problems if p["targets"]["kind"] != "none")

    @property
    def with_fronts(self) -> tuple[str, ...]:
        """Names of the problems with two objectives, on which fronts are compared."""
        problems = self.manifest["problems"].items()
        return tuple(n for n, p in problems if p.get("front"))

    @property
    def with_accuracies(self) -> tuple[str, ...]:
        """Names of all other problems: what counts is the accuracy at the end."""
        other = {*self.scored, *self.with_fronts}
        return tuple(n for n in self.manifest["problems"] if n not in other)

    def per_step(self, optimizer: str) -> list[float]:
        """Gradients that a step of an optimizer takes, on some problem or other."""
        cells = self.manifest["cells"]
        found = {c.get("gradients", 1.0) for c in cells if c["optimizer"] == optimizer}
        return sorted(found)


def slug(name: str) -> str:
    """A file name for an optimizer: readable, and different for different names.

    Names of lower-case letters, digits, `_` and `.` stay as they are. Any other gets
    a `-` and 12 hex digits of its hash, so that names that differ only in case or
    punctuation stay apart, also on file systems that ignore case.
    """
    if re.fullmatch(r"[a-z0-9_][a-z0-9_.]{0,79}", name):
        return name
    readable = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def cell_folder(out: Path, problem: str, optimizer: str) -> Path:
    """Where the blocks of a cell lie."""
    return out / "runs" / problem / slug(optimizer)


def block_path(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """The file of a finished block."""
    return cell_folder(out, problem, optimizer) / f"seed-{seed:03d}.parquet"


def partial_path(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """The file of an unfinished block."""
    return block_path(out, problem, optimizer, seed).with_suffix(".partial.npz")


def cost_path(out: Path, problem: str, optimizer: str) -> Path:
    """The file of what a cell cost."""
    return cell_folder(out, problem, optimizer) / "cost.json"


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically.

    Raises:
      UserError: The file cannot be written.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=True)
    files.write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
      UserError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is damaged: delete it and run the same command again."
        raise UserError(msg) from error


def finished(plan: Plan, out: Path, *, fresh: bool = False) -> set[tuple[str, int]]:
    """Finished blocks of the plan, as (run key, seed).

    Args:
      plan: What is to be run.
      out: The results folder.
      fresh: Discard the plan's blocks that other code, data or settings made;
        without it, they are an error.

    Raises:
      UserError: There are such blocks, or a damaged one.
    """
    found, stale, reasons = set(), [], Counter()
    for cell in plan.cells:
        for seed in plan.settings.seeds:
            path = block_path(out, cell.problem.name, cell.optimizer.name, seed)
            if not path.exists():
                continue
            key, ingredients = blocks.read_origin(path)
            if key == cell.key:
                found.add((key, seed))
                # Still there if the process was killed right after the last write.
                path.with_suffix(".partial.npz").unlink(missing_ok=True)
                continue
            stale.append((cell, path))
            reasons.update(_differences(ingredients, cell.ingredients))
    if stale and not fresh:
        raise UserError(_stale_message(out, [cell for cell, _ in stale], reasons))
    for _, path in stale:
        path.unlink()
    return found


def load(out: Path) -> Results:
    """Everything finished in a results folder.

    Raises:
      UserError: The folder holds no run, or a file in it is damaged.
    """
    path = out / "manifest.json"
    if not path.exists():
        msg = (
            f"{out} holds no results: make some with python -m benchmarks run --out "
            f"{out}"
        )
        raise UserError(msg)
    manifest = read_json(path)
    settings = manifest["settings"]
    seeds = (*settings["tune_seeds"], *settings["test_seeds"])
    curves, costs = {}, {}
    for cell in manifest["cells"]:
        pair = (cell["problem"], cell["optimizer"])
        if (read := _read_cell(out, *pair, cell["key"], seeds)) is not None:
            curves[pair] = dataclasses.replace(
                read, per_step=cell.get("gradients", 1.0)
            )
        if (path := cost_path(out, *pair)).exists():
            costs[pair] = read_json(path)
    return Results(manifest, curves, costs)


def _read_cell(
    out: Path, problem: str, optimizer: str, key: str, seeds: tuple[int, ...]
) -> Curves | None:
    done, read = [], []
    for seed in seeds:
        path = block_path(out, problem, optimizer, seed)
        if not path.exists():
            continue
        block, found = blocks.read(path)
        if found != key:
            msg = (
                f"{path} does not belong to the run in {out / 'manifest.json'}: run "
                "the same command again, with --fresh."
            )
            raise UserError(msg)
        done.append(seed)
        read.append(block)
    if not read:
        return None
    first = read[0]
    return Curves(
        seeds=np.array(done),
        learning_rates=first.learning_rates,
        steps=first.steps,
        metrics={n: np.stack([b.metrics[n] for b in read]) for n in first.metrics},
        diverged_at=np.stack([b.diverged_at for b in read]),
    )


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [name for name in new if old.get(name) != new[name]]


def _stale_message(out: Path, cells: list[Cell], reasons: Counter[str]) -> str:
    pairs = list(dict.fromkeys(f"{c.problem.name} × {c.optimizer.name}" for c in cells))
    shown = ", ".join(pairs[:3]) + (f" and {len(pairs) - 3} more" * (len(pairs) > 3))
    return (
        f"{out} holds {len(cells)} blocks of other code, data or settings ({shown}; "
        f"what differs: {', '.join(reasons)}): choose another folder with --out, or "
        "discard exactly these blocks with --fresh."
    )
