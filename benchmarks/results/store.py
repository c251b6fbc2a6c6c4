"""The results folder: its files, and how they are read back."""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.errors import UserError
from benchmarks.experiment.plan import Cell, Plan
from benchmarks.results import blocks, files
from benchmarks.results import manifest as manifests
from benchmarks.results.manifest import CellEntry, Manifest


@dataclasses.dataclass(frozen=True)
class Curves:
    """One cell: S finished seeds, L learning rates (lanes), E evaluation points.

    Attributes:
      seeds: `[S]`, integers, in the manifest's order: those for tuning first.
      learning_rates: `[L]`, float64.
      eval_steps: `[E]`, integers: steps done at each evaluation.
      metrics: By name, `"loss"` first, each `[S, L, E]`, float64. A diverged lane
        repeats the values of its last finite state.
      diverged_at: `[S, L]`, integers: steps done when the lane diverged; -1 for
        never.
      gradients_per_step: Gradients that one step takes.
    """

    seeds: np.ndarray
    learning_rates: np.ndarray
    eval_steps: np.ndarray
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray
    gradients_per_step: float = 1.0

    def of(self, seeds: Sequence[int] | np.ndarray) -> "Curves":
        """The curves of the given seeds, as far as they are finished."""
        chosen = np.isin(self.seeds, seeds)
        return dataclasses.replace(
            self,
            seeds=self.seeds[chosen],
            metrics={name: values[chosen] for name, values in self.metrics.items()},
            diverged_at=self.diverged_at[chosen],
        )


@dataclasses.dataclass(frozen=True)
class Results:
    """A results folder in memory; curves and costs by (problem, optimizer)."""

    manifest: Manifest
    curves: dict[tuple[str, str], Curves]
    costs: dict[tuple[str, str], dict[str, float]]


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
    """The folder of the seed runs of a cell."""
    return out / "runs" / problem / slug(optimizer)


def block_path(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """The file of the results of a seed run."""
    return cell_folder(out, problem, optimizer) / f"seed-{seed:03d}.parquet"


def checkpoint_path(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """The file of the checkpoint of a seed run."""
    return block_path(out, problem, optimizer, seed).with_suffix(".checkpoint.npz")


def cost_path(out: Path, problem: str, optimizer: str) -> Path:
    """The file of the costs of a cell."""
    return cell_folder(out, problem, optimizer) / "cost.json"


def finished(plan: Plan, out: Path, *, fresh: bool = False) -> set[tuple[str, int]]:
    """Finished seed runs of the plan, as (run key, seed).

    Args:
      plan: What will be run.
      out: The results folder.
      fresh: Discard results of the plan's seed runs that other code, data or
        settings made, instead of raising an error.

    Raises:
      UserError: There are such results, or a file is damaged.
    """
    found, stale, reasons = set(), [], Counter()
    for cell in plan.cells:
        for seed in plan.settings.seeds:
            names = cell.problem.name, cell.optimizer.name
            path = block_path(out, *names, seed)
            if not path.exists():
                continue
            key, ingredients = blocks.read_origin(path)
            if key == cell.key:
                found.add((key, seed))
                # Still there if the process was killed right after the last write.
                checkpoint_path(out, *names, seed).unlink(missing_ok=True)
                continue
            stale.append((cell, path))
            reasons.update(_differences(ingredients, cell.ingredients))
    if stale and not fresh:
        raise UserError(_stale_message(out, [cell for cell, _ in stale], reasons))
    for _, path in stale:
        path.unlink()
    return found


def load(out: Path) -> Results:
    """Reads all finished seed runs of a results folder.

    Raises:
      UserError: The folder holds no run, or a file in it is damaged.
    """
    manifest = manifests.read(out)
    curves, costs = {}, {}
    for cell in manifest.cells:
        pair = (cell.problem, cell.optimizer)
        if (read := _read_cell(out, cell, manifest.settings.seeds)) is not None:
            curves[pair] = read
        if (path := cost_path(out, *pair)).exists():
            costs[pair] = files.read_json(path)
    return Results(manifest, curves, costs)


def _read_cell(out: Path, cell: CellEntry, seeds: Sequence[int]) -> Curves | None:
    paths = {s: block_path(out, cell.problem, cell.optimizer, s) for s in seeds}
    paths = {seed: path for seed, path in paths.items() if path.exists()}
    if not paths:
        return None
    read, keys = zip(*map(blocks.read, paths.values()), strict=True)
    for path, key in zip(paths.values(), keys, strict=True):
        if key != cell.key:
            msg = (
                f"{path} does not belong to the run in {manifests.path_in(out)}: run "
                "the same command again, with --fresh."
            )
            raise UserError(msg)
    first = read[0]
    return Curves(
        seeds=np.array(list(paths)),
        learning_rates=first.learning_rates,
        eval_steps=first.eval_steps,
        metrics={n: np.stack([b.metrics[n] for b in read]) for n in first.metrics},
        diverged_at=np.stack([b.diverged_at for b in read]),
        gradients_per_step=cell.gradients_per_step,
    )


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [name for name in new if old.get(name) != new[name]]


def _stale_message(out: Path, cells: list[Cell], reasons: Counter[str]) -> str:
    pairs = list(dict.fromkeys(f"{c.problem.name} × {c.optimizer.name}" for c in cells))
    shown = ", ".join(pairs[:3])
    if len(pairs) > 3:
        shown += f" and {len(pairs) - 3} more"
    return (
        f"{out} holds results of {len(cells)} seed runs made by other code, data or "
        f"settings ({shown}; what differs: {', '.join(reasons)}): choose another "
        "folder with --out, or discard these results with --fresh."
    )
