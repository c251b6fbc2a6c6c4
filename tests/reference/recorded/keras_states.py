"""Records states of Keras optimizers mid-run in float32, for test_foreign_states.py.

In an environment of its own (Python 3.11), as `python keras_states.py` in this folder:

    pip install keras==3.15.1 jax==0.10.2

Each case holds the paths and values of `optimizer.variables` and the params after 5
steps, the gradients of the next 10 steps and the params after each of them.
"""

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

STEPS, REST = 5, 10
START = ([[0.5, -0.25], [0.125, 1.0], [-2.0, 0.75]], [1.0, -2.0])
CASES = [
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"beta_1": 0.8, "beta_2": 0.95, "weight_decay": 0.1}),
    ("Adamax", {}),
    ("Nadam", {}),
]


def gradients(t: int) -> list[np.ndarray]:
    """Multiples of 1/16, with zeros and different sizes."""

    def entry(i: int) -> float:
        return ((7 * t**2 + 11 * t * (i + 3) + 5 * i) % 31 - 11) / 16 * 4 ** (i % 3)

    entries = np.array([entry(i) for i in range(8)], np.float32)
    return [entries[:6].reshape(3, 2), entries[6:]]


def record(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    params = [
        keras.Variable(np.array(x, np.float32), name=key)
        for x, key in zip(START, ("kernel", "bias"), strict=True)
    ]
    optimizer = getattr(keras.optimizers, name)(learning_rate=0.01, **arguments)
    optimizer.build(params)
    visited = []
    for t in range(1, STEPS + REST + 1):
        optimizer.apply([keras.ops.array(g) for g in gradients(t)], params)
        visited.append([np.asarray(x).tolist() for x in params])
        if t == STEPS:
            variables = [[x.path, np.asarray(x).tolist()] for x in optimizer.variables]
    rest = [[g.tolist() for g in gradients(t)] for t in range(STEPS + 1, 16)]
    return {
        "class": name,
        "arguments": arguments,
        "variables": variables,
        "params": visited[STEPS - 1],
        "next_gradients": rest,
        "next_params": visited[STEPS:],
    }


def main() -> None:
    versions = {name: importlib.metadata.version(name) for name in ("keras", "jax")}
    cases = ",\n".join(json.dumps(record(*case)) for case in CASES)
    path = Path(__file__).with_suffix(".json")
    path.write_text(
        f'{{"versions": {json.dumps(versions)},\n"cases": [\n{cases}\n]}}\n'
    )


if __name__ == "__main__":
    main()
