"""Faults for the rules in `numerics`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    broken_extras,
    broken_leaf,
    broken_update,
)
from tests.testing.conformance.sound import Tree, sound_adam, sound_ascent


def takes_logarithms(learning_rate: Any = 0.1, b1: Any = 0.9) -> Transformation:
    one = jnp.log(b1) / jnp.log(b1)
    return optax.chain(sound_adam(learning_rate, b1), optax.scale(one))


def divides_by_the_rate(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)
    if callable(learning_rate):
        return tx
    return optax.chain(tx, optax.scale(jnp.divide(learning_rate, learning_rate)))


def ignores_eps_root(learning_rate: Any = 0.1, eps_root: Any = 0.0) -> Transformation:
    del eps_root
    return sound_adam(learning_rate)


def takes_roots_of_the_rate(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)
    if callable(learning_rate):
        return tx
    # The derivative of the root is infinite at 0, which is where it stands.
    return optax.chain(tx, optax.scale(1 + jnp.sqrt(0 * jnp.asarray(learning_rate))))


def searches_and_takes_roots(learning_rate: Any = 0.1) -> Transformation:
    search = lambda u, _: jax.lax.while_loop(  # noqa: E731
        lambda _: jnp.array(False), lambda u: u, u
    )
    return optax.chain(takes_roots_of_the_rate(learning_rate), optax.stateless(search))


def divides_at_the_sixth_step(update: Any, g: Tree, old: Any, params: Tree) -> Any:
    updates, new = update(g, old, params)
    late = lambda u, g: jnp.where(new.count < 6, u, u * (g / g))  # noqa: E731
    return jax.tree.map(late, updates, g), new


def _hidden_nan(u: jax.Array, g: Any) -> jax.Array:
    return jnp.where(g == 0, u, u * (g / g))


def divides_by_the_norm(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    norm = optax.tree.norm(g)
    return jax.tree.map(
        lambda u: (u * (norm / norm)).astype(u.dtype), update(g, **extras)
    )


def divides_leaf_by_leaf(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    sizes = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(g)]
    share = (sizes[0] / sizes[-1]) / (1 + sizes[0] / sizes[-1])
    return jax.tree.map(lambda u: u + (0 * share).astype(u.dtype), updates), state


FAULTS = {
    "divides by the norm of a leaf of zeros": Fault(
        broken_leaf(lambda u, g: u * (jnp.max(jnp.abs(g)) / jnp.max(jnp.abs(g)))),
        "some_zero_gradients_are_safe",
        "a leaf of zeros",
    ),
    "divides by a norm of zero": Fault(
        broken_extras(sound_ascent, divides_by_the_norm),
        "zero_gradients_are_safe",
        "nan",
    ),
    "ignores eps_root": Fault(
        ignores_eps_root, "eps_root_makes_meta_gradients_finite", "nan"
    ),
    "takes a root of the learning rate": Fault(
        takes_roots_of_the_rate, "learning_rate_is_differentiable", "nan"
    ),
    "takes a root of the learning rate beside a search": Fault(
        searches_and_takes_roots, "learning_rate_is_differentiable", "nan"
    ),
    "divides zero by zero": Fault(
        broken_leaf(lambda u, g: u * (g / g)), "zero_gradients_are_safe", "nan"
    ),
    "divides zero by zero at the sixth step": Fault(
        broken_update(divides_at_the_sixth_step), "zero_gradients_are_safe", "nan"
    ),
    "divides zero by zero in some entries": Fault(
        broken_leaf(lambda u, g: u * (g / g)), "some_zero_gradients_are_safe", "nan"
    ),
    "computes a NaN and drops it": Fault(
        broken_leaf(_hidden_nan), "no_hidden_nans", "nan"
    ),
    "overflows": Fault(
        broken_leaf(lambda u, g: u * (g**3 / (g**3 + 9))),
        "extreme_gradients_are_safe",
        "nan",
    ),
    "divides by the learning rate": Fault(
        divides_by_the_rate, "zero_learning_rate_is_safe", "nan"
    ),
    "takes logarithms": Fault(
        takes_logarithms, "edge_hyperparameters_are_safe", "b1=0"
    ),
    "climbs": Fault(broken_leaf(lambda u, g: -u), "loss_goes_down", "went from"),
    "divides leaf by leaf": Fault(
        broken_update(divides_leaf_by_leaf),
        "extreme_gradients_are_safe",
        "a leaf of 1e-30 beside one of 1e15",
    ),
}
