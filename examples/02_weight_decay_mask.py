"""Decay only the weight matrices, and freeze a part of the network."""

import jax
import jax.numpy as jnp
import optax

import optimizers

params = {
    "encoder": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
    "head": {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(1)},
}


def is_matrix(tree: optax.Params) -> optax.Params:
    """True for the leaves that decay: not for biases."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)


decaying = optimizers.adamw(0.1, weight_decay=0.5, weight_decay_mask=is_matrix)
optimizer = optax.partition(
    {"train": decaying, "freeze": optax.set_to_zero()},
    {"encoder": "freeze", "head": "train"},
)

# Without a gradient only the decay moves, by 0.1 * 0.5 of each decaying entry.
zero = jax.tree.map(jnp.zeros_like, params)
updates, state = optimizer.update(zero, optimizer.init(params), params)
params = optax.apply_updates(params, updates)
for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    print(f"{jax.tree_util.keystr(path):22} {float(leaf.mean()):.2f}")
