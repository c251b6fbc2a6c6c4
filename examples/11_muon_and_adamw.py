"""Matrices to optax's Muon, the other params to AdamW."""

import jax
import jax.numpy as jnp
import optax
import optax.contrib

import optimizers

inputs = jax.random.normal(jax.random.key(0), (256, 8))
targets = jnp.sin(inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3]


def init_params(key: jax.Array, *widths: int) -> list[dict[str, jax.Array]]:
    """The layers of a network: each a matrix and a bias."""
    keys = jax.random.split(key, len(widths) - 1)
    return [
        {"kernel": jax.random.normal(k, (m, n)) / m**0.5, "bias": jnp.zeros(n)}
        for k, m, n in zip(keys, widths, widths[1:], strict=False)
    ]


def loss(params: optax.Params) -> jax.Array:
    """The mean squared error."""
    x = inputs
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return jnp.mean((x @ params[-1]["kernel"] + params[-1]["bias"] - targets) ** 2)


def labels(params: optax.Params) -> optax.Params:
    """Muon is for the matrices of hidden layers; the last layer is left to AdamW."""
    hidden = jax.tree.map(lambda x: "muon" if x.ndim == 2 else "adamw", params[:-1])
    return [*hidden, jax.tree.map(lambda _: "adamw", params[-1])]


optimizer = optax.partition(
    {
        # A step of Muon has singular values near 1, one of AdamW has entries near 1:
        # each has a learning rate of its own.
        "muon": optax.contrib.muon(learning_rate=0.02),
        "adamw": optimizers.adamw(learning_rate=0.01),
    },
    labels,
)


@jax.jit
def step(
    params: optax.Params, state: optax.OptState
) -> tuple[optax.Params, optax.OptState, jax.Array]:
    """One step; the loss is that of the old params."""
    value, grads = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value


params = init_params(jax.random.key(1), 8, 32, 32, 1)
state = optimizer.init(params)
for number in range(101):
    params, state, value = step(params, state)
    if number % 25 == 0:
        print(f"step {number:3}  loss {value:.2f}")
