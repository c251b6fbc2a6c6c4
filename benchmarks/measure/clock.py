"""The clock of measurements: on a CPU, the one that other processes disturb least."""

import time

import jax


def seconds() -> float:
    """Processor time of this process on a CPU; elsewhere wall-clock time."""
    on_cpu = jax.default_backend() == "cpu"
    return time.process_time() if on_cpu else time.perf_counter()
