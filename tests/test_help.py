"""What Python shows a user: help(), and the error for a name that does not exist."""

import inspect
import pydoc
import re
from collections.abc import Callable

import pytest

import optimizers
from optimizers import _missing, catalog

FUNCTIONS = catalog.functions(optimizers)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_signatures_show_types_by_name(function: Callable) -> None:
    signature = inspect.signature(function)
    types = [p.annotation for p in signature.parameters.values()]
    shown = map(inspect.formatannotation, [*types, signature.return_annotation])
    assert max(map(len, shown)) <= 40
    assert len(str(signature)) <= 450


def test_help_on_the_package_begins_with_the_methods() -> None:
    shown = pydoc.plain(pydoc.render_doc(optimizers))
    description = shown[: shown.index("PACKAGE CONTENTS")]
    listed = set(re.findall(r"^ {6}(\w+) {2}", description, re.MULTILINE))
    parts = {n for n in FUNCTIONS if catalog.part_of(n, optimizers.__all__)}
    assert listed == set(FUNCTIONS) - parts


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("sgd", "it is optax.sgd, which works together with"),
        ("LookaheadParams", "it is optax.LookaheadParams, for the functions of optax."),
        ("muon", "it is optax.contrib.muon"),
        ("prodgy", "did you mean 'prodigy'?"),
        ("AdamW", "did you mean 'adamw'"),
        ("zzz", "help(optimizers)"),
    ],
)
def test_a_name_that_does_not_exist(name: str, advice: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(optimizers, name)
    beginning = f"module 'optimizers' has no attribute {name!r}: "
    assert str(error.value).startswith(beginning)
    assert advice in str(error.value).removeprefix(beginning)


def test_a_submodule_is_to_be_imported() -> None:
    assert "`import optimizers.testing`" in str(
        _missing.error("testing", optimizers.__all__)
    )
