"""Adams with one fault each, beside the rule that must find it and a word it says."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.contract.sound import (
    ScaleBySoundAdamState,
    SoundPauseState,
    Tree,
    by_rate,
    scale_by_sound_adam,
    sound_adam,
    sound_ascent,
    sound_mixture,
    sound_pause,
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


def remembers_in_python(learning_rate: Any = 0.1) -> Transformation:
    last: dict[Any, Any] = {}

    def extrapolates(u: Any, g: Any) -> Any:
        before = last.get(g.shape, g)
        last[g.shape] = g
        return u + (g - before)

    return spoilt_leaf(extrapolates)(learning_rate)


def keeps_tracers(learning_rate: Any = 0.1) -> Transformation:
    kept: list[Any] = []
    return spoilt_leaf(lambda u, g: kept.append(u) or u)(learning_rate)


def scale_by_other_defaults(b1: Any = 0.8) -> Transformation:
    return scale_by_sound_adam(b1)


def other_defaults(learning_rate: Any = 0.1, b1: Any = 0.9) -> Transformation:
    return sound_adam(learning_rate, b1)


def checks_nothing(b1: Any = 0.9) -> Transformation:
    return scale_by_sound_adam(jnp.asarray(b1))


def checks_under_another_name(b1: Any = 0.9) -> Transformation:
    return scale_by_sound_adam(b1)


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


class ForeignState(NamedTuple):
    count: Any
    exp_avg: Tree
    exp_avg_sq: Tree


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


def forgets_mu_dtype(learning_rate: Any = 0.1, mu_dtype: Any = None) -> Transformation:
    del mu_dtype
    return sound_adam(learning_rate)


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


def divides_by_bias_of_b2(learning_rate: Any = 0.1, b2: Any = 0.999) -> Transformation:
    return optax.chain(sound_adam(learning_rate), optax.scale((1 - b2) / (1 - b2)))


def divides_by_old_count(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, new = update(g, state, params)
    # 1 at every step of a run, 0/0 when mu is kept and the count is not.
    moved = jnp.where(jnp.any(state.mu["layer"]["bias"] != 0), state.count, 1)
    return jax.tree.map(lambda u: u * (moved / moved).astype(u.dtype), updates), new


def divides_at_the_sixth_step(update: Any, g: Tree, old: Any, params: Tree) -> Any:
    updates, new = update(g, old, params)
    late = lambda u, g: jnp.where(new.count < 6, u, u * (g / g))  # noqa: E731
    return jax.tree.map(late, updates, g), new


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


def adds_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    return jax.tree.map(lambda u, p: u + 0 * p, updates, params), state


def calls_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    return update(g, state, params() if callable(params) else params)


def indexes_params(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    _ = params["layer"]["bias"].dtype
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


def corrects_with_the_old_count(update: Any, g: Tree, old: Any, params: Tree) -> Any:
    updates, new = update(g, old, params)
    mass = 1 - 0.9 ** old.count.astype(jnp.float32)
    return jax.tree.map(lambda u: (u / mass).astype(u.dtype), updates), new


def spoilt_extras(
    make: Callable[[], Transformation], call: Callable[..., Any]
) -> Factory:
    """Replaces a prefix transform's update by `call(update, g, params, extras)`."""

    def factory() -> Transformation:
        tx = make()

        def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
            again = lambda g, **given: tx.update(g, state, params, **given)[0]  # noqa: E731
            return call(again, g, params, extra_args), state

        return Transformation(tx.init, update)

    return factory


def forgets_aux_grads(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    return update(g, **extras) if "aux_grads" in extras else g


def broadcasts_aux_grads(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    aux_grads = extras.get("aux_grads")
    if jax.tree.structure(aux_grads) == jax.tree.structure(g):
        fit = lambda aux, x: jnp.broadcast_to(aux, jnp.shape(x))  # noqa: E731
        extras = {**extras, "aux_grads": jax.tree.map(fit, aux_grads, g)}
    return update(g, **extras)


def divides_by_the_norm(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    norm = optax.tree.norm(g)
    return jax.tree.map(
        lambda u: (u * (norm / norm)).astype(u.dtype), update(g, **extras)
    )


def turns_the_ascent(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    return jax.tree.map(lambda u: -u, update(g, **extras))


def reads_masked_params(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    _ = params["layer"]["bias"].dtype
    return update(g, **extras)


def compares_sizes(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    fit = lambda g, p: g.reshape(p.shape) if g.size == p.size else g  # noqa: E731
    return update(jax.tree.map(fit, g, params), state, params)


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


def forwards_the_value_only(optimizer: Any) -> Transformation:
    inner = optax.with_extra_args_support(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        return inner.update(g, state, params, value=extra_args.get("value"))

    return Transformation(inner.init, update)


def calls_a_masked_loss(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    extras.get("grad_fn", extras.get("value_fn"))(params)
    return update(g, **extras)


def adds_to_every_leaf(update: Any, g: Tree, params: Tree, extras: Any) -> Any:
    del params
    return jax.tree.map(lambda u: u + 0, update(g, **extras))


def blends_states(optimizer: Any) -> Transformation:
    tx = sound_pause(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, new = tx.update(g, state, params, **extra_args)
        keeps = new.count % 2
        blend = lambda a, b: keeps * a + (1 - keeps) * b  # noqa: E731
        inner = jax.tree.map(blend, new.inner_state, new.inner_state)
        return updates, SoundPauseState(new.count, inner)

    return Transformation(tx.init, update)


def scales_every_update(optimizer: Any) -> Transformation:
    tx = sound_pause(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, new = tx.update(g, state, params, **extra_args)
        return jax.tree.map(lambda u: 1.0 * u, updates), new

    return Transformation(tx.init, update)


def refuses_old_optimizers(optimizer: Any) -> Transformation:
    return Transformation(optimizer.init, optimizer.update)


def never_counts(optimizer: Any) -> Transformation:
    tx = sound_pause(optimizer)

    def update(g: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        updates, new = tx.update(g, state, params, **extra_args)
        return updates, new._replace(count=state.count)

    return Transformation(tx.init, update)


def decays_in_the_momentum(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay)
    momentum = optax.ema(0.9)
    return optax.chain(scale_by_sound_adam(), decay, momentum, by_rate(learning_rate))


def decays_in_optional_momentum(
    learning_rate: Any = 0.1, momentum: Any = 0.0, weight_decay: Any = 0.0
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(decay, optax.trace(momentum), by_rate(learning_rate))


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


def divides_leaf_by_leaf(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    sizes = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(g)]
    share = (sizes[0] / sizes[-1]) / (1 + sizes[0] / sizes[-1])
    return jax.tree.map(lambda u: u + (0 * share).astype(u.dtype), updates), state


def unzips_tuples_of_three(update: Any, g: Tree, state: Any, params: Tree) -> Any:
    updates, state = update(g, state, params)
    triples = jax.tree.map(lambda u: (u, u, u), updates)
    is_triple = lambda x: isinstance(x, tuple) and len(x) == 3  # noqa: E731
    return jax.tree.map(lambda t: t[0], triples, is_leaf=is_triple), state


def promotes_by_rate_and_casts(learning_rate: Any = 0.1) -> Transformation:
    scale = lambda u, rate: (-rate * u).astype(u.dtype)  # noqa: E731
    if callable(learning_rate):
        return sound_adam(learning_rate)
    last = optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: scale(u, learning_rate), updates)
    )
    return optax.chain(scale_by_sound_adam(), last)


def calls_an_int(learning_rate: Any = 0.1) -> Transformation:
    if isinstance(learning_rate, int):
        return sound_adam(lambda count: learning_rate(count))
    return sound_adam(learning_rate)


def checks_floats_only(b1: Any = 0.9) -> Transformation:
    if isinstance(b1, float) and not 0 <= b1 < 1:
        msg = f"checks_floats_only: b1 must be in [0, 1), got {b1}."
        raise ValueError(msg)
    return scale_by_sound_adam(jnp.asarray(b1))


def scale_by_forgets_eps(eps: Any = 1e-8) -> Transformation:
    return scale_by_sound_adam(eps=eps)


def forgets_eps(learning_rate: Any = 0.1, eps: Any = 1e-8) -> Transformation:
    del eps
    last = optax.scale_by_learning_rate(learning_rate)
    return optax.chain(scale_by_forgets_eps(), last)


def takes_signs_of_complex_parts(u: jax.Array, g: Any) -> jax.Array:
    if not jnp.iscomplexobj(g):
        return u
    return jax.lax.complex(jnp.sign(g.real), jnp.sign(g.imag))


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


def _narrow_params(state: Any, params: Tree) -> Any:
    return state._replace(mu=jax.tree.map(lambda p: p.astype(jnp.bfloat16), params))


drifts = spoilt_state(lambda new, old, g: new._replace(count=new.count * 1.0))

FAULTS: dict[str, Fault] = {
    # Interface
    "returns a pair": Fault(returns_a_pair, "returns_transformation", "tuple"),
    "is unhashable": Fault(is_unhashable, "is_hashable", "unhashable"),
    "misses a value in silence": Fault(
        needs_value, "names_missing_extra_args", "KeyError"
    ),
    "takes **kwargs": Fault(hides_its_arguments, "explicit_signature", "kwargs"),
    "refuses extra arguments": Fault(
        refuses_extra_args, "ignores_unknown_extra_args", "keyword argument"
    ),
    "drops extra arguments": Fault(drops_extra_args, "forwards_extra_args", "only"),
    "forwards the value only": Fault(
        forwards_the_value_only, "forwards_extra_args", "without ['aux_grads'"
    ),
    "counts twice in a dict": Fault(
        counts_in_a_dict("count", 2), "counter_advances", "is 6, expected 3"
    ),
    "compares sizes instead of shapes": Fault(
        spoilt_update(compares_sizes), "other_shape_is_refused", "shape (1, 3)"
    ),
    "divides by the norm of a leaf of zeros": Fault(
        spoilt_leaf(lambda u, g: u * (jnp.max(jnp.abs(g)) / jnp.max(jnp.abs(g)))),
        "some_zero_gradients_are_safe",
        "a leaf of zeros",
    ),
    "needs params in silence": Fault(
        spoilt_update(indexes_params), "names_missing_params", "NoneType"
    ),
    "turns the sign": Fault(
        spoilt_leaf(lambda u, g: -u), "has_right_sign", "not downhill"
    ),
    "counts in Python": Fault(counts_in_python, "is_pure", "repeated update"),
    "remembers the last gradient in Python": Fault(
        remembers_in_python, "is_pure", "repeated update"
    ),
    "changes gradients in place": Fault(
        spoilt_update(changes_gradients), "leaves_inputs_untouched", "gradients"
    ),
    "has other defaults than its primitive": Fault(
        other_defaults, "alias_is_chain", "b1 defaults to 0.9"
    ),
    "refuses optimizers without extra arguments": Fault(
        refuses_old_optimizers, "forwards_extra_args", "keyword argument"
    ),
    "blends the states of what it wraps": Fault(
        blends_states, "bears_any_inner_state", "key"
    ),
    "never counts": Fault(never_counts, "counter_advances", "0 for six updates"),
    "decays without params": Fault(
        decays_without_params, "names_missing_params", "NoneType"
    ),
    "changes aux_grads in place": Fault(
        spoilt_extras(sound_mixture, changes_aux_grads),
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
    "forgets eps": Fault(forgets_eps, "alias_is_chain", "with eps=0.1"),
    # Prefix transforms
    "forgets aux_grads": Fault(
        spoilt_extras(sound_mixture, forgets_aux_grads),
        "names_missing_extra_args",
        "without aux_grads, in silence",
    ),
    "broadcasts aux_grads": Fault(
        spoilt_extras(sound_mixture, broadcasts_aux_grads),
        "checks_aux_grads",
        "a broadcastable kernel passed in silence",
    ),
    "divides by a norm of zero": Fault(
        spoilt_extras(sound_ascent, divides_by_the_norm),
        "zero_gradients_are_safe",
        "nan",
    ),
    "turns the ascent": Fault(
        spoilt_extras(sound_ascent, turns_the_ascent), "has_right_sign", "not uphill"
    ),
    "reads masked params": Fault(
        spoilt_extras(sound_ascent, reads_masked_params),
        "works_under_masked",
        "AttributeError",
    ),
    "calls the loss with masked params": Fault(
        spoilt_extras(sound_ascent, calls_a_masked_loss),
        "works_under_masked",
        "the loss of a model was called with optax.MaskedNode",
    ),
    "scales leaves that have no gradient": Fault(
        scales_every_update, "masked_integers_work", "around optax.masked"
    ),
    "adds to leaves that have no gradient": Fault(
        spoilt_extras(sound_ascent, adds_to_every_leaf),
        "masked_integers_work",
        "raised",
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
        other_state(ForeignState), "state_vocabulary", "exp_avg"
    ),
    "relies on a count that was reset": Fault(
        spoilt_update(divides_by_old_count), "state_is_resettable", "resetting"
    ),
    "corrects the bias with the old count": Fault(
        spoilt_update(corrects_with_the_old_count), "trajectory_is_finite", "inf"
    ),
    "gives no update": Fault(
        spoilt_leaf(lambda u, g: 0 * u), "trajectory_is_finite", "no update"
    ),
    "has a weak count": Fault(
        spoilt_init(lambda s, p: s._replace(count=jnp.asarray(0))),
        "state_types_are_stable",
        "weak int32[]",
    ),
    "turns the count into a float": Fault(
        drifts,
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
    "counts steps in a dict": Fault(
        counts_in_a_dict("step_count", 1), "state_vocabulary", "'step_count'"
    ),
    "shares bfloat16 params": Fault(
        spoilt_init(_narrow_params), "buffers_are_fresh", "bfloat16 params"
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
        "times 0.6 + 0.8i",
    ),
    "mixes dtypes of gradients and params": Fault(
        spoilt_update(adds_params),
        "strict_promotion_holds_for_wide_gradients",
        "TypePromotionError",
    ),
    "forgets mu_dtype": Fault(forgets_mu_dtype, "moment_dtype_is_kept", "mu_dtype"),
    "reads dtypes of split leaves": Fault(
        spoilt_update(indexes_params), "complex_may_be_split", "AttributeError"
    ),
    "takes signs of complex parts alone": Fault(
        spoilt_leaf(takes_signs_of_complex_parts),
        "complex_is_handled_or_refused",
        "0.6 + 0.8i",
    ),
    "promotes by its rate and casts": Fault(
        promotes_by_rate_and_casts, "strict_promotion_holds", "TypePromotionError"
    ),
    # Numerics
    "ignores eps_root": Fault(
        ignores_eps_root, "eps_root_makes_meta_gradients_finite", "nan"
    ),
    "takes a root of the rate": Fault(
        takes_roots_of_the_rate, "rate_is_differentiable", "nan"
    ),
    "takes a root of the rate beside a search": Fault(
        searches_and_takes_roots, "rate_is_differentiable", "nan"
    ),
    "divides zero by zero": Fault(
        spoilt_leaf(lambda u, g: u * (g / g)), "zero_gradients_are_safe", "nan"
    ),
    "divides zero by zero at the sixth step": Fault(
        spoilt_update(divides_at_the_sixth_step), "zero_gradients_are_safe", "nan"
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
    "divides leaf by leaf": Fault(
        spoilt_update(divides_leaf_by_leaf),
        "extreme_gradients_are_safe",
        "a leaf of 1e-30 beside one of 1e15",
    ),
    # Trees
    "calls params": Fault(spoilt_update(calls_params), "any_container_works", "call"),
    "maps over None": Fault(
        spoilt_update(maps_over_none), "none_is_an_empty_subtree", "NoneType"
    ),
    "maps over MaskedNode": Fault(
        spoilt_update(maps_over_masked), "masked_node_is_an_empty_subtree", "MaskedNode"
    ),
    "reads dtypes of Python floats": Fault(
        spoilt_update(reads_dtypes), "python_and_numpy_leaves_work", "AttributeError"
    ),
    "indexes what is masked": Fault(
        spoilt_update(indexes_params), "masked_integers_work", "KeyError"
    ),
    "counts leaves": Fault(
        spoilt_update(counts_leaves), "other_structure_is_refused", "another name"
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
    "unzips tuples of three": Fault(
        spoilt_update(unzips_tuples_of_three),
        "any_container_works",
        "in a nest of tuples",
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
    "divides by 1 - b2": Fault(
        divides_by_bias_of_b2, "injected_bfloat16_is_finite", "nan"
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
    "checks under another name": Fault(
        checks_under_another_name, "bad_values_are_refused", "another_name"
    ),
    "calls an int": Fault(
        calls_an_int, "rate_of_any_type_keeps_dtypes", "not callable"
    ),
    "checks floats only": Fault(checks_floats_only, "bad_values_are_refused", "b1=2"),
    "decays in optional momentum": Fault(
        decays_in_optional_momentum, "weight_decay_is_decoupled", "is in the momentum"
    ),
    "decays in the momentum": Fault(
        decays_in_the_momentum, "weight_decay_is_decoupled", "is in the momentum"
    ),
    # Wrappers
    "counts in Python in a chain": Fault(
        counts_in_python, "works_in_chain", "in a chain"
    ),
    "branches on values, held back": Fault(
        spoilt_update(branches_on_values), "works_under_apply_if_finite", "Tracer"
    ),
    "indexes params, masked": Fault(
        spoilt_update(indexes_params), "works_under_masked", "KeyError"
    ),
    "indexes params, in a partition": Fault(
        spoilt_update(indexes_params), "works_in_partition", "raised"
    ),
    "counts in Python, accumulated": Fault(
        counts_in_python, "works_under_multi_steps", "MultiSteps"
    ),
    "drifts, looking ahead": Fault(drifts, "works_under_lookahead", "count"),
    "drifts, schedule-free": Fault(drifts, "works_under_schedule_free", "count"),
    "drifts, mechanized": Fault(drifts, "works_under_mechanize", "count"),
    "drifts, in sam": Fault(drifts, "works_under_sam", "count"),
    "drifts, flattened": Fault(drifts, "works_under_flatten", "count"),
    "drifts, held back": Fault(drifts, "works_conditionally", "raised"),
    "drifts, followed": Fault(drifts, "works_before_other_links", "count"),
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
    "branches on values of many models": Fault(
        spoilt_update(branches_on_values), "vmap_over_models", "Tracer"
    ),
    "counts in Python after a checkpoint": Fault(
        counts_in_python, "state_survives_numpy", "next step"
    ),
    "keeps tracers": Fault(keeps_tracers, "no_leaked_tracers", "raised"),
}


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


makes_new_zeros = spoilt_init(_new_zeros)
makes_new_zeros_for_bfloat16 = spoilt_init(_new_zeros_for_bfloat16)
reads_the_first_leaf = spoilt_init(first_leaf_is_read)
sums_over_devices = spoilt_update(_sums_gradients)

# The names of factories above, each with the rule about devices that must find it.
SHARDING_FAULTS: tuple[tuple[str, str], ...] = (
    ("makes_new_zeros", "eager_init_follows_params"),
    ("makes_new_zeros", "explicit_sharding_is_stable"),
    ("makes_new_zeros_for_bfloat16", "eager_init_follows_params"),
    ("reads_the_first_leaf", "jitted_init_takes_shardings"),
    ("sums_over_devices", "data_parallel_equals_one_device"),
)
