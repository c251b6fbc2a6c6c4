"""Transformations that break no rule; the faults are variants of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any
NUMBERS = (int, float, np.number)


class ScaleBySoundAdamState(NamedTuple):
    count: jax.Array
    mu: Tree
    nu: Tree


def scale_by_sound_adam(
    b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
) -> optax.GradientTransformationExtraArgs:
    for name, value, below in (("b1", b1, 1.0), ("b2", b2, 1.0), ("eps", eps, np.inf)):
        if isinstance(value, NUMBERS) and not 0 <= value < below:
            msg = f"scale_by_sound_adam: {name} must be in [0, {below}), got {value}."
            raise ValueError(msg)
        if name != "eps" and getattr(value, "dtype", jnp.float32) == jnp.bfloat16:
            msg = f"scale_by_sound_adam: {name} is rounded; set hyperparam_dtype."
            raise ValueError(msg)

    def init(params: Tree) -> ScaleBySoundAdamState:
        return ScaleBySoundAdamState(
            jnp.zeros([], jnp.int32),
            jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_dtype(p)), params),
            jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_wide(p)), params),
        )

    def update(
        updates: Tree, state: Any, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, ScaleBySoundAdamState]:
        del params, extra_args
        count = optax.safe_increment(state.count)

        def leaf(path: Any, g: Any, m: jax.Array, v: jax.Array) -> tuple[Any, ...]:
            g = jnp.asarray(g)
            if g.shape != m.shape:
                where = jax.tree_util.keystr(path)
                msg = f"gradient{where} has shape {g.shape}, expected {m.shape}."
                raise ValueError(msg)
            real = _wide(g)
            compute = g.dtype if jnp.iscomplexobj(g) else real
            decay, slow, tiny = (jnp.asarray(x).astype(real) for x in (b1, b2, eps))
            t = count.astype(real)
            lift = lambda x: x.astype(compute)  # noqa: E731
            mu = lift(decay) * lift(m) + lift(1 - decay) * lift(g)
            square = jnp.square(jnp.abs(g).astype(real))
            nu = slow * v.astype(real) + (1 - slow) * square
            root = jnp.sqrt(nu / (1 - slow**t)) + tiny
            mean = mu / lift(1 - decay**t)
            size = lift(jnp.where(root > 0, root, 1))
            direction = jnp.where(root > 0, mean / size, 0)
            return direction.astype(g.dtype), mu.astype(m.dtype), nu.astype(v.dtype)

        pairs, structure = jax.tree_util.tree_flatten_with_path(updates)
        moments = map(structure.flatten_up_to, (state.mu, state.nu))
        rows = [
            leaf(path, g, m, v) for (path, g), m, v in zip(pairs, *moments, strict=True)
        ]
        direction, mu, nu = (
            structure.unflatten([row[i] for row in rows]) for i in range(3)
        )
        return direction, ScaleBySoundAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def sound_adam(
    learning_rate: Any, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
) -> optax.GradientTransformationExtraArgs:
    if isinstance(learning_rate, NUMBERS) and not np.isfinite(learning_rate):
        msg = f"sound_adam: learning_rate must be finite, got {learning_rate}."
        raise ValueError(msg)
    return optax.chain(scale_by_sound_adam(b1, b2, eps), by_rate(learning_rate))


def by_rate(learning_rate: Any) -> optax.GradientTransformation:
    """Scales by the learning rate; as a schedule, it keeps the dtype of the updates."""
    if not callable(learning_rate):
        learning_rate = optax.constant_schedule(learning_rate)
    return optax.scale_by_learning_rate(learning_rate)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.asarray(leaf).dtype


def _wide(leaf: Any) -> Any:
    real = jnp.finfo(_dtype(leaf))
    return real.dtype if real.bits >= 32 else jnp.float32


def sound_ascent(rho: Any = 0.05) -> optax.GradientTransformationExtraArgs:
    """A gradient transformation: the gradient at `rho` along the gradient."""
    if isinstance(rho, NUMBERS) and not rho >= 0:
        msg = f"sound_ascent: rho must not be negative, got {rho}."
        raise ValueError(msg)

    def update(
        updates: Tree,
        state: Any,
        params: Tree = None,
        *,
        grad_fn: Any = None,
        value_fn: Any = None,
        **extra_args: Any,
    ) -> tuple[Tree, Any]:
        del extra_args
        if params is None:
            msg = "sound_ascent: update needs params."
            raise ValueError(msg)
        if grad_fn is None and value_fn is None:
            msg = "sound_ascent: update needs grad_fn or value_fn."
            raise ValueError(msg)
        nodes = jax.tree.leaves(params, is_leaf=_is_masked)
        if any(map(_is_masked, nodes)):
            msg = "sound_ascent: put it outside optax.masked."
            raise ValueError(msg)
        grads = [jnp.asarray(g) for g in jax.tree.leaves(updates) if _is_inexact(g)]
        squares = [jnp.sum(jnp.square(jnp.abs(g).astype(_wide(g)))) for g in grads]
        widest = max((s.dtype for s in squares), default=np.dtype("f4"))
        norm = jnp.sqrt(sum((s.astype(widest) for s in squares), jnp.zeros([], widest)))
        scale = jnp.asarray(rho).astype(widest) / jnp.where(norm > 0, norm, 1)

        def ascend(p: Any, g: Any) -> Any:
            if not _is_inexact(g):
                return p
            p, g = jnp.asarray(p), jnp.asarray(g)
            compute = p.dtype if jnp.iscomplexobj(p) else _wide(p)
            step = scale.astype(compute) * g.astype(compute)
            return (p.astype(compute) + step).astype(p.dtype)

        fitted = lambda new, g: (  # noqa: E731
            jnp.asarray(new).astype(jnp.asarray(g).dtype) if _is_inexact(g) else g
        )
        gradient = jax.grad(value_fn) if grad_fn is None else grad_fn
        point = jax.tree.map(
            lambda g, p: p if g is None else ascend(p, g),
            *(updates, params),
            is_leaf=lambda node: node is None,
        )
        climbed = gradient(point)
        return jax.tree.map(fitted, climbed, updates), state

    return optax.GradientTransformationExtraArgs(optax.identity().init, update)


def sound_mixture(aux_weight: Any = 0.1) -> optax.GradientTransformationExtraArgs:
    """A gradient transformation that adds the weighted gradients of another loss."""

    def add(path: Any, g: Any, aux: Any) -> jax.Array:
        g, aux = jnp.asarray(g), jnp.asarray(aux)
        if g.shape != aux.shape:
            where = jax.tree_util.keystr(path)
            msg = (
                f"sound_mixture: aux_grads{where} has shape {aux.shape}, not {g.shape}."
            )
            raise ValueError(msg)
        compute = g.dtype if jnp.iscomplexobj(g) else _wide(g)
        weight = jnp.asarray(aux_weight).astype(compute)
        return (g.astype(compute) + weight * aux.astype(compute)).astype(g.dtype)

    def update(
        updates: Tree,
        state: Any,
        params: Tree = None,
        *,
        aux_grads: Tree = None,
        **extra_args: Any,
    ) -> tuple[Tree, Any]:
        del params, extra_args
        if jax.tree.structure(aux_grads) != jax.tree.structure(updates):
            msg = "sound_mixture: aux_grads must be a tree like the gradients."
            raise ValueError(msg)
        return jax.tree_util.tree_map_with_path(add, updates, aux_grads), state

    return optax.GradientTransformationExtraArgs(optax.identity().init, update)


class SoundPauseState(NamedTuple):
    count: jax.Array
    inner_state: Any


def sound_pause(
    optimizer: Any, sync_period: int = 2
) -> optax.GradientTransformationExtraArgs:
    """A wrapper that skips its optimizer at every `sync_period`-th step."""
    if sync_period < 1:
        msg = f"sound_pause: sync_period must be at least 1, got {sync_period}."
        raise ValueError(msg)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Tree) -> SoundPauseState:
        return SoundPauseState(jnp.zeros([], jnp.int32), inner.init(params))

    def update(
        updates: Tree, state: Any, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, SoundPauseState]:
        count = optax.safe_increment(state.count)
        rests = count % sync_period == sync_period - 1
        moved, after = inner.update(updates, state.inner_state, params, **extra_args)
        choose = lambda old, new: jnp.where(rests, old, new)  # noqa: E731
        moved = jax.tree.map(
            lambda u: choose(jnp.zeros_like(u), u) if _is_inexact(u) else u, moved
        )
        inner_state = jax.tree.map(choose, state.inner_state, after)
        return moved, SoundPauseState(count, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


class SoundLimitState(NamedTuple):
    limit: jax.Array


def sound_limit() -> optax.GradientTransformationExtraArgs:
    """A gradient transformation whose state is infinite, which means no limit."""

    def init(params: Tree) -> SoundLimitState:
        del params
        return SoundLimitState(jnp.full([], jnp.inf, jnp.float32))

    def clip(updates: Tree, state: Any, params: Tree = None, **extra_args: Any) -> Any:
        del params, extra_args

        def leaf(g: Any) -> jax.Array:
            g = jnp.asarray(g)
            over = jnp.abs(g).astype(jnp.float32) > state.limit
            return jnp.where(over, jnp.zeros_like(g), g)

        return jax.tree.map(leaf, updates), state

    return optax.GradientTransformationExtraArgs(init, clip)


def sound_curvature(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """An alias that needs its own extra argument."""
    if isinstance(learning_rate, NUMBERS) and not np.isfinite(learning_rate):
        msg = f"sound_curvature: learning_rate must be finite, got {learning_rate}."
        raise ValueError(msg)

    def divide(
        updates: Tree,
        state: Any,
        params: Tree = None,
        *,
        curvature: Tree = None,
        **extra_args: Any,
    ) -> tuple[Tree, Any]:
        del params, extra_args
        if curvature is None:
            msg = "sound_curvature: update needs curvature."
            raise ValueError(msg)

        def leaf(g: Any, h: Any) -> jax.Array:
            g = jnp.asarray(g)
            return g / (1 + jnp.asarray(h).astype(g.dtype))

        return jax.tree.map(leaf, updates, curvature), state

    primitive = optax.GradientTransformationExtraArgs(optax.identity().init, divide)
    return optax.chain(sound_adam(learning_rate), primitive)


def sound_brake(
    optimizer: Any, learning_rate: Any = 0.1
) -> optax.GradientTransformationExtraArgs:
    """A wrapper with its own learning rate."""
    if isinstance(learning_rate, NUMBERS) and not np.isfinite(learning_rate):
        msg = f"sound_brake: learning_rate must be finite, got {learning_rate}."
        raise ValueError(msg)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Tree) -> SoundPauseState:
        return SoundPauseState(jnp.zeros([], jnp.int32), inner.init(params))

    def update(
        updates: Tree, state: Any, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, SoundPauseState]:
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        moved, after = inner.update(updates, state.inner_state, params, **extra_args)
        brake = lambda u: u * jnp.asarray(rate).astype(u.dtype)  # noqa: E731
        moved = jax.tree.map(lambda u: brake(u) if _is_inexact(u) else u, moved)
        return moved, SoundPauseState(optax.safe_increment(state.count), after)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(_dtype(leaf), jnp.inexact)
