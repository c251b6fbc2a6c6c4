"""Faults for the rules in `trees`."""

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
    indexes_params,
)
from tests.testing.conformance.sound import (
    Tree,
    sound_ascent,
    sound_mixture,
    sound_pause,
)


def broadcasts(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    fit = lambda x, m: jnp.broadcast_to(x, m.shape)  # noqa: E731
    return update(jax.tree.map(fit, g, state.mu), state, params)


def divides_by_size(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    share = 1 / sum(u.size for u in jax.tree.leaves(updates))
    return jax.tree.map(lambda u: u + 0 * share, updates), state


def maps_over_none(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    return jax.tree.map(lambda u: 1 * u, updates, is_leaf=lambda x: x is None), state


def maps_over_masked(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    is_masked = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
    return jax.tree.map(lambda u: 1 * u, updates, is_leaf=is_masked), state


def reads_dtypes(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    jax.tree.map(lambda x: x.dtype, g)
    return update(g, state, params)


def counts_leaves(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    structure = jax.tree.structure(state.mu)
    return update(structure.unflatten(jax.tree.leaves(g)), state, params)


def calls_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    return update(g, state, params() if callable(params) else params)


def broadcasts_aux_grads(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    aux_grads = extras.get("aux_grads")
    if jax.tree.structure(aux_grads) == jax.tree.structure(g):
        fit = lambda aux, x: jnp.broadcast_to(aux, jnp.shape(x))  # noqa: E731
        extras = {**extras, "aux_grads": jax.tree.map(fit, aux_grads, g)}
    return update(g, **extras)


def compares_sizes(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    fit = lambda g, p: g.reshape(p.shape) if g.size == p.size else g  # noqa: E731
    return update(jax.tree.map(fit, g, params), state, params)


def adds_to_every_leaf(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    return jax.tree.map(lambda u: u + 0, update(g, **extras))


def scales_every_update(optimizer: Any) -> Transformation:
    tx = sound_pause(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, new = tx.update(g, state, params, **extra_args)
        return jax.tree.map(lambda u: 1.0 * u, updates), new

    return Transformation(tx.init, update)


def unzips_tuples_of_three(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    triples = jax.tree.map(lambda u: (u, u, u), updates)
    is_triple = lambda x: isinstance(x, tuple) and len(x) == 3  # noqa: E731
    return jax.tree.map(lambda t: t[0], triples, is_leaf=is_triple), state


FAULTS = {
    "compares sizes instead of shapes": Fault(
        broken_update(compares_sizes), "other_shape_is_refused", "shape (1, 3)"
    ),
    "broadcasts aux_grads": Fault(
        broken_extras(sound_mixture, broadcasts_aux_grads),
        "checks_aux_grads",
        "a broadcastable kernel raised no error",
    ),
    "scales leaves that have no gradient": Fault(
        scales_every_update, "masked_integers_work", "around optax.masked"
    ),
    "adds to leaves that have no gradient": Fault(
        broken_extras(sound_ascent, adds_to_every_leaf),
        "masked_integers_work",
        "raised",
    ),
    "calls params": Fault(broken_update(calls_params), "any_container_works", "call"),
    "maps over None": Fault(
        broken_update(maps_over_none), "none_is_an_empty_subtree", "NoneType"
    ),
    "maps over MaskedNode": Fault(
        broken_update(maps_over_masked), "masked_node_is_an_empty_subtree", "MaskedNode"
    ),
    "reads dtypes of Python floats": Fault(
        broken_update(reads_dtypes), "python_and_numpy_leaves_work", "AttributeError"
    ),
    "indexes what is masked": Fault(
        broken_update(indexes_params), "masked_integers_work", "KeyError"
    ),
    "counts leaves": Fault(
        broken_update(counts_leaves), "other_structure_is_refused", "another name"
    ),
    "divides by the size": Fault(
        broken_update(divides_by_size), "empty_trees_work", "ZeroDivisionError"
    ),
    "takes the maximum of nothing": Fault(
        broken_leaf(lambda u, g: u / jnp.max(jnp.abs(u))),
        "small_leaves_work",
        "zero-size",
    ),
    "broadcasts gradients": Fault(
        broken_update(broadcasts), "other_shape_is_refused", "raised no error"
    ),
    "unzips tuples of three": Fault(
        broken_update(unzips_tuples_of_three),
        "any_container_works",
        "in a nest of tuples",
    ),
}
