"""Faults for the rules in `interface`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    broken_extras,
    broken_leaf,
    broken_update,
    counts_in_python,
    indexes_params,
)
from tests.testing.conformance.sound import (
    Tree,
    by_rate,
    scale_by_sound_adam,
    sound_adam,
    sound_mixture,
)


def refuses_extra_args(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)

    def update(updates: Tree, state: Any, params: Tree = None) -> Any:
        return tx.update(updates, state, params)

    return Transformation(tx.init, update)


def hides_its_arguments(**kwargs: Any) -> Transformation:
    return sound_adam(0.1, **kwargs)


def remembers_in_python(learning_rate: Any = 0.1) -> Transformation:
    last: dict[Any, Any] = {}

    def extrapolates(u: Any, g: Any) -> Any:
        before = last.get(g.shape, g)
        last[g.shape] = g
        return u + (g - before)

    return broken_leaf(extrapolates)(learning_rate)


def needs_value(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)

    def update(g: Tree, state: Any, params: Tree = None, **extra: Any) -> Any:
        del extra["value"]
        return tx.update(g, state, params)

    return Transformation(tx.init, update)


class Unhashable(Transformation):
    __hash__ = None


def is_unhashable(learning_rate: Any = 0.1) -> Transformation:
    return Unhashable(*sound_adam(learning_rate))


def returns_a_pair(learning_rate: Any = 0.1) -> Any:
    return tuple(sound_adam(learning_rate))


def changes_gradients(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    result = update(jax.tree.map(jnp.array, g), state, params)
    for leaf in jax.tree.leaves(g):
        if isinstance(leaf, np.ndarray):
            leaf *= 0
    return result


def forgets_aux_grads(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    return update(g, **extras) if "aux_grads" in extras else g


def decays_without_params(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0
) -> Transformation:
    decay = lambda u, p: u + weight_decay * p["bias"].sum()  # noqa: E731
    link = optax.stateless(
        lambda updates, params: (
            jax.tree.map(lambda u: decay(u, params["layer"]), updates)
            if weight_decay
            else updates
        )
    )
    return optax.chain(scale_by_sound_adam(), link, by_rate(learning_rate))


def changes_aux_grads(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    result = update(g, **extras)
    for leaf in jax.tree.leaves(extras["aux_grads"]):
        if isinstance(leaf, np.ndarray):
            leaf *= 0
    return result


def remembers_the_first_init(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)
    first: list[int] = []

    def init(params: Tree) -> Any:
        if not first:
            first.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
        return tx.init(params)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, state = tx.update(g, state, params, **extra_args)
        return jax.tree.map(lambda u: u / first[0], updates), state

    return Transformation(init, update)


def remembers_the_last_init(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)
    dtypes: list[Any] = []

    def init(params: Tree) -> Any:
        dtypes[:] = [jnp.result_type(*jax.tree.leaves(params))]
        return tx.init(params)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, state = tx.update(g, state, params, **extra_args)
        rounded = lambda u: u.astype(dtypes[0]).astype(u.dtype)  # noqa: E731
        return jax.tree.map(rounded, updates), state

    return Transformation(init, update)


def calls_b1_beta_1(learning_rate: Any = 0.1, beta_1: Any = 0.9) -> Transformation:
    return sound_adam(learning_rate, beta_1)


FAULTS = {
    "returns a pair": Fault(returns_a_pair, "returns_transformation", "tuple"),
    "is unhashable": Fault(is_unhashable, "is_hashable", "unhashable"),
    "needs value without saying so": Fault(
        needs_value, "names_missing_extra_args", "KeyError"
    ),
    "takes **kwargs": Fault(hides_its_arguments, "explicit_signature", "kwargs"),
    "refuses extra arguments": Fault(
        refuses_extra_args, "ignores_unknown_extra_args", "keyword argument"
    ),
    "reads params without a check": Fault(
        broken_update(indexes_params), "names_missing_params", "NoneType"
    ),
    "counts in Python": Fault(counts_in_python, "is_pure", "repeated update"),
    "remembers the last gradient in Python": Fault(
        remembers_in_python, "is_pure", "repeated update"
    ),
    "changes gradients in place": Fault(
        broken_update(changes_gradients), "leaves_inputs_untouched", "gradients"
    ),
    "decays without params": Fault(
        decays_without_params, "names_missing_params", "NoneType"
    ),
    "changes aux_grads in place": Fault(
        broken_extras(sound_mixture, changes_aux_grads),
        "leaves_inputs_untouched",
        "['aux_grads']",
    ),
    "remembers the first init": Fault(
        remembers_the_first_init, "is_pure", "the update of a second instance"
    ),
    "remembers the last init": Fault(
        remembers_the_last_init, "is_pure", "a repeated update"
    ),
    "calls b1 beta_1": Fault(calls_b1_beta_1, "explicit_signature", "'beta_1'"),
    "forgets aux_grads": Fault(
        broken_extras(sound_mixture, forgets_aux_grads),
        "names_missing_extra_args",
        "without aux_grads and without an error",
    ),
}
