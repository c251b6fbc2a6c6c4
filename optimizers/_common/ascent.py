"""Gradients at perturbed params, for SAM and its variants.

Trees may hold leaves that have no gradient, such as integers and random keys: they stay
as they are in the params and in the gradients.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers._common import functions, masks, numerics, order, reductions, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar


def gradients_of_params(function: str, updates: PyTree, params: PyTree) -> PyTree:
    """The updates as arrays, after validation against the params.

    Raises:
      ValueError: There are no params, they are masked, or the updates come from an
        optimizer or do not have the structure and shapes of the params.
    """
    order.require_gradients(function, updates)
    if params is None:
        msg = (
            f"{function}: update() needs params, the point around which the loss is "
            "explored. Call update(grads, state, params, ...)."
        )
        raise ValueError(msg)
    require_unmasked(function, params)
    params = trees.without_others(params, updates)
    return _arrays_like(function, "the gradients", updates, params)


def gradient_of_loss(
    function: str,
    grad_fn: Callable[..., Any] | None,
    value_fn: Callable[..., Any] | None,
    grads: PyTree,
) -> Callable[[PyTree], PyTree]:
    """`grad_fn`, or the gradient of `value_fn`, in the structure of `grads`, if None.

    Raises:
      TypeError: The one of them that is used is not a function.
      ValueError: Both are None.
    """
    if grad_fn is not None:
        return grad_fn
    if value_fn is None:
        msg = (
            f"{function}: update() needs grad_fn, a function from params to the "
            "gradient on the same batch, or value_fn, one to the loss; both are None. "
            "Call update(grads, state, params, grad_fn=jax.grad(loss))."
        )
        raise ValueError(msg)
    _require_callable(function, "value_fn", "loss", "loss", value_fn)

    def value(params: PyTree) -> Any:
        found = functions.called(function, "value_fn", value_fn, params)
        advice = "Leave out the rest: value_fn=lambda params: loss(params)[0]."
        functions.require_loss(function, "value_fn", found, params, advice)
        return found

    return functools.partial(_gradient, value, grads)


def perturbed_gradient(
    function: str,
    grad_fn: Callable[[PyTree], PyTree],
    params: PyTree,
    grads: PyTree,
    radius: Scalar,
    direction: PyTree,
    mask: Mask = None,
    reduce: Reduce | None = None,
    argument: str = "grad_fn",
    length: reductions.Norm | None = None,
) -> PyTree:
    """The gradient at x + rho s / |s|, or the one at x if rho is the number 0.

    Args:
      function: The caller's name, for error messages.
      grad_fn: A function from params to the gradient.
      params: x.
      grads: The gradient at x, whose dtypes the result has.
      radius: rho.
      direction: s.
      mask: Which leaves are perturbed; s is 0 in others.
      reduce: All-reduce for |s|.
      argument: The argument of `update` that is `grad_fn`, for error messages.
      length: |s| without the mask, if it is already known.

    Raises:
      ValueError: The result does not have the structure and shapes of the params.
    """
    if numerics.is_number(radius, 0):
        return grads
    x = trees.with_gradients(function, grads, params)
    chosen = masked(direction, mask, x)
    if length is None or mask is not None:
        length = reductions.norm(chosen, reduce)
    point = perturbed(x, ball_step(radius, chosen, length))
    return gradient_at(function, grad_fn, point, params, grads, argument)


def gradient_at(
    function: str,
    grad_fn: Callable[[PyTree], PyTree],
    point: PyTree,
    params: PyTree,
    grads: PyTree,
    argument: str = "grad_fn",
) -> PyTree:
    """The gradient at a point, which is first cast to the dtypes of the params.

    The point has the structure of the gradients. Where they have None, `grad_fn` gets
    what the params hold.

    Raises:
      TypeError: `grad_fn` is not a function.
      ValueError: The result does not have the structure and shapes of the params.
    """
    _require_callable(function, argument, "gradient", "jax.grad(loss)", grad_fn)
    x = trees.with_gradients(function, grads, params)
    nearest = trees.map_inexact(
        lambda p, x: jnp.asarray(x, numerics.dtype_of(p)), x, point
    )
    result = functions.called(
        function, argument, grad_fn, trees.replaced(params, nearest)
    )
    found = _arrays_like(
        function,
        f"the gradients that {argument} returns",
        trees.without_others(result, grads),
        x,
        functions.gradient_advice(argument, result, x),
    )
    return trees.saturating_cast_like(found, grads)


def ball_step(radius: Scalar, direction: PyTree, length: reductions.Norm) -> PyTree:
    """rho s / |s|, and 0 if s is 0."""
    return trees.multiply(radius, reductions.unit(direction, length))


def masked(updates: PyTree, mask: Mask, params: PyTree) -> PyTree:
    """The updates, with zeros for leaves outside the mask."""
    if mask is None:
        return updates
    outside = [not chosen for chosen in masks.full(mask, params)]
    zero = functools.partial(trees.map_inexact, jnp.zeros_like)
    return trees.map_chosen(zero, outside, updates)


def perturbed(params: PyTree, steps: PyTree) -> PyTree:
    """x + e in at least float32, so that a small e is rounded away at most once."""
    return trees.map_inexact(lambda p, e: _add(jnp.asarray(p), e), params, steps)


def require_unmasked(function: str, params: PyTree) -> None:
    """Raises ValueError if a wrapper hides some of the params."""

    def hidden(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    if any(map(hidden, jax.tree.leaves(params, is_leaf=hidden))):
        msg = (
            f"{function}: the params hold optax.MaskedNode, as inside optax.masked and "
            "optax.partition, where the loss cannot be evaluated. Put it outside, as "
            "in optax.chain(sharpness_aware(0.05), optax.partition(...)), and choose "
            "the leaves to perturb with its argument mask."
        )
        raise ValueError(msg)


@numerics.inline_jit
def _add(p: jax.Array, e: jax.Array) -> jax.Array:
    p = numerics.upcast(p, e)
    return p + e.astype(p.dtype)


def _gradient(
    value_fn: Callable[[PyTree], Any], grads: PyTree, params: PyTree
) -> PyTree:
    """The ascent direction: for complex leaves, the conjugate of JAX's gradient."""
    gradient = jax.grad(lambda x: value_fn(trees.replaced(params, x)), allow_int=True)
    return trees.map_inexact(jnp.conj, gradient(trees.without_others(params, grads)))


def _require_callable(
    function: str, argument: str, result: str, example: str, given: Any
) -> None:
    if not callable(given):
        msg = (
            f"{function}: {argument} must be a function from params to the {result}, "
            f"got a {type(given).__name__}. Call update(grads, state, params, "
            f"{argument}={example})."
        )
        raise TypeError(msg)


def _arrays_like(
    function: str, what: str, tree: PyTree, params: PyTree, advice: str = ""
) -> PyTree:
    trees.require_shapes_of(function, what, tree, "the params", params, advice)
    return trees.map_inexact(jnp.asarray, tree)
