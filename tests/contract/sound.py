"""A short Adam that breaks no rule, and a wrapper; the ground that faults stand on."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any


class ScaleBySoundAdamState(NamedTuple):
    count: jax.Array
    mu: Tree
    nu: Tree


def scale_by_sound_adam(
    b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
) -> optax.GradientTransformationExtraArgs:
    for name, value, below in (("b1", b1, 1.0), ("b2", b2, 1.0), ("eps", eps, np.inf)):
        if isinstance(value, float) and not 0 <= value < below:
            msg = f"scale_by_sound_adam: {name} must be in [0, {below}), got {value}."
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
            mu = decay * m.astype(compute) + (1 - decay) * g.astype(compute)
            square = jnp.square(jnp.abs(g).astype(real))
            nu = slow * v.astype(real) + (1 - slow) * square
            # In bfloat16 an injected b2 is 1, and nothing is there to correct.
            mass = 1 - slow**t
            root = jnp.sqrt(nu / jnp.where(mass > 0, mass, 1)) + tiny
            mean = mu / (1 - decay**t)
            direction = jnp.where(root > 0, mean / jnp.where(root > 0, root, 1), 0)
            return direction.astype(g.dtype), mu.astype(m.dtype), nu.astype(v.dtype)

        triples = jax.tree_util.tree_map_with_path(leaf, updates, state.mu, state.nu)
        structure = jax.tree.structure(updates)
        rows = structure.flatten_up_to(triples)
        direction, mu, nu = (
            structure.unflatten([row[i] for row in rows]) for i in range(3)
        )
        return direction, ScaleBySoundAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def sound_adam(
    learning_rate: Any, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
) -> optax.GradientTransformationExtraArgs:
    if isinstance(learning_rate, float) and not np.isfinite(learning_rate):
        msg = f"sound_adam: learning_rate must be finite, got {learning_rate}."
        raise ValueError(msg)
    return optax.chain(scale_by_sound_adam(b1, b2, eps), by_rate(learning_rate))


def by_rate(learning_rate: Any) -> optax.GradientTransformation:
    """The last link; a schedule, which keeps the dtype of the updates."""
    if not callable(learning_rate):
        learning_rate = optax.constant_schedule(learning_rate)
    return optax.scale_by_learning_rate(learning_rate)


def sound_wrapper(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    inner = optax.with_extra_args_support(optimizer)
    return optax.GradientTransformationExtraArgs(inner.init, inner.update)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.asarray(leaf).dtype


def _wide(leaf: Any) -> Any:
    real = jnp.finfo(_dtype(leaf))
    return real.dtype if real.bits >= 32 else jnp.float32
