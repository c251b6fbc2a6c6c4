"""Train with one of the optimizers: they are optax transformations."""

import jax
import jax.numpy as jnp
import optax

import optimizers

inputs = jax.random.normal(jax.random.key(0), (64, 3))
targets = inputs @ jnp.array([1.0, -2.0, 0.5]) + 0.3


def loss(params: optax.Params) -> jax.Array:
    """The mean squared error of a linear model."""
    predictions = inputs @ params["weights"] + params["bias"]
    return jnp.mean((predictions - targets) ** 2)


optimizer = optimizers.amsgrad(learning_rate=0.03)


@jax.jit
def step(
    params: optax.Params, state: optax.OptState
) -> tuple[optax.Params, optax.OptState, jax.Array]:
    """One step of gradient descent; the loss is that of the old params."""
    value, grads = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value


params = {"weights": jnp.zeros(3), "bias": jnp.zeros([])}
state = optimizer.init(params)
for number in range(101):
    params, state, value = step(params, state)
    if number % 25 == 0:
        print(f"step {number:3}  loss {value:.2f}")
