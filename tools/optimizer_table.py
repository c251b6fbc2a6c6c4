"""The README's table of optimizers, from their docstrings and from measurement."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import optimizers

PyTree = Any
Factory = Callable[..., optax.GradientTransformationExtraArgs]
HEADER = (
    "| name | paper | what it is for | state | extra gradients |\n"
    "|---|---|---|---:|---:|\n"
)
PARAMS = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(100)}


def render() -> str:
    """A row for every public alias: a function whose first argument is a rate."""
    return HEADER + "".join(_row(name, factory) for name, factory in aliases().items())


def aliases() -> dict[str, Factory]:
    """The public functions that take a learning rate first, primitives left out."""
    public = {name: getattr(optimizers, name) for name in optimizers.__all__}
    return {
        name: thing
        for name, thing in public.items()
        if inspect.isfunction(thing)
        and not name.startswith("scale_by_")
        and next(iter(inspect.signature(thing).parameters), "") == "learning_rate"
    }


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
    optimizer = factory(1e-3)
    cells = (
        f"`{name}`",
        paper(factory),
        purpose[0].upper() + purpose[1:],
        f"{_copies(optimizer):.3g} ×",
        str(_gradients(optimizer)),
    )
    return f"| {' | '.join(cells)} |\n"


def _copies(optimizer: optax.GradientTransformationExtraArgs) -> float:
    """Bytes of the state per byte of float32 params, counters aside."""
    leaves = [x for x in jax.tree.leaves(optimizer.init(PARAMS)) if x.ndim]
    total = sum(x.nbytes for x in leaves)
    return total / sum(x.nbytes for x in jax.tree.leaves(PARAMS))


def _gradients(optimizer: optax.GradientTransformationExtraArgs) -> int:
    """How often one update asks for another gradient or value of the loss."""
    calls = []

    def grad_fn(params: PyTree) -> PyTree:
        calls.append("gradient")
        return params

    def value_fn(params: PyTree) -> jax.Array:
        calls.append("value")
        return sum(jnp.sum(x) for x in jax.tree.leaves(params))

    optimizer.update(
        PARAMS,
        optimizer.init(PARAMS),
        PARAMS,
        value=value_fn(PARAMS),
        grad=PARAMS,
        value_fn=value_fn,
        grad_fn=grad_fn,
        aux_grads=PARAMS,
    )
    return len(calls) - 1  # one call is our own
