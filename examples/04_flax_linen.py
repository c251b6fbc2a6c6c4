"""Train a flax.linen model with TrainState, on mini-batches and with clipping."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

import optimizers


class Regressor(nn.Module):
    """One hidden layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Inputs [n, 1] to predictions [n, 1]."""
        return nn.Dense(1)(nn.tanh(nn.Dense(32)(x)))


model = Regressor()
inputs = jnp.linspace(-2.0, 2.0, 256)[:, None]
targets = jnp.sin(2 * inputs)

state = TrainState.create(
    apply_fn=model.apply,
    params=model.init(jax.random.key(0), inputs),
    tx=optax.chain(optax.clip_by_global_norm(1.0), optimizers.adamw(3e-2)),
)


def loss(params: optax.Params, rows: jax.Array) -> jax.Array:
    """The mean squared error on some rows of the data."""
    return jnp.mean((model.apply(params, inputs[rows]) - targets[rows]) ** 2)


@jax.jit
def step(state: TrainState, rows: jax.Array) -> TrainState:
    """One step on one batch."""
    return state.apply_gradients(grads=jax.grad(loss)(state.params, rows))


batches = jax.random.randint(jax.random.key(1), (100, 32), 0, len(inputs))
print(f"before {loss(state.params, jnp.arange(256)):.2f}")
for rows in batches:
    state = step(state, rows)
print(f"after  {loss(state.params, jnp.arange(256)):.2f}")
