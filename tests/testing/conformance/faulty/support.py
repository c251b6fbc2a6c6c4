"""Ways to break a sound Adam, and the faults that several modules share."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tests.testing.conformance.sound import (
    ScaleBySoundAdamState,
    Tree,
    by_rate,
    scale_by_sound_adam,
)

Transformation = optax.GradientTransformationExtraArgs
Factory = Callable[..., Transformation]


class Fault(NamedTuple):
    factory: Factory
    rule: str
    says: str


def broken_init(change: Callable[[Any, Tree], Any]) -> Factory:
    """Replaces the first state by `change(state, params)`."""

    def factory(learning_rate: Any = 0.1) -> Transformation:
        tx = scale_by_sound_adam()
        init = lambda params: change(tx.init(params), params)  # noqa: E731
        return optax.chain(Transformation(init, tx.update), by_rate(learning_rate))

    return factory


def broken_update(call: Callable[..., Any]) -> Factory:
    """Replaces update by `call(tx.update, grads, state, params)`."""

    def factory(learning_rate: Any = 0.1) -> Transformation:
        tx = scale_by_sound_adam()

        def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
            del extra_args
            return call(tx.update, g, state, params)

        return optax.chain(Transformation(tx.init, update), by_rate(learning_rate))

    return factory


def broken_state(change: Callable[[Any, Any, Tree], Any]) -> Factory:
    """Replaces each new state by `change(new, old, grads)`."""

    def call(update: Any, g: Tree, old: Any, params: Tree) -> Any:
        updates, new = update(g, old, params)
        return updates, change(new, old, g)

    return broken_update(call)


def broken_leaf(change: Callable[[jax.Array, Any], Any]) -> Factory:
    """Replaces each leaf of the updates by `change(update, gradient)`."""

    def call(update: Any, g: Tree, state: Any, params: Tree) -> Any:
        updates, state = update(g, state, params)
        return jax.tree.map(change, updates, g), state

    return broken_update(call)


def counts_in_python(learning_rate: Any = 0.1) -> Transformation:
    calls = itertools.count(1)
    return broken_leaf(lambda u, g: u / next(calls))(learning_rate)


def other_state(kind: Any) -> Factory:
    """Keeps the state in a NamedTuple of another kind."""

    def factory(learning_rate: Any = 0.1) -> Transformation:
        tx = scale_by_sound_adam()

        def update(g: Tree, state: Any, params: Tree = None, **extra: Any) -> Any:
            del extra
            updates, new = tx.update(g, ScaleBySoundAdamState(*state[:3]), params)
            return updates, kind(*new)

        init = lambda params: kind(*tx.init(params))  # noqa: E731
        return optax.chain(Transformation(init, update), by_rate(learning_rate))

    return factory


def has_a_local_state(learning_rate: Any = 0.1) -> Transformation:
    class State(NamedTuple):
        count: Any
        mu: Tree
        nu: Tree

    return other_state(State)(learning_rate)


def indexes_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    _ = params["layer"]["bias"].dtype
    return update(g, state, params)


def branches_on_values(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    if state.count == 0:
        return update(g, state, params)
    return update(g, state, params)


def first_leaf_is_read(state: ScaleBySoundAdamState, params: Tree) -> Any:
    dtype = jax.tree.leaves(params)[0].dtype
    return state._replace(mu=jax.tree.map(lambda m: m + jnp.zeros([], dtype), state.mu))


def broken_extras(
    make: Callable[[], Transformation], call: Callable[..., Any]
) -> Factory:
    """Replaces the update of `make()` by `call(update, g, params, extras)`."""

    def factory() -> Transformation:
        tx = make()

        def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
            again = lambda g, **given: tx.update(g, state, params, **given)[0]  # noqa: E731
            return call(again, g, params, extra_args), state

        return Transformation(tx.init, update)

    return factory


def counts_in_a_dict(name: str, step: int) -> Factory:
    """Has a state that is no NamedTuple."""

    def factory(learning_rate: Any = 0.1) -> Transformation:
        def init(params: Tree) -> Any:
            del params
            return {name: jnp.zeros([], jnp.int32)}

        def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
            del params, extra_args
            return g, {name: state[name] + step}

        return optax.chain(Transformation(init, update), by_rate(learning_rate))

    return factory


drifts = broken_state(lambda new, old, g: new._replace(count=new.count * 1.0))
