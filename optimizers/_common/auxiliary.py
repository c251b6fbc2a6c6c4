"""Validation of the weights and gradients of auxiliary losses."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optimizers._common import checks, numerics, order, trees
from optimizers._common.typing import PyTree, ScalarOrSchedule

AuxWeight = ScalarOrSchedule | Sequence[ScalarOrSchedule]
"""The weight of one auxiliary gradient, or a list or tuple of them for several."""


def checked_weights(
    function: str, aux_weight: AuxWeight
) -> tuple[tuple[ScalarOrSchedule, ...], int | None]:
    """The weights, and the number of auxiliary trees; None for one, outside a list.

    Raises:
      ValueError: A weight is not a finite number >= 0, or the list is empty.
    """
    given: Any = aux_weight
    several = type(given) in (list, tuple)  # not an optimizer, which is a tuple too
    values = tuple(given) if several else (given,)
    if not values:
        msg = f"{function}: aux_weight must hold at least one number, got {aux_weight}."
        raise ValueError(msg)
    for value in values:
        checks.non_negative(function, aux_weight=value)
    return values, len(values) if several else None


def main_and_auxiliary(
    function: str, updates: PyTree, aux_grads: Any, number: int | None = None
) -> tuple[PyTree, list[PyTree]]:
    """The main and the auxiliary gradients as arrays, after validation.

    Args:
      function: The caller's name, for error messages.
      updates: The main gradients.
      aux_grads: A tree of the same structure and shapes, or a sequence of such trees.
      number: The length of the sequence; None for one tree.

    Returns:
      The main gradients, and the list of auxiliary ones.

    Raises:
      ValueError: The updates come from an optimizer, or aux_grads is missing or does
        not have the structure, shapes and kinds of dtypes of the gradients. Says how
        to call update().
    """
    order.require_gradients(function, updates)
    if aux_grads is None:
        msg = (
            f"{function}: update() needs aux_grads, the gradient of the auxiliary "
            f"loss at the same params. {_call(number)}"
        )
        raise ValueError(msg)
    if number is None:
        _require_one(function, aux_grads, updates)
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


def _require_one(function: str, aux_grads: PyTree, grads: PyTree) -> None:
    """Raises ValueError for several gradients, or one in a pair, in place of one."""
    if type(aux_grads) not in (list, tuple):
        return
    one, structure = jax.tree.structure(grads), jax.tree.structure(aux_grads)
    places = [i for i, child in enumerate(structure.children()) if child == one]
    if structure == one or not places:
        return
    advice = f"For a pair of value and gradient, pass the element {places[0]}."
    if len(places) == len(aux_grads):
        advice = (
            "Several need as many weights, in bloop, mixed_gradients or pcgrad: "
            f"aux_weight={[0.1] * len(places)}."
        )
    msg = (
        f"{function}: aux_grads must be one gradient, got a "
        f"{type(aux_grads).__name__} of {len(aux_grads)} trees. {advice}"
    )
    raise ValueError(msg)


def _require_same(
    function: str, name: str, tree: PyTree, grads: PyTree, number: int | None
) -> None:
    advice = (
        f"{_call(number)} Inside optax.masked and optax.partition this needs "
        "mask_compatible_extra_args=True."
    )
    trees.require_shapes_of(function, name, tree, "the gradients", grads, advice)
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
