"""Faults for the rules in `promotion`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    broken_leaf,
    broken_update,
)
from tests.testing.conformance.sound import Tree, scale_by_sound_adam, sound_adam


def adds_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    return jax.tree.map(lambda u, p: u + 0 * p, updates, params), state


def promotes_by_rate_and_casts(learning_rate: Any = 0.1) -> Transformation:
    scale = lambda u, rate: (-rate * u).astype(u.dtype)  # noqa: E731
    if callable(learning_rate):
        return sound_adam(learning_rate)
    last = optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: scale(u, learning_rate), updates)
    )
    return optax.chain(scale_by_sound_adam(), last)


FAULTS = {
    "computes in float32": Fault(
        broken_leaf(lambda u, g: u.astype(jnp.float32).astype(u.dtype)),
        "x64_follows_leaves",
        "not by 1e-10",
    ),
    "mixes dtypes": Fault(
        broken_leaf(lambda u, g: u * jnp.ones([], jnp.int32)),
        "strict_promotion_holds",
        "TypePromotionError",
    ),
    "mixes ranks": Fault(
        broken_leaf(lambda u, g: u * jnp.ones(u.shape[-1:], u.dtype)),
        "rank_promotion_holds",
        "rank",
    ),
    "mixes dtypes of gradients and params": Fault(
        broken_update(adds_params),
        "strict_promotion_holds_for_float32_gradients",
        "TypePromotionError",
    ),
    "promotes by its rate and casts": Fault(
        promotes_by_rate_and_casts, "strict_promotion_holds", "TypePromotionError"
    ),
}
