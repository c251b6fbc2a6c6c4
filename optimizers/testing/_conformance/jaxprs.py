"""Looks into the program of an update."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def primitives(jaxpr: Any) -> Iterator[str]:
    """Yields the name of every primitive, also of those inside loops and branches."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        # A branch has a tuple of jaxprs, a loop has one for its body.
        for part in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(part):
                yield from primitives(part)


def _is_jaxpr(node: object) -> bool:
    return isinstance(node, (ClosedJaxpr, Jaxpr))
