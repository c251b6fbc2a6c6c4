"""Gradient sequences, and how an optimizer and a NumPy reference run through them.

Everything here is open loop: gradients are given, so that an error of one step is
not hidden or amplified by a loss. A trajectory holds the parameters after each step,
stacked along a leading axis, one leaf for each parameter.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import Sequence
from optimizers.testing import random_sequence as random_sequence  # for all
from optimizers.testing._jit import quick_jit

PyTree = Any
# (start, gradients [T, ...]) -> (parameters after each step [T, ...], final state)
Reference = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]

# The sequence of the worked examples; their numbers belong to a rate of 0.1.
T5 = Sequence(
    np.array([1.0, -2.0]),
    np.array([[1.0, 10.0], [-2.0, 0.0], [0.5, -3.0], [4.0, 0.001], [-1.0, 2.0]]),
)

# The worked examples have twelve significant digits, hence this rounding error.
TWELVE_DIGITS = 5e-12


def cast(tree: PyTree, dtype: jax.typing.DTypeLike) -> PyTree:
    """The tree as JAX arrays of that dtype."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def flat(tree: PyTree, batch: int = 0) -> np.ndarray:
    """The leaves in one array, behind the leading batch axes."""
    return np.concatenate(
        [np.reshape(x, (*x.shape[:batch], -1)) for x in jax.tree.leaves(tree)], batch
    )


def run(
    optimizer: optax.GradientTransformation, sequence: Sequence
) -> tuple[PyTree, PyTree]:
    """Parameters after each step and the final state, from one compiled scan."""

    @quick_jit
    def scan(start: PyTree, gradients: PyTree) -> tuple[PyTree, PyTree]:
        def step(carry: tuple[PyTree, PyTree], g: PyTree) -> tuple[PyTree, PyTree]:
            params, state = carry
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        (_, state), trajectory = jax.lax.scan(
            step, (start, optimizer.init(start)), gradients
        )
        return trajectory, state

    start, gradients = jax.tree.map(jnp.asarray, tuple(sequence))
    return scan(start, gradients)


def run_optax(
    optimizer: optax.GradientTransformation, sequence: Sequence
) -> tuple[PyTree, PyTree]:
    """`run` for optax's own, which relies on implicit promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return run(optimizer, sequence)


def run_reference(reference: Reference, sequence: Sequence) -> PyTree:
    """The reference's trajectory; every leaf runs by itself."""
    return jax.tree.map(lambda x, g: reference(x, g)[0], *sequence)


def assert_close(actual: PyTree, expected: PyTree, tolerance: float) -> None:
    """Leaves agree to `tolerance`, relative to the larger of 1 and their size."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(
        jax.tree_util.tree_leaves_with_path(actual),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_allclose(
            a, e, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
        )


def assert_worked_numbers(
    params: np.ndarray, first: list[float], second: tuple[float, float]
) -> None:
    """`params [5, 2]` are the published ones.

    `first` is the first coordinate after each of the five steps, `second` the
    second coordinate after the first and the last step.
    """
    np.testing.assert_allclose(params[:, 0], first, rtol=TWELVE_DIGITS)
    np.testing.assert_allclose(params[[0, -1], 1], second, rtol=TWELVE_DIGITS)
