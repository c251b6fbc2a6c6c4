"""A schedule, and a learning rate that is changed while training."""

import jax
import jax.numpy as jnp
import optax

import optimizers


def loss(x: jax.Array) -> jax.Array:
    """A bowl whose bottom is at 3."""
    return jnp.sum((x - 3.0) ** 2)


def train(optimizer: optax.GradientTransformation, steps: int) -> jax.Array:
    """The point that is reached from zero."""

    def step(_: int, carry: tuple) -> tuple:
        x, state = carry
        updates, state = optimizer.update(jax.grad(loss)(x), state, x)
        return optax.apply_updates(x, updates), state

    x = jnp.zeros(2)
    return jax.lax.fori_loop(0, steps, step, (x, optimizer.init(x)))[0]


# A schedule is asked for 0 at the first step, as everywhere in optax.
schedule = optax.warmup_cosine_decay_schedule(0.0, 0.5, warmup_steps=5, decay_steps=50)
print(f"schedule   {loss(train(optimizers.adam(schedule), 50)):.2f}")

# Injected hyperparameters live in the state, where anybody can set them.
optimizer = optax.inject_hyperparams(optimizers.adam)(learning_rate=0.5)
x = jnp.zeros(2)
state = optimizer.init(x)
for _ in range(5):
    for _ in range(20):
        updates, state = optimizer.update(jax.grad(loss)(x), state, x)
        x = optax.apply_updates(x, updates)
    state.hyperparams["learning_rate"] = state.hyperparams["learning_rate"] / 4
print(f"quartered  {loss(x):.2f}")

# A rate is an array like any other: try eight of them at once.
rates = jnp.logspace(-3, 0, 8)
losses = jax.vmap(lambda rate: loss(train(optimizers.adam(rate), 30)))(rates)
print(f"best rate  {rates[losses.argmin()]:.1f}")
