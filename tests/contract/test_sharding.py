"""The rules about devices, on eight of them."""

import json
import os
import subprocess
import sys

from optimizers.testing import Case

PROGRAM = """
import json, sys
import optimizers
from optimizers import testing
import jax

assert jax.device_count() == 8
rules = [
    rule
    for rule in testing.conformance_rules()
    if rule.check.__module__.endswith(".sharding")
]
reports = [
    testing.check(getattr(optimizers, name), rules=rules, **kwargs)
    for name, kwargs in json.load(sys.stdin)
]
outcomes = [[r.outcome for r in report.results] for report in reports]
json.dump({"texts": [str(r) for r in reports], "outcomes": outcomes}, sys.stdout)
"""


def test_eight_devices_equal_one(cases: list[Case]) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([(case.base_name, case.kwargs) for case in cases]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["outcomes"]) == len(cases)
    for text, outcomes in zip(answer["texts"], answer["outcomes"], strict=True):
        assert outcomes == ["passed"] * 4, text
