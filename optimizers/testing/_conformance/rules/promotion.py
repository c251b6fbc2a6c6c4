"""JAX's promotion modes: 64-bit types, strict dtypes, strict ranks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing import _compare, _inputs
from optimizers.testing._compare import leaves
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import rule
from optimizers.testing._extras import abstract_steps
from optimizers.testing._inputs import Tree

_COMPLEX: Tree = {"layer": {"bias": "complex64", "kernel": "bfloat16"}}


def x64_follows_leaves(case: Case) -> None:
    """float64 leaves are computed in float64, and float32 leaves stay float32.

    One float32 constant costs a float64 run half its digits.
    """
    with jax.enable_x64(True):
        mixed = {"layer": {"bias": "float32", "kernel": "float64"}}
        for dtype in ("float32", "float64", mixed):
            params, grads = _inputs.make_params(dtype), _inputs.make_grads(0, dtype)
            state, traced, updates = abstract_steps(case.tx, params, grads)
            _compare.assert_same_dtypes(traced, state, f"state, x64, {dtype}")
            _compare.assert_same_dtypes(updates, grads, f"updates, x64, {dtype}")
        _assert_float64_matters(case)


def _assert_float64_matters(case: Case) -> None:
    """Asserts that updates depend on changes of 1e-10, if on larger ones."""
    params, stream = _inputs.make_params("float64"), _inputs.make_stream(2, "float64")
    base, _ = case.run_jitted(params, stream)
    moved = {}
    for size in (1e-10, 1e-3):
        changed = jax.tree.map(lambda g, size=size: g + size * jnp.sin(9 * g), stream)
        updates, _ = case.run_jitted(params, changed)
        pairs = zip(leaves(updates[1]), leaves(base[1]), strict=True)
        moved[size] = {path for (path, u), (_, b) in pairs if np.any(u != b)}
    lost = sorted(moved[1e-3] - moved[1e-10])
    assert not lost, (
        f"updates of {', '.join(lost)} change if float64 gradients change by 1e-3, "
        "but not by 1e-10"
    )


def strict_promotion_holds(case: Case) -> None:
    """Init and update run under numpy_dtype_promotion='strict'.

    Users turn it on to find accidental promotions in their own code, which is
    impossible if the optimizer raises. A float32 learning rate and complex leaves are
    covered too.
    """
    rate = jnp.asarray(case.learning_rate, jnp.float32)
    with_rate = [case.make(rate)] if case.takes_learning_rate else []
    if case.takes_learning_rate and case.takes_schedules:
        with_rate.append(case.make(lambda count: rate))
    steps = [(case.tx, dtype) for dtype in ("float32", "bfloat16", _inputs.MIXED)]
    steps += [(tx, "bfloat16") for tx in with_rate]
    try:
        _trace(case.tx, _COMPLEX)
    except Exception:
        pass  # rejects complex leaves, or breaks the rule about them
    else:
        steps += [(tx, _COMPLEX) for tx in (case.tx, *with_rate)]
    with jax.numpy_dtype_promotion("strict"):
        for tx, dtype in steps:
            _trace(tx, dtype)


def _trace(tx: Any, dtype: Tree) -> None:
    abstract_steps(tx, _inputs.make_params(dtype), _inputs.make_grads(0, dtype))


def strict_promotion_holds_for_float32_gradients(case: Case) -> None:
    """Strict promotion also works with float32 gradients of bfloat16 params.

    Mixed precision and strict promotion are used together.
    """
    params, grads = _inputs.make_params("bfloat16"), _inputs.make_grads(0, "float32")
    with jax.numpy_dtype_promotion("strict"):
        abstract_steps(case.tx, params, grads)


def rank_promotion_holds(case: Case) -> None:
    """Init and update run under numpy_rank_promotion='raise'.

    An operation on arrays of shapes (n,) and (m, n) is usually a mistake.
    """
    with jax.numpy_rank_promotion("raise"):
        abstract_steps(case.tx, case.params, case.stream[0])


RULES = (
    rule(
        x64_follows_leaves,
        "numerics",
        (24,),
        "Take every dtype from the leaf, not from a Python float or a default.",
    ),
    rule(
        strict_promotion_holds,
        "polish",
        (25,),
        "Cast the counter and the hyperparameters, including the learning rate, to the "
        "dtype of the computation first.",
    ),
    rule(
        strict_promotion_holds_for_float32_gradients,
        "polish",
        (21, 25),
        "Cast gradients and moments to a common dtype first.",
    ),
    rule(
        rank_promotion_holds,
        "polish",
        (26,),
        "Combine only arrays of equal shape, or arrays and scalars.",
    ),
)
