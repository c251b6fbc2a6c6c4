"""How many gradients a step of an optimizer takes: counted, never declared.

A gradient is what a step of any size costs most of, so budgets, targets and
comparisons count gradients and not steps. Counted are the one that every step is
given, one more where an auxiliary gradient is used, and the calls that an optimizer
makes itself, of the functions that it is handed: they are counted while it runs step
by step on a small bowl, so that a gradient that it takes in every fifth step only
counts a fifth. A loss that is not differentiated counts a third of a gradient, whose
backward pass costs about twice the forward one.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.problem import Problem, PyTree, extra_arguments
from benchmarks.roster.specs import Make

# What only some problems offer, and what it takes.
OFFERED = {
    "aux_grads": "an auxiliary objective",
    "tail_grad_fn": "a loss of rare classes",
}
# Periods up to 6, 10, 12, 15, 20 and 30 divide it.
_STEPS = 60
# After so many steps that took the same, the others will.
_SURE = 15
_LOSS = 1 / 3
_RATE = 1e-3


class Count(NamedTuple):
    """What a step takes.

    Attributes:
      per_step: The mean number of gradients of a step, at least 1.
      asks_for_tail: Whether it takes the gradients of rare classes itself, so that
        the one it is given must be that of all others.
    """

    per_step: float
    asks_for_tail: bool


def offered_by(problem: Problem) -> frozenset[str]:
    """Which of `OFFERED` a problem has."""
    has = {"aux_grads": problem.aux_loss, "tail_grad_fn": problem.tail_loss}
    return frozenset(name for name, loss in has.items() if loss is not None)


@functools.lru_cache(maxsize=1000)
def count(make: Make, offered: frozenset[str] = frozenset()) -> Count:
    """Counts what a step takes.

    Args:
      make: The optimizer, from a learning rate.
      offered: Those of `OFFERED` that it is given.

    Raises:
      Exception: Whatever the optimizer raises, for want of one of `OFFERED` say.
    """
    small, params = bowl(offered), jnp.ones((2, 3))
    calls: Counter[str] = Counter()
    tx = optax.with_extra_args_support(make(_RATE))

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
    taken: list[float] = []
    with jax.disable_jit():
        state = tx.init(params)
        while len(taken) < (_SURE if len(set(taken)) < 2 else _STEPS):
            calls.clear()
            updates, state = update(params, state, params)
            params = params + updates
            losses = calls.pop("value", 0)
            taken.append(calls.total() + _LOSS * losses)
    return Count(1.0 + uses_aux + sum(taken) / len(taken), asks_for_tail)


def per_step(make: Make, offered: frozenset[str]) -> float:
    """The mean number of gradients of a step; 1 for an optimizer that fails.

    It fails in the run, too, where what it raises is told.
    """
    try:
        return count(make, offered).per_step
    except (Exception, SystemExit):  # optimizers fail in any way
        return 1.0


def missing(make: Make, offered: frozenset[str]) -> str:
    """Why an optimizer cannot do with what a problem offers; empty if it can."""
    try:
        count(make, offered)
    except (Exception, SystemExit):  # optimizers fail in any way
        for name, what in OFFERED.items():
            try:
                count(make, offered | {name})
            except (Exception, SystemExit):  # then it lacks something else
                continue
            return f"it needs {name}, and the problem has not {what}"
    return ""


def bowl(offered: frozenset[str]) -> Problem:
    """A sum of squares with every objective that is offered."""

    def loss(params: PyTree, scale: jax.Array) -> jax.Array:
        return scale * sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    return Problem(
        name="bowl",
        summary="",
        formula="",
        source="",
        tags=frozenset(),
        budget=_STEPS,
        init=lambda key: None,
        loss=loss,
        evaluate=lambda params, data: {},
        aux_loss=loss if "aux_grads" in offered else None,
        tail_loss=loss if "tail_grad_fn" in offered else None,
    )


def _counting(
    function: Callable[..., Any], name: str, calls: Counter[str]
) -> Callable[..., Any]:
    """The function, counting calls: as `value` where no gradient is taken of it."""

    @functools.wraps(function)
    def counted(params: PyTree, *args: Any, **kwargs: Any) -> Any:
        plain = name == "value_fn" and not _differentiated(params)
        calls["value" if plain else name] += 1
        return function(params, *args, **kwargs)

    return counted


def _differentiated(params: PyTree) -> bool:
    """Whether derivatives of some leaf are under way; meant for disabled jit."""
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params))


def _used(jaxpr: Any) -> list[bool]:
    """Whether the results of a traced function depend on each of its arguments."""
    needed = {id(v) for v in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if any(id(v) in needed for v in equation.outvars):
            needed |= {id(v) for v in equation.invars}
    return [id(v) in needed for v in jaxpr.invars]
