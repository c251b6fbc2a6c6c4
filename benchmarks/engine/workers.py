"""The threads of a run: who compiles what where, and who runs which block."""

import collections
import dataclasses
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks.engine import program, seed_run
from benchmarks.engine.program import Program
from benchmarks.engine.progress import Progress
from benchmarks.errors import UserError
from benchmarks.experiment.plan import Cell, Plan, eval_steps
from benchmarks.problem import Problem, PyTree
from benchmarks.results import blocks, files, store
from benchmarks.results.manifest import Failure


@dataclasses.dataclass
class _Job:
    """A cell in the making; `programs` is None where it is being compiled."""

    cell: Cell
    seeds: collections.deque[int]
    programs: dict[jax.Device, Program | None] = dataclasses.field(default_factory=dict)
    pace: seed_run.Pace = dataclasses.field(default_factory=seed_run.Pace)
    failure: Failure | None = None


class _Problems:
    """Starts and data of the problems, made once, by whichever thread is first."""

    def __init__(self) -> None:
        self._locks = collections.defaultdict(threading.Lock)
        self._inits: dict[str, Callable[[jax.Array], PyTree]] = {}
        self._data: dict[tuple[str, jax.Device], PyTree] = {}

    def start(self, problem: Problem, seed: int) -> PyTree:
        """The starting parameters, on the host; always computed on the first device."""
        with self._locks[problem.name]:
            init = self._inits.setdefault(problem.name, jax.jit(problem.init))
            with jax.default_device(jax.local_devices()[0]):
                key = jax.random.fold_in(jax.random.key(seed), 0)
                return jax.tree.map(np.asarray, init(key))

    def data(self, problem: Problem, device: jax.Device) -> PyTree:
        """The problem's data on a device."""
        with self._locks[problem.name]:
            if (problem.name, device) not in self._data:
                self._data[problem.name, device] = jax.device_put(problem.data, device)
            return self._data[problem.name, device]


class Workers:
    """The state that the workers of a run share, guarded by one condition."""

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
        self.rates = np.array(plan.settings.learning_rates, np.float64)
        self.problems = _Problems()
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self.changed = threading.Condition()
        self.jobs = []
        for cell in plan.cells:
            seeds = [s for s in plan.settings.seeds if (cell.key, s) not in finished]
            if seeds:
                self.jobs.append(_Job(cell, collections.deque(seeds)))

    def failures(self) -> tuple[Failure, ...]:
        """The cells that were given up, in the order of the plan."""
        return tuple(job.failure for job in self.jobs if job.failure)

    def halt(self, error: BaseException | None = None) -> None:
        """Makes all workers stop at the next chance."""
        with self.changed:
            self.error = self.error or error
            self.stop.set()
            self.changed.notify_all()

    def work(self, device: jax.Device) -> None:
        """What a worker does until nothing is left."""
        try:
            while (order := self._next(device)) is not None:
                job, seed = order
                try:
                    if seed is None:
                        self._compile(job, device)
                    else:
                        self._run(job, job.programs[device], seed)
                except UserError:
                    raise
                except (Exception, SystemExit) as error:  # optimizers fail in any way
                    self._give_up(job, error)
        except BaseException as error:
            self.halt(error)

    def _next(self, device: jax.Device) -> tuple[_Job, int | None] | None:
        """A job with the seed to run, or with None to compile it on the device.

        First what is compiled here; then a cell that nobody has begun; at the end,
        when other devices have begun all that is left, a share of the longest.
        """
        with self.changed:
            while not self.stop.is_set():
                left = [job for job in self.jobs if job.seeds and not job.failure]
                for job in left:
                    if job.programs.get(device):
                        return job, job.seeds.popleft()
                elsewhere = [job for job in left if device not in job.programs]
                fresh = [job for job in elsewhere if not job.programs]
                shared = [
                    job for job in elsewhere if len(job.seeds) > len(job.programs)
                ]
                if fresh:
                    chosen = fresh[0]
                elif len(elsewhere) < len(left):  # being compiled here
                    self.changed.wait()
                    continue
                elif shared:
                    chosen = max(shared, key=lambda job: len(job.seeds))
                else:
                    return None
                chosen.programs[device] = None
                return chosen, None
        return None

    def _compile(self, job: _Job, device: jax.Device) -> None:
        cell, settings = job.cell, self.settings
        compiled = program.compile_program(
            cell.problem,
            cell.optimizer.make,
            params=self.problems.start(cell.problem, settings.seeds[0]),
            data=self.problems.data(cell.problem, device),
            lanes=len(self.rates),
            points=len(eval_steps(cell.steps)),
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
        problem, name = job.cell.problem, job.cell.optimizer.name
        task = seed_run.Task(
            problem=problem,
            program=compiled,
            key=job.cell.key,
            learning_rates=self.rates,
            stops=eval_steps(job.cell.steps),
            seed=seed,
            params=self.problems.start(problem, seed),
            data=self.problems.data(problem, compiled.device),
            partial=store.partial_path(self.out, problem.name, name, seed),
            checkpoint_seconds=self.checkpoint_seconds,
        )

        def advanced(steps: int, seconds: float) -> None:
            with self.changed:
                if seconds:
                    job.pace.steps += steps
                    job.pace.seconds += seconds
                self.progress.advanced(job.cell, seed, steps)

        block = seed_run.run_block(task, job.pace, self.stop, advanced)
        if block is None:
            return
        path = store.block_path(self.out, problem.name, name, seed)
        blocks.write(path, block, job.cell.key, job.cell.ingredients)
        task.partial.unlink(missing_ok=True)
        with self.changed:
            files.write_json(
                store.cost_path(self.out, problem.name, name),
                _cost(compiled, job.pace, len(self.rates)),
            )
            self.progress.finished(job.cell, seed)

    def _give_up(self, job: _Job, error: BaseException) -> None:
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
    """What a cell has cost in this process: seconds, bytes, µs per lane and step."""
    return compiled.costs | {
        "run_s": pace.seconds,
        "us_per_run_step": 1e6 * pace.seconds / max(1, pace.steps * lanes),
    }
