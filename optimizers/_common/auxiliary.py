"""Gradients of auxiliary losses: how they come in, their weights, their projections.

Sums run over the whole tree. A leaf that can have no gradient stays as it is.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optimizers._common import checks, links, numerics, reductions, trees
from optimizers._common.typing import PyTree, Reduce, Scalar, ScalarOrSchedule

AuxWeight = ScalarOrSchedule | Sequence[ScalarOrSchedule]
"""The weight of one auxiliary gradient, or a list or tuple of them for several."""


def weights(
    function: str, aux_weight: AuxWeight
) -> tuple[tuple[ScalarOrSchedule, ...], int | None]:
    """The weights, and the number of auxiliary trees; None for one, outside a list.

    Raises:
      ValueError: A weight is not a finite number >= 0, or there is none.
    """
    given: Any = aux_weight
    several = type(given) in (list, tuple)  # and no optimizer, which is a tuple too
    values = tuple(given) if several else (given,)
    if not values:
        msg = f"{function}: aux_weight must hold at least one number, got {aux_weight}."
        raise ValueError(msg)
    for value in values:
        checks.non_negative(function, aux_weight=value)
    return values, len(values) if several else None


def check_share(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is in [0, 1]."""
    checks.non_negative(function, **values)
    for name, value in values.items():
        if isinstance(value, float | int) and value > 1.0:
            msg = f"{function}: {name} must be in [0, 1], got {value!r}."
            raise ValueError(msg)


def first_count(weights: tuple[ScalarOrSchedule, ...]) -> jax.Array | None:
    """A counter of updates where a weight is a schedule."""
    return jnp.zeros([], jnp.int32) if any(map(callable, weights)) else None


def values(
    weights: tuple[ScalarOrSchedule, ...], count: jax.Array | None
) -> list[Scalar]:
    """The weights of this update, for the 0-based count of updates."""
    now = jnp.zeros([], jnp.int32) if count is None else count
    return [links.value_at(weight, now) for weight in weights]


def next_count(count: jax.Array | None) -> jax.Array | None:
    """The counter after this update."""
    return None if count is None else numerics.increment(count)


def gradients(
    function: str, updates: PyTree, aux_grads: Any, number: int | None = None
) -> tuple[PyTree, list[PyTree]]:
    """The gradients and the auxiliary ones as arrays, after a check that they match.

    Args:
      function: Who asks, for the message.
      updates: The gradients.
      aux_grads: A tree like them, or a sequence of such trees.
      number: The length of the sequence; None for one tree.

    Returns:
      The gradients, and the list of auxiliary ones.

    Raises:
      ValueError: aux_grads is missing, or does not have the structure, shapes and
        kinds of dtypes of the gradients. Says how to call update().
    """
    if aux_grads is None:
        msg = (
            f"{function}: update() needs aux_grads, the gradient of the auxiliary "
            f"loss at the same params. {_call(number)}"
        )
        raise ValueError(msg)
    if number is None:
        several = {"aux_grads": aux_grads}
    elif isinstance(aux_grads, list | tuple) and len(aux_grads) == number:
        several = {f"aux_grads[{k}]": tree for k, tree in enumerate(aux_grads)}
    else:
        length = f"{len(aux_grads)} of them" if hasattr(aux_grads, "__len__") else "no"
        msg = (
            f"{function}: aux_grads must be a list or tuple of {number} trees, one for "
            f"each number in aux_weight, got a {type(aux_grads).__name__} with "
            f"{length}. {_call(number)}"
        )
        raise ValueError(msg)
    for name, tree in several.items():
        _require_same(function, name, tree, updates, number)
    grads = trees.map_inexact(jnp.asarray, updates)
    return grads, [
        trees.map_inexact(lambda _, a: jnp.asarray(a), grads, tree)
        for tree in several.values()
    ]


def add(total: PyTree, weight: Scalar, tree: PyTree) -> PyTree:
    """The total + weight * tree in at least float32; no bit changes for a number 0."""
    if isinstance(weight, float) and weight == 0.0:
        return total
    return trees.map_inexact(lambda d, x: _plus(d, weight, x), total, tree)


def multiply(weight: Scalar, tree: PyTree) -> PyTree:
    """The weight times the tree, in at least float32."""
    return trees.map_inexact(lambda x: _times(weight, x), tree)


def direction(tree: PyTree, reduce: Reduce | None) -> PyTree:
    """The tree divided by its norm in at least float32; 0 where that is."""
    return reductions.unit(tree, reductions.norm(tree, reduce))


def without(tree: PyTree, axis: PyTree, reduce: Reduce | None) -> PyTree:
    """The part of the tree that is orthogonal to a direction."""
    return add(tree, -reductions.dot(tree, axis, reduce), axis)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Each leaf that has a gradient in the dtype of its counterpart."""
    return trees.map_inexact(_cast, like, tree)


def _require_same(
    function: str, name: str, tree: PyTree, grads: PyTree, number: int | None
) -> None:
    mend = (
        f"{_call(number)} Inside optax.masked and optax.partition this needs "
        "mask_compatible_extra_args=True."
    )
    trees.require_shapes_of(function, name, tree, "the gradients", grads, mend)
    for (path, a), g in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(grads), strict=True
    ):
        narrower = jnp.iscomplexobj(a) and not jnp.iscomplexobj(g)
        if trees.is_inexact(g) and (narrower or not trees.is_inexact(a)):
            msg = (
                f"{function}: {name} at {trees.where(path)} has dtype "
                f"{numerics.dtype_of(a)}, but the gradient has {numerics.dtype_of(g)}; "
                "both must be real or both complex."
            )
            raise ValueError(msg)


def _call(number: int | None) -> str:
    trees = "aux_grads" if number is None else "(first, second, ...)"
    return f"Call update(grads, state, params, aux_grads={trees})."


@numerics.inline_jit
def _plus(d: jax.Array, weight: Scalar, x: jax.Array) -> jax.Array:
    x = numerics.widen(x, d)
    return d.astype(x.dtype) + numerics.like(x, weight) * x


@numerics.inline_jit
def _times(weight: Scalar, x: jax.Array) -> jax.Array:
    x = numerics.widen(x)
    return numerics.like(x, weight) * x


@numerics.inline_jit
def _cast(y: jax.Array, x: jax.Array) -> jax.Array:
    """x in the dtype of y: the sum of two finite gradients stays finite in float16."""
    if y.dtype == jnp.float16:
        largest = float(jnp.finfo(y.dtype).max)
        x = jnp.where(jnp.isfinite(x), jnp.clip(x, -largest, largest), x)
    return x.astype(y.dtype)
