"""What optimizers of other frameworks are here: `python -m tools.dialects list`.

The rows are in dialects.json. Each has a package, a class and its arguments, and the
call that does the same here, as an expression over `lr`; without one, the note says
why. What the package did in 50 steps with given gradients is recorded, so that the
tests can repeat it; record_dialects.py records it again.
"""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optimizers
from optimizers.testing._jit import quick_jit

DATA = Path(__file__).with_name("dialects.json")
LISTED = ("package", "version", "class", "arguments", "call", "note")
_SHARED = ("package", "version", "lr", "dtype", "tolerance")


@functools.cache
def data() -> dict[str, Any]:
    """The data file."""
    return json.loads(DATA.read_text())


def rows() -> list[dict[str, Any]]:
    """All rows, each with the learning rate, dtype and tolerance of its package."""
    found = []
    for package in data()["packages"]:
        shared = {key: package[key] for key in _SHARED if key in package}
        for row in package["rows"]:
            row = {"lr": data()["lr"], "dtype": "float64"} | shared | row
            smallest = {"float64": 1e-12, "float32": 1e-6}[row["dtype"]]
            found.append({"tolerance": smallest} | row)
    return found


def optimizer(call: str, lr: float) -> optax.GradientTransformation:
    """The value of the expression."""
    names = {"optimizers": optimizers, "optax": optax, "jnp": jnp, "lr": lr}
    return eval(call, names)


@functools.cache
def trajectory(call: str, lr: float) -> np.ndarray:
    """The params of an optimizer after the recorded steps, computed in float64."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        return _trajectory(optimizer(call, lr))
    finally:
        jax.config.update("jax_enable_x64", before)


def _trajectory(tx: optax.GradientTransformation) -> np.ndarray:
    @quick_jit
    def run(start: jax.Array, gradients: jax.Array) -> jax.Array:
        def step(carry: Any, g: jax.Array) -> tuple[Any, jax.Array]:
            x, state = carry
            updates, state = tx.update(g, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        return jax.lax.scan(step, (start, tx.init(start)), gradients)[1]

    visited = run(*(jnp.asarray(data()[key]) for key in ("start", "gradients")))
    return np.asarray(visited)[np.array(data()["steps"]) - 1]


def error(call: str, row: dict[str, Any]) -> float:
    """The largest difference of the params to those recorded; NaN there counts not."""
    expected = np.array(row["recorded"], float)
    return float(np.nanmax(np.abs(trajectory(call, row["lr"]) - expected)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print the rows")
    listing.add_argument("--json", action="store_true", help="as a list of objects")
    arguments = parser.parse_args()
    found = [{key: row.get(key) for key in LISTED} for row in rows()]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for row in found:
        print(f"{row['package']}=={row['version']} {row['class']} {row['arguments']}")
        print(f"    {row['call'] or row['note']}")


if __name__ == "__main__":
    main()
