"""Train a flax.nnx model with SAM: batch statistics and dropout in two passes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import optimizers


class Classifier(nnx.Module):
    """A hidden layer with batch normalization and dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(2, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.1)
        self.output = nnx.Linear(32, 2, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Inputs [n, 2] to logits [n, 2]; with rngs it trains."""
        evaluates = rngs is None
        x = self.norm(self.hidden(x), use_running_average=evaluates)
        x = self.dropout(nnx.relu(x), deterministic=evaluates, rngs=rngs)
        return self.output(x)


inputs = jax.random.normal(jax.random.key(0), (256, 2))
labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(jnp.int32)

model = Classifier(nnx.Rngs(0))
optimizer = nnx.Optimizer(
    model, optimizers.sam(optimizers.adam(3e-2), rho=0.05), wrt=nnx.Param
)


@nnx.jit
def step(model: Classifier, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
    """One step; nnx changes the model in place."""
    graph, params, others = nnx.split(model, nnx.Param, ...)

    def loss(params: Any) -> tuple[jax.Array, nnx.State]:
        # A copy, for each pass changes its statistics.
        model = nnx.merge(graph, params, others, copy=True)
        # Rngs made here from the key of the step: both passes drop the same units.
        logits = model(inputs, nnx.Rngs(dropout=key))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), nnx.state(model, nnx.BatchStat)

    (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(params)
    optimizer.update(model, grads, value=value, value_fn=lambda p: loss(p)[0])
    # The statistics are those of the first pass, at the params themselves.
    nnx.update(model, statistics)
    return value


for key in jax.random.split(jax.random.key(1), 60):
    value = step(model, optimizer, key)
accuracy = jnp.mean(model(inputs).argmax(axis=1) == labels)
print(f"loss {value:.2f}, accuracy {accuracy:.2f}")
