"""Faults for the rules in `sharding`, which need several devices."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp

from tests.testing.conformance.faulty.support import (
    broken_init,
    broken_update,
    first_leaf_is_read,
)
from tests.testing.conformance.sound import Tree


def _new_zeros(state: Any, params: Tree) -> Any:
    return state._replace(mu=jax.tree.map(lambda p: jnp.zeros(p.shape), params))


def _sums_gradients(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    # Outside shard_map there is no such axis.
    with contextlib.suppress(NameError):
        g = jax.lax.psum(g, "data")
    return update(g, state, params)


def _new_zeros_for_bfloat16(state: Any, params: Tree) -> Any:
    is_narrow = all(p.dtype == jnp.bfloat16 for p in jax.tree.leaves(params))
    return _new_zeros(state, params) if is_narrow else state


makes_new_zeros = broken_init(_new_zeros)
makes_new_zeros_for_bfloat16 = broken_init(_new_zeros_for_bfloat16)
reads_the_first_leaf = broken_init(first_leaf_is_read)
sums_over_devices = broken_update(_sums_gradients)

# The names of factories above, each with the rule about devices that must find it.
SHARDING_FAULTS: tuple[tuple[str, str], ...] = (
    ("makes_new_zeros", "eager_init_follows_params"),
    ("makes_new_zeros", "explicit_sharding_is_stable"),
    ("makes_new_zeros_for_bfloat16", "eager_init_follows_params"),
    ("reads_the_first_leaf", "jitted_init_takes_shardings"),
    ("sums_over_devices", "data_parallel_equals_one_device"),
)
