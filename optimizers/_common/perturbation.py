"""The perturbed gradient of SAM and ASAM: steepest ascent in a p-norm ball."""

import functools
import math
from collections.abc import Callable

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from optimizers._common import ascent, checks, masks, numerics, reductions, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar

SamGradient = Callable[[Scalar, PyTree, PyTree, Callable[[PyTree], PyTree]], PyTree]
"""From rho, the params x, the gradient at x and its function to the one at x + e."""


def sam_gradient(
    function: str,
    *,
    p: Scalar,
    adaptive: bool | Mask,
    eta: Scalar,
    mask: Mask,
    ascent_steps: Scalar,
    per_leaf: bool,
    reduce: Reduce | None,
) -> SamGradient:
    """Equations (1) to (3) of `optimizers.sharpness_aware`, which has the arguments.

    Raises:
      ValueError: A hyperparameter is out of its range, or reduce is given and p is not
        2 or infinity.
    """
    checks.at_least_one(function, p=p)
    checks.non_negative(function, eta=eta)
    checks.positive_integers(function, ascent_steps=ascent_steps)
    checks.functions(function, reduce=reduce)
    numbers = (p, eta, ascent_steps)
    mask = masks.checked(function, "mask", mask, *numbers)
    if masks.is_boolean(adaptive) and not isinstance(adaptive, jax.Array):
        adaptive = bool(adaptive)
    else:
        adaptive = masks.checked(function, "adaptive", adaptive)
    is_euclidean = numerics.is_number(p, 2)
    is_maximum = numerics.is_number(p, math.inf)
    if reduce is not None and not (is_euclidean or is_maximum):
        msg = (
            f"{function}: p must be the number 2 or infinity with reduce, got {p!r}: "
            "other norms need a maximum over the devices, but reduce computes sums."
        )
        raise ValueError(msg)

    def steps_in_ball(radius: Scalar, grads: PyTree) -> PyTree:
        if is_euclidean:
            return ascent.ball_step(radius, grads, reductions.norm(grads, reduce))
        if is_maximum:
            return trees.multiply(radius, trees.map_inexact(lax.sign, grads))
        return _steepest(radius, p, grads)

    def gradient_nearby(
        radius: Scalar,
        params: PyTree,
        grads: PyTree,
        grad_fn: Callable[[PyTree], PyTree],
    ) -> PyTree:
        start = trees.with_gradients(function, grads, params)
        adapts = _adapts(adaptive, start)

        def stretched(tree: PyTree, x: PyTree) -> PyTree:
            return trees.map_chosen(
                lambda leaf, x: _stretch(leaf, x, eta), adapts, tree, x
            )  # (1)

        def ascended(x: PyTree, grads: PyTree) -> PyTree:
            direction = stretched(ascent.masked(grads, mask, start), x)
            if per_leaf:
                steps = trees.map_inexact(lambda g: steps_in_ball(radius, g), direction)
            else:
                steps = steps_in_ball(radius, direction)
            return ascent.perturbed(x, stretched(steps, x))  # (2)

        def gradient(x: PyTree) -> PyTree:
            return ascent.gradient_at(function, grad_fn, x, params, grads)

        point = ascended(start, grads)
        if not numerics.is_number(ascent_steps, 1):
            point = lax.fori_loop(
                0,
                _number_of_steps(ascent_steps) - 1,
                lambda _, x: ascended(x, gradient(x)),
                point,
            )
        return gradient(point)  # (3)

    return gradient_nearby


def _number_of_steps(ascent_steps: Scalar) -> int | jax.Array:
    """A Python integer unless traced: JAX can then differentiate in reverse mode."""
    if isinstance(ascent_steps, jax.core.Tracer):
        return ascent_steps.real.astype(jnp.int32)
    return int(np.real(np.asarray(ascent_steps)))


def _adapts(adaptive: bool | Mask, params: PyTree) -> list[bool]:
    """Whether T differs from 1, for each leaf."""
    leaves = jax.tree.leaves(params)
    if adaptive is True:
        return [trees.is_inexact(x) and jnp.ndim(x) >= 2 for x in leaves]
    chosen = masks.full(adaptive, params)
    return [yes and trees.is_inexact(x) for yes, x in zip(chosen, leaves, strict=True)]


def _steepest(radius: Scalar, p: Scalar, grads: PyTree) -> PyTree:
    """rho sign(g) |g|^r / (sum |g|^(r + 1))^(1/p) for r = q - 1 = 1/(p - 1).

    Elements are scaled to at most 1 before the power is taken. For p = 1 the exponent
    is infinite, and the power is 1 for the largest element and 0 for others.
    """
    p = numerics.as_float_scalar(p)
    r = 1.0 / (p - 1.0)
    zero = numerics.as_float_scalar(0.0)
    leaves = [g for g in jax.tree.leaves(grads) if trees.is_inexact(g)]
    largest = functools.reduce(jnp.maximum, map(_largest, leaves), zero)
    total = sum((_power_sum(g, largest, r) for g in leaves), start=zero)
    scale = numerics.as_float_scalar(radius) * jnp.where(total > 0.0, total, 1.0) ** (
        -1 / p
    )
    return trees.map_inexact(lambda g: _powers(g, largest, r, scale), grads)


@numerics.inline_jit
def _stretch(leaf: jax.Array, x: jax.Array, eta: Scalar) -> jax.Array:
    """(|x| + eta) times the leaf, in at least float32."""
    leaf, x = numerics.upcast(leaf, x), numerics.upcast(x, leaf)
    size = jnp.abs(x)
    return (size + numerics.cast_scalar(size, eta)).astype(leaf.dtype) * leaf


@numerics.inline_jit
def _largest(g: jax.Array) -> jax.Array:
    return numerics.as_float_scalar(jnp.max(jnp.abs(g), initial=0.0))


@numerics.inline_jit
def _power_sum(g: jax.Array, largest: jax.Array, r: jax.Array) -> jax.Array:
    size = _relative_size(g, largest)
    return jnp.sum(_power(size, r) * size)


@numerics.inline_jit
def _powers(
    g: jax.Array, largest: jax.Array, r: jax.Array, scale: jax.Array
) -> jax.Array:
    wide = numerics.upcast(g)
    size = scale * _power(_relative_size(g, largest), r)
    return size.astype(wide.dtype) * lax.sign(wide)


def _relative_size(g: jax.Array, largest: jax.Array) -> jax.Array:
    """|g| over the largest; exactly 1 for the largest, also if it was rounded apart."""
    wide = numerics.upcast(g)
    size = jnp.abs(wide).astype(largest.dtype)
    ratio = numerics.safe_divide(size, largest)
    return jnp.where(ratio > 1.0 - 8.0 * float(jnp.finfo(wide.dtype).eps), 1.0, ratio)


def _power(size: jax.Array, r: jax.Array) -> jax.Array:
    """size^r, where 0^0 = 1 and 1^inf = 1."""
    return jnp.where(size == 1.0, 1.0, size**r)
