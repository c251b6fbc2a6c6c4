"""Reads the distance estimates of D-Adaptation and Prodigy from a state."""

from __future__ import annotations

from typing import Any

import jax

from optimizers._common.typing import PyTree

__all__ = ["distance_estimates"]


def distance_estimates(state: PyTree) -> dict[str, jax.Array]:
    """Returns the distance estimates d of D-Adaptation and Prodigy in a state, by path.

    Args:
      state: The state of an optimizer, which may contain such methods inside chains,
        masks, partitions, injected hyperparameters and other wrappers.

    Returns:
      The estimates, as ``{"[0].distance": d}``; empty if there are none.

    Examples:
      >>> import jax.numpy as jnp, optax, optimizers
      >>> optimizer = optax.chain(optax.clip(1.0), optimizers.dadapt_adam(d0=0.5))
      >>> state = optimizer.init(jnp.zeros(2))
      >>> for path, d in optimizers.distance_estimates(state).items():
      ...     print(path, d)
      [1][0].distance 0.5
    """
    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=_estimates_distance)
    return {
        f"{jax.tree_util.keystr(path)}.distance": node.distance
        for path, node in nodes
        if _estimates_distance(node)
    }


def _estimates_distance(node: Any) -> bool:
    return {"distance", "grad_sum"} <= set(getattr(node, "_fields", ()))
