"""Params in 16 bits: every optimizer trains them as it trains those in float32."""

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
