"""Calls of the functions that users hand over, and checks of what they return."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optimizers._common import trees
from optimizers._common.typing import PyTree


def called(
    function: str, argument: str, call: Callable[[PyTree], Any], params: PyTree
) -> Any:
    """The result of the call; an exception gets a note on how it was called."""
    try:
        return call(params)
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not any(note.startswith(f"{function}: ") for note in notes):
            error.add_note(
                f"{function}: {argument} was called with one argument, params as "
                f"update() got them: a {type(params).__name__}."
                f"{_nnx_advice(argument, params)}"
            )
        raise


def require_loss(
    function: str, argument: str, value: Any, params: PyTree, advice: str
) -> None:
    """Raises unless a value inside `jax.grad` is a loss: a number from the params.

    Args:
      function: The caller's name, for error messages.
      argument: The name of the user's function, for error messages.
      value: What the user's function returned.
      params: Its argument, inside `jax.grad`.
      advice: What to do about a tuple whose first element is the loss.

    Raises:
      TypeError: It is not a real number.
      ValueError: It does not depend on the params.
    """
    if not _is_real_number(value):
        is_pair = isinstance(value, tuple | list) and _is_real_number((*value, 0)[0])
        msg = (
            f"{function}: {argument} must return the loss, a real number, got "
            f"{described(value)}. {advice if is_pair else ''}"
        )
        raise TypeError(msg.rstrip())
    leaves = [leaf for leaf in jax.tree.leaves(params) if trees.is_inexact(leaf)]
    # A value that depends on them is traced by the same transformation, jax.grad.
    if leaves and not any(type(value) is type(leaf) for leaf in leaves):
        msg = (
            f"{function}: what {argument} returns does not depend on its argument, the "
            "params, so that its gradient is 0. Compute the loss from the argument, "
            "and not from a model or params outside of the function."
            f"{_nnx_advice(argument, params)}"
        )
        raise ValueError(msg)


def gradient_advice(argument: str, found: Any, params: PyTree) -> str:
    """What to do if a function from params to the gradient returned something else."""
    expected = jax.tree.structure(params)
    if type(found) in (list, tuple):
        children = jax.tree.structure(found).children()
        places = [i for i, child in enumerate(children) if child == expected]
        if places:
            return (
                f"It returned a {type(found).__name__} of {len(found)} trees: return "
                f"only the element {places[0]}, the gradient."
            )
    if _is_real_number(found):
        instead = "value_fn" if argument == "grad_fn" else f"{argument}=jax.grad(...)"
        return f"It returned a number: if it computes the loss, pass it as {instead}."
    return ""


def described(value: Any) -> str:
    """What a function returned, for error messages."""
    if isinstance(value, jax.Array):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"


def _is_real_number(value: Any) -> bool:
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    dtype = getattr(value, "dtype", None)
    return (
        dtype is not None
        and jnp.issubdtype(dtype, jnp.floating)
        and jnp.shape(value) == ()
    )


def _nnx_advice(argument: str, params: PyTree) -> str:
    if not type(params).__module__.startswith("flax.nnx"):
        return ""
    loss = "lambda params: loss(nnx.merge(graph, params, others))"
    if argument != "value_fn":
        loss = f"jax.grad({loss})"
    return (
        " For flax.nnx, take the model apart: graph, params, others = "
        f"nnx.split(model, nnx.Param, ...), and pass {argument}={loss}."
    )
