"""Refuses updates where a gradient is expected, as after an optimizer in a chain.

Updates point downhill and gradients uphill, which their numbers do not tell, least of
all under ``jax.jit``. So the optimizers remember the arrays that they return, for as
long as these exist; this changes no number and nothing in a compiled program. It is
blind to optimizers of other libraries, and to updates that were changed in between.
"""

import weakref

import jax

from optimizers._common.typing import PyTree

_UPDATES: weakref.WeakValueDictionary[int, jax.Array] = weakref.WeakValueDictionary()


def remember_updates(updates: PyTree) -> PyTree:
    """Returns the updates of an optimizer, which `require_gradients` then refuses."""
    for leaf in jax.tree.leaves(updates):
        if isinstance(leaf, jax.Array):
            _UPDATES[id(leaf)] = leaf
    return updates


def require_gradients(function: str, updates: PyTree) -> None:
    """Raises ValueError if a leaf is an array that an optimizer returned."""
    if any(_UPDATES.get(id(leaf)) is leaf for leaf in jax.tree.leaves(updates)):
        msg = (
            f"{function}: it got the updates of an optimizer, which point downhill, in "
            f"place of gradients. Put {function} before the optimizer in the chain: "
            f"optax.chain({function}(...), adam(...))."
        )
        raise ValueError(msg)
