"""Trees, gradients and extra arguments for the optimizer under test.

All numbers come from formulas, so they do not depend on a random generator, the
platform or the order of construction. Nearly all rules share two leaves of shapes
(2, 3) and (3,): with few shapes JAX compiles little, which makes the rules fast.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any
# Function of gradients and params that returns extra arguments by name.
ExtraArgs = Callable[[Tree, Tree], Mapping[str, Any]]

SHAPES: Tree = {"layer": {"bias": (3,), "kernel": (2, 3)}}
MIXED: Tree = {"layer": {"bias": "bfloat16", "kernel": "float32"}}
# One leaf for each 16-bit dtype: without jit, each shape compiles each operation.
_NARROW: dict[str, Tree] = {"bfloat16": {"w": (3,)}, "float16": {"w": (2, 3)}}


class MaskedLossError(TypeError):
    """Stands for the error of a real model whose loss gets masked params."""


def make_params(dtype: Tree = "float32", shapes: Tree = SHAPES) -> Tree:
    """Returns params of size about 1; `dtype` is one dtype or a tree of dtypes."""
    return _fill(shapes, dtype, 0.3)


def make_grads(step: int, dtype: Tree = "float32", shapes: Tree = SHAPES) -> Tree:
    """Returns the gradients of a step (from 0): of size about 1, never zero."""
    return _fill(shapes, dtype, 2.0 + 1.9 * step)


def make_stream(
    steps: int, dtype: Tree = "float32", shapes: Tree = SHAPES
) -> list[Tree]:
    """Returns the gradients of the first steps."""
    return [make_grads(step, dtype, shapes) for step in range(steps)]


def shapes_for(dtype: str) -> Tree:
    """Returns the shapes to use with a dtype where there is no jit."""
    return _NARROW.get(dtype, SHAPES)


def full_like(tree: Tree, value: float) -> Tree:
    """Returns a tree of the same shapes and dtypes, filled with `value`."""
    return jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), tree)


def abstract(tree: Tree) -> Tree:
    """Returns the tree with its arrays replaced by shapes and dtypes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def extra_args(grads: Tree, params: Tree) -> dict[str, Any]:
    """Returns every extra argument that an optimizer of optax may need.

    The loss is ½·Σ|p|², whose gradient is p; the auxiliary gradients are the gradients
    with every second entry multiplied by -½. All are linear or quadratic in the params
    and gradients, which the rule about complex phases needs. Like the loss of a model,
    the functions need the full params.
    """
    return {
        "value": half_square(params),
        "grad": grads,
        "value_fn": _loss,
        "obj_fn": _loss,
        "grad_fn": _gradient_of_half_square,
        "tail_grad_fn": _gradient_of_half_square,
        "aux_grads": jax.tree.map(_auxiliary, grads),
    }


def half_square(params: Tree) -> jax.Array:
    """Returns ½·Σ|p|² in float32, or in float64 if any leaf is float64."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]
    wide = [x for x in leaves if x.dtype in (np.dtype("f8"), np.dtype("c16"))]
    total = jnp.zeros([], jnp.float64 if wide else jnp.float32)
    for x in leaves:
        total += 0.5 * jnp.sum(jnp.square(jnp.abs(x).astype(total.dtype)))
    return total


def _loss(params: Tree) -> jax.Array:
    _refuse_masked(params)
    return half_square(params)


def _refuse_masked(params: Tree) -> None:
    def masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    if any(map(masked, jax.tree.leaves(params, is_leaf=masked))):
        msg = "the loss of a model was called with optax.MaskedNode in place of params"
        raise MaskedLossError(msg)


def _gradient_of_half_square(params: Tree, step: Any = None) -> Tree:
    del step  # optax.contrib.sam counts its calls
    _refuse_masked(params)
    # Copies: if the gradient shared a buffer with the params, correct optimizers would
    # break the rule about shared buffers.
    return jax.tree.map(_gradient_leaf, params)


def _gradient_leaf(param: Any) -> Any:
    param = jnp.array(param)
    if jnp.issubdtype(param.dtype, jnp.inexact):
        return param
    return np.zeros(param.shape, jax.dtypes.float0)


def _auxiliary(grad: Any) -> Any:
    if getattr(grad, "dtype", None) == jax.dtypes.float0:
        return grad
    grad = jnp.asarray(grad)
    weights = np.resize(np.array([1.0, -0.5]), grad.shape)
    return grad * jnp.asarray(weights, grad.dtype)


def _fill(shapes: Tree, dtype: Tree, phase: float) -> Tree:
    leaves, structure = jax.tree.flatten(shapes, is_leaf=is_shape)
    if isinstance(dtype, dict):
        dtypes = structure.flatten_up_to(dtype)
    else:
        dtypes = [dtype] * len(leaves)
    arrays = []
    for i, (shape, name) in enumerate(zip(leaves, dtypes, strict=True)):
        value = _wave(shape, phase + 0.7 * i)
        if jnp.issubdtype(name, jnp.complexfloating):
            value = value + 1j * _wave(shape, phase + 0.4 + 0.7 * i)
        # Cases cache these arrays, so they must be concrete even under a trace.
        with jax.ensure_compile_time_eval():
            arrays.append(jnp.asarray(value.astype(jnp.dtype(name))))
    return structure.unflatten(arrays)


def _wave(shape: tuple[int, ...], phase: float) -> np.ndarray:
    index = np.arange(math.prod(shape), dtype=np.float64)
    wave = np.cos(1.3 * index + phase)
    # Away from zero, where the sign of a rounding error would decide a step.
    return (wave + np.where(wave < 0, -0.1, 0.1)).reshape(shape)


def is_shape(node: object) -> bool:
    """Returns whether a node of a tree of shapes is a shape."""
    return type(node) is tuple and all(isinstance(size, int) for size in node)
