"""Programs on several devices, which a process has to ask for before it starts."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DEVICES = 8
ROOT = Path(__file__).parents[1]

# Prints, for each [module, name, arguments], the outcome and reason of each rule. The
# rules allow for methods that amplify rounding errors; ours agree to 1e-6.
_CHECK = """
import functools, importlib, json, sys
import jax
from optimizers import testing
from optimizers.testing import _compare

assert jax.device_count() == 8
_compare.assert_agree = functools.partial(_compare.assert_close, rtol=1e-6)
rules = [
    rule
    for rule in testing.conformance_rules()
    if rule.check.__module__.endswith(".sharding")
]
answers = {}
for module, name, kwargs in json.load(sys.stdin):
    factory = getattr(importlib.import_module(module), name)
    report = testing.check(factory, rules=rules, **kwargs)
    answers[name] = {r.rule: [r.outcome, r.reason] for r in report.results}
json.dump(answers, sys.stdout)
"""


def run_on_eight_devices(program: str, data: Any = None) -> Any:
    """Gives the program `data` as JSON on stdin; returns the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        input=json.dumps(data),
        env=_environment(DEVICES),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_in_two_processes(program: str, *arguments: str, timeout_s: float = 300) -> None:
    """Runs the program in two processes with four devices together.

    It finds what `jax.distributed.initialize` needs in the environment: the address,
    which JAX reads there, NUM_PROCESSES and PROCESS_ID. If one process fails or the
    time is over, both are killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = _environment(2) | {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,
        "NUM_PROCESSES": "2",
    }
    with contextlib.ExitStack() as stack:
        # Files, because a process stops while nobody empties a pipe that is full.
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                cwd=ROOT,
                env=shared | {"PROCESS_ID": str(number)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for number, output in enumerate(outputs)
        ]
        try:
            codes = _wait_for_all(processes, timeout_s)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        for output in outputs:
            output.seek(0)
        texts = "\n".join(output.read() for output in outputs)
        assert codes == [0, 0], f"exit codes {codes}; None was killed:\n{texts}"


def _wait_for_all(
    processes: list[subprocess.Popen[bytes]], timeout_s: float
) -> list[int | None]:
    """Waits until all have ended, one has failed or the time is over."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            return codes
        time.sleep(0.05)
    return [process.poll() for process in processes]


def _environment(devices: int) -> dict[str, str]:
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
        + f" --xla_force_host_platform_device_count={devices}",
        # XLA has one pool of threads for the parts of a collective, which wait for
        # each other, and for all else. On a machine with fewer cores than devices it
        # has a thread per device, so that one other task in it stops a collective
        # for ever.
        "PJRT_NPROC": str(2 * devices),
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
    }


def check_on_eight_devices(factories: Iterable[tuple[str, str, dict[str, Any]]]) -> Any:
    """Checks factories, given as (module, name, arguments), against the sharding rules.

    Returns the outcome and reason by the name of the factory and of the rule.
    """
    return run_on_eight_devices(_CHECK, list(factories))
