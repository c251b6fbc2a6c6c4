"""Runs a plan: compiles its cells, runs their seeds on all devices, stores results."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks import provenance
from benchmarks.engine import lane, program, seed_run
from benchmarks.engine.progress import Progress
from benchmarks.engine.workers import Workers
from benchmarks.experiment.plan import Plan
from benchmarks.provenance import Device
from benchmarks.results import files, manifest, previous
from benchmarks.results.manifest import Failure
from benchmarks.roster import gradient_count


def run_plan(
    plan: Plan,
    out: Path,
    *,
    devices: Sequence[Device] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    fresh: bool = False,
    checkpoint_seconds: float = 0.5,
) -> tuple[Failure, ...]:
    """Runs everything that the results folder does not hold yet.

    The numbers do not depend on devices, workers, checkpoints or interruptions. Other
    results of the same suite and settings stay in the folder and in its report.

    Args:
      plan: What to run.
      out: The results folder.
      devices: Devices to run on; all local devices by default.
      workers: Number of threads; by default one per device, on a CPU at least one per
        core.
      progress: Progress callbacks.
      fresh: Discard the plan's results that were made by other code, data or settings.
      checkpoint_seconds: Time between two checkpoints of a seed run.

    Returns:
      The cells that failed; all other cells are finished.

    Raises:
      UserError: The folder holds results of other code or of another suite, or no
        results but something else, is in use or cannot be written. Finished results
        are kept.
      KeyboardInterrupt: On Ctrl-C, once all workers have saved a checkpoint.
    """
    devices = list(devices or jax.local_devices())
    if workers is None:
        cores = provenance.cores() if devices[0].platform == "cpu" else 1
        workers = max(len(devices), cores)
    description = manifest.describe(plan)
    previous.check_folder(out)
    with files.lock(out):
        files.sweep(out)
        progress = progress or Progress()
        before = previous.previous_manifest(plan, out)
        finished = previous.prepare(plan, out, fresh=fresh, damaged=progress.damaged)
        description = previous.merged(out, before, description)
        manifest.write(out, description)
        progress.planned(plan, finished)
        run = Workers(plan, out, finished, progress, checkpoint_seconds)
        failures = run.run(devices, workers)
        manifest.write(out, manifest.completed(description, failures))
    return failures


def source_hash() -> str:
    """SHA-256, in hex, of the modules on which the numbers of a run depend."""
    modules = (gradient_count, lane, program, seed_run)
    content = b"".join(Path(str(m.__file__)).read_bytes() for m in modules)
    return hashlib.sha256(content).hexdigest()
