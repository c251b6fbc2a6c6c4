"""A seed run: one optimizer, one problem, one seed, all learning rates, in chunks."""

import dataclasses
import operator
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from benchmarks.engine.lane import Lane
from benchmarks.engine.program import Program
from benchmarks.problem import Problem, PyTree
from benchmarks.results import blocks
from benchmarks.results.blocks import Block

# Fraction of the budget in the first chunk, while the program's speed is unknown.
_PROBE = 0.02


@dataclasses.dataclass
class Pace:
    """Speed of a program: seconds spent, and steps done in them (by all lanes)."""

    seconds: float = 0.0
    steps: int = 0


@dataclasses.dataclass(frozen=True)
class Task:
    """The inputs of a seed run.

    Attributes:
      problem: The problem.
      program: The program, compiled for one device.
      key: The cell's run key.
      learning_rates: `[L]`, float64.
      eval_steps: Steps at which the run is evaluated, `[E]`, int32, from 0.
      seed: The seed.
      params: The starting parameters.
      data: The problem's data, on the program's device.
      checkpoint: File of the checkpoint.
      checkpoint_seconds: Time between two checkpoints.
    """

    problem: Problem
    program: Program
    key: str
    learning_rates: np.ndarray
    eval_steps: np.ndarray
    seed: int
    params: PyTree
    data: PyTree
    checkpoint: Path
    checkpoint_seconds: float


def run_seed(
    task: Task,
    pace: Pace,
    advanced: Callable[[int], None],
    lock: threading.Condition,
    stop: threading.Event,
) -> Block | None:
    """Runs a seed from its start or from its checkpoint.

    Args:
      task: The inputs.
      pace: Speed of the program; sets the size of the chunks, and is updated.
      advanced: Called with the number of steps done after each chunk, and with those
        of the checkpoint if there is one.
      lock: Held while `pace` is updated and `advanced` is called.
      stop: When set, checkpoint and return at the next opportunity.

    Returns:
      The finished results, or None if `stop` was set before the end.
    """
    program, eval_steps = task.program, task.eval_steps
    learning_rates, key, steps_on_device = jax.device_put(
        (
            task.learning_rates.astype(np.float32),
            jax.random.key(task.seed),
            eval_steps,
        ),
        program.device,
    )
    lanes, rows, done = _resume(task)
    step = int(eval_steps[done - 1]) if done else 0
    if done:
        with lock:
            advanced(step)
    saved = time.perf_counter()
    while done < len(eval_steps):
        if stop.is_set():
            _save(task, lanes, rows, done)
            return None
        last = _chunk_end(task, pace, done, step)
        began = time.perf_counter()
        lanes, new = program.compiled(
            lanes,
            learning_rates,
            key,
            steps_on_device,
            np.int32(done),
            np.int32(last),
            task.data,
        )
        for row, fresh in zip(jax.tree.leaves(rows), jax.tree.leaves(new), strict=True):
            row[:, done:last] = np.asarray(fresh)[:, done:last]
        now = time.perf_counter()
        steps = int(eval_steps[last - 1]) - step
        done, step = last, step + steps
        with lock:
            pace.steps += steps
            pace.seconds += now - began
            advanced(steps)
        if done < len(eval_steps) and now - saved >= task.checkpoint_seconds:
            _save(task, lanes, rows, done)
            saved = time.perf_counter()
    diverged_at = np.asarray(lanes.diverged_at)
    return finish(task.problem, rows, task.learning_rates, eval_steps, diverged_at)


def _start(task: Task) -> Lane:
    """The lanes at step 0, on the host; the program initializes the state."""
    count = len(task.learning_rates)
    return Lane(
        params=jax.tree.map(lambda p: np.stack([p] * count), task.params),
        state=jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), task.program.state),
        alive=np.ones(count, bool),
        diverged_at=np.full(count, -1, np.int32),
        first_loss=np.zeros(count, np.float32),
    )


def _chunk_end(task: Task, pace: Pace, done: int, step: int) -> int:
    """Index after the last evaluation of a chunk of half a checkpoint interval."""
    if pace.steps:
        steps = 0.5 * task.checkpoint_seconds * pace.steps / max(pace.seconds, 1e-9)
    else:
        steps = min(task.checkpoint_seconds, 1.0) * _PROBE * int(task.eval_steps[-1])
    last = int(np.searchsorted(task.eval_steps, step + steps, side="right"))
    return min(max(last, done + 1), len(task.eval_steps))


def _save(task: Task, lanes: Lane, rows: PyTree, done: int) -> None:
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((lanes, rows))]
    blocks.write_checkpoint(task.checkpoint, task.key, done, arrays)


def _resume(task: Task) -> tuple[Lane, PyTree, int]:
    """Lanes, rows and evaluations done, from the checkpoint or from the start.

    A checkpoint that is damaged or of other code is ignored.
    """
    lanes = _start(task)
    rows = jax.tree.map(lambda r: np.zeros(r.shape, r.dtype), task.program.rows)
    if not task.checkpoint.exists():
        return lanes, rows, 0
    leaves, structure = jax.tree.flatten((lanes, rows))
    found = blocks.read_checkpoint(task.checkpoint, task.key, leaves)
    if found is None:
        return lanes, rows, 0
    done, arrays = found
    lanes, rows = jax.tree.unflatten(structure, [a.copy() for a in arrays])
    return lanes, rows, done


def finish(
    problem: Problem,
    rows: dict[str, PyTree],
    learning_rates: np.ndarray,
    eval_steps: np.ndarray,
    diverged_at: np.ndarray,
) -> Block:
    """The results in float64, `[L, E]`; in the plane with coordinates `x_0`, `x_1`.

    From its first evaluation whose loss is not finite, a lane repeats the evaluation
    before, and counts as diverged there if it has not diverged before.

    Raises:
      ValueError: The problem's metrics lack `"loss"` or have another shape.
    """
    shape = (len(learning_rates), len(eval_steps))
    metrics = {n: np.asarray(m, np.float64) for n, m in rows["metrics"].items()}
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), rows["params"])
    if problem.evaluate_exact is not None:
        metrics = _evaluate_exactly(problem.evaluate_exact, params, len(eval_steps))
    if "loss" not in metrics:
        msg = f"{problem.name} reports {sorted(metrics)}, but not 'loss'."
        raise ValueError(msg)
    metrics = {"loss": metrics.pop("loss")} | metrics
    leaves = jax.tree.leaves(params)
    if leaves:
        flat = np.concatenate([p.reshape(*shape, -1) for p in leaves], axis=-1)
        if flat.shape[-1] == 2:
            metrics |= {"x_0": flat[..., 0], "x_1": flat[..., 1]}
    for name, values in metrics.items():
        if values.shape != shape:
            msg = (
                f"{problem.name}: metric {name!r} has shape {values.shape} for "
                f"parameters with leading axes {shape}; they must be the same."
            )
            raise ValueError(msg)
    lost = ~np.isfinite(metrics["loss"])
    lost[:, 0] = False
    lost = np.logical_or.accumulate(lost, axis=1)
    sound = np.maximum.accumulate(np.where(lost, 0, np.arange(shape[1])), axis=1)
    unnoticed = lost.any(axis=1) & (diverged_at < 0)
    return Block(
        learning_rates=learning_rates,
        eval_steps=eval_steps,
        metrics={
            name: np.take_along_axis(values, sound, axis=1)
            for name, values in metrics.items()
        },
        diverged_at=np.where(
            unnoticed, eval_steps[lost.argmax(axis=1)], diverged_at
        ).astype(np.int32),
    )


def _evaluate_exactly(
    evaluate: Callable[[PyTree], Mapping[str, np.ndarray]],
    params: PyTree,
    evaluations: int,
) -> dict[str, np.ndarray]:
    """Metrics of one evaluation after the other, of all lanes at once; `[L, E]`.

    The program evaluates in the same way. A single call for all evaluations would round
    differently, because BLAS adds up in an order that depends on the shapes.
    """
    found = []
    with np.errstate(all="ignore"):
        for i in range(evaluations):
            at = operator.itemgetter((slice(None), i))
            found.append(evaluate(jax.tree.map(at, params)))
    return {
        name: np.stack([np.asarray(m[name], np.float64) for m in found], axis=1)
        for name in found[0]
    }
