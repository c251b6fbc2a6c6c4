"""Names for the types in public signatures."""

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

PyTree = Any
"""Any tree of arrays: parameters, gradients, updates."""

Scalar = float | int | jax.Array
"""A hyperparameter: a number, or a traced 0-d array."""

ScalarOrSchedule = ArrayLike | Callable[[jax.Array], ArrayLike]
"""A number, or a function from the 0-based count of updates to one."""

Reduce = Callable[[jax.Array], jax.Array]
"""Adds up a small vector over the devices that hold parts of the params."""

Mask = PyTree | Callable[[PyTree], PyTree] | None
"""Booleans in (a prefix of) the parameters' tree, or a function that makes them."""
