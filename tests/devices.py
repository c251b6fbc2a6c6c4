"""Programs on eight devices, which a process has to ask for before it starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DEVICES = 8


def run_on_eight_devices(program: str, data: Any = None) -> Any:
    """Gives the program `data` as JSON on stdin; returns the JSON that it prints."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
        + f" --xla_force_host_platform_device_count={DEVICES}",
        # XLA has one pool of threads for the parts of a collective, which wait for
        # each other, and for all else. On a machine with fewer cores than devices it
        # has a thread per device, so that one other task in it stops a collective
        # for ever.
        "PJRT_NPROC": str(2 * DEVICES),
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        input=json.dumps(data),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
