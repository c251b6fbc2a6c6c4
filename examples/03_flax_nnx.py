"""Train a flax.nnx model."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import optimizers


class Classifier(nnx.Module):
    """Two dense layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(2, 16, rngs=rngs)
        self.output = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Inputs [n, 2] to logits [n, 2]."""
        return self.output(nnx.tanh(self.hidden(x)))


# Exclusive or: no linear model learns it.
inputs = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
labels = jnp.array([0, 1, 1, 0])


def loss(model: Classifier) -> jax.Array:
    """The mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels).mean()


model = Classifier(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optimizers.adam(0.05), wrt=nnx.Param)


@nnx.jit
def step(model: Classifier, optimizer: nnx.Optimizer) -> None:
    """One step; nnx changes the model in place."""
    optimizer.update(model, nnx.grad(loss)(model))


for _ in range(200):
    step(model, optimizer)
print(f"loss {loss(model):.2f}, predictions {model(inputs).argmax(axis=1).tolist()}")
