"""Docstrings of aliases have equations, arguments, a reference and an example."""

import doctest
import inspect
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

factories = pytest.mark.parametrize("factory", catalog.functions(optimizers).values())
alias = pytest.mark.parametrize(
    "factory", catalog.functions(optimizers, Kind.OPTIMIZER).values()
)
method = pytest.mark.parametrize(
    "factory",
    [
        function
        for name, function in catalog.functions(
            optimizers, Kind.OPTIMIZER, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION
        ).items()
        if not catalog.part_of(name, optimizers.__all__)
    ],
)


def _doc(factory: Callable) -> str:
    return inspect.cleandoc(factory.__doc__ or "")


def _section(factory: Callable, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:  .*\n?|\n)+)", _doc(factory), re.MULTILINE)
    return found.group(1) if found else ""


def _displayed_equations(doc: str) -> list[str]:
    """The contents of all math directives of a docstring."""
    found = re.findall(r"^\.\. math::(.*\n(?:\n|   .*\n)*)", doc, re.MULTILINE)
    return [equation.strip() for equation in found]


def _misplaced_numbers(doc: str) -> list[str]:
    r"""Equations that MathJax cannot align.

    With several lines, each line has an ``&``, and a number follows ``&&``. A single
    line is not aligned: an ``&`` is an error there, and a number follows ``\qquad``.
    """
    wrong = []
    for equation in _displayed_equations(doc):
        lines = [" ".join(line.split()) for line in equation.split(r"\\")]
        if len(lines) == 1:
            wrong += [line for line in lines if re.search(r"(?<!\\)&", line)]
        else:
            wrong += [line for line in lines if r"\qquad (" in line]
    return wrong


@factories
def test_arguments_are_documented_in_order(factory: Callable) -> None:
    documented = re.findall(r"^  (\w+): \S", _section(factory, "Args"), re.MULTILINE)
    assert documented == list(inspect.signature(factory).parameters)


@pytest.mark.parametrize(
    "factory", catalog.functions(optimizers, Kind.GRADIENT_TRANSFORMATION).values()
)
def test_an_order_that_ascends_is_documented(factory: Callable) -> None:
    """After an optimizer, the method must not turn the direction, or document it."""
    grad_fn = jax.grad(lambda x: jnp.sum(x**2))
    x, aux_grads = jnp.array([1.0, 2.0]), jnp.array([3.0, 1.0])

    def step(*chain: optax.GradientTransformation) -> jax.Array:
        tx = optax.chain(*chain)
        extra = {"grad_fn": grad_fn, "tail_grad_fn": grad_fn, "aux_grads": aux_grads}
        return tx.update(grad_fn(x), tx.init(x), x, **extra)[0]

    method, base = catalog.example(factory), optax.sgd(0.1)
    before, after, alone = step(method, base), step(base, method), step(base)
    assert before @ grad_fn(x) < 0.0
    cosine = after @ alone / jnp.linalg.norm(after) / jnp.linalg.norm(alone)
    assert (cosine < 0.999) == ("uphill" in _section(factory, "Returns"))


@factories
def test_results_and_errors_are_documented(factory: Callable) -> None:
    assert _section(factory, "Returns")
    if catalog.kind(factory) not in (Kind.SCHEDULE, Kind.OTHER):
        assert "ValueError: " in _section(factory, "Raises")


@alias
def test_equations_are_numbered_and_implemented(factory: Callable) -> None:
    """A comment in the module refers to each numbered equation."""
    name, doc = factory.__name__, _doc(factory)
    code = inspect.getsource(inspect.getmodule(factory))
    numbers = re.findall(r"(?:&&|\\qquad) \((\w'?)\)", doc)
    assert numbers, f"{name}: number the equations of the docstring, as in `&& (1)`."
    for number in numbers:
        assert re.search(rf"#.*\({re.escape(number)}\)", code), (
            f"{name}: no line of code ends with `# ({number})` for that equation."
        )


@method
def test_first_line_has_a_title_and_a_description(factory: Callable) -> None:
    first = _doc(factory).split("\n")[0]
    assert re.fullmatch(r"[^:]+: .+\.", first), (
        f"{factory.__name__}: the first line of the docstring must be "
        f"`Title: description.`, not {first!r}."
    )


@factories
def test_displayed_equations_render(factory: Callable) -> None:
    assert not _misplaced_numbers(_doc(factory))


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        (r"x &= 1 && (1) \\" + "\n   y &= 2 && (2)", []),
        (r"x = 1 \qquad (1)", []),
        (r"x = 1 && (1)", [r"x = 1 && (1)"]),
        (r"x &= 1 \qquad (1) \\" + "\n   y &= 2 && (2)", [r"x &= 1 \qquad (1)"]),
    ],
)
def test_misplaced_numbers_are_found(equation: str, expected: list[str]) -> None:
    assert _misplaced_numbers(f"Text.\n\n.. math::\n\n   {equation}\n") == expected


@alias
@pytest.mark.parametrize("paragraph", ["Symbols", "Defaults", "Differences from"])
def test_symbols_defaults_and_differences_are_documented(
    factory: Callable, paragraph: str
) -> None:
    assert re.search(rf"^{paragraph}", _doc(factory), re.MULTILINE), (
        f"{factory.__name__}: the docstring needs a paragraph `{paragraph} …`."
    )


@method
def test_reference_has_a_year_and_an_identifier(factory: Callable) -> None:
    reference = _section(factory, "References")
    words = f"{factory.__name__}: References needs a year and an arXiv, doi or"
    words += " OpenReview id."
    assert re.search(r"\b(19|20)\d\d\b", reference), words
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.|OpenReview:\w", reference), words


@method
def test_example_runs(factory: Callable) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(factory, factory.__name__)
    assert example.examples, f"{factory.__name__}: the docstring has no example."
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not printed, "".join(printed)
