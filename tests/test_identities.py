"""Properties of elementwise methods that hold for all gradients."""

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
from optimizers import testing
from optimizers.testing import strategies

PyTree = Any

# eps = 0, because eps would break scale invariance.
ELEMENTWISE: dict[str, optax.GradientTransformationExtraArgs] = {
    "adam": optimizers.adam(0.1, eps=0.0),
    "nesterov": optimizers.adam(0.1, eps=0.0, nesterov=True),
    "adamax": optimizers.adamax(0.1, eps=0.0),
    "adam_nc": optimizers.adam_nc(0.1, eps=0.0),
    "amsgrad_optax": optimizers.amsgrad(0.1, eps=0.0),
    "amsgrad_torch": optimizers.amsgrad(0.1, eps=0.0, variant="torch"),
    "amsgrad_paper": optimizers.amsgrad(0.1, eps=0.0, variant="paper"),
}
methods = pytest.mark.parametrize("method", ELEMENTWISE)

SHAPES, DTYPE = st.just({"bias": (3,), "layers": [(2, 3)]}), st.just("float32")
# No spikes: their squares overflow, and an infinite moment stays infinite.
SEQUENCES = strategies.sequences(SHAPES, DTYPE, kinds=("zero", "ordinary", "denormal"))
# No denormals either: scaling would round them and their squares.
NORMAL = strategies.sequences(SHAPES, DTYPE, kinds=("zero", "ordinary"))


@methods
@hypothesis.given(sequence=NORMAL, power=st.integers(-20, 20))
def test_updates_are_invariant_to_the_scale_of_gradients(
    method: str, sequence: testing.Sequence, power: int
) -> None:
    testing.assert_scale_invariant(
        ELEMENTWISE[method], powers=[power], sequence=sequence
    )


@methods
@hypothesis.given(sequence=SEQUENCES)
def test_updates_are_elementwise(method: str, sequence: testing.Sequence) -> None:
    testing.assert_elementwise(ELEMENTWISE[method], sequence=sequence, rtol=1e-6)


@methods
@hypothesis.given(sequence=SEQUENCES)
def test_finite_gradients_give_finite_updates(
    method: str, sequence: testing.Sequence
) -> None:
    for updates in jax.tree.leaves(_updates(method)(sequence.gradients)):
        assert np.isfinite(updates).all()


@methods
@hypothesis.given(sequence=SEQUENCES)
def test_updates_are_odd_functions_of_gradients(
    method: str, sequence: testing.Sequence
) -> None:
    updates = _updates(method)(sequence.gradients)
    opposite = _updates(method)(jax.tree.map(np.negative, sequence.gradients))
    jax.tree.map(lambda u, o: np.testing.assert_array_equal(-u, o), updates, opposite)


@functools.cache
def _updates(method: str) -> Callable[[PyTree], PyTree]:
    """Returns the function from gradients [T, ...] to updates [T, ...]."""

    @jax.jit
    def updates_of(gradients: PyTree) -> PyTree:
        def step(state: optax.OptState, g: PyTree) -> tuple[optax.OptState, PyTree]:
            updates, state = ELEMENTWISE[method].update(g, state, g)
            return state, updates

        first = jax.tree.map(lambda g: jnp.asarray(g[0]), gradients)
        return jax.lax.scan(step, ELEMENTWISE[method].init(first), gradients)[1]

    return updates_of
