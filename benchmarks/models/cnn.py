"""Small convolutional network whose convolutions are matrix products with patches.

Vectorized over runs with different kernels, a convolution becomes a grouped
convolution, which is several times slower on a CPU. A matrix product with patches
remains a matrix product.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.models.layers import Dense


def patches(x: jax.Array) -> jax.Array:
    """The 3 × 3 windows at every second pixel, with `SAME` padding.

    Args:
      x: Images `[channels, height, width, batch]`; height and width must be even.

    Returns:
      `[9 * channels, height / 2, width / 2, batch]`, the first axis ordered by row of
      the window, then column, then channel.
    """
    _, height, width, _ = x.shape
    # With stride 2 and even size, SAME adds one row and column of zeros at the end.
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
      outputs: Number of outputs of the last layer.
    """

    features: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs of the last layer, without an activation function."""
        for features in self.features:
            windows = patches(x)
            maps = Dense(features)(windows.reshape(windows.shape[0], -1))
            # With ReLU before the reshape, the compiled gradient takes 1.5 times as
            # long on a CPU.
            x = nn.relu(maps.reshape(features, *windows.shape[1:]))
        return Dense(self.outputs)(x.reshape(-1, x.shape[-1]))
