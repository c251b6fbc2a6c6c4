"""Masks: trees of booleans, prefixes of them, or functions from the params to them."""

from collections.abc import Callable
from typing import TypeGuard

import jax

from optimizers._common.typing import Mask, PyTree


def is_function(mask: Mask) -> TypeGuard[Callable[[PyTree], PyTree]]:
    """Whether the mask is a function of the params, and not a tree.

    Params may be callable objects with leaves, such as modules of Equinox, and then so
    is a mask made from them. Hence a function is a tree whose leaves are callable.
    """
    leaves = jax.tree.leaves(mask)
    return bool(leaves) and all(map(callable, leaves))


def resolved(mask: Mask, params: PyTree) -> PyTree:
    """The mask as a tree of booleans, or a prefix of one."""
    if mask is None:
        return True
    return mask(params) if is_function(mask) else mask


def full(mask: Mask, params: PyTree) -> PyTree:
    """The mask as a tree with one boolean for each leaf of the params."""
    return jax.tree.broadcast(resolved(mask, params), params)
