"""What holds for every elementwise method, whatever the gradients."""

import functools
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers

PyTree = Any

# eps = 0: it is what sets a scale.
ELEMENTWISE: dict[str, Callable[[], optax.GradientTransformationExtraArgs]] = {
    "adam": lambda: optimizers.adam(0.1, eps=0.0),
    "nesterov": lambda: optimizers.adam(0.1, eps=0.0, nesterov=True),
    "adamax": lambda: optimizers.adamax(0.1, eps=0.0),
    "adam_nc": lambda: optimizers.adam_nc(0.1, eps=0.0),
    "amsgrad_optax": lambda: optimizers.amsgrad(0.1, eps=0.0),
    "amsgrad_torch": lambda: optimizers.amsgrad(0.1, eps=0.0, variant="torch"),
    "amsgrad_paper": lambda: optimizers.amsgrad(0.1, eps=0.0, variant="paper"),
}
methods = pytest.mark.parametrize("method", ELEMENTWISE)
STEPS, SIZE = 5, 6


@functools.cache
def _compiled(method: str) -> Callable[[PyTree], PyTree]:
    optimizer = ELEMENTWISE[method]()

    @jax.jit
    def updates_of(gradients: PyTree) -> PyTree:
        def step(state: optax.OptState, g: PyTree) -> tuple[optax.OptState, PyTree]:
            updates, state = optimizer.update(g, state, g)
            return state, updates

        first = jax.tree.map(lambda g: g[0], gradients)
        return jax.lax.scan(step, optimizer.init(first), gradients)[1]

    return updates_of


@st.composite
def _gradients(draw: st.DrawFn) -> np.ndarray:
    """Five float32 gradients of six entries, some zero, of sizes far apart."""
    seed = draw(st.integers(0, 2**32 - 1))
    decades = draw(st.floats(0.0, 6.0))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(STEPS, SIZE)) * 10 ** rng.uniform(
        -decades, decades, (STEPS, SIZE)
    )
    return np.where(rng.random((STEPS, SIZE)) < 0.2, 0.0, values).astype(np.float32)


def _same(actual: PyTree, expected: PyTree) -> None:
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


@methods
@hypothesis.given(gradients=_gradients(), exponent=st.integers(-20, 20))
def test_the_scale_of_the_gradient_does_not_matter(
    method: str, gradients: np.ndarray, exponent: int
) -> None:
    """Powers of two scale without rounding, so that not a bit may differ."""
    updates_of = _compiled(method)
    scaled = (gradients * 2.0**exponent).astype(np.float32)
    _same(updates_of(scaled), updates_of(gradients))


@methods
@hypothesis.given(gradients=_gradients())
def test_it_is_odd(method: str, gradients: np.ndarray) -> None:
    updates_of = _compiled(method)
    _same(updates_of(-gradients), -updates_of(gradients))


@methods
@hypothesis.given(gradients=_gradients(), order=st.permutations(range(SIZE)))
def test_the_order_of_entries_and_leaves_does_not_matter(
    method: str, gradients: np.ndarray, order: list[int]
) -> None:
    updates_of = _compiled(method)
    expected = updates_of(gradients)
    _close(updates_of(gradients[:, order]), expected[:, np.array(order)])
    leaves = {k: gradients[:, i] for k, i in zip("abcdef", order, strict=True)}
    for k, i in zip("abcdef", order, strict=True):
        _close(updates_of(leaves)[k], expected[:, i])


@methods
@hypothesis.given(gradients=_gradients())
def test_splitting_a_leaf_does_not_matter(method: str, gradients: np.ndarray) -> None:
    updates_of = _compiled(method)
    parts = updates_of([gradients[:, :2], gradients[:, 2:]])
    _close(jnp.concatenate(parts, axis=1), updates_of(gradients))


def _close(actual: PyTree, expected: PyTree) -> None:
    """Equal but for the rounding of differently vectorised loops.

    Updates are of the size of the rate, 0.1; small ones are differences of moments
    that nearly cancel, hence the absolute part.
    """
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)
