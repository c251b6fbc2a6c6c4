"""Every public optimizer inside the frameworks that people train with."""

from pathlib import Path
from typing import Any

import equinox as eqx
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.core import FrozenDict
from flax.training.train_state import TrainState

import optimizers
from optimizers.testing import Case

Tree = Any
X = jnp.asarray(np.cos(np.arange(8.0).reshape(4, 2)), jnp.float32)
Y = jnp.asarray(np.sin(np.arange(12.0).reshape(4, 3)), jnp.float32)


def _mean_square(prediction: jax.Array) -> jax.Array:
    return jnp.mean((prediction - Y) ** 2)


def _assert_equal(actual: Tree, expected: Tree) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def _trained(tx: Any, params: Tree, steps: int) -> tuple[Tree, Tree]:
    """Steps on the mean square of a linear model, by hand."""
    gradient = jax.jit(jax.grad(lambda p: _mean_square(X @ p["kernel"] + p["bias"])))
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.fixture
def start() -> Tree:
    return {
        "bias": jnp.zeros(3, jnp.float32),
        "kernel": jnp.asarray(np.sin(np.arange(6.0).reshape(2, 3)), jnp.float32),
    }


@pytest.fixture
def optimizer(alias: Case) -> Any:
    return alias.optimizer


def _assert_close(actual: Tree, expected: Tree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        got = actual
        for key in path:
            got = got[key.key]
        # Fused and unfused steps differ in the last places.
        np.testing.assert_allclose(got, leaf, rtol=1e-5, atol=1e-6)


def test_nnx_optimizer(optimizer: Any, start: Tree) -> None:
    class Model(nnx.Module):
        def __init__(self) -> None:
            self.bias = nnx.Param(start["bias"])
            self.kernel = nnx.Param(start["kernel"])

    model = Model()
    trainer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)

    @nnx.jit
    def step(model: Model, trainer: nnx.Optimizer) -> None:
        loss = lambda m: _mean_square(X @ m.kernel + m.bias)  # noqa: E731
        trainer.update(model, nnx.grad(loss)(model))

    for _ in range(3):
        step(model, trainer)
    expected, _ = _trained(optimizer, start, 3)
    _assert_close({"bias": model.bias[...], "kernel": model.kernel[...]}, expected)


def test_linen_train_state_in_scan(optimizer: Any, start: Tree) -> None:
    model = nn.Dense(3)
    state = TrainState.create(apply_fn=model.apply, params=start, tx=optimizer)

    def step(state: TrainState, _: None) -> tuple[TrainState, None]:
        loss = lambda p: _mean_square(state.apply_fn({"params": p}, X))  # noqa: E731
        return state.apply_gradients(grads=jax.grad(loss)(state.params)), None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, None, length=3))(state)
    _assert_close(state.params, _trained(optimizer, start, 3)[0])


def test_frozen_dict(optimizer: Any, start: Tree) -> None:
    params, state = _trained(optimizer, FrozenDict(start), 3)
    assert isinstance(params, FrozenDict)
    expected, plain = _trained(optimizer, start, 3)
    _assert_equal(params.unfreeze(), expected)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equinox_filtered_tree(optimizer: Any, start: Tree) -> None:
    class Model(eqx.Module):
        bias: jax.Array
        kernel: jax.Array
        steps: int
        name: str = eqx.field(static=True)

        def __call__(self, x: jax.Array) -> jax.Array:
            return x @ self.kernel + self.bias

    model = Model(start["bias"], start["kernel"], 3, "linear")
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model: Model, state: Tree) -> tuple[Model, Tree]:
        grads = eqx.filter_grad(lambda m: _mean_square(m(X)))(model)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = optimizer.update(grads, state, params)
        return eqx.apply_updates(model, updates), state

    for _ in range(model.steps):
        model, state = step(model, state)
    expected, _ = _trained(optimizer, start, 3)
    _assert_close({"bias": model.bias, "kernel": model.kernel}, expected)


def _matrices(params: Tree) -> Tree:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def test_whole_equinox_module(alias: Case) -> None:
    """Functions and frozen arrays are among the params, and the gradients have None."""
    model = eqx.nn.MLP(2, 3, 3, 1, key=jax.random.key(0))
    frozen = lambda m: m.layers[0].bias  # noqa: E731
    spec = eqx.tree_at(frozen, jax.tree.map(eqx.is_array, model), False)
    trained, rest = eqx.partition(model, spec)
    leaves, structure = jax.tree.flatten(trained)
    loss = lambda m: _mean_square(jax.vmap(m)(X))  # noqa: E731
    loss_of_leaves = lambda p: loss(eqx.combine(structure.unflatten(p), rest))  # noqa: E731
    gradient = jax.jit(jax.grad(loss_of_leaves))
    grads = structure.unflatten(gradient(leaves))
    changes = [{}]
    if "weight_decay" in alias.parameters:
        changes = [
            {"weight_decay": 0.1},
            {"weight_decay": 0.1, "weight_decay_mask": _matrices},
        ]
    elif "mask" in alias.parameters:
        changes = [{"mask": _matrices}]
    for given in changes:
        tx, state = alias.call(**given), alias.call(**given).init(leaves)
        expected, _ = tx.update(
            *(gradient(leaves), state, leaves),
            grad_fn=gradient,
            tail_grad_fn=gradient,
        )
        losses = {"value_fn": loss} if alias.wraps else {}
        found, _ = tx.update(
            *(grads, tx.init(trained), model),
            tail_grad_fn=eqx.filter_grad(loss),
            **(losses or {"grad_fn": eqx.filter_grad(loss)}),
        )
        assert jax.tree.structure(found) == structure
        for u, v in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-8)


def test_slow_weights_of_a_whole_equinox_module() -> None:
    model = eqx.nn.MLP(2, 3, 3, 1, key=jax.random.key(0))
    state = optimizers.lookahead(optax.sgd(0.1)).init(eqx.filter(model, eqx.is_array))
    moved = jax.tree.map(lambda x: x + 1 if eqx.is_array(x) else x, model)
    slow = optimizers.lookahead_params(state, moved)
    np.testing.assert_array_equal(jax.vmap(slow)(X), jax.vmap(model)(X))


def test_flax_serialization(optimizer: Any, start: Tree) -> None:
    params, state = _trained(optimizer, start, 2)
    data = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(optimizer.init(params), data)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    _assert_next_step_equal(optimizer, params, restored, state)


def test_orbax_checkpoint(optimizer: Any, start: Tree, tmp_path: Path) -> None:
    params, state = _trained(optimizer, start, 2)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        target = jax.eval_shape(optimizer.init, params)
        restored = checkpointer.restore(tmp_path / "state", target)
    _assert_equal(restored, state)
    _assert_next_step_equal(optimizer, params, restored, state)


def _assert_next_step_equal(tx: Any, params: Tree, restored: Tree, state: Tree) -> None:
    grads = jax.tree.map(jnp.cos, params)
    expected = tx.update(grads, state, params)
    _assert_equal(tx.update(grads, restored, params), expected)
