"""Multilayer perceptron: dense layers with ReLU between them."""

import jax
from flax import linen as nn

from benchmarks.models.layers import Dense


class MLP(nn.Module):
    """Maps `[inputs, batch]` to `[features[-1], batch]`.

    Attributes:
      features: Number of outputs of each layer.
    """

    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs of the last layer, without an activation function."""
        for width in self.features[:-1]:
            x = nn.relu(Dense(width)(x))
        return Dense(self.features[-1])(x)
