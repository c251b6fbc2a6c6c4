"""Counts the gradient evaluations per step of an optimizer.

Gradients dominate the cost of a training step, so budgets, targets and comparisons
count gradients instead of steps. The count includes the gradient that every step is
given, an auxiliary gradient if it is used, and the optimizer's own calls of the
functions that it is given. These calls are counted over many steps on a small
quadratic: a gradient in every fifth step counts 1/5. A loss that is not differentiated
counts 1/3, since a backward pass costs about twice a forward pass.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from benchmarks.problem import Problem, PyTree, extra_arguments
from benchmarks.roster.specs import Make

# Extra arguments that only some problems offer, and what such a problem has.
OFFERED = {
    "aux_grads": "an auxiliary objective",
    "tail_grad_fn": "a loss of rare classes",
}
# Divisible by the usual periods: 1 to 6, 10, 12, 15, 20 and 30.
_STEPS = 60
# After this many steps with equal counts, the rest are taken to be equal too.
_SURE = 15
_LOSS = 1 / 3
_LEARNING_RATE = 1e-3


def _sum_of_squares(params: PyTree, scale: jax.Array) -> jax.Array:
    return scale * sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


BOWL = Problem(
    name="bowl",
    summary="A sum of squares that offers everything in `OFFERED`.",
    formula="",
    source="",
    tags=frozenset(),
    budget=_STEPS,
    init=lambda key: None,
    loss=_sum_of_squares,
    evaluate=lambda params, data: {},
    aux_loss=_sum_of_squares,
    tail_loss=_sum_of_squares,
)


class Count(NamedTuple):
    """The gradient evaluations of an optimizer.

    Attributes:
      gradients_per_step: Mean number of gradients per step, at least 1.
      asks_for_tail: Whether the optimizer computes the gradients of rare classes
        itself, and must therefore be given those of all other classes.
    """

    gradients_per_step: float
    asks_for_tail: bool


def offered_by(problem: Problem) -> frozenset[str]:
    """Which of `OFFERED` a problem has."""
    has = {"aux_grads": problem.aux_loss, "tail_grad_fn": problem.tail_loss}
    return frozenset(name for name, loss in has.items() if loss is not None)


@functools.lru_cache(maxsize=1000)
def count(make: Make, offered: frozenset[str] = frozenset()) -> Count:
    """Counts the gradient evaluations of an optimizer.

    Args:
      make: Makes the optimizer from a learning rate.
      offered: The keys of `OFFERED` that the optimizer is given.

    Raises:
      Exception: Any error of the optimizer, e.g. because it needs a missing key.
    """
    small = dataclasses.replace(
        BOWL,
        aux_loss=BOWL.aux_loss if "aux_grads" in offered else None,
        tail_loss=BOWL.tail_loss if "tail_grad_fn" in offered else None,
    )
    params = jnp.ones((2, 3))
    calls: Counter[str] = Counter()
    tx = optax.with_extra_args_support(make(_LEARNING_RATE))

    def update(params: PyTree, state: PyTree, aux_grads: PyTree) -> PyTree:
        given = extra_arguments(small, params, jnp.ones(()))
        if "aux_grads" in given:
            given["aux_grads"] = aux_grads
        for name in given:
            if callable(given[name]):
                given[name] = _counting(given[name], name, calls)
        return tx.update(given["grad"], state, params, **given)

    traced = jax.make_jaxpr(update)(params, tx.init(params), params).jaxpr
    uses_aux = _used(traced)[-1]
    asks_for_tail = calls["tail_grad_fn"] > 0
    if not calls:
        return Count(1.0 + uses_aux, asks_for_tail)
    if offered and not uses_aux and not asks_for_tail:
        return count(make)
    counts: list[float] = []
    with jax.disable_jit():
        state = tx.init(params)
        while len(counts) < (_SURE if len(set(counts)) < 2 else _STEPS):
            calls.clear()
            updates, state = update(params, state, params)
            params = params + updates
            losses = calls.pop("value", 0)
            counts.append(calls.total() + _LOSS * losses)
    return Count(1.0 + uses_aux + sum(counts) / len(counts), asks_for_tail)


def count_or_one(make: Make, offered: frozenset[str]) -> Count:
    """Like `count`, but one gradient per step for an optimizer that fails.

    The optimizer fails again when it runs, and its error is reported then.
    """
    try:
        return count(make, offered)
    except (Exception, SystemExit):  # optimizers fail in any way
        return Count(1.0, asks_for_tail=False)


def missing(make: Make, offered: frozenset[str]) -> str:
    """Why an optimizer cannot run with what a problem offers; empty if it can."""
    try:
        count(make, offered)
    except (Exception, SystemExit):  # optimizers fail in any way
        for name, what in OFFERED.items():
            try:
                count(make, offered | {name})
            except (Exception, SystemExit):  # something else is missing
                continue
            return f"it needs {name}, but the problem does not have {what}"
    return ""


def _counting(
    function: Callable[..., Any], name: str, calls: Counter[str]
) -> Callable[..., Any]:
    """Wraps a function to count its calls, as `value` if it is not differentiated."""

    @functools.wraps(function)
    def counted(params: PyTree, *args: Any, **kwargs: Any) -> Any:
        plain = name == "value_fn" and not _differentiated(params)
        calls["value" if plain else name] += 1
        return function(params, *args, **kwargs)

    return counted


def _differentiated(params: PyTree) -> bool:
    """Whether a derivative by some leaf is being taken; jit must be disabled."""
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(params))


def _used(jaxpr: Any) -> list[bool]:
    """For each argument of a traced function, whether the results depend on it."""
    needed = {id(v) for v in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if any(id(v) in needed for v in equation.outvars):
            needed |= {id(v) for v in equation.invars}
    return [id(v) in needed for v in jaxpr.invars]
