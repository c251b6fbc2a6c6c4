"""Params in 16 and 8 bits, and the precision of what is stored for them."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

OPTIMIZERS = catalog.functions(optimizers, Kind.OPTIMIZER)
FLOAT8 = ("float8_e4m3fn", "float8_e5m2")

# 0.5 sum h (x + start)^2, whose minimizer is as far from the origin as the start is.
START = np.linspace(0.5, 1.5, 8) * np.array([1.0, -1.0] * 4)
CURVATURES = np.logspace(-1, 0, 8)


def loss(x: jax.Array) -> jax.Array:
    h, start = jnp.asarray(CURVATURES, jnp.float32), jnp.asarray(START, jnp.float32)
    return 0.5 * jnp.sum(h * jnp.square(x.astype(jnp.float32) + start))


def decrease(optimizer: optax.GradientTransformation, dtype: Any) -> float:
    """By how much 200 steps decrease the loss."""

    @jax.jit
    def train(x: jax.Array) -> jax.Array:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            x, state = carry
            updates, state = optimizer.update(jax.grad(loss)(x), state, x)
            return (optax.apply_updates(x, updates), state), None

        carry = x, optimizer.init(x)
        return jax.lax.scan(step, carry, None, length=200)[0][0]

    x = jnp.asarray(START, dtype)
    return float(loss(x) - loss(train(x)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_params_of_16_bits_are_trained_as_in_float32(name: str) -> None:
    function = OPTIMIZERS[name]
    chooses_rate = inspect.signature(function).parameters["learning_rate"].default == 1
    # Momentum of 0.99 makes steps a hundred times as long.
    rates = {"simplified_ademamix": 2e-4} | ({name: 1.0} if chooses_rate else {})
    run = functools.partial(decrease, function(learning_rate=rates.get(name, 0.05)))
    expected = run(jnp.float32)
    assert expected > 0.7 * float(loss(jnp.asarray(START, jnp.float32)))
    for dtype in (jnp.bfloat16, jnp.float16):
        assert abs(run(dtype) - expected) < 0.01 * expected, dtype


def _keeps_arrays(name: str) -> bool:
    if catalog.part_of(name, optimizers.__all__):
        return False
    state = jax.eval_shape(catalog.example(getattr(optimizers, name)).init, jnp.ones(3))
    return any(leaf.shape == (3,) for leaf in jax.tree.leaves(state))


WITH_ARRAYS = [
    name
    for name in catalog.functions(
        optimizers, Kind.OPTIMIZER, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION
    )
    if _keeps_arrays(name)
]


def test_methods_with_arrays_are_found() -> None:
    assert {*OPTIMIZERS, "bloop", "friendly_sam", "lookahead"} <= set(WITH_ARRAYS)


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_averages_of_float8_gradients_do_not_stall(name: str) -> None:
    """Under a constant gradient they go where those of float32 gradients go."""
    function = getattr(optimizers, name)
    tx = catalog.example(function, 1e-4)
    dtypes = ("float32", *FLOAT8)
    grads = {dtype: jnp.asarray([1.0, -0.5], dtype) for dtype in dtypes}
    params = {dtype: jnp.asarray([0.5, 2.0], dtype) for dtype in dtypes}

    def linear(params: Any) -> jax.Array:
        weights = jnp.asarray([1.0, -0.5])
        leaves = jax.tree.leaves(params)
        return sum(jnp.sum(weights * x.astype(jnp.float32)) for x in leaves)

    @jax.jit
    def train() -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            gradient = jax.grad(linear)
            updates, state = tx.update(
                grads,
                state,
                params,
                value=linear(params),
                grad_fn=gradient,
                tail_grad_fn=gradient,
                aux_grads=jax.tree.map(jnp.flip, grads),
            )
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), None, length=60)[0][1]

    state = jax.tree_util.tree_leaves_with_path(train())
    arrays = {jax.tree_util.keystr(path): x for path, x in state if x.shape == (2,)}
    # Prodigy stores how far rounded params should have moved, and 0 for float32 params.
    arrays = {path: x for path, x in arrays.items() if "displacement" not in path}
    compared = 0
    for path, x in arrays.items():
        wide = arrays[
            functools.reduce(lambda p, d: p.replace(d, "float32"), FLOAT8, path)
        ]
        np.testing.assert_allclose(x.astype(jnp.float32), wide, rtol=0.03, err_msg=path)
        compared += x is not wide
    assert compared
