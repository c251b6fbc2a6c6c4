"""Masks: trees of booleans, prefixes of them, or functions from the params to them."""

from collections.abc import Callable
from typing import Any, TypeGuard

import jax
import jax.core
import numpy as np

from optimizers._common import checks, trees
from optimizers._common.typing import Mask, PyTree


def checked(function: str, argument: str, mask: Mask, *numbers: Any) -> Mask:
    """The mask as a function that validates its result; None if it is None.

    `optax.inject_hyperparams` calls functions as schedules, so that a mask may arrive
    as the result: a number, an array or a single boolean. A boolean is also a prefix of
    every mask, but not beside hyperparameters that are JAX arrays, as injected ones
    are.

    Args:
      function: The caller's name, for error messages.
      argument: The caller's argument, for error messages.
      mask: Its value.
      *numbers: Hyperparameters of the caller, to see whether they are injected.

    Raises:
      ValueError: A leaf of the mask is not a boolean, or the mask is the result of a
        schedule. When the result is called: the same, or the mask has not the structure
        of the params or a prefix of it.
    """
    if mask is None:
        return None
    if not is_function(mask):
        injected = any(isinstance(number, jax.Array) for number in (mask, *numbers))
        if jax.tree_util.all_leaves([mask]) and (injected or not is_boolean(mask)):
            advice = f"{checks.static_advice(argument)} None chooses all leaves."
            raise _no_mask(function, argument, f"got {mask!r}", advice)
        _require_booleans(function, argument, mask)

    def resolve(params: PyTree) -> PyTree:
        if not is_function(mask):
            tree = mask
        else:
            # A container may make arrays of the booleans, which jit would trace.
            with jax.ensure_compile_time_eval():
                tree = mask(params)
            _require_booleans(function, argument, tree)
        found = trees.difference(tree, argument, params, "the params")
        if found is not None:
            msg = (
                f"{function}: {argument} must have the structure of the params or a "
                f"prefix of it; {found}."
            )
            raise ValueError(msg)
        return tree

    return resolve


def is_function(mask: Mask) -> TypeGuard[Callable[[PyTree], PyTree]]:
    """Whether the mask is a function of the params, and not a tree.

    Params may be callable objects with leaves, such as modules of Equinox, and then so
    is a mask made from them. Hence a function is a callable whose leaves are callable.
    """
    leaves = jax.tree.leaves(mask)
    return callable(mask) and bool(leaves) and all(map(callable, leaves))


def is_boolean(leaf: Any) -> bool:
    """Whether the leaf is a boolean of Python, NumPy or JAX that is not traced."""
    if isinstance(leaf, jax.core.Tracer):
        return False
    return isinstance(leaf, bool) or (
        isinstance(leaf, np.bool_ | np.ndarray | jax.Array)
        and leaf.shape == ()
        and leaf.dtype == np.bool_
    )


def full(mask: Mask, params: PyTree) -> list[bool]:
    """The mask as a list of one boolean for each leaf of the params."""
    if mask is None:
        mask = True
    values, structure = jax.tree.flatten(mask(params) if is_function(mask) else mask)
    return [
        bool(value)
        for value, subtree in zip(values, structure.flatten_up_to(params), strict=True)
        for _ in jax.tree.leaves(subtree)
    ]


def _require_booleans(function: str, argument: str, mask: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(mask):
        if not is_boolean(leaf):
            found = f"the leaf at {trees.where(path)} is" if path else "got"
            raise _no_mask(function, argument, f"{found} {leaf!r}")


def _no_mask(function: str, argument: str, found: str, advice: str = "") -> ValueError:
    return ValueError(
        f"{function}: {argument} must be a tree of booleans like the params, a prefix "
        f"of one, or a function from the params to one; {found}. {advice}".rstrip()
    )
