"""Faults for the rules in `grammar`."""

from typing import Any

import jax
import optax

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    broken_extras,
    broken_leaf,
)
from tests.testing.conformance.sound import (
    SoundPauseState,
    Tree,
    scale_by_sound_adam,
    sound_adam,
    sound_ascent,
    sound_pause,
)


def drops_extra_args(optimizer: Any) -> Transformation:
    def update(updates: Tree, state: Any, params: Tree = None, **extra: Any) -> Any:
        del extra
        return optimizer.update(updates, state, params)

    return Transformation(optimizer.init, update)


def scale_by_other_defaults(b1: Any = 0.8) -> Transformation:
    return scale_by_sound_adam(b1)


def other_defaults(learning_rate: Any = 0.1, b1: Any = 0.9) -> Transformation:
    return sound_adam(learning_rate, b1)


def turns_the_ascent(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    return jax.tree.map(lambda u: -u, update(g, **extras))


def forwards_the_value_only(optimizer: Any) -> Transformation:
    inner = optax.with_extra_args_support(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        return inner.update(g, state, params, value=extra_args.get("value"))

    return Transformation(inner.init, update)


def blends_states(optimizer: Any) -> Transformation:
    tx = sound_pause(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, new = tx.update(g, state, params, **extra_args)
        keeps = new.count % 2
        blend = lambda a, b: keeps * a + (1 - keeps) * b  # noqa: E731
        inner = jax.tree.map(blend, new.inner_state, new.inner_state)
        return updates, SoundPauseState(new.count, inner)

    return Transformation(tx.init, update)


def refuses_old_optimizers(optimizer: Any) -> Transformation:
    return Transformation(optimizer.init, optimizer.update)


def scale_by_forgets_eps(eps: Any = 1e-8) -> Transformation:
    return scale_by_sound_adam(eps=eps)


def forgets_eps(learning_rate: Any = 0.1, eps: Any = 1e-8) -> Transformation:
    del eps
    last = optax.scale_by_learning_rate(learning_rate)
    return optax.chain(scale_by_forgets_eps(), last)


FAULTS = {
    "drops extra arguments": Fault(drops_extra_args, "forwards_extra_args", "only"),
    "forwards the value only": Fault(
        forwards_the_value_only, "forwards_extra_args", "without ['aux_grads'"
    ),
    "turns the sign": Fault(
        broken_leaf(lambda u, g: -u), "has_right_sign", "not point downhill"
    ),
    "has other defaults than its primitive": Fault(
        other_defaults, "alias_is_chain", "b1 defaults to 0.9"
    ),
    "refuses optimizers without extra arguments": Fault(
        refuses_old_optimizers, "forwards_extra_args", "keyword argument"
    ),
    "blends the states of what it wraps": Fault(
        blends_states, "accepts_any_inner_state", "key"
    ),
    "forgets eps": Fault(forgets_eps, "alias_is_chain", "with eps=0.1"),
    "turns the ascent": Fault(
        broken_extras(sound_ascent, turns_the_ascent),
        "has_right_sign",
        "not point uphill",
    ),
}
