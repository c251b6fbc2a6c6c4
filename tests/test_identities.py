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
from optimizers import testing
from optimizers.testing import strategies

PyTree = Any

# eps = 0: it is what sets a scale.
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
# No spikes: their squares are infinite, and a moment of infinity stays there.
SEQUENCES = strategies.sequences(SHAPES, DTYPE, kinds=("zero", "ordinary", "denormal"))
# No denormals either: scaled, their squares and they themselves would be rounded.
NORMAL = strategies.sequences(SHAPES, DTYPE, kinds=("zero", "ordinary"))


@methods
@hypothesis.given(sequence=NORMAL, power=st.integers(-20, 20))
def test_the_scale_of_the_gradient_does_not_matter(
    method: str, sequence: testing.Sequence, power: int
) -> None:
    testing.assert_scale_invariant(
        ELEMENTWISE[method], powers=[power], sequence=sequence
    )


@methods
@hypothesis.given(sequence=SEQUENCES)
def test_entries_do_not_meet(method: str, sequence: testing.Sequence) -> None:
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
def test_it_is_odd(method: str, sequence: testing.Sequence) -> None:
    updates = _updates(method)(sequence.gradients)
    opposite = _updates(method)(jax.tree.map(np.negative, sequence.gradients))
    jax.tree.map(lambda u, o: np.testing.assert_array_equal(-u, o), updates, opposite)


@functools.cache
def _updates(method: str) -> Callable[[PyTree], PyTree]:
    """From gradients to updates, a leading axis of steps on both."""

    @jax.jit
    def updates_of(gradients: PyTree) -> PyTree:
        def step(state: optax.OptState, g: PyTree) -> tuple[optax.OptState, PyTree]:
            updates, state = ELEMENTWISE[method].update(g, state, g)
            return state, updates

        first = jax.tree.map(lambda g: jnp.asarray(g[0]), gradients)
        return jax.lax.scan(step, ELEMENTWISE[method].init(first), gradients)[1]

    return updates_of
