"""Serialization of states."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing import _compare
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import rule
from optimizers.testing._extras import update
from optimizers.testing._inputs import Tree


def state_survives_pickle(case: Case) -> None:
    """A state can be pickled, and training resumes with bitwise equal results.

    A run that is interrupted should resume as if nothing had happened.
    """
    state = case.expected[1]
    restored = pickle.loads(pickle.dumps(state))
    _assert_continues(case, state, restored, "after pickle")


def state_survives_numpy(case: Case) -> None:
    """A state survives conversion to NumPy and back: training resumes bitwise equal.

    Checkpoint libraries store NumPy arrays.
    """
    state = case.expected[1]
    restored = jax.tree.map(_through_numpy, state)
    _assert_continues(case, state, restored, "after a round trip through NumPy")


def _through_numpy(leaf: jax.Array) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(np.asarray(leaf))


def _assert_continues(case: Case, state: Tree, restored: Tree, what: str) -> None:
    _compare.assert_same_bits(restored, state, f"state {what}")
    grads = case.stream[0]
    expected = update(case.tx, grads, state, case.params)
    after = update(case.tx, grads, restored, case.params)
    _compare.assert_same_bits(after, expected, f"the next step {what}")


_FIX = "Keep only arrays in the state, in NamedTuples defined at module level."

RULES = (
    rule(state_survives_pickle, "promise", (10, 50), _FIX),
    rule(state_survives_numpy, "promise", (10, 50), _FIX),
)
