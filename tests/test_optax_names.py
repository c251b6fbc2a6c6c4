"""What carries over from optax's functions of the same name: arguments and bits."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import optimizers
from optimizers import catalog
from tools.sync import ROOT

# Functions whose positional arguments differ from those of optax, and why.
DIFFERENCES = {
    "amsgrad": "always corrects the bias of the first moment; `variant` sets the rest",
    "lookahead": "wraps any params, so the argument is an optimizer, not a fast one",
    "prodigy": "b1 and b2 as everywhere, d0 and d_coef as in the paper",
    "sam": "takes the radius instead of an optimizer for the ascent",
    "scale_by_amsgrad": "as amsgrad",
}
# Functions whose updates may differ from those of optax in the last bits, and why.
ROUNDING = {
    "adaptive_grad_clip": "computes norms that neither overflow nor underflow",
    "ademamix": "the weights of the slow average add up to 1 exactly",
    "clip_by_global_norm": "computes a norm that neither overflows nor underflows",
    "lookahead": "optax keeps the params as pairs of fast and slow weights",
    "nadam": "multiplies the momenta of all steps, which a warm-up needs",
    "prodigy": "sums inner products and norms over the tree in another order",
    "sam": "optax makes the ascent an update of its own",
    "scale_by_ademamix": "as ademamix",
    "scale_by_simplified_ademamix": "as simplified_ademamix",
    "simplified_ademamix": "optax computes the second moment as g^2 + b2 (v - g^2)",
}
GUIDE = ROOT / "docs" / "from_optax.md"
_PARAMS = {"w": jnp.linspace(-1.0, 2.0, 35).reshape(7, 5), "b": jnp.ones(5)}
_KEY = jax.random.key(0)


def _in_optax(name: str) -> Callable[..., Any] | None:
    return getattr(optax, name, None) or getattr(optax.contrib, name, None)


SHARED = [name for name in catalog.functions(optimizers) if _in_optax(name)]


def _positional(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _agrees(name: str) -> bool:
    theirs = _positional(_in_optax(name))
    return _positional(getattr(optimizers, name))[: len(theirs)] == theirs


@pytest.mark.parametrize("name", [n for n in SHARED if n not in DIFFERENCES])
def test_positional_arguments_begin_with_those_of_optax(name: str) -> None:
    theirs = ", ".join(_positional(_in_optax(name)))
    assert _agrees(name), (
        f"optax has {name}({theirs}): begin with the same arguments, or give a reason "
        f"in DIFFERENCES in {__file__}."
    )


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_difference_exists(name: str) -> None:
    assert not _agrees(name)


def test_functions_are_shared() -> None:
    assert {"adam", "adamw", "lookahead"} <= set(SHARED)


def _trajectory(function: Callable[..., Any], *, traced: bool) -> list[np.ndarray]:
    """The updates of four jitted steps; the learning rate is 0.1."""
    rates = ()
    if catalog.kind(function) is catalog.Kind.OPTIMIZER:
        rates = (jnp.float32(0.1),) if traced else (0.1,)
    initial = function(*rates).init(_PARAMS)

    def step(rates: tuple, grads: Any, state: Any, params: Any) -> tuple:
        updates, state = function(*rates).update(grads, state, params)
        return updates, state, optax.apply_updates(params, updates)

    # The tests skip optimizations, such as multiplication and addition in one rounding.
    optimized = {"xla_backend_optimization_level": 3}
    static = () if traced else (0,)
    jitted = jax.jit(step, static_argnums=static, compiler_options=optimized)
    state, params, seen = initial, _PARAMS, []
    for number in range(4):
        key = jax.random.fold_in(_KEY, number)
        grads = jax.tree.map(lambda p, k=key: jax.random.normal(k, p.shape), _PARAMS)
        updates, state, params = jitted(rates, grads, state, params)
        seen += jax.tree.leaves(updates)
    return seen


@pytest.mark.parametrize("traced", [False, True], ids=["float", "traced"])
@pytest.mark.parametrize("name", [n for n in SHARED if n not in ROUNDING])
def test_jitted_updates_have_the_bits_of_optax(name: str, traced: bool) -> None:
    ours = _trajectory(getattr(optimizers, name), traced=traced)
    theirs = _trajectory(_in_optax(name), traced=traced)
    np.testing.assert_array_equal(
        np.concatenate(ours, None), np.concatenate(theirs, None)
    )


def test_functions_that_round_otherwise_are_shared() -> None:
    assert set(ROUNDING) <= set(SHARED)


def _table() -> list[tuple[str, str, str]]:
    """The rows of the table of arguments: function, in optax, here."""
    rows, functions = [], ""
    for line in GUIDE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| function"):
            named, theirs, here = (cell.strip() for cell in line.split("|")[1:4])
            functions = named or functions
            rows += [(f, theirs, here) for f in re.findall(r"`(\w+)`", functions)]
    return rows


@pytest.mark.parametrize("name", SHARED)
def test_every_argument_of_optax_is_accepted_or_in_the_guide(name: str) -> None:
    known = inspect.signature(getattr(optimizers, name)).parameters
    rows = [(theirs, here) for f, theirs, here in _table() if f == name]
    said = {a for theirs, _ in rows for a in re.findall(r"`(\w+)", theirs)}
    assert set(inspect.signature(_in_optax(name)).parameters) - {*known} <= said
    new = {a for _, here in rows for a in re.findall(r"`(\w+)=", here)}
    assert new <= set(known)
    assert said & set(known) <= set(known) - set(_positional(getattr(optimizers, name)))


def test_only_functions_with_other_arguments_are_in_the_guide() -> None:
    keyword_only = {"nadam"}  # optax.nadam also takes nesterov
    assert {function for function, _, _ in _table()} == set(DIFFERENCES) | keyword_only
