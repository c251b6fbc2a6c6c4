"""What the tests of the methods with an auxiliary gradient share."""

from typing import Any

import jax
import numpy as np
import optax

PyTree = Any

# The gradients of the worked examples, one row a step; their weight is 0.5.
MAIN = np.array(
    [[1.0, 2.0, -1.0], [0.5, 1.0, 0.25], [-0.2, 0.4, 0.6], [0.8, -0.1, 0.3]]
)
AUX = np.array([[0.3, -1.0, 2.0], [1.0, 1.0, 1.0], [-0.5, 0.7, 0.1], [0.2, 0.9, -0.4]])

# The worked examples have twelve significant digits, hence this rounding error.
TWELVE_DIGITS = 5e-12


def run(
    method: optax.GradientTransformationExtraArgs,
    main: PyTree,
    aux: PyTree,
    state: PyTree = None,
) -> tuple[PyTree, PyTree]:
    """The direction of each step and the final state, from one compiled scan."""

    @jax.jit
    def scan(state: PyTree, main: PyTree, aux: PyTree) -> tuple[PyTree, PyTree]:
        def step(state: PyTree, grads: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            direction, state = method.update(grads[0], state, aux_grads=grads[1])
            return state, direction

        state, directions = jax.lax.scan(step, state, (main, aux))
        return directions, state

    if state is None:
        state = method.init(jax.tree.map(lambda g: g[0], main))
    return scan(state, main, aux)


def first(
    method: optax.GradientTransformationExtraArgs, main: PyTree, aux: PyTree
) -> PyTree:
    """The direction of the first step."""
    return method.update(main, method.init(main), aux_grads=aux)[0]


def random_gradients(steps: int, size: int, seed: int = 0) -> np.ndarray:
    """Rows of gradients that share a part, in float64."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, size)) + rng.normal(size=size)


def split(rows: np.ndarray) -> PyTree:
    """Rows of seven numbers as a tree of leaves [steps, …]."""
    return {
        "bias": rows[:, :3],
        "layers": [rows[:, 3:5].reshape(-1, 2, 1), rows[:, 5:6]],
        "scale": rows[:, 6],
    }


def joined(tree: PyTree) -> np.ndarray:
    """The rows again."""
    leaves = [np.asarray(x) for x in jax.tree.leaves(tree)]
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)


def project(a: np.ndarray, m: np.ndarray) -> np.ndarray:
    """The part of a that is orthogonal to m, in extended precision."""
    a, m = a.astype(np.longdouble), m.astype(np.longdouble)
    square = m @ m
    return (a - a @ m / square * m if square else a).astype(np.float64)


def misalignment(pi: Any, a: Any, m: Any) -> float:
    """The cosine that the part of a beside m has with m, relative to |a|."""
    pi, a, m = (np.asarray(x, np.longdouble) for x in (pi, a, m))
    m = m / np.abs(m).max()
    return float(abs(pi @ m) / np.sqrt((a @ a) * (m @ m)))
