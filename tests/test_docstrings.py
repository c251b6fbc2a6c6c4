"""The docstring of an alias is its paper: equations, arguments, reference, example."""

import doctest
import inspect
import re
from collections.abc import Callable

import optax
import pytest

import optimizers
from tools.optimizer_table import aliases

factories = pytest.mark.parametrize(
    "factory", [f for f in vars(optimizers).values() if inspect.isfunction(f)]
)
alias = pytest.mark.parametrize("factory", aliases().values())


def _doc(factory: Callable) -> str:
    return inspect.cleandoc(factory.__doc__ or "")


def _section(factory: Callable, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:  .*\n?|\n)+)", _doc(factory), re.MULTILINE)
    return found.group(1) if found else ""


@factories
def test_arguments_are_documented_in_order(factory: Callable) -> None:
    documented = re.findall(r"^  (\w+): \S", _section(factory, "Args"), re.MULTILINE)
    assert documented == list(inspect.signature(factory).parameters)


@factories
def test_results_and_errors_are_documented(factory: Callable) -> None:
    assert _section(factory, "Returns")
    returned = inspect.signature(factory).return_annotation
    if returned is optax.GradientTransformationExtraArgs:
        assert "ValueError: " in _section(factory, "Raises")


@alias
def test_equations_are_numbered_and_followed(factory: Callable) -> None:
    """Each number of an equation comes back as a comment in the code."""
    doc, code = _doc(factory), inspect.getsource(inspect.getmodule(factory))
    numbers = set(re.findall(r"&& (\(\w'?\))", doc))
    assert ".. math::" in doc
    assert numbers
    assert not {n for n in numbers if not re.search(rf"#.*{re.escape(n)}", code)}


@alias
@pytest.mark.parametrize("paragraph", ["Symbols", "Defaults", "Differences from"])
def test_symbols_defaults_and_differences_are_told(
    factory: Callable, paragraph: str
) -> None:
    assert re.search(rf"^{paragraph}", _doc(factory), re.MULTILINE)


@alias
def test_reference_says_where_to_read(factory: Callable) -> None:
    reference = _section(factory, "References")
    assert re.search(r"\b(19|20)\d\d\b", reference)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.", reference)


@alias
def test_example_runs(factory: Callable) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(factory, factory.__name__)
    assert example.examples, f"{factory.__name__}: the docstring has no example."
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not printed, "".join(printed)
