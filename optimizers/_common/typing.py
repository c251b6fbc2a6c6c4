"""Types of public signatures."""

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

PyTree = Any
"""Any tree of arrays: parameters, gradients, updates."""

Scalar = float | int | jax.Array
"""A hyperparameter: a number, or a traced 0-d array."""

ScalarOrSchedule = ArrayLike | Callable[[jax.Array], ArrayLike]
"""A number, or an optax schedule: a function from the step count to a number."""

Reduce = Callable[[jax.Array], jax.Array]
"""All-reduce of a small vector over the devices that hold parts of the params."""

Mask = PyTree | Callable[[PyTree], PyTree] | None
"""A tree of booleans like the params, a prefix of one, or a function from the params
to one."""
