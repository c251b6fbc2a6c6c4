"""Runs a plan: compiles its cells, deals blocks to devices, stores the results."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import jax

from benchmarks import provenance
from benchmarks.engine import lane, program, seed_run
from benchmarks.engine.progress import Progress
from benchmarks.engine.workers import Workers
from benchmarks.experiment.plan import Plan
from benchmarks.experiment.targets import targets_of
from benchmarks.problem import Problem
from benchmarks.results import files, manifest, store
from benchmarks.results.manifest import Failure
from benchmarks.roster import gradient_count

__all__ = ["Failure", "Progress", "run_plan"]


def run_plan(
    plan: Plan,
    out: Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    fresh: bool = False,
    checkpoint_seconds: float = 0.5,
    targets: Callable[[Problem], dict[str, Any]] = targets_of,
) -> tuple[Failure, ...]:
    """Runs what the results folder does not hold yet.

    The numbers do not depend on devices, workers, checkpoints or interruptions.

    Args:
      plan: What to run.
      out: The results folder.
      devices: Where to run; all local devices by default.
      workers: Threads; by default one per device, on a CPU at least one per core.
      progress: Hears how it goes.
      fresh: Discard blocks of the plan that other code, data or settings made.
      checkpoint_seconds: An unfinished block is stored about this often.
      targets: The targets of a problem.

    Returns:
      The cells that failed; all others are finished.

    Raises:
      UserError: The folder holds blocks of other code, is in use or cannot be
        written, or a problem has no targets. What was finished is kept.
      KeyboardInterrupt: After all workers have stored what they were at.
    """
    devices = list(devices or jax.local_devices())
    if workers is None:
        cores = provenance.cores() if devices[0].platform == "cpu" else 1
        workers = max(len(devices), cores)
    description = manifest.describe(plan, devices[0], targets)
    with files.lock(out):
        files.sweep(out)
        finished = store.finished(plan, out, fresh=fresh)
        manifest.write(out, description)
        progress = progress or Progress()
        progress.planned(plan, finished)
        run = Workers(plan, out, finished, progress, checkpoint_seconds)
        # An executor, because before Python 3.13 a thread whose join() is interrupted
        # counts as ended while it goes on.
        with futures.ThreadPoolExecutor(workers) as pool:
            try:
                futures.wait(
                    [
                        pool.submit(run.work, devices[i % len(devices)])
                        for i in range(workers)
                    ]
                )
            except BaseException:
                run.halt()
                raise
        if run.error is not None:
            raise run.error
        failures = run.failures()
        manifest.write(out, manifest.completed(description, failures))
    return failures


def source_hash() -> str:
    """SHA-256, in hex, of the modules that decide the numbers of a run."""
    modules = (gradient_count, lane, program, seed_run)
    content = b"".join(Path(str(m.__file__)).read_bytes() for m in modules)
    return hashlib.sha256(content).hexdigest()
