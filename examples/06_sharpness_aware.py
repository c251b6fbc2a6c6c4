"""Train a flax.linen model with SAM: batch statistics and dropout in two passes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import optimizers

PyTree = Any


class Classifier(nn.Module):
    """A hidden layer with batch normalization and dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Inputs [n, 2] to logits [n, 2]."""
        x = nn.Dense(32)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(2)(nn.Dropout(0.1, deterministic=not train)(x))


model = Classifier()
inputs = jax.random.normal(jax.random.key(0), (256, 2))
labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(jnp.int32)
variables = model.init(jax.random.key(1), inputs, train=False)
params, statistics = variables["params"], variables["batch_stats"]

# Clipping, decay and schedules go after SAM's gradient, as in any chain.
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optimizers.adamw(3e-2))
state = optimizer.init(params)


def loss(
    params: PyTree, statistics: PyTree, rows: jax.Array, key: jax.Array
) -> tuple[jax.Array, PyTree]:
    """The mean cross-entropy, and the batch statistics that the pass leaves."""
    logits, changed = model.apply(
        {"params": params, "batch_stats": statistics},
        inputs[rows],
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows])
    return losses.mean(), changed["batch_stats"]


@jax.jit
def step(
    params: PyTree, statistics: PyTree, state: PyTree, rows: jax.Array, key: jax.Array
) -> tuple[PyTree, PyTree, PyTree]:
    """One step: both passes see the same rows and the same key."""
    value_and_grad = optimizers.sam_value_and_grad(loss, rho=0.05, has_aux=True)
    (_, statistics), grads = value_and_grad(params, statistics, rows, key)
    # The statistics are those of the first pass, at the params themselves.
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), statistics, state


def accuracy(params: PyTree, statistics: PyTree) -> jax.Array:
    """The share of all inputs that the model gets right."""
    variables = {"params": params, "batch_stats": statistics}
    logits = model.apply(variables, inputs, train=False)
    return jnp.mean(logits.argmax(axis=1) == labels)


print(f"accuracy before {accuracy(params, statistics):.2f}")
for key in jax.random.split(jax.random.key(2), 60):
    rows_key, dropout_key = jax.random.split(key)
    rows = jax.random.choice(rows_key, len(inputs), (64,), replace=False)
    params, statistics, state = step(params, statistics, state, rows, dropout_key)
print(f"accuracy after  {accuracy(params, statistics):.2f}")
