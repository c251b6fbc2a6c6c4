"""The README's tables of optimizers and methods, from docstrings and measurement."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import optimizers
from benchmarks.roster import gradient_count
from optimizers import catalog
from optimizers.catalog import Kind

PyTree = Any
Factory = Callable[..., optax.GradientTransformationExtraArgs]
HEADER = (
    "| name | paper | description | state | extra gradients |\n"
    "|---|---|---|---:|---:|\n"
)
PARAMS = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(100)}


def render(factories: dict[str, Factory]) -> str:
    """A table with a row for each."""
    return HEADER + "".join(_row(*item) for item in factories.items())


def aliases() -> dict[str, Factory]:
    """The public optimizers."""
    return catalog.functions(optimizers, Kind.OPTIMIZER)


_PAGES = {
    "arXiv": "https://arxiv.org/abs/",
    "OpenReview": "https://openreview.net/forum?id=",
}


def methods() -> dict[str, Factory]:
    """The public wrappers and gradient transformations, without parts of others."""
    found = catalog.functions(optimizers, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION)
    public = optimizers.__all__
    return {n: f for n, f in found.items() if not catalog.part_of(n, public)}


def paper(factory: Factory) -> str:
    """The first reference of the docstring, linked where it says a paper's id."""
    found = re.search(r"References:\n(.+?)(?:\n\n|\Z)", _doc(factory), re.DOTALL)
    if found is None:
        msg = f"{factory.__name__}: the docstring has no section References."
        raise ValueError(msg)
    first = " ".join(found.group(1).split()).split(". ")[0].removesuffix(".")
    title = re.sub(r", Algorithm \d+|; (arXiv|OpenReview):\S+", "", first)
    identifier = re.search(r"(arXiv|OpenReview):(\S+)", first)
    if identifier is None:
        return title
    return f"[{title}]({_PAGES[identifier.group(1)]}{identifier.group(2)})"


def _doc(factory: Factory) -> str:
    return inspect.cleandoc(factory.__doc__ or "")


def _row(name: str, factory: Factory) -> str:
    # "Adam: steps of the size of the learning rate." says its name once too often.
    purpose = _doc(factory).split("\n")[0].split(": ", 1)[-1].removesuffix(".")
    cells = (
        f"`{name}`",
        paper(factory),
        purpose[0].upper() + purpose[1:],
        f"{_copies(catalog.example(factory)):.3g} ×",
        f"{_extra_gradients(factory):.3g}",
    )
    return f"| {' | '.join(cells)} |\n"


def _copies(optimizer: optax.GradientTransformationExtraArgs) -> float:
    """Bytes of the state per byte of float32 params, counters aside."""
    leaves = [x for x in jax.tree.leaves(optimizer.init(PARAMS)) if x.ndim]
    total = sum(x.nbytes for x in leaves)
    return total / sum(x.nbytes for x in jax.tree.leaves(PARAMS))


def _extra_gradients(factory: Factory) -> float:
    """How many gradients a step takes beside the one that it is given."""
    make = functools.partial(catalog.example, factory)
    offered = frozenset(gradient_count.OFFERED)
    return gradient_count.count_or_one(make, offered).gradients_per_step - 1.0
