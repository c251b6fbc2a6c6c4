"""Measures how much faster the engine is than a plain Python loop.

The plain loop is what most people write: it calls one jitted step from Python for each
step of each run, and reads the loss as a float. Both do the same steps on the same
problem, in one process, in turns. On a CPU the clock is the processor time of this
process.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.engine import runner
from benchmarks.engine.progress import Progress
from benchmarks.experiment.plan import Cell, Settings, make_plan
from benchmarks.experiment.targets import NO_TARGETS
from benchmarks.measure.timing import clock
from benchmarks.problem import Problem
from benchmarks.roster.resolver import Optimizer

PROBLEMS = ("rosen2", "rosen10", "quad_diag", "quad_rot", "mlp32_digits")
_SETTINGS = Settings(tune_seeds=(0,), test_seeds=(100, 101))
_LOOP_STEPS = 500
_LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Time of one step of one run, both ways.

    Attributes:
      problem: Name of the problem.
      optimizer: Name of the optimizer.
      loop_us: Microseconds in the plain loop; minimum over turns.
      engine_us: Microseconds in the engine, with everything that it does (batches,
        evaluation, divergence, storage) except compiling; minimum over turns.
      ratio: Median over turns of loop ÷ engine.
    """

    problem: str
    optimizer: str
    loop_us: float
    engine_us: float
    ratio: float


class _Stopwatch(Progress):
    """Measures the time from the end of the compilation."""

    def __init__(self) -> None:
        self.start = self.stop = 0.0

    def compiled(self, cell: Cell, seconds: float) -> None:
        self.start = clock()

    def finished(self, cell: Cell, seed: int) -> None:
        self.stop = clock()

    def failed(self, cell: Cell, message: str) -> None:
        raise RuntimeError(message)


def measure(problem: Problem, optimizer: Optimizer, *, turns: int = 3) -> Throughput:
    """Times the engine and the plain loop in turns.

    Args:
      problem: The problem.
      optimizer: The optimizer.
      turns: Number of timings of each side.
    """
    step, arguments = _plain_step(problem, optimizer)
    _engine(problem, optimizer)  # the first run of a process also loads and compiles
    times = []
    for _ in range(turns):
        engine_s = _engine(problem, optimizer)
        times.append((_loop(step, arguments), engine_s))
    loop_s, engine_s = np.array(times).T
    return Throughput(
        problem=problem.name,
        optimizer=optimizer.name,
        loop_us=1e6 * float(loop_s.min()),
        engine_us=1e6 * float(engine_s.min()),
        ratio=float(np.median(loop_s / engine_s)),
    )


def table(measured: list[Throughput]) -> Table:
    """The measurements, one row for each problem."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    result.add_column("problem")
    result.add_column("optimizer")
    for head in ("plain loop µs", "engine µs", "ratio"):
        result.add_column(head, justify="right")
    for item in measured:
        result.add_row(
            item.problem,
            item.optimizer,
            f"{item.loop_us:.2f}",
            f"{item.engine_us:.3f}",
            f"{item.ratio:.1f}",
        )
    return result


def _engine(problem: Problem, optimizer: Optimizer) -> float:
    """Seconds per step and run: one worker, the default grid of learning rates."""
    plan = make_plan(
        "throughput",
        [problem],
        [optimizer],
        _SETTINGS,
        runner.source_hash(),
        targets=lambda _: NO_TARGETS,
    )
    watch = _Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        runner.run_plan(plan, Path(folder), workers=1, progress=watch)
    runs = len(_SETTINGS.seeds) * len(_SETTINGS.learning_rates)
    return (watch.stop - watch.start) / (runs * problem.budget)


def _plain_step(problem: Problem, optimizer: Optimizer) -> tuple[Any, Any]:
    """The jitted step of a plain loop, compiled, and its first arguments."""
    tx = optimizer.make(_LEARNING_RATE)

    @jax.jit
    def step(params: Any, state: Any, key: jax.Array, data: Any) -> tuple[Any, ...]:
        key, draw = jax.random.split(key)
        batch = problem.sample(draw, data)

        def value_fn(params: Any) -> jax.Array:
            return problem.loss(params, batch)

        value, grad = jax.value_and_grad(value_fn)(params)
        updates, state = tx.update(
            grad,
            state,
            params,
            value=value,
            grad=grad,
            value_fn=value_fn,
            grad_fn=jax.grad(value_fn),
        )
        return optax.apply_updates(params, updates), state, key, value

    key = jax.random.key(0)
    params = problem.init(key)
    arguments = (params, tx.init(params), key, jax.device_put(problem.data))
    _loop(step, arguments, 10)
    return step, arguments


def _loop(step: Any, arguments: Any, steps: int = _LOOP_STEPS) -> float:
    """Seconds per step."""
    params, state, key, data = arguments
    losses = []
    start = clock()
    for _ in range(steps):
        params, state, key, loss = step(params, state, key, data)
        losses.append(float(loss))
    return (clock() - start) / steps
