"""Clipping by global norm: Pascanu et al. (2013); adaptive: Brock et al. (2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optimizers._common import checks, donation, numerics, reductions, trees
from optimizers._common.typing import PyTree, Reduce, Scalar

__all__ = ["adaptive_grad_clip", "clip_by_global_norm"]

Axes = int | tuple[int, ...] | None
AxesOfLeaf = Callable[[tuple[Any, ...], Any], Axes]


def clip_by_global_norm(
    max_norm: Scalar, *, reduce: Reduce | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Clipping by the global norm: limits the norm of the gradient.

    For the gradient :math:`g`, with the norm over the whole tree,

    .. math::

       \hat g = \begin{cases}
         g                & \text{if } \|g\| < \tau \\
         \tau g / \|g\|   & \text{otherwise}
       \end{cases}                                                          && (1)

    A gradient below the limit is unchanged. The norm is computed in at least float32,
    from elements scaled to a size near 1: it is accurate for gradients whose squares
    overflow or underflow, and for any number of leaves in bfloat16. A gradient that is
    not finite stays not finite; see `optax.apply_if_finite`.

    Symbols: :math:`\tau` max_norm.

    Defaults: none; the usual limit is 1.

    Differences from the paper: none. Differences from released code: PyTorch divides by
    :math:`\|g\| + 10^{-6}`, which also changes gradients at the limit. The norm of
    optax has the dtype of the leaves: in bfloat16 it stops growing after a few hundred
    leaves, and in float32 it is 0 for gradients of 1e-30 and infinite for 1e25.

    Args:
      max_norm: Largest norm, at least 0; infinity disables clipping.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The transformation; put it before an optimizer in a chain. It keeps the dtypes of
      the gradients.

    Raises:
      ValueError: max_norm is negative or not a number.

    References:
      Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
      networks, ICML 2013, Algorithm 1; arXiv:1211.5063.

    Examples:
      >>> import jax.numpy as jnp, optimizers
      >>> clip = optimizers.clip_by_global_norm(1.0)
      >>> gradient = jnp.array([3.0, 4.0])
      >>> clipped, _ = clip.update(gradient, clip.init(gradient))
      >>> print([f"{x:.2f}" for x in clipped])
      ['0.60', '0.80']
    """
    checks.limits("clip_by_global_norm", max_norm=max_norm)
    checks.functions("clip_by_global_norm", reduce=reduce)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del params, extra_args
        updates = trees.map_inexact(jnp.asarray, updates)
        limit = numerics.as_float_scalar(max_norm)
        norm = reductions.norm(updates, reduce)
        # False if the norm is NaN, so that NaN reaches all gradients.
        below = norm.root / norm.scale < limit
        # The norm and the directions share the scaled gradients, which are as fast to
        # recompute as to store.
        scale = donation.after_sum(norm.root, norm.scale)
        directions = reductions.unit(updates, norm._replace(scale=scale))
        clipped = trees.map_inexact(
            lambda g, u: _scaled_unless(below, limit, g, u), updates, directions
        )  # (1)
        return clipped, state

    return optax.GradientTransformationExtraArgs(_no_state, update)


def adaptive_grad_clip(
    clipping: Scalar,
    eps: Scalar = 1e-3,
    axis: Axes = None,
    *,
    axis_fn: AxesOfLeaf | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adaptive gradient clipping: clips gradients relative to the weight norm.

    For each unit, the weights :math:`w_i` that feed one output, and its gradient
    :math:`g_i`,

    .. math::

       \hat g_i = g_i \min(1, \lambda \max(\|w_i\|, \varepsilon) / \|g_i\|) \qquad (1)

    It allows larger learning rates in networks without normalization. The authors do
    not clip the last linear layer; exclude it with `optax.masked`. The gradient of a
    unit below its limit is unchanged. Norms are computed in at least float32, from
    elements scaled to a size of at most 1.

    The norm of a unit is a sum over some axes of a leaf. By default, these are the axes
    of optax: all axes of a scalar or vector, also with further axes of size 1; the
    first axis of a matrix (in, out) and of three axes (in, heads, size); the first
    three and four axes of the kernels of convolutions in two and three dimensions. For
    other layouts, such as (width, in, out) of a convolution in one dimension, specify
    them:

    >>> import optimizers
    >>> def axis_fn(path, leaf):
    ...     return (0, 1) if leaf.ndim == 3 else None
    >>> clip = optimizers.adaptive_grad_clip(0.01, axis_fn=axis_fn)

    Symbols: :math:`\lambda` clipping, :math:`\varepsilon` eps.

    Defaults: the eps of the paper, which takes clipping from 0.01 for batches of 4096
    to 0.16 for small ones.

    Differences from the paper: none. Differences from released code: optax computes
    norms in the dtypes of the leaves, and has one axis for all leaves.

    Under ``shard_map``, a unit must not be split over devices.

    Args:
      clipping: Largest ratio of the norms of gradient and weights, at least 0; infinity
        disables clipping.
      eps: Smallest norm of a unit's weights that is used, so that zero weights can
        change.
      axis: Axes to sum over, for all leaves; None for the default.
      axis_fn: A function from the path of a leaf, as in
        `jax.tree_util.tree_map_with_path`, and the leaf to its axes; None for the
        default. With `optax.inject_hyperparams`, name it in static_args.

    Returns:
      The transformation; put it before an optimizer in a chain. It keeps the dtypes of
      the gradients.

    Raises:
      ValueError: A hyperparameter is out of its range, both axis and axis_fn are given;
        in `update`, there are no params, or a leaf has more than five axes and neither
        axis nor axis_fn is given.

    References:
      Brock, De, Smith and Simonyan, High-Performance Large-Scale Image Recognition
      Without Normalization, ICML 2021; arXiv:2102.06171.

    Examples:
      >>> import jax.numpy as jnp, optimizers
      >>> clip = optimizers.adaptive_grad_clip(0.1)
      >>> weights, gradient = jnp.array([3.0, 4.0]), jnp.array([30.0, 40.0])
      >>> clipped, _ = clip.update(gradient, clip.init(weights), weights)
      >>> print([f"{x:.2f}" for x in clipped])
      ['0.30', '0.40']
    """
    name = "adaptive_grad_clip"
    checks.limits(name, clipping=clipping)
    checks.non_negative(name, eps=eps)
    checks.functions(name, axis_fn=axis_fn)
    if axis is not None and axis_fn is not None:
        msg = f"{name}: give axis for all leaves or axis_fn for each, not both."
        raise ValueError(msg)

    def axes(path: tuple[Any, ...], leaf: Any) -> Axes:
        chosen = axis if axis_fn is None else axis_fn(path, leaf)
        return _default_axes(path, leaf) if chosen is None else chosen

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del extra_args
        if params is None:
            msg = (
                f"{name}: update() needs params, because gradients are clipped "
                "relative to them. Call update(grads, state, params)."
            )
            raise ValueError(msg)
        params = trees.without_others(params, updates)
        trees.require_shapes_of(name, "the gradients", updates, "the params", params)
        ratio, least = numerics.as_float_scalar(clipping), numerics.as_float_scalar(eps)

        def leaf(path: tuple[Any, ...], g: Any, w: Any) -> Any:
            if not trees.is_inexact(g):
                return g
            g, w = jnp.asarray(g), jnp.asarray(w)
            return _clipped(axes(path, w), ratio, least, g, w)

        return jax.tree_util.tree_map_with_path(leaf, updates, params), state

    return optax.GradientTransformationExtraArgs(_no_state, update)


def _no_state(params: PyTree) -> optax.EmptyState:
    del params
    return optax.EmptyState()


def _default_axes(path: tuple[Any, ...], leaf: jax.Array) -> Axes:
    if sum(size != 1 for size in leaf.shape) <= 1:
        return tuple(range(leaf.ndim))
    if leaf.ndim > 5:
        msg = (
            f"adaptive_grad_clip: the parameter at {trees.where(path)} has shape "
            f"{leaf.shape}, and there are no default axes for more than rank "
            "five; give axis or axis_fn."
        )
        raise ValueError(msg)
    return {2: (0,), 3: (0,), 4: (0, 1, 2), 5: (0, 1, 2, 3)}[leaf.ndim]


@numerics.inline_jit
def _scaled_unless(
    below: jax.Array, limit: jax.Array, g: jax.Array, direction: jax.Array
) -> jax.Array:
    clipped = numerics.cast_scalar(direction, limit) * direction
    return jnp.where(below, g, clipped.astype(g.dtype))


def _clipped(
    axes: Axes, ratio: jax.Array, least: jax.Array, g: jax.Array, w: jax.Array
) -> jax.Array:
    wide = numerics.upcast(g, w)
    limit = numerics.cast_scalar(wide.real, ratio) * jnp.maximum(
        _norms(axes, w.astype(wide.dtype)), numerics.cast_scalar(wide.real, least)
    )
    size = _norms(axes, wide)
    clipped = numerics.safe_divide(wide, size) * numerics.cast_scalar(wide, limit)
    return jnp.where(size > limit, clipped.astype(g.dtype), g)  # (1)


def _norms(axes: Axes, x: jax.Array) -> jax.Array:
    """Euclidean norms over the axes, from elements scaled to at most 1."""
    largest = jnp.max(jnp.abs(x), axes, keepdims=True, initial=0.0)
    bits = jnp.finfo(x.dtype)
    tiny = float(bits.smallest_normal)
    size = jnp.where(largest == 0.0, 1.0, jnp.clip(largest, tiny, 0.25 / tiny))
    # The size cancels out of the norm, so derivatives need not pass through it.
    size = lax.stop_gradient(size)
    square = jnp.sum(
        numerics.abs_square(x * numerics.cast_scalar(x, 1.0 / size)),
        axes,
        keepdims=True,
    )
    return size * numerics.safe_sqrt(square)
