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
    by_rate,
    scale_by_sound_adam,
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


def sums_in_a_container(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    jax.tree.leaves(jax.tree.map(jnp.sum, g))
    return update(g, state, params)


def chooses_in_a_container(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    matrices = jax.tree.map(lambda u: u.ndim > 1, updates)
    return jax.tree.map(lambda u, yes: u if yes else 1 * u, updates, matrices), state


def masks_in_a_container(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0, mask: Any = None
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay, mask)
    return optax.chain(scale_by_sound_adam(), decay, by_rate(learning_rate))


def reads_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    jax.tree.map(lambda x, p: x - p, g, params)
    return update(g, state, params)


def decays_every_param(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0
) -> Transformation:
    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        del extra_args
        if weight_decay:
            g = jax.tree.map(lambda u, p: u + weight_decay * p, g, params)
        return g, state

    decay = Transformation(optax.identity().init, update)
    return optax.chain(scale_by_sound_adam(), decay, by_rate(learning_rate))


def ascends_without_functions(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    whole = extras["grad_fn"]
    trained = jax.tree.map(
        lambda x, p: None if x is None else p, g, params, is_leaf=lambda x: x is None
    )
    return update(g, **{**extras, "grad_fn": lambda _: whole(trained)})


FAULTS = {
    "sums in a container": Fault(
        broken_update(sums_in_a_container),
        "containers_may_check_their_leaves",
        "in the class _Checking raised TypeError: bias must be an array of shape (3,)",
    ),
    "chooses in a container": Fault(
        broken_update(chooses_in_a_container),
        "containers_may_check_their_leaves",
        "in the class _Converting raised TracerBoolConversionError",
    ),
    "masks in a container": Fault(
        masks_in_a_container,
        "containers_may_check_their_leaves",
        "in the class _Converting with weight_decay and a function as mask raised",
    ),
    "reads every param": Fault(
        broken_update(reads_params),
        "params_without_gradients_are_not_read",
        "with functions and strings in the params raised",
    ),
    "decays every param": Fault(
        decays_every_param,
        "params_without_gradients_are_not_read",
        "with functions and strings in the params with weight_decay raised",
    ),
    "ascends without functions": Fault(
        broken_extras(sound_ascent, ascends_without_functions),
        "params_without_gradients_are_not_read",
        "the loss was called without the functions",
    ),
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
