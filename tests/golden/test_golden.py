"""Twenty recorded steps of every public alias: they notice that numbers changed.

Whether the numbers are right is for the tests against references to say. To record
anew: `pytest tests/golden --update-golden`; then read the diff, and tell users in
CHANGELOG.md what moved and why.
"""

import json
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tools.optimizer_table import aliases

PyTree = Any
FOLDER = Path(__file__).parent
STEPS, RATE = 20, 0.1


def _loss(params: PyTree) -> jax.Array:
    """Smooth, coupled, not convex, with a leaf whose gradients are as small as eps."""
    inputs = jnp.linspace(-1.0, 1.0, 10).reshape(5, 2)
    targets = jnp.linspace(1.0, -1.0, 15).reshape(5, 3)
    hidden = jnp.tanh(inputs @ params["weights"] + params["bias"][None])
    error = params["scale"] * hidden - targets
    return jnp.mean(error**2) + 1e-8 * jnp.sum(jnp.cos(params["faint"]))


def _start() -> PyTree:
    return {
        "weights": jnp.linspace(-0.5, 0.7, 6).reshape(2, 3),
        "bias": jnp.array([0.1, -0.2, 0.3]),
        "scale": jnp.array(0.5),
        "faint": jnp.array([1.0, 2.0]),
    }


@jax.jit
def _gradient(params: PyTree) -> PyTree:
    return jax.grad(_loss)(params)


def _trajectory(optimizer: optax.GradientTransformationExtraArgs) -> list[PyTree]:
    """Params after each step, as lists of numbers with seven digits."""

    @jax.jit
    def step(params: PyTree, state: optax.OptState) -> tuple[PyTree, optax.OptState]:
        gradient = _gradient(params)
        updates, state = optimizer.update(
            gradient,
            state,
            params,
            value=_loss(params),
            grad=gradient,
            value_fn=_loss,
            grad_fn=_gradient,
            aux_grads=gradient,
        )
        return optax.apply_updates(params, updates), state

    params = _start()
    state = optimizer.init(params)
    rows = []
    for _ in range(STEPS):
        params, state = step(params, state)
        rows.append(jax.tree.map(_digits, params))
    return rows


def _digits(leaf: jax.Array) -> Any:
    return np.vectorize(lambda x: float(f"{x:.7g}"))(leaf).tolist()


def _write(path: Path, rows: list[PyTree]) -> None:
    """One step a line, so that a diff shows where the paths part."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f"[\n{lines}\n]\n")


@pytest.mark.parametrize("alias", aliases())
def test_trajectory_is_the_recorded_one(
    alias: str, request: pytest.FixtureRequest
) -> None:
    path = FOLDER / f"{alias}.json"
    rows = _trajectory(aliases()[alias](RATE))
    if request.config.getoption("update_golden"):
        _write(path, rows)
    assert path.exists(), f"{path.name} is missing; run pytest with --update-golden."
    recorded = json.loads(path.read_text())
    assert len(recorded) == STEPS
    # Sums and roots round differently on other machines: 1e-6 of the params, which
    # are of order one, so that 1e-5 of a single update of size 0.1 is noticed.
    chex.assert_trees_all_close(_arrays(rows), _arrays(recorded), rtol=1e-6, atol=1e-6)


def _arrays(rows: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: np.array(leaves), *rows)


def test_no_recording_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(aliases())
