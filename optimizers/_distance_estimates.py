"""Reads the distance estimates of D-Adaptation and Prodigy from a state."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from optimizers._common import readers
from optimizers._common.typing import PyTree

__all__ = ["distance_estimates"]


def distance_estimates(state: PyTree) -> dict[str, jax.Array]:
    """Returns the distance estimates d of D-Adaptation and Prodigy in a state, by path.

    Args:
      state: The state of an optimizer, which may contain such methods inside chains,
        masks, partitions, injected hyperparameters and other wrappers. It may also be
        an ``nnx.Optimizer`` or its ``opt_state``, or a state that was restored as dicts
        and lists.

    Returns:
      The estimates, as ``{"[0].distance": d}``; empty if there are none.

    Raises:
      TypeError: This is not a state, but for instance an optimizer.

    Examples:
      >>> import jax.numpy as jnp, optax, optimizers
      >>> optimizer = optax.chain(optax.clip(1.0), optimizers.dadapt_adam(d0=0.5))
      >>> state = optimizer.init(jnp.zeros(2))
      >>> for path, d in optimizers.distance_estimates(state).items():
      ...     print(path, d)
      [1][0].distance 0.5
    """
    readers.require_state("distance_estimates", state)
    estimates = {}
    for path, node in readers.nodes(state, "distance", "grad_sum"):
        field = "['distance']" if isinstance(node, Mapping) else ".distance"
        # The only leaf of a variable of flax.nnx, or the array itself.
        (estimate,) = jax.tree.leaves(readers.fields(node)["distance"])
        estimates[jax.tree_util.keystr(path) + field] = estimate
    return estimates
