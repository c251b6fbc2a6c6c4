"""Readers of states, for states that flax.nnx holds or that a checkpoint restored."""

import pickle
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import optimizers
from optimizers import distance_estimates, lookahead_params

PARAMS = {"layers": (jnp.ones(2), jnp.zeros((2, 3)), jnp.array(3)), "b": jnp.ones(1)}
TRAINED = optax.masked(
    optimizers.lookahead(optax.chain(optax.clip(1.0), optimizers.dadapt_adam(d0=0.25))),
    {"layers": (True, True, False), "b": True},
)


def moved_state() -> Any:
    """A state whose slow weights differ from the params."""
    state = TRAINED.init(PARAMS)
    inner = state.inner_state
    slow = jax.tree.map(lambda s: s + 0.5, inner.slow)
    return state._replace(inner_state=inner._replace(slow=slow))


def through_orbax(state: Any, path: Path) -> Any:
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(path / "state", state)
    checkpointer.wait_until_finished()
    return checkpointer.restore(path / "state")


def through_flax(state: Any, path: Path) -> Any:
    del path
    return flax.serialization.msgpack_restore(flax.serialization.to_bytes(state))


@pytest.mark.parametrize(
    ("restored", "place"),
    [
        (lambda state, _: pickle.loads(pickle.dumps(state)), "[1][0].distance"),
        (through_orbax, "[1][0]['distance']"),
        (through_flax, "['1']['0']['distance']"),
    ],
    ids=["pickle", "orbax", "flax"],
)
def test_restored_states_are_read(restored: Any, place: str, tmp_path: Path) -> None:
    state = restored(moved_state(), tmp_path)
    ((path, d),) = distance_estimates(state).items()
    assert path.endswith(place)
    assert d == 0.25
    slow = lookahead_params(state, PARAMS)
    expected = jax.tree.map(lambda p: p + 0.5, PARAMS)
    expected["layers"] = (*expected["layers"][:2], PARAMS["layers"][2])
    assert jax.tree.structure(slow) == jax.tree.structure(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, slow, expected)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(slow))


class Model(nnx.Module):
    """With a leaf that is not trained."""

    def __init__(self) -> None:
        self.a = nnx.Param(jnp.array([1.0, -2.0]))
        self.calls = nnx.BatchStat(jnp.array(7.0))


def test_nnx_optimizers_are_read() -> None:
    model = Model()
    # The step of SGD is the gradient; Lookahead goes half of the way back.
    transformation = optax.chain(
        optimizers.lookahead(optax.sgd(1.0), sync_period=2), optimizers.prodigy(d0=0.5)
    )
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    trained = nnx.state(model, nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, trained))
    for state in (optimizer, optimizer.opt_state):
        ((path, d),) = distance_estimates(state).items()
        assert path.endswith("[1][0].distance")
        assert isinstance(d, jax.Array)
        assert d == 0.5
        slow = lookahead_params(state, nnx.state(model))
        np.testing.assert_array_equal(slow["a"][...], [1.0, -2.0])
        np.testing.assert_array_equal(slow["calls"][...], 7.0)
    assert not np.array_equal(model.a[...], [1.0, -2.0])
    nnx.update(model, slow)
    np.testing.assert_array_equal(model.a[...], [1.0, -2.0])


@pytest.mark.parametrize(
    "other",
    [TRAINED, optax.MultiSteps(TRAINED, 2), "state", jnp.ones],
    ids=["optimizer", "accumulation", "text", "function"],
)
def test_what_is_no_state_is_refused(other: Any) -> None:
    kind = type(other).__name__
    for call in (distance_estimates, lambda x: lookahead_params(x, PARAMS)):
        with pytest.raises(TypeError, match=rf"^\w+: state must be .* got a {kind}\."):
            call(other)
    assert distance_estimates(optax.adam(0.1).init(PARAMS)) == {}
    assert distance_estimates((3, 0.5, None)) == {}


def test_params_without_a_slow_leaf_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^lookahead_params: .*no leaf.*layers/1"):
        lookahead_params(moved_state(), {"b": jnp.ones(1), "layers": [jnp.ones(2)]})
