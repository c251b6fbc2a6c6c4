"""The README's tables of optimizers and methods, from docstrings and measurement."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import optimizers
from benchmarks.roster import gradient_count

PyTree = Any
Factory = Callable[..., optax.GradientTransformationExtraArgs]
HEADER = (
    "| name | paper | what it is for | state | extra gradients |\n"
    "|---|---|---|---:|---:|\n"
)
PARAMS = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(100)}
# What the rows are measured with, where an argument has no default.
ARGUMENTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "optimizer": optax.sgd(1e-3),
    "rho": 0.05,
    "aux_weight": 0.1,
    "clipping": 0.01,
    "max_norm": 1.0,
    "labels": "hidden",
    "width_ratio": 4.0,
}


def render(factories: dict[str, Factory]) -> str:
    """A table with a row for each."""
    return HEADER + "".join(_row(*item) for item in factories.items())


def aliases() -> dict[str, Factory]:
    """The public optimizers: factories that take a learning rate first."""
    return {n: f for n, f in _factories().items() if _first(f) == "learning_rate"}


def methods() -> dict[str, Factory]:
    """What goes in front of, around or behind an optimizer."""
    return {n: f for n, f in _factories().items() if _first(f) != "learning_rate"}


def _factories() -> dict[str, Factory]:
    """The public functions that make transformations, parts of others left out.

    A part is a primitive, or its docstring says at once which method to see.
    """
    made = optax.GradientTransformationExtraArgs
    public = {name: getattr(optimizers, name) for name in optimizers.__all__}
    return {
        name: thing
        for name, thing in public.items()
        if inspect.isfunction(thing)
        and not name.startswith("scale_by_")
        and "; see `" not in _doc(thing).split("\n")[0]
        and inspect.signature(thing).return_annotation is made
    }


def _first(factory: Factory) -> str:
    return next(iter(inspect.signature(factory).parameters), "")


def paper(factory: Factory) -> str:
    """The first reference of the docstring, linked to arXiv where it says its id."""
    found = re.search(r"References:\n(.+?)(?:\n\n|\Z)", _doc(factory), re.DOTALL)
    if found is None:
        msg = f"{factory.__name__}: the docstring has no section References."
        raise ValueError(msg)
    first = " ".join(found.group(1).split()).split(". ")[0].removesuffix(".")
    title = re.sub(r", Algorithm \d+|; arXiv:\S+", "", first)
    arxiv = re.search(r"arXiv:(\S+)", first)
    return f"[{title}](https://arxiv.org/abs/{arxiv.group(1)})" if arxiv else title


def _doc(factory: Factory) -> str:
    return inspect.cleandoc(factory.__doc__ or "")


def _row(name: str, factory: Factory) -> str:
    # "Adam: steps of the size of the learning rate." says its name once too often.
    purpose = _doc(factory).split("\n")[0].split(": ", 1)[-1].removesuffix(".")
    cells = (
        f"`{name}`",
        paper(factory),
        purpose[0].upper() + purpose[1:],
        f"{_copies(_make(factory)):.3g} ×",
        f"{_extra_gradients(factory):.3g}",
    )
    return f"| {' | '.join(cells)} |\n"


def _make(
    factory: Factory, learning_rate: Any = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """The transformation, from the least that it can be made from."""
    given = {**ARGUMENTS, "learning_rate": learning_rate}
    parameters = inspect.signature(factory).parameters.values()
    return factory(
        **{p.name: given[p.name] for p in parameters if p.default is p.empty}
    )


def _copies(optimizer: optax.GradientTransformationExtraArgs) -> float:
    """Bytes of the state per byte of float32 params, counters aside."""
    leaves = [x for x in jax.tree.leaves(optimizer.init(PARAMS)) if x.ndim]
    total = sum(x.nbytes for x in leaves)
    return total / sum(x.nbytes for x in jax.tree.leaves(PARAMS))


def _extra_gradients(factory: Factory) -> float:
    """How many gradients a step takes beside the one that it is given."""

    def make(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
        return _make(factory, learning_rate)

    offered = frozenset(gradient_count.OFFERED)
    return gradient_count.count_or_one(make, offered).gradients_per_step - 1.0
