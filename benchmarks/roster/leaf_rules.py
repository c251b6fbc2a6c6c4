"""Finds optimizers that fall back to another method, because no leaf fits their rule.

`optax.contrib.muon` orthogonalizes the updates of matrices and applies Nadam to all
other leaves. On a problem whose params are one vector, it is Nadam. Other methods mask
by rank, factor only large matrices, or choose leaves by name.

A method has a rule for matrices if it updates a large matrix differently from a vector
of the same numbers. Such a method falls back on a problem in two cases:

- The problem has no matrix, and the method updates a vector differently from the same
  numbers in one column or in one row. A method that clips or normalizes by row passes:
  its rule for vectors is its rule for matrices with one row or column.
- The problem has matrices, and the method updates all of them as if they were vectors.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.problem import Problem, PyTree, extra_arguments
from benchmarks.roster import gradient_count
from benchmarks.roster.specs import Make

NO_MATRIX = "its rule for matrices is not used, because no parameter is a matrix"
NO_FITTING_MATRIX = (
    "its rule for matrices is not used, because it updates every matrix like a vector"
)

# Larger than the size from which optax's Adafactor factors a matrix, 128.
_LARGE = (130, 132)
# Methods that precondition in every tenth step do so at least once.
_STEPS = 12
_LEARNING_RATE = 1e-3
# Relative to the largest update: more than sums over other shapes differ by rounding.
_TOLERANCE = 1e-5


def _loss(params: PyTree, batch: None) -> jax.Array:
    """A quadratic whose gradients have other ratios to the params in every row."""
    del batch

    def of_leaf(x: jax.Array) -> jax.Array:
        curvatures = np.linspace(0.5, 2.0, x.size, dtype=np.float32).reshape(x.shape)
        return jnp.sum(curvatures * (x - 1.0) ** 2)

    return sum(map(of_leaf, jax.tree.leaves(params)), start=jnp.zeros(()))


_QUADRATIC = dataclasses.replace(
    gradient_count.BOWL, loss=_loss, aux_loss=_loss, tail_loss=_loss
)


def fallback(make: Make, problem: Problem) -> str:
    """Why an optimizer falls back to another method on a problem; empty if it does not.

    An optimizer that fails does so again when it runs, and its error is reported then.
    """
    shapes = jax.eval_shape(problem.init, jax.random.key(0))
    try:
        if not _has_rule_for_matrices(make):
            return ""
        if all(leaf.ndim < 2 for leaf in jax.tree.leaves(shapes)):
            return "" if _treats_vectors_as_matrices(make) else NO_MATRIX
        return NO_FITTING_MATRIX if _flattens(make, shapes) else ""
    except (Exception, SystemExit):  # optimizers fail in any way
        return ""


@functools.lru_cache(maxsize=1000)
def _has_rule_for_matrices(make: Make) -> bool:
    return not _flattens(make, {"kernel": jax.ShapeDtypeStruct(_LARGE, jnp.float32)})


def _flattens(make: Make, shapes: PyTree) -> bool:
    """Whether the updates are those of the same numbers in vectors, by the trace."""
    flat = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.size,), leaf.dtype), shapes
    )
    update = _Update(make)
    return update.operations(shapes) == update.operations(flat)


@functools.lru_cache(maxsize=1000)
def _treats_vectors_as_matrices(make: Make) -> bool:
    """Whether a vector is updated like a matrix of one column or of one row."""
    numbers = np.random.RandomState(0).standard_normal(6)
    paths = (
        np.asarray(_Update(make).path({"kernel": jnp.float32(numbers).reshape(shape)}))
        for shape in ((6,), (6, 1), (1, 6))
    )
    of_vector = next(paths)
    scale = np.abs(of_vector).max(axis=1, keepdims=True)
    return any(
        (np.abs(of_matrix - of_vector) <= _TOLERANCE * scale).all()
        for of_matrix in paths
    )


class _Update:
    """One step of an optimizer on the quadratic."""

    def __init__(self, make: Make) -> None:
        self.tx = optax.with_extra_args_support(make(_LEARNING_RATE))

    def __call__(self, params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        given = extra_arguments(_QUADRATIC, params, None)
        return self.tx.update(given["grad"], state, params, **given)

    def path(self, params: PyTree) -> jax.Array:
        """The updates of all steps, each as one vector, `[steps, n]`."""

        def step(carry: PyTree, _: None) -> tuple[PyTree, jax.Array]:
            updates, state = self(*carry)
            params = optax.apply_updates(carry[0], updates)
            flat = [jnp.ravel(leaf) for leaf in jax.tree.leaves(updates)]
            return (params, state), jnp.concatenate(flat)

        @jax.jit
        def run(params: PyTree) -> jax.Array:
            return jax.lax.scan(step, (params, self.tx.init(params)), None, _STEPS)[1]

        return run(params)

    def operations(self, params: PyTree) -> list[Any]:
        """The operations of a step; two equal lists compute the same numbers."""
        state = jax.eval_shape(self.tx.init, params)
        return list(_operations(jax.make_jaxpr(self)(params, state)))


def _operations(traced: Any) -> Iterator[Any]:
    """The operations of a trace in order, with sizes in the place of shapes."""
    for constant in getattr(traced, "consts", ()):
        yield np.asarray(constant).tobytes()
    for equation in getattr(traced, "jaxpr", traced).eqns:
        variables = (*equation.invars, *equation.outvars)
        sizes = [getattr(v.aval, "size", None) for v in variables]
        name = equation.primitive.name
        # A change of shape alone, such as the one that flattens for a dot product.
        if name in ("reshape", "squeeze", "broadcast_in_dim") and len({*sizes}) == 1:
            continue
        yield name, sizes
        for variable in equation.invars:
            if hasattr(variable, "val"):
                yield np.asarray(variable.val).tobytes()
        for part in jax.tree.leaves(tuple(equation.params.values())):
            if hasattr(part, "eqns"):
                yield from _operations(part)
