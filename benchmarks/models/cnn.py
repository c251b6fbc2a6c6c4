"""Small convolutional network, its convolutions written as matrix × patches.

Vectorised over lanes that each have their own kernel, a convolution turns into a
grouped one, which compilers for CPUs treat badly: this network runs several times
slower with it. A matrix product with patches stays a matrix product.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.models.layers import Dense


def patches(x: jax.Array) -> jax.Array:
    """The 3 × 3 windows at every second pixel, padded as `SAME` does.

    Args:
      x: Images `[channels, height, width, batch]` of even height and width.

    Returns:
      `[9 * channels, height / 2, width / 2, batch]`, ordered by row of the window,
      then column, then channel.
    """
    _, height, width, _ = x.shape
    # At stride 2 and even size, SAME puts its one row and column of zeros last.
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = [
        padded[:, row : row + height - 1 : 2, column : column + width - 1 : 2]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.concatenate(windows)


class CNN(nn.Module):
    """3 × 3 convolutions with stride 2 and ReLU, then one dense layer.

    Maps `[channels, height, width, batch]` to `[outputs, batch]`.

    Attributes:
      features: Number of features of each convolution.
      outputs: Width of the last layer.
    """

    features: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs of the last layer, before any non-linearity."""
        for features in self.features:
            windows = patches(x)
            maps = Dense(features)(windows.reshape(windows.shape[0], -1))
            # ReLU after the reshape: before it, the compiled gradient is 1.5 times
            # as slow on a CPU.
            x = nn.relu(maps.reshape(features, *windows.shape[1:]))
        return Dense(self.outputs)(x.reshape(-1, x.shape[-1]))
