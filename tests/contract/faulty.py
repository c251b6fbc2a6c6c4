"""Adams with one fault each, beside the rule that must find it and a word it says."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.contract.sound import (
    ScaleBySoundAdamState,
    Tree,
    by_rate,
    scale_by_sound_adam,
    sound_adam,
)

Transformation = optax.GradientTransformationExtraArgs
Factory = Callable[..., Transformation]


class Fault(NamedTuple):
    factory: Factory
    rule: str
    says: str


def spoilt_init(change: Callable[[Any, Tree], Any]) -> Factory:
    """Replaces the first state by `change(state, params)`."""

    def factory(learning_rate: Any = 0.1) -> Transformation:
        tx = scale_by_sound_adam()
        init = lambda params: change(tx.init(params), params)  # noqa: E731
        return optax.chain(Transformation(init, tx.update), by_rate(learning_rate))

    return factory


def spoilt_update(call: Callable[..., Any]) -> Factory:
    """Replaces update by `call(tx.update, grads, state, params)`."""

    def factory(learning_rate: Any = 0.1) -> Transformation:
        tx = scale_by_sound_adam()

        def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
            del extra_args
            return call(tx.update, g, state, params)

        return optax.chain(Transformation(tx.init, update), by_rate(learning_rate))

    return factory


def spoilt_state(change: Callable[[Any, Any, Tree], Any]) -> Factory:
    """Replaces each new state by `change(new, old, grads)`."""

    def call(update: Any, g: Tree, old: Any, params: Tree) -> Any:
        updates, new = update(g, old, params)
        return updates, change(new, old, g)

    return spoilt_update(call)


def spoilt_leaf(change: Callable[[jax.Array, Any], Any]) -> Factory:
    """Replaces each leaf of the updates by `change(update, gradient)`."""

    def call(update: Any, g: Tree, state: Any, params: Tree) -> Any:
        updates, state = update(g, state, params)
        return jax.tree.map(change, updates, g), state

    return spoilt_update(call)


def refuses_extra_args(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)

    def update(updates: Tree, state: Any, params: Tree = None) -> Any:
        return tx.update(updates, state, params)

    return Transformation(tx.init, update)


def drops_extra_args(optimizer: Any) -> Transformation:
    def update(updates: Tree, state: Any, params: Tree = None, **extra: Any) -> Any:
        del extra
        return optimizer.update(updates, state, params)

    return Transformation(optimizer.init, update)


def hides_its_arguments(**kwargs: Any) -> Transformation:
    return sound_adam(0.1, **kwargs)


def counts_in_python(learning_rate: Any = 0.1) -> Transformation:
    calls = itertools.count(1)
    return spoilt_leaf(lambda u, g: u / next(calls))(learning_rate)


def keeps_tracers(learning_rate: Any = 0.1) -> Transformation:
    kept: list[Any] = []
    return spoilt_leaf(lambda u, g: kept.append(u) or u)(learning_rate)


def scale_by_other_defaults(b1: Any = 0.8) -> Transformation:
    return scale_by_sound_adam(b1)


def other_defaults(learning_rate: Any = 0.1, b1: Any = 0.9) -> Transformation:
    return sound_adam(learning_rate, b1)


def checks_nothing(learning_rate: Any = 0.1, b1: Any = 0.9) -> Transformation:
    return sound_adam(learning_rate, jnp.asarray(b1))


def takes_logarithms(learning_rate: Any = 0.1, b1: Any = 0.9) -> Transformation:
    one = jnp.log(b1) / jnp.log(b1)
    return optax.chain(sound_adam(learning_rate, b1), optax.scale(one))


def divides_by_the_rate(learning_rate: Any = 0.1) -> Transformation:
    tx = sound_adam(learning_rate)
    if callable(learning_rate):
        return tx
    return optax.chain(tx, optax.scale(jnp.divide(learning_rate, learning_rate)))


def promotes_by_rate(learning_rate: Any = 0.1) -> Transformation:
    last = optax.scale_by_learning_rate(learning_rate)
    return optax.chain(scale_by_sound_adam(), last)


def needs_a_concrete_rate(learning_rate: Any = 0.1) -> Transformation:
    rate = learning_rate if callable(learning_rate) else float(learning_rate)
    return sound_adam(rate)


def counts_schedules_from_one(learning_rate: Any = 0.1) -> Transformation:
    if callable(learning_rate):
        return sound_adam(lambda count: learning_rate(count + 1))
    return sound_adam(learning_rate)


def couples_decay(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0, weight_decay_mask: Any = None
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay, weight_decay_mask)
    return optax.chain(decay, sound_adam(learning_rate))


def calls_callable_masks(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0, weight_decay_mask: Any = None
) -> Transformation:
    mask = weight_decay_mask
    called = (lambda params: mask(params)) if callable(mask) else mask
    decay = optax.add_decayed_weights(weight_decay, called)
    return optax.chain(scale_by_sound_adam(), decay, by_rate(learning_rate))


def has_a_local_state(learning_rate: Any = 0.1) -> Transformation:
    class State(NamedTuple):
        count: Any
        mu: Tree
        nu: Tree

    tx = scale_by_sound_adam()

    def update(g: Tree, state: Any, params: Tree = None, **extra: Any) -> Any:
        del extra
        updates, new = tx.update(g, state, params)
        return updates, State(*new)

    init = lambda params: State(*tx.init(params))  # noqa: E731
    return optax.chain(Transformation(init, update), by_rate(learning_rate))


def changes_gradients(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    result = update(jax.tree.map(jnp.array, g), state, params)
    for leaf in jax.tree.leaves(g):
        if isinstance(leaf, np.ndarray):
            leaf *= 0
    return result


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


def calls_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    return update(g, state, params() if callable(params) else params)


def indexes_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    del params["layer"]["bias"].dtype
    return update(g, state, params)


def branches_on_values(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    if state.count == 0:
        return update(g, state, params)
    return update(g, state, params)


def wraps_around(new: Any, old: Any, g: Tree) -> Any:
    del g
    return new._replace(count=old.count + 1)


def follows_gradients(new: Any, old: Any, g: Tree) -> Any:
    del old
    mu = jax.tree.map(lambda m, x: m.astype(jnp.asarray(x).dtype), new.mu, g)
    return new._replace(mu=mu)


def first_leaf_is_read(state: ScaleBySoundAdamState, params: Tree) -> Any:
    dtype = jax.tree.leaves(params)[0].dtype
    return state._replace(mu=jax.tree.map(lambda m: m + jnp.zeros([], dtype), state.mu))


def _copy_of_params(state: Any, params: Tree) -> Any:
    scale = lambda p: p * float(jnp.sum(p))  # noqa: E731
    return state._replace(mu=jax.tree.map(scale, params))


def _narrow_nu(state: Any, params: Tree) -> Any:
    return state._replace(nu=jax.tree.map(jnp.zeros_like, params))


def _hidden_nan(u: jax.Array, g: Any) -> jax.Array:
    return jnp.where(g == 0, u, u * (g / g))


FAULTS: dict[str, Fault] = {
    # Interface
    "takes **kwargs": Fault(hides_its_arguments, "explicit_signature", "kwargs"),
    "refuses extra arguments": Fault(
        refuses_extra_args, "ignores_unknown_extra_args", "keyword argument"
    ),
    "drops extra arguments": Fault(drops_extra_args, "forwards_extra_args", "only"),
    "needs params in silence": Fault(
        spoilt_update(indexes_params), "names_missing_params", "NoneType"
    ),
    "turns the sign": Fault(
        spoilt_leaf(lambda u, g: -u), "has_right_sign", "not downhill"
    ),
    "counts in Python": Fault(counts_in_python, "is_pure", "repeated update"),
    "changes gradients in place": Fault(
        spoilt_update(changes_gradients), "leaves_inputs_untouched", "gradients"
    ),
    "has other defaults than its primitive": Fault(
        other_defaults, "alias_is_chain", "b1 defaults to 0.9"
    ),
    # State
    "counts with a Python int": Fault(
        spoilt_init(lambda s, p: s._replace(count=0)), "state_is_plain", "is a int"
    ),
    "has a local state class": Fault(
        has_a_local_state, "state_is_plain", "pickle cannot find"
    ),
    "has a local state class to pickle": Fault(
        has_a_local_state, "state_survives_pickle", "local object"
    ),
    "calls a moment exp_avg": Fault(
        lambda learning_rate=0.1: optax.contrib.dadapt_adamw(learning_rate),
        "state_vocabulary",
        "exp_avg",
    ),
    "has a weak count": Fault(
        spoilt_init(lambda s, p: s._replace(count=jnp.asarray(0))),
        "state_types_are_stable",
        "weak int32[]",
    ),
    "turns the count into a float": Fault(
        spoilt_state(lambda new, old, g: new._replace(count=new.count * 1.0)),
        "state_types_are_stable",
        "float32[], expected int32[]",
    ),
    "has an int64 count": Fault(
        spoilt_init(lambda s, p: s._replace(count=jnp.zeros([], int))),
        "counter_is_int32",
        "int64",
    ),
    "lets the count wrap around": Fault(
        spoilt_state(wraps_around), "counter_saturates", "-2147483648"
    ),
    "counts from one": Fault(
        spoilt_init(lambda s, p: s._replace(count=jnp.ones([], jnp.int32))),
        "counter_advances",
        "is 1, expected 0",
    ),
    "shares a buffer": Fault(
        spoilt_init(lambda s, p: s._replace(nu=s.mu)), "buffers_are_fresh", "shares"
    ),
    "keeps the params": Fault(
        spoilt_init(lambda s, p: s._replace(mu=p)), "buffers_are_fresh", "params"
    ),
    "shares a buffer to donate": Fault(
        spoilt_init(lambda s, p: s._replace(nu=s.mu)),
        "params_and_state_may_be_donated",
        "donate",
    ),
    "reads values in init": Fault(
        spoilt_init(_copy_of_params), "init_is_abstract", "oncret"
    ),
    "reads the first leaf in init": Fault(
        spoilt_init(first_leaf_is_read), "params_are_found_in_state", "IndexError"
    ),
    # Dtypes
    "gives float32 updates": Fault(
        spoilt_leaf(lambda u, g: u.astype(jnp.float32)),
        "updates_have_gradient_dtype",
        "float32[3], expected bfloat16[3]",
    ),
    "multiplies by a NumPy number": Fault(
        spoilt_leaf(lambda u, g: u * np.float64(1.0)),
        "updates_have_gradient_dtype",
        "float32[3], expected bfloat16[3]",
    ),
    "keeps moments in the gradient's dtype": Fault(
        spoilt_state(follows_gradients), "gradients_may_differ_from_params", ".mu"
    ),
    "has a narrow second moment": Fault(
        spoilt_init(_narrow_nu), "accumulators_are_wide", ".nu"
    ),
    "stalls": Fault(spoilt_init(_narrow_nu), "averages_do_not_stall", "differs"),
    "squares in float16": Fault(
        spoilt_leaf(lambda u, g: jnp.sign(u) * jnp.sqrt(g * g)),
        "half_precision_is_accurate",
        "differs",
    ),
    "computes in float32": Fault(
        spoilt_leaf(lambda u, g: u.astype(jnp.float32).astype(u.dtype)),
        "x64_follows_leaves",
        "not by 1e-10",
    ),
    "mixes dtypes": Fault(
        spoilt_leaf(lambda u, g: u * jnp.ones([], jnp.int32)),
        "strict_promotion_holds",
        "TypePromotionError",
    ),
    "mixes ranks": Fault(
        spoilt_leaf(lambda u, g: u * jnp.ones(u.shape[-1:], u.dtype)),
        "rank_promotion_holds",
        "rank",
    ),
    "drops imaginary parts": Fault(
        spoilt_leaf(lambda u, g: u.real.astype(u.dtype)),
        "complex_is_handled_or_refused",
        "times i",
    ),
    # Numerics
    "divides zero by zero": Fault(
        spoilt_leaf(lambda u, g: u * (g / g)), "zero_gradients_are_safe", "nan"
    ),
    "divides zero by zero in some entries": Fault(
        spoilt_leaf(lambda u, g: u * (g / g)), "some_zero_gradients_are_safe", "nan"
    ),
    "computes a NaN and drops it": Fault(
        spoilt_leaf(_hidden_nan), "no_hidden_nans", "nan"
    ),
    "overflows": Fault(
        spoilt_leaf(lambda u, g: u * (g**3 / (g**3 + 9))),
        "extreme_gradients_are_safe",
        "nan",
    ),
    "divides by the rate": Fault(divides_by_the_rate, "zero_rate_is_safe", "nan"),
    "takes logarithms": Fault(
        takes_logarithms, "edge_hyperparameters_are_safe", "b1=0"
    ),
    "climbs": Fault(spoilt_leaf(lambda u, g: -u), "loss_goes_down", "went from"),
    # Trees
    "calls params": Fault(spoilt_update(calls_params), "any_container_works", "call"),
    "maps over None": Fault(
        spoilt_update(maps_over_none), "none_is_an_empty_subtree", "NoneType"
    ),
    "divides by the size": Fault(
        spoilt_update(divides_by_size), "empty_trees_work", "ZeroDivisionError"
    ),
    "takes the maximum of nothing": Fault(
        spoilt_leaf(lambda u, g: u / jnp.max(jnp.abs(u))),
        "small_leaves_work",
        "zero-size",
    ),
    "broadcasts gradients": Fault(
        spoilt_update(broadcasts), "other_shape_is_refused", "passed in silence"
    ),
    # Hyperparameters
    "promotes by its rate": Fault(
        promotes_by_rate, "rate_of_any_type_keeps_dtypes", "np.float32 rate"
    ),
    "needs a concrete rate": Fault(
        needs_a_concrete_rate, "rate_may_be_traced", "oncret"
    ),
    "needs a concrete rate to inject": Fault(
        needs_a_concrete_rate, "hyperparameters_may_be_injected", "oncret"
    ),
    "counts schedules from one": Fault(
        counts_schedules_from_one, "schedules_count_from_zero", "update 0 asked"
    ),
    "couples the decay": Fault(
        couples_decay, "weight_decay_is_decoupled", "not proportional"
    ),
    "calls a callable mask": Fault(
        calls_callable_masks, "weight_decay_mask_is_any_mask", "raised"
    ),
    "checks nothing": Fault(checks_nothing, "bad_values_are_refused", "b1=1.5"),
    # Compilation
    "branches on values": Fault(
        spoilt_update(branches_on_values), "jit_equals_eager", "Tracer"
    ),
    "branches on values in a scan": Fault(
        spoilt_update(branches_on_values), "scan_equals_loop", "Tracer"
    ),
    "counts in Python under jit": Fault(
        counts_in_python, "jit_equals_eager", "differs"
    ),
    "keeps tracers": Fault(keeps_tracers, "no_leaked_tracers", "raised"),
}
