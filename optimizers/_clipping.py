"""Clipping by the norm: Pascanu et al. (2013); unit by unit: Brock et al. (2021)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers._common import checks, donation, numerics, reductions, trees
from optimizers._common.typing import PyTree, Reduce, Scalar

__all__ = ["adaptive_grad_clip", "clip_by_global_norm"]

Axes = int | tuple[int, ...] | None


def clip_by_global_norm(
    max_norm: Scalar, *, reduce: Reduce | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Clipping by the global norm: long gradients keep only their direction.

    For the gradient :math:`g`, with the norm over the whole tree,

    .. math::

       \hat g = \begin{cases}
         g                & \text{if } \|g\| < \tau \\
         \tau g / \|g\|   & \text{otherwise}
       \end{cases}                                                          && (1)

    A gradient below the limit is not touched, to the bit. The norm is computed in at
    least float32, and from entries that are first brought to the size of 1: it is
    right for gradients that are too large or too small for their squares to be
    numbers, and for any number of leaves in bfloat16. A gradient that is not finite
    gives one that is not finite; see `optax.apply_if_finite`.

    Symbols: :math:`\tau` max_norm.

    Defaults: none; the usual limit is 1.

    Differences from the paper: none. Differences from released code: PyTorch divides
    by :math:`\|g\| + 10^{-6}`, and so also changes what is at the limit. The norm of
    optax has the dtype of the leaves: in bfloat16 it stops growing at a few hundred
    leaves, and in float32 it is 0 for gradients of 1e-30 and infinite for 1e25.

    Args:
      max_norm: The largest norm, at least 0; infinity is no limit.
      reduce: Only where each device holds a part of the params and calls `update` by
        itself, as in ``shard_map``: sums a small vector over these devices, for
        instance ``lambda x: jax.lax.psum(x, "data")``.

    Returns:
      The transformation, to be put before an optimizer in a chain. It keeps the dtypes
      of the gradients.

    Raises:
      ValueError: max_norm is negative or no number.

    References:
      Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
      networks, ICML 2013, Algorithm 1; arXiv:1211.5063.

    Examples:
      >>> import jax.numpy as jnp, optimizers
      >>> clip = optimizers.clip_by_global_norm(1.0)
      >>> gradient = jnp.array([3.0, 4.0])
      >>> clipped, _ = clip.update(gradient, clip.init(gradient))
      >>> print(clipped.round(2))
      [0.6 0.8]
    """
    checks.limits("clip_by_global_norm", max_norm=max_norm)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del params, extra_args
        updates = trees.map_inexact(jnp.asarray, updates)
        limit = numerics.wide_scalar(max_norm)
        norm = reductions.norm(updates, reduce)
        # A norm that is no number is not below the limit.
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
    axis_fn: Callable[[tuple[Any, ...], Any], Axes] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adaptive gradient clipping: no gradient is long beside the weights it moves.

    For each unit, the weights :math:`w_i` that feed one output, and its gradient
    :math:`g_i`,

    .. math::

       \hat g_i &= g_i \min(1, \lambda \max(\|w_i\|, \varepsilon) / \|g_i\|)  && (1)

    It lets networks without normalization train at rates at which they would
    diverge. The authors do not clip the last linear layer; leave it out with
    `optax.masked`. A unit below its limit is not touched, to the bit. Norms are
    computed in at least float32, from entries brought to the size of 1.

    A unit is what is left of a leaf when some axes are summed over. By default,
    these are the axes of optax: all of a scalar or vector, also with further axes of
    size 1; the first of a matrix (in, out); the first of three (in, heads, size); the
    first three and four of the kernels of convolutions in two and three dimensions.
    For other layouts, as (width, in, out) of a convolution in one dimension, say which:

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
      clipping: The largest ratio of the norms of gradient and weights, at least 0;
        infinity is no limit.
      eps: The least norm of a unit's weights, so that zeros can be left.
      axis: Axes to sum over, of every leaf; None for the default.
      axis_fn: A function from the path of a leaf, as in
        `jax.tree_util.tree_map_with_path`, and the leaf to its axes; None for the
        default. With `optax.inject_hyperparams`, name it in static_args.

    Returns:
      The transformation, to be put before an optimizer in a chain. It keeps the dtypes
      of the gradients.

    Raises:
      ValueError: A hyperparameter is out of its range, both axis and axis_fn are given;
        in `update`, there are no params, or a leaf has more than five axes and nobody
        says which of them make a unit.

    References:
      Brock, De, Smith and Simonyan, High-Performance Large-Scale Image Recognition
      Without Normalization, ICML 2021; arXiv:2102.06171.

    Examples:
      >>> import jax.numpy as jnp, optimizers
      >>> clip = optimizers.adaptive_grad_clip(0.1)
      >>> weights, gradient = jnp.array([3.0, 4.0]), jnp.array([30.0, 40.0])
      >>> clipped, _ = clip.update(gradient, clip.init(weights), weights)
      >>> print(clipped.round(2))
      [0.3 0.4]
    """
    name = "adaptive_grad_clip"
    checks.limits(name, clipping=clipping)
    checks.non_negative(name, eps=eps)
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
                f"{name}: update() needs params, because gradients are clipped to a "
                "share of the params. Call update(grads, state, params)."
            )
            raise ValueError(msg)
        trees.require_shapes_of(name, "the gradients", updates, "the params", params)
        ratio, least = numerics.wide_scalar(clipping), numerics.wide_scalar(eps)

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
            f"{leaf.shape}, and the axes of a unit are known for up to rank five; "
            "give axis or axis_fn."
        )
        raise ValueError(msg)
    return {2: (0,), 3: (0,), 4: (0, 1, 2), 5: (0, 1, 2, 3)}[leaf.ndim]


@numerics.inline_jit
def _scaled_unless(
    below: jax.Array, limit: jax.Array, g: jax.Array, direction: jax.Array
) -> jax.Array:
    clipped = numerics.like(direction, limit) * direction
    return jnp.where(below, g, clipped.astype(g.dtype))


def _clipped(
    axes: Axes, ratio: jax.Array, least: jax.Array, g: jax.Array, w: jax.Array
) -> jax.Array:
    wide = numerics.widen(g, w)
    limit = numerics.like(wide.real, ratio) * jnp.maximum(
        _norms(axes, w.astype(wide.dtype)), numerics.like(wide.real, least)
    )
    size = _norms(axes, wide)
    clipped = numerics.safe_divide(wide, size) * numerics.like(wide, limit)
    return jnp.where(size > limit, clipped.astype(g.dtype), g)  # (1)


def _norms(axes: Axes, x: jax.Array) -> jax.Array:
    """Euclidean norms over the axes, of entries scaled to the size of 1."""
    largest = jnp.max(jnp.abs(x), axes, keepdims=True, initial=0.0)
    bits = jnp.finfo(x.dtype)
    tiny = float(bits.smallest_normal)
    size = jnp.clip(largest, tiny, 0.25 / tiny)
    square = jnp.sum(
        numerics.abs_square(x * numerics.like(x, 1.0 / size)), axes, keepdims=True
    )
    return size * jnp.sqrt(square)
