"""One step uphill and the gradient there: what the sharpness-aware methods share.

Trees may hold leaves that have no gradient, as integers and random keys: they stay at
what they are in the params and in the gradients.
"""

import functools
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers._common import links, numerics, reductions, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule


def base(function: str, optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer that a wrapper was given, with support of extra arguments.

    Raises:
      TypeError: It is no transformation.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        msg = (
            f"{function}: optimizer must be an optax.GradientTransformation, got "
            f"{optimizer!r} of type {type(optimizer).__name__}. Call for instance "
            f"{function}(optax.sgd(0.1), rho=0.05); optax.MultiSteps(...) becomes one "
            "by .gradient_transformation()."
        )
        raise TypeError(msg)
    return optax.with_extra_args_support(optimizer)


def positive_integer(function: str, **values: Any) -> None:
    """Raises ValueError unless each value, where it is known, is an integer >= 1."""
    for name, value in values.items():
        if isinstance(value, jax.Array):  # traced, or injected
            continue
        if not isinstance(value, int | np.integer) or value < 1:
            msg = f"{function}: {name} must be an integer >= 1, got {value!r}."
            raise ValueError(msg)


def init(function: str, rho: ScalarOrSchedule, params: PyTree) -> Any:
    """A count where rho is a schedule, else nothing.

    Raises:
      ValueError: The params are masked.
    """
    _refuse_masked(function, params)
    if callable(rho):
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))
    return optax.EmptyState()


def advance(rho: ScalarOrSchedule, state: Any) -> tuple[Scalar, Any]:
    """The radius of this step, and the state of the next."""
    if not callable(rho):
        return numerics.scalar(rho), state
    radius = links.value_at(rho, state.count)
    return radius, optax.ScaleByScheduleState(numerics.increment(state.count))


def averages_like(function: str, params: PyTree) -> PyTree:
    """Zeros of at least float32; None for a leaf that has no gradient.

    Raises:
      ValueError: The params are masked.
    """
    _refuse_masked(function, params)

    def leaf(p: Any) -> jax.Array | None:
        if not trees.is_inexact(p):
            return None
        return jnp.zeros_like(p, dtype=numerics.compute_dtype(numerics.dtype_of(p)))

    return jax.tree.map(leaf, params)


def gradients(function: str, updates: PyTree, params: PyTree) -> PyTree:
    """The updates as arrays, after a check against the params.

    Raises:
      ValueError: There are no params, they are masked, or the updates do not have
        their structure and shapes.
    """
    if params is None:
        msg = (
            f"{function}: update() needs params, the point around which the loss is "
            "explored. Call update(grads, state, params, ...)."
        )
        raise ValueError(msg)
    _refuse_masked(function, params)
    return _like_params(function, "the gradients", updates, params)


def gradient_of_loss(
    function: str,
    grad_fn: Callable[..., Any] | None,
    value_fn: Callable[..., Any] | None,
) -> Callable[[PyTree], PyTree]:
    """`grad_fn`, or else the gradient of `value_fn`.

    Raises:
      ValueError: Neither is given.
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
    return functools.partial(_gradient, value_fn)


def uphill(
    function: str,
    grad_fn: Callable[[PyTree], PyTree],
    params: PyTree,
    grads: PyTree,
    radius: Scalar,
    slopes: PyTree,
    mask: Mask = None,
    reduce: Reduce | None = None,
    argument: str = "grad_fn",
    length: reductions.Norm | None = None,
) -> PyTree:
    """The gradient at x + rho s / |s|; where rho is the number 0, the one at x.

    Whoever has |s| without the mask already hands it over as the length.

    Raises:
      ValueError: The result does not have the structure and shapes of the params.
    """
    if is_number(radius, 0):
        return grads
    chosen = selected(slopes, mask, params)
    if length is None or mask is not None:
        length = reductions.norm(chosen, reduce)
    steps = euclidean(radius, chosen, length)
    return gradient_at(function, grad_fn, moved(params, steps), params, grads, argument)


def gradient_at(
    function: str,
    grad_fn: Callable[[PyTree], PyTree],
    point: PyTree,
    params: PyTree,
    grads: PyTree,
    argument: str = "grad_fn",
) -> PyTree:
    """The gradient at a point of `moved`, which comes in the dtypes of the params.

    Raises:
      TypeError: `grad_fn` is no function.
      ValueError: It does not have the structure and shapes of the params.
    """
    if not callable(grad_fn):
        msg = (
            f"{function}: {argument} must be a function from params to the gradient, "
            f"got a {type(grad_fn).__name__}. Call update(grads, state, params, "
            f"{argument}=jax.grad(loss))."
        )
        raise TypeError(msg)
    nearest = trees.map_inexact(
        lambda p, x: jnp.asarray(x, numerics.dtype_of(p)), params, point
    )
    found = _like_params(
        function, f"the gradients that {argument} returns", grad_fn(nearest), params
    )
    return cast_like(found, grads)


def euclidean(radius: Scalar, updates: PyTree, length: reductions.Norm) -> PyTree:
    """The step uphill of that radius, rho g / |g|; 0 where g is."""
    directions = reductions.unit(updates, length)
    return trees.map_inexact(lambda u: times(radius, u), directions)


def selected(updates: PyTree, mask: Mask, params: PyTree) -> PyTree:
    """The updates with zeros for leaves that the mask does not name."""
    if mask is None:
        return updates
    return jax.tree.map(
        lambda chosen, g: (
            jnp.zeros_like(g) if trees.is_inexact(g) and not chosen else g
        ),
        flags(mask, params),
        updates,
    )


def flags(mask: Mask, params: PyTree) -> PyTree:
    """The mask as a tree with a boolean for each leaf of the params."""
    return jax.tree.broadcast(links.resolved(mask, params), params)


def moved(params: PyTree, steps: PyTree) -> PyTree:
    """x + e in at least float32, so that one rounding and not two hides a small e."""
    return trees.map_inexact(lambda p, e: _add(jnp.asarray(p), e), params, steps)


def cast_like(direction: PyTree, grads: PyTree) -> PyTree:
    """The direction in the dtypes of the gradients; their other leaves stay."""
    return trees.map_inexact(_cast_like, grads, direction)


def orthogonal(
    x: PyTree, slope: PyTree, reduce: Reduce | None = None
) -> tuple[PyTree, jax.Array]:
    """x - <x, u> u for a slope u of norm 1 or 0, in at least float32; and <x, u>."""
    along = reductions.dot(x, slope, reduce)
    return trees.map_inexact(lambda a, u: plus(a, -along, u), x, slope), along


def is_number(value: Any, number: float) -> bool:
    """Whether it is that number, and not an array that happens to be."""
    return isinstance(value, numbers.Real) and value == number


@numerics.inline_jit
def times(scale: Scalar, x: jax.Array) -> jax.Array:
    """s x, in at least float32."""
    x = numerics.widen(x)
    return numerics.like(x, scale) * x


@numerics.inline_jit
def plus(x: jax.Array, scale: Scalar, y: jax.Array) -> jax.Array:
    """x + s y, in at least float32."""
    x = numerics.widen(x, y)
    return x + numerics.like(x, scale) * y.astype(x.dtype)


@numerics.inline_jit
def _cast_like(g: jax.Array, d: jax.Array) -> jax.Array:
    """In float16, a sum of two finite gradients may be too large."""
    largest = float(jnp.finfo(g.dtype).max)
    if largest < jnp.finfo(d.dtype).max and not jnp.iscomplexobj(d):
        d = jnp.where(jnp.isfinite(d), jnp.clip(d, -largest, largest), d)
    return d.astype(g.dtype)


@numerics.inline_jit
def _add(p: jax.Array, e: jax.Array) -> jax.Array:
    p = numerics.widen(p, e)
    return p + e.astype(p.dtype)


def _gradient(value_fn: Callable[[PyTree], Any], params: PyTree) -> PyTree:
    """The direction in which the value grows: for complex leaves, JAX's conjugate."""
    return trees.map_inexact(jnp.conj, jax.grad(value_fn, allow_int=True)(params))


def _refuse_masked(function: str, params: PyTree) -> None:
    """Raises ValueError where a wrapper hides some of the params."""

    def hidden(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    if any(map(hidden, jax.tree.leaves(params, is_leaf=hidden))):
        msg = (
            f"{function}: the params hold optax.MaskedNode, as inside optax.masked and "
            "optax.partition, where the loss cannot be evaluated. Put it outside, as "
            "in optax.chain(sharpness_aware(0.05), optax.partition(...)), and give the "
            "leaves to move as its own mask."
        )
        raise ValueError(msg)


def _like_params(function: str, what: str, tree: PyTree, params: PyTree) -> PyTree:
    trees.require_shapes_of(function, what, tree, "the params", params)
    return trees.map_inexact(jnp.asarray, tree)
