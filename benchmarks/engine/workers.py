"""Worker threads: which of them compiles which program, and runs which seed."""

import collections
import dataclasses
import functools
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import jax
import numpy as np

from benchmarks.engine import program, seed_run
from benchmarks.engine.program import Program
from benchmarks.engine.progress import Progress
from benchmarks.errors import UserError
from benchmarks.experiment.plan import Cell, Plan
from benchmarks.problem import Problem, PyTree
from benchmarks.provenance import Device
from benchmarks.results import blocks, files, paths
from benchmarks.results.manifest import Failure


@dataclasses.dataclass
class _Job:
    """A cell that is not finished.

    Attributes:
      cell: The cell.
      seeds: Seeds that no worker has taken yet.
      programs: By device; None while the program is being compiled.
      pace: Speed of the program.
      failure: Set once the cell has failed.
    """

    cell: Cell
    seeds: collections.deque[int]
    programs: dict[Device, Program | None] = dataclasses.field(default_factory=dict)
    pace: seed_run.Pace = dataclasses.field(default_factory=seed_run.Pace)
    failure: Failure | None = None


class _Problems:
    """Starting parameters and data of the problems, made once for all threads."""

    def __init__(self) -> None:
        self._locks = collections.defaultdict(threading.Lock)
        self._inits: dict[str, Callable[[jax.Array], PyTree]] = {}
        self._data: dict[tuple[str, Device], PyTree] = {}

    def start(self, problem: Problem, seed: int) -> PyTree:
        """The starting parameters, on the host; computed on the first device."""
        with self._locks[problem.name]:
            init = self._inits.setdefault(problem.name, jax.jit(problem.init))
            with jax.default_device(jax.local_devices()[0]):
                key = jax.random.fold_in(jax.random.key(seed), 0)
                return jax.tree.map(np.asarray, init(key))

    def data(self, problem: Problem, device: Device) -> PyTree:
        """The problem's data on a device."""
        with self._locks[problem.name]:
            if (problem.name, device) not in self._data:
                self._data[problem.name, device] = jax.device_put(problem.data, device)
            return self._data[problem.name, device]


class Workers:
    """State shared by the workers of a run, guarded by one condition variable."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        finished: set[tuple[str, int]],
        progress: Progress,
        checkpoint_seconds: float,
    ) -> None:
        self.out = out
        self.settings = plan.settings
        self.progress = progress
        self.checkpoint_seconds = checkpoint_seconds
        self.learning_rates = np.array(plan.settings.learning_rates, np.float64)
        self.problems = _Problems()
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self.changed = threading.Condition()
        self.jobs = []
        seeds = plan.settings.seeds
        for cell in plan.cells:
            left = [s for s in seeds if (cell.key, s) not in finished]
            if left:
                self.jobs.append(_Job(cell, collections.deque(left)))

    def run(self, devices: Sequence[Device], count: int) -> tuple[Failure, ...]:
        """Runs everything on `count` threads; returns the failures in plan order."""
        # Before Python 3.13, a thread whose join() is interrupted counts as ended while
        # it still runs; an executor waits for it.
        with futures.ThreadPoolExecutor(count) as pool:
            try:
                futures.wait(
                    [
                        pool.submit(self.work, devices[i % len(devices)])
                        for i in range(count)
                    ]
                )
            except BaseException:
                self.halt()
                raise
        if self.error is not None:
            raise self.error
        return tuple(job.failure for job in self.jobs if job.failure)

    def halt(self, error: BaseException | None = None) -> None:
        """Makes all workers checkpoint and stop at the next opportunity."""
        with self.changed:
            self.error = self.error or error
            self.stop.set()
            self.changed.notify_all()

    def work(self, device: Device) -> None:
        """Compiles and runs on one device until nothing is left."""
        try:
            while (order := self._next(device)) is not None:
                job, found = order
                try:
                    if found is None:
                        self._compile(job, device)
                    else:
                        self._run(job, *found)
                except UserError:
                    raise
                except (Exception, SystemExit) as error:  # optimizers fail in any way
                    self._fail(job, error)
        except BaseException as error:
            self.halt(error)

    def _next(self, device: Device) -> tuple[_Job, tuple[Program, int] | None] | None:
        """A job with the program and seed to run, or with None to compile it first.

        Prefers cells that are compiled for this device, then cells that no device has
        begun. When other devices have begun all that is left, takes seeds from the
        cell with the most seeds left.
        """
        with self.changed:
            while not self.stop.is_set():
                left = [job for job in self.jobs if job.seeds and not job.failure]
                for job in left:
                    if compiled := job.programs.get(device):
                        return job, (compiled, job.seeds.popleft())
                elsewhere = [job for job in left if device not in job.programs]
                fresh = [job for job in elsewhere if not job.programs]
                shared = [
                    job for job in elsewhere if len(job.seeds) > len(job.programs)
                ]
                if fresh:
                    chosen = fresh[0]
                elif len(elsewhere) < len(left):  # another thread compiles it for us
                    self.changed.wait()
                    continue
                elif shared:
                    chosen = max(shared, key=lambda job: len(job.seeds))
                else:
                    return None
                chosen.programs[device] = None
                return chosen, None
        return None

    def _compile(self, job: _Job, device: Device) -> None:
        cell, settings = job.cell, self.settings
        compiled = program.compile_program(
            cell.problem,
            cell.optimizer.make,
            asks_for_tail=cell.asks_for_tail,
            params=self.problems.start(cell.problem, settings.seeds[0]),
            data=self.problems.data(cell.problem, device),
            lanes=len(self.learning_rates),
            evaluations=len(cell.eval_steps),
            budget=cell.steps,
            schedule=settings.schedule,
            device=device,
        )
        with self.changed:
            job.programs[device] = compiled
            self.changed.notify_all()
            costs = compiled.costs
            self.progress.compiled(cell, costs["trace_s"] + costs["compile_s"])

    def _run(self, job: _Job, compiled: Program, seed: int) -> None:
        cell, problem, name = job.cell, job.cell.problem, job.cell.optimizer.name
        path = paths.block_path(self.out, problem.name, name, seed)
        checkpoint = paths.checkpoint_path(self.out, problem.name, name, seed)
        cost_path = paths.cost_path(self.out, problem.name, name)
        task = seed_run.Task(
            problem=problem,
            program=compiled,
            key=cell.key,
            learning_rates=self.learning_rates,
            eval_steps=cell.eval_steps,
            seed=seed,
            params=self.problems.start(problem, seed),
            data=self.problems.data(problem, compiled.device),
            checkpoint=checkpoint,
            checkpoint_seconds=self.checkpoint_seconds,
        )
        advanced = functools.partial(self.progress.advanced, cell, seed)
        block = seed_run.run_seed(task, job.pace, advanced, self.changed, self.stop)
        if block is None:
            return
        with self.changed:
            cost = _cost(compiled, job.pace, len(self.learning_rates))
            files.write_json(cost_path, cost)
        blocks.write(path, block, cell.key, cell.ingredients)
        checkpoint.unlink(missing_ok=True)
        with self.changed:
            self.progress.finished(cell, seed)

    def _fail(self, job: _Job, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        lines = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        with self.changed:
            if job.failure is None:
                cell = job.cell
                job.failure = Failure(
                    cell.problem.name, cell.optimizer.name, message, text
                )
                self.progress.failed(cell, message)
            self.changed.notify_all()


def _cost(compiled: Program, pace: seed_run.Pace, lanes: int) -> dict[str, float]:
    """Costs of a cell in this process: seconds, bytes, µs per run and step."""
    return compiled.costs | {
        "run_s": pace.seconds,
        "us_per_run_step": 1e6 * pace.seconds / max(1, pace.steps * lanes),
    }
