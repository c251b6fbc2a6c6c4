"""Provenance of results: versions, machine, git commit, command line."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

# jax.Device comes from a compiled module without type stubs.
Device = Any

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")
# Flags that set the number of devices or the compiler's logs never change a result.
_HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_log")


def versions() -> dict[str, str]:
    """Versions of Python (major.minor) and of the packages that results depend on."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def machine(device: Device) -> dict[str, str | int]:
    """The processor, and the settings of XLA and JAX that can change a result."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": platform.system(),
        "device_kind": device.device_kind,
        "xla_flags": relevant_flags(os.environ.get("XLA_FLAGS", "")),
        "jax_config": _jax_config(),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def relevant_flags(flags: str) -> str:
    """XLA flags in sorted order, without flags that cannot change a result."""
    return " ".join(sorted(f for f in flags.split() if not f.startswith(_HARMLESS)))


def git() -> dict[str, str | bool] | None:
    """Commit of the checkout, and whether files differ from it; None without git."""
    root = Path(__file__).resolve().parent.parent

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "-s"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def command(arguments: Iterable[str] | None = None) -> str:
    """The command line that reproduces this process."""
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["python", "-m", "benchmarks", *given])


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    parts = {key.strip(): value.strip() for key, _, value in pairs}
    name = parts.get("model name") or platform.processor() or platform.machine()
    family, model = parts.get("cpu family"), parts.get("model")
    return f"{name} (family {family}, model {model})" if family else name


def _jax_config() -> str:
    config = jax.config.values
    return (
        f"x64={config['jax_enable_x64']} "
        f"matmul_precision={config['jax_default_matmul_precision']} "
        f"prng={config['jax_default_prng_impl']} "
        f"threefry_partitionable={config['jax_threefry_partitionable']}"
    )
