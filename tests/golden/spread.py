"""How far trajectories lie apart that other processors and compilers make.

    python -m tests.golden.spread [interpreter ...]

records the public optimizers and optax's, records them again in one process for each
setting, and prints the largest differences in the terms of the tolerances: relative to
the largest entry that a leaf has had. Optimizers that exceed a tolerance are named and
left out of the maxima. Interpreters with another jax are settings too.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import optax

import optimizers
from optimizers import catalog, testing
from optimizers.catalog import Kind
from optimizers.testing._golden.diff import find_moves
from optimizers.testing._golden.format import flatten, read, render

SETTINGS = {
    "without FMA": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX"},
    "without AVX-512": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "LLVM does not optimize": {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
    "fast mathematics": {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"},
    "8 devices": {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    "without jit": {"JAX_DISABLE_JIT": "1"},
}
COLUMNS = [
    *(("float32", quantity) for quantity in ("state", "updates", "params")),
    *((dtype, "all") for dtype in ("bfloat16", "float16", "float64")),
]


def main(interpreters: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_child(sys.executable, folder, {})
        titles = [f"{dtype} {quantity}" for dtype, quantity in COLUMNS]
        print_row("", [*titles, "out of tolerance"])
        for name, variables in SETTINGS.items():
            report(name, run_child(sys.executable, folder, variables))
        for interpreter in interpreters:
            report(interpreter, run_child(interpreter, folder, {}))


def run_child(interpreter: str, folder: str, variables: dict[str, str]) -> Any:
    command = [interpreter, "-m", "tests.golden.spread", "--in", folder]
    environment = {**os.environ, **variables}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def report(setting: str, found: list[Any]) -> None:
    """Prints the largest of every column, for our optimizers and for optax's."""
    for origin in ("optimizers", "optax"):
        worst = [("", 0.0)] * len(COLUMNS)
        ours = [row for row in found if row[0].startswith(f"{origin}.")]
        out = {name for name, *_, is_out in ours if is_out}
        for name, dtype, quantity, error, _ in ours:
            for i, column in enumerate(COLUMNS):
                if name in out:
                    continue
                if (
                    column in ((dtype, quantity), (dtype, "all"))
                    and error > worst[i][1]
                ):
                    worst[i] = (name.removeprefix(f"{origin}."), error)
        names = ", ".join(sorted(name.removeprefix(f"{origin}.") for name in out))
        cells = [f"{error:.1e} {name}" for name, error in worst]
        print_row(f"{setting}, {origin}", [*cells, names])


def print_row(first: str, cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join([first, *cells])} |\n")
    sys.stdout.flush()


def compare(folder: Path) -> Iterator[tuple[str, str, str, float, bool]]:
    """Yields each leaf's largest difference from the file, or makes the file."""
    for name, factory in factories():
        path = folder / f"{name}.json"
        try:
            trajectories = testing.record_trajectory(factory)
            with jax.enable_x64(True):
                trajectories |= testing.record_trajectory(
                    factory, scenarios=["vector/float64/smooth"]
                )
        except Exception as error:
            sys.stderr.write(f"{name} is left out: {type(error).__name__}\n")
            continue
        records = {case: flatten(t) for case, t in trajectories.items()}
        if not path.exists():
            path.write_text(render(name, records))
            continue
        recorded = read(path).scenarios
        for case in records.keys() & recorded.keys():
            leaves = (case, records[case], recorded[case])
            out = {move.leaf for move in find_moves(*leaves, {})}
            for move in find_moves(*leaves, {"": 0.0}):
                dtype = str(move.recorded.dtype).replace("complex64", "float32")
                error = move.relative_error
                yield name, dtype, move.quantity, error, move.leaf in out


def factories() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in (optimizers, optax, optax.contrib):
        found = catalog.functions(module, Kind.OPTIMIZER, Kind.WRAPPER)
        for name, function in found.items():
            yield f"{module.__name__.split('.')[0]}.{name}", function


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in"]:
        json.dump(list(compare(Path(sys.argv[2]))), sys.stdout)
    else:
        main(sys.argv[1:])
