"""Reads a results folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.errors import UserError
from benchmarks.results import blocks, files, paths, strays
from benchmarks.results import manifest as manifests
from benchmarks.results.manifest import CellEntry, Manifest
from benchmarks.results.strays import Unlisted


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
class Missing:
    """What is missing of a cell.

    Attributes:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      seeds: Seeds in the manifest without a result that can be read.
      damaged: Files that cannot be read.
      foreign: Results that other code, data or settings made.
    """

    problem: str
    optimizer: str
    seeds: tuple[int, ...]
    damaged: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Results:
    """A results folder in memory.

    Attributes:
      manifest: Its manifest.
      curves: By (problem, optimizer), the seed runs.
      costs: By (problem, optimizer), the costs.
      missing: What the manifest lists and the folder does not hold, failures apart.
      unlisted: What the folder holds and the manifest does not list.
    """

    manifest: Manifest
    curves: dict[tuple[str, str], Curves]
    costs: dict[tuple[str, str], dict[str, float]]
    missing: tuple[Missing, ...] = ()
    unlisted: tuple[Unlisted, ...] = ()


def load(out: Path) -> Results:
    """Reads all finished seed runs of a results folder.

    Raises:
      UserError: The folder holds no run, or no manifest that can be read.
    """
    manifest = _manifest(out)
    failed = {(f.problem, f.optimizer) for f in manifest.failed}
    curves, costs, missing = {}, {}, []
    for cell in manifest.cells:
        pair = (cell.problem, cell.optimizer)
        read, lacks = _read_cell(out, cell, manifest.settings.seeds)
        if read is not None:
            curves[pair] = read
        damaged = lacks.damaged
        path = paths.cost_path(out, *pair)
        if (cost := read_cost(path)) is not None:
            costs[pair] = cost
        elif path.exists():
            lacks = dataclasses.replace(lacks, damaged=(*damaged, path))
        if lacks.damaged or lacks.foreign or (lacks.seeds and pair not in failed):
            missing.append(lacks)
    pairs = {(cell.problem, cell.optimizer) for cell in manifest.cells}
    others = strays.unlisted(out, pairs, set(manifest.settings.seeds))
    return Results(manifest, curves, costs, tuple(missing), others)


def _read_cell(
    out: Path, cell: CellEntry, seeds: Sequence[int]
) -> tuple[Curves | None, Missing]:
    found, damaged, foreign = {}, [], []
    for seed in seeds:
        path = paths.block_path(out, cell.problem, cell.optimizer, seed)
        if not path.exists():
            continue
        if (read := blocks.read(path)) is None:
            damaged.append(path)
        elif read[1] != cell.key:
            foreign.append(path)
        else:
            found[seed] = read[0]
    missing = Missing(
        cell.problem,
        cell.optimizer,
        tuple(seed for seed in seeds if seed not in found),
        tuple(damaged),
        tuple(foreign),
    )
    if not found:
        return None, missing
    first, *_ = read = list(found.values())
    curves = Curves(
        seeds=np.array(list(found)),
        learning_rates=first.learning_rates,
        eval_steps=first.eval_steps,
        metrics={n: np.stack([b.metrics[n] for b in read]) for n in first.metrics},
        diverged_at=np.stack([b.diverged_at for b in read]),
        gradients_per_step=cell.gradients_per_step,
    )
    return curves, missing


def _manifest(out: Path) -> Manifest:
    path = manifests.path_in(out)
    try:
        if (found := manifests.read(out)) is not None:
            return found
        msg = f"{path} is missing"
    except UserError as error:
        msg = str(error)
    if others := strays.unlisted(out, set(), set()):
        msg += f", but {out} holds {strays.describe(others)}: {strays.way_to_list(out)}"
    elif path.exists():
        msg += (
            f", and {out} holds no finished runs: python -m benchmarks run --out {out} "
            "starts anew."
        )
    else:
        msg = (
            f"{out} holds no results: make some with python -m benchmarks run "
            f"--out {out}"
        )
    raise UserError(msg)


def read_cost(path: Path) -> dict[str, float] | None:
    """The costs of a cell; None if there are none or the file is damaged."""
    try:
        return {name: float(cost) for name, cost in files.read_json(path).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None
