"""The dense layer of all networks, with the batch on the last axis.

With the batch last, elementwise operations and softmax run along contiguous memory,
and vectorizing over runs stacks the kernels of all runs into one taller matrix. On a
CPU the networks train about 1.6 times as fast as with `flax.linen.Dense`, which has
the batch first.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn


class Dense(nn.Module):
    """`kernel @ x + bias`: `[inputs, batch]` to `[features, batch]`, in float32.

    The kernel `[features, inputs]` is initialized as in He et al. (2015) for ReLU, with
    variance 2 / inputs. The bias is initialized to 0.

    Attributes:
      features: Number of outputs.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs of the layer, without an activation function."""
        init = nn.initializers.he_normal(in_axis=-1, out_axis=-2)
        shape = (self.features, x.shape[0])
        kernel = self.param("kernel", init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape[:1], jnp.float32)
        return kernel @ x + bias[:, None]


def apply(model: nn.Module, params: Any, x: jax.Array) -> jax.Array:
    """The output array of a model without mutable state; Flax's type is a union."""
    return cast("jax.Array", model.apply(params, x))
