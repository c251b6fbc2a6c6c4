"""Programs on eight devices, which a process has to ask for before it starts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DEVICES = 8

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


def check_on_eight_devices(factories: Iterable[tuple[str, str, dict[str, Any]]]) -> Any:
    """Checks factories, given as (module, name, arguments), against the sharding rules.

    Returns the outcome and reason by the name of the factory and of the rule.
    """
    return run_on_eight_devices(_CHECK, list(factories))
