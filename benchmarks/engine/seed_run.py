"""Runs one block: a cell at one seed, all learning rates side by side, in chunks."""

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks.engine.program import Carry, Program
from benchmarks.problem import Problem, PyTree
from benchmarks.results import blocks
from benchmarks.results.blocks import Block

# Until the speed of a program is known: the share of the budget that is tried first.
_PROBE = 0.02


@dataclasses.dataclass
class Pace:
    """How fast a program runs: seconds spent, and steps of all lanes done in them."""

    seconds: float = 0.0
    steps: int = 0


@dataclasses.dataclass(frozen=True)
class Task:
    """What one block needs.

    Attributes:
      problem: The problem.
      program: The program, compiled for one device.
      key: The cell's run key.
      learning_rates: `[L]`, float64.
      stops: Evaluation steps, `[E]`, int32.
      seed: The seed.
      params: The start.
      data: The problem's data, on the program's device.
      partial: The file that keeps the block while it is unfinished.
      checkpoint_seconds: Time between two writings of it.
    """

    problem: Problem
    program: Program
    key: str
    learning_rates: np.ndarray
    stops: np.ndarray
    seed: int
    params: PyTree
    data: PyTree
    partial: Path
    checkpoint_seconds: float


def run_block(
    task: Task,
    pace: Pace,
    stop: threading.Event,
    advanced: Callable[[int, float], None],
) -> Block | None:
    """Runs a block from its start or from where it was left.

    Args:
      task: The block.
      pace: Says how many points to run at once.
      stop: When set, the block is put away at the next chance.
      advanced: Gets the steps done by each piece and its seconds; 0 seconds for
        steps that were done before.

    Returns:
      The finished block, or None when it was put away.
    """
    program, device = task.program, task.program.device
    rates, key, stops = jax.device_put(
        (task.learning_rates.astype(np.float32), jax.random.key(task.seed), task.stops),
        device,
    )
    carry: Carry = program.start(task.params, len(task.learning_rates))
    rows = jax.tree.map(lambda r: np.zeros(r.shape, r.dtype), program.rows)
    carry, rows, done = _resume(task, carry, rows)
    at = int(task.stops[done - 1]) if done else 0
    advanced(at, 0.0)
    saved = time.perf_counter()
    while done < len(task.stops):
        if stop.is_set():
            _put_away(task, done, carry, rows)
            return None
        last = _chunk(task, pace, done, at)
        began = time.perf_counter()
        first, end = np.int32(done), np.int32(last)
        carry, new = program.compiled(carry, rates, key, stops, first, end, task.data)
        for row, fresh in zip(jax.tree.leaves(rows), jax.tree.leaves(new), strict=True):
            row[done:last] = np.asarray(fresh)[done:last]
        now = time.perf_counter()
        steps = int(task.stops[last - 1]) - at
        done, at = last, at + steps
        advanced(steps, now - began)
        if done < len(task.stops) and now - saved >= task.checkpoint_seconds:
            _put_away(task, done, carry, rows)
            saved = time.perf_counter()
    return finish(
        task.problem,
        rows,
        task.learning_rates,
        task.stops,
        np.asarray(carry.diverged_at),
    )


def _chunk(task: Task, pace: Pace, done: int, at: int) -> int:
    """Index after the last point that fits in half the time between checkpoints."""
    if pace.steps:
        steps = 0.5 * task.checkpoint_seconds * pace.steps / max(pace.seconds, 1e-9)
    else:
        steps = min(task.checkpoint_seconds, 1.0) * _PROBE * int(task.stops[-1])
    last = int(np.searchsorted(task.stops, at + steps, side="right"))
    return min(max(last, done + 1), len(task.stops))


def _put_away(task: Task, done: int, carry: Carry, rows: PyTree) -> None:
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((carry, rows))]
    blocks.write_partial(task.partial, task.key, done, arrays)


def _resume(task: Task, carry: Carry, rows: PyTree) -> tuple[Carry, PyTree, int]:
    """Where the block was left; its start if that is damaged or of other code."""
    leaves, structure = jax.tree.flatten((carry, rows))
    found = blocks.read_partial(task.partial, task.key, leaves)
    if found is None:
        return carry, rows, 0
    carry, rows = jax.tree.unflatten(structure, [a.copy() for a in found[1]])
    return carry, rows, found[0]


def finish(
    problem: Problem,
    rows: dict[str, PyTree],
    learning_rates: np.ndarray,
    stops: np.ndarray,
    diverged_at: np.ndarray,
) -> Block:
    """Metrics in float64, by lane; in the plane also the coordinates `x_0`, `x_1`.

    From the first row whose loss is not finite, a lane repeats the row before it and
    counts as diverged there, if it has not before.

    Raises:
      ValueError: The problem's metrics lack `"loss"` or have another shape.
    """
    shape = (len(stops), len(learning_rates))
    metrics = {n: np.asarray(m, np.float64) for n, m in rows["metrics"].items()}
    params = [np.asarray(p, np.float64) for p in jax.tree.leaves(rows["params"])]
    with np.errstate(all="ignore"):
        if problem.evaluate_exact is not None:
            tree = jax.tree.unflatten(jax.tree.structure(rows["params"]), params)
            metrics = dict(problem.evaluate_exact(tree))
    if "loss" not in metrics:
        msg = f"{problem.name} reports {sorted(metrics)}, but not 'loss'."
        raise ValueError(msg)
    metrics = {"loss": metrics.pop("loss")} | metrics
    if params:
        flat = np.concatenate([p.reshape(*shape, -1) for p in params], axis=-1)
        if flat.shape[-1] == 2:
            metrics |= {"x_0": flat[..., 0], "x_1": flat[..., 1]}
    for name, values in metrics.items():
        if np.shape(values) != shape:
            msg = (
                f"{problem.name}: metric {name!r} has shape {np.shape(values)} for "
                f"parameters with leading axes {shape}; they must be the same."
            )
            raise ValueError(msg)
    lost = ~np.isfinite(metrics["loss"]).T
    lost[:, 0] = False
    lost = np.logical_or.accumulate(lost, axis=1)
    sound = np.maximum.accumulate(np.where(lost, 0, np.arange(len(stops))), axis=1)
    unnoticed = lost.any(axis=1) & (diverged_at < 0)
    return Block(
        learning_rates=learning_rates,
        eval_steps=stops,
        metrics={
            name: np.take_along_axis(np.asarray(values, np.float64).T, sound, axis=1)
            for name, values in metrics.items()
        },
        diverged_at=np.where(unnoticed, stops[lost.argmax(axis=1)], diverged_at).astype(
            np.int32
        ),
    )
