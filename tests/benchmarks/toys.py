"""Problems and optimizers so small that every number of the engine can be checked."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow.parquet as pq

from benchmarks.engine import runner
from benchmarks.engine.progress import Progress
from benchmarks.experiment.plan import Plan, Settings, make_plan
from benchmarks.experiment.targets import Targets
from benchmarks.problem import Problem
from benchmarks.results import store
from benchmarks.roster.resolver import Optimizer

CURVATURES = np.array([1.0, 0.3, 0.02], np.float32)
TARGETS = Targets("relative", (1e-1, 1e-2, 1e-3, 1e-4, 1e-5))


def quadratic(budget: int = 60) -> Problem:
    """½ Σ λᵢ xᵢ², evaluated on the host."""
    return Problem(
        name="toy_quadratic",
        summary="A bowl.",
        formula="½ Σ λᵢ xᵢ²",
        source="these tests",
        tags=frozenset({"convex"}),
        budget=budget,
        init=_near_one,
        loss=_bowl,
        data=CURVATURES,
        evaluate_exact=lambda x: {"loss": 0.5 * x**2 @ CURVATURES.astype(np.float64)},
        f_star=0.0,
    )


def _near_one(key: jax.Array) -> jax.Array:
    return 1.0 + 0.1 * jax.random.normal(key, (3,))


def _bowl(x: jax.Array, curvatures: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(curvatures * x**2)


def regression(budget: int = 40) -> Problem:
    """Noisy least squares with a hidden layer, evaluated in the program."""
    random = np.random.RandomState(0)
    inputs = random.standard_normal((64, 8)).astype(np.float32)
    return Problem(
        name="toy_regression",
        summary="A very small network.",
        formula="mean (w · tanh(V x) − y)²",
        source="these tests",
        tags=frozenset({"nonconvex", "stochastic"}),
        budget=budget,
        init=_weights,
        loss=_error,
        sample=_batch,
        data={"x": inputs, "y": np.sin(inputs.sum(1)).astype(np.float32)},
        evaluate=_error_and_size,
        f_star=0.0,
    )


def _weights(key: jax.Array) -> dict[str, jax.Array]:
    first, second = jax.random.split(key)
    return {
        "hidden": 0.3 * jax.random.normal(first, (8, 16)),
        "out": 0.3 * jax.random.normal(second, (16,)),
    }


def _error(params: dict[str, jax.Array], batch: dict[str, jax.Array]) -> jax.Array:
    prediction = jnp.tanh(batch["x"] @ params["hidden"]) @ params["out"]
    return jnp.mean((prediction - batch["y"]) ** 2)


def _batch(key: jax.Array, data: dict[str, jax.Array]) -> dict[str, jax.Array]:
    index = jax.random.randint(key, (16,), 0, 64)
    return {name: values[index] for name, values in data.items()}


def _error_and_size(
    params: dict[str, jax.Array], data: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    size = sum(jnp.sum(jnp.abs(p)) for p in params.values())
    return {"loss": _error(params, data), "a_size": size}


def plane(budget: int = 30) -> Problem:
    """A parabola in the plane, as a tree of two scalars."""
    return Problem(
        name="toy_plane",
        summary="A bowl to look at.",
        formula="a² + b²",
        source="these tests",
        tags=frozenset({"convex", "plane"}),
        budget=budget,
        init=_in_the_plane,
        loss=_squares,
        evaluate=lambda p, data: {"loss": _squares(p, data)},
        f_star=0.0,
    )


def _in_the_plane(key: jax.Array) -> dict[str, jax.Array]:
    return {"a": jax.random.normal(key), "b": jnp.float32(2.0)}


def _squares(params: dict[str, jax.Array], data: None) -> jax.Array:
    return params["a"] ** 2 + params["b"] ** 2


def optimizer(name: str, make: Callable[[Any], Any]) -> Optimizer:
    """An optimizer whose source hash is that of its name."""
    return Optimizer(name, make, hashlib.sha256(name.encode()).hexdigest())


SGD = optimizer("sgd", optax.sgd)
ADAM = optimizer("adam", optax.adam)
NULL = optimizer("null", lambda rate: optax.set_to_zero())
FLIPPED = optimizer("flipped", lambda rate: optax.scale(rate))


def settings(*rates: float, seeds: int = 3, **others: Any) -> Settings:
    """Few learning rates, one tuning seed, the rest evaluation seeds."""
    return Settings(
        learning_rates=rates or (1e-3, 1e-2, 1e-1),
        tune_seeds=(0,),
        test_seeds=tuple(range(100, 99 + seeds)),
        **others,
    )


def plan(
    problems: list[Problem], optimizers: list[Optimizer], settings: Settings
) -> Plan:
    """A plan under the name `toys`."""
    return make_plan(
        "toys",
        problems,
        optimizers,
        settings,
        runner.source_hash(),
        targets=lambda _: TARGETS,
    )


def run(plan: Plan, out: Path, **options: Any) -> store.Results:
    """Runs and reads back; no cell may fail."""
    assert runner.run_plan(plan, out, **options) == ()
    return store.load(out)


def small_plan(*optimizers: Optimizer) -> Plan:
    """Two problems, one evaluated on the host and one in the program."""
    return plan([quadratic(), regression()], list(optimizers), settings(seeds=2))


def run_child(out: Path, *arguments: str, devices: int = 1) -> int:
    """Runs `main` in another process; returns its exit status."""
    return start_child(out, *arguments, devices=devices).wait()


def start_child(
    out: Path, *arguments: str, devices: int = 1
) -> subprocess.Popen[bytes]:
    """Starts `main` in another process, with a compilation cache beside `out`."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.toys", str(out), *arguments],
        env=os.environ | {"XLA_FLAGS": flags} | cache,
        cwd=Path(__file__).resolve().parents[2],
    )


def numbers(out: Path) -> dict[str, dict[str, bytes]]:
    """The bytes of every column of every finished seed run."""
    return {
        str(path.relative_to(out)): {
            name: pq.read_table(path)[name].to_numpy().tobytes()
            for name in pq.read_schema(path).names
        }
        for path in sorted(out.rglob("*.parquet"))
    }


class KillMyself(Progress):
    """Kills the process without warning after that many chunks."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def advanced(self, cell: Any, seed: int, steps: int) -> None:
        """Counts down."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Runs `small_plan` into a folder: `-m tests.benchmarks.toys OUT [CHUNKS]`.

    The first cell goes to the last device, so that it matters how many there are.
    """
    out, *chunks = sys.argv[1:]
    progress = KillMyself(int(chunks[0])) if chunks else None
    run(
        small_plan(ADAM),
        Path(out),
        devices=jax.devices()[::-1],
        progress=progress,
        checkpoint_seconds=0.0,
    )


if __name__ == "__main__":
    main()
