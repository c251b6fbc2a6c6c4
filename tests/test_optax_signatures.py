"""Where optax has a function of the same name, its positional arguments work here."""

import inspect
from collections.abc import Callable
from typing import Any

import optax
import optax.contrib
import pytest

import optimizers
from optimizers import catalog

# Functions whose positional arguments differ from those of optax, and why.
DIFFERENCES = {
    "amsgrad": "always corrects the bias of the first moment; `variant` sets the rest",
    "lookahead": "wraps any params, so the argument is an optimizer, not a fast one",
    "prodigy": "b1 and b2 as everywhere, d0 and d_coef as in the paper",
    "sam": "takes the radius instead of an optimizer for the ascent",
    "scale_by_amsgrad": "as amsgrad",
    "scale_by_simplified_ademamix": "as simplified_ademamix",
    "simplified_ademamix": "the paper has no eps inside the root",
}


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
