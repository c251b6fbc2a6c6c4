"""Predictors of the next gradient, for `optimistic_amsgrad`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optimizers._common import checks, donation, numerics, reductions, trees
from optimizers._common.typing import PyTree, Reduce, Scalar

__all__ = [
    "Predictor",
    "RmpeState",
    "last_gradient_predictor",
    "rmpe_predictor",
    "zero_predictor",
]


class Predictor(NamedTuple):
    """Predicts the next gradient for `optimistic_amsgrad`; you can write your own.

    `init(params) -> state` may only map over the tree of params. `predict(gradient,
    state) -> (prediction, state)` takes the current gradient and returns a tree like
    the gradient and a state with the same structure, shapes and dtypes.
    """

    init: Callable[[PyTree], PyTree]
    predict: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


class RmpeState(NamedTuple):
    """State of `rmpe_predictor` with a window of r."""

    count: jax.Array  # number of gradients so far, shape (), int32
    gradients: tuple[PyTree, ...]  # y, ring buffer of the last r, each as the params
    gram: jax.Array  # U^T U, in the order of gradients, (r, r), at least float32


def last_gradient_predictor() -> Predictor:
    """Predicts that the next gradient equals the last one, like predictor=None.

    Returns:
      The predictor. It has no state, but `optimistic_amsgrad` stores one tree more with
      it than with None.
    """
    return Predictor(lambda params: (), lambda gradient, state: (gradient, state))


def zero_predictor() -> Predictor:
    """Predicts a zero gradient; with b1=0 this is AMSGrad in the paper's form.

    Returns:
      The predictor. It has no state.
    """
    return Predictor(
        lambda params: (),
        lambda gradient, state: (jax.tree.map(jnp.zeros_like, gradient), state),
    )


def rmpe_predictor(
    window: int = 5,
    regularization: Scalar = 1e-3,
    *,
    normalize: bool = False,
    reduce: Reduce | None = None,
) -> Predictor:
    r"""Predicts the limit of the gradients, by extrapolation of the last few.

    This is regularized minimal polynomial extrapolation (RMPE). Let :math:`y_0, \ldots,
    y_k` be the last gradients, the newest last, each as one vector of the whole tree,
    with :math:`k \le r`. The prediction is a weighted average of them, with weights for
    which the same average of their differences is small:

    .. math::

       U &= [y_1 - y_0, \ldots, y_k - y_{k-1}]                          && (1) \\
       (U^\top U + \lambda I) z &= 1, \quad c = z / 1^\top z            && (2) \\
       m &= \sum_{i<k} c_i y_i                                          && (3)

    and :math:`m = 0` after the first gradient. For complex leaves, inner products are
    replaced by their real parts. Each step computes :math:`r + 1` inner products and
    takes the other entries of :math:`U^\top U` from the state. The prediction is the
    limit of the sequence of gradients, not its next element: for a geometric sequence
    that tends to 0, it is nearly 0.

    Symbols: :math:`r` window, :math:`\lambda` regularization.

    Defaults: those of the paper's experiments.

    Differences from the paper: :math:`\lambda` is at least the trace of
    :math:`U^\top U` times 10 machine epsilons, the precision of the inner products.
    In float32, this has an effect only if the differences are larger than about 30. It
    keeps (2) solvable for :math:`\lambda = 0`. In (3), each weight belongs to the older
    gradient of its difference, as published; extrapolation with the newer gradient is
    not implemented.

    Differences from the released code: the released code does not extrapolate gradients
    but params, separately for each leaf, and stores no past params: all its differences
    are :math:`w - \tilde w`.

    Args:
      window: Number of differences :math:`r`; the state holds as many gradients.
      regularization: :math:`\lambda \ge 0`. It is absolute: if the squared differences
        are far smaller, all weights are nearly equal.
      normalize: Whether :math:`\lambda` is relative to the trace of
        :math:`U^\top U`, so that the weights do not depend on the gradients' scale.
      reduce: All-reduce for inner products under `jax.shard_map`, e.g.
        ``lambda x: jax.lax.psum(x, "data")``. Leave None under `jax.jit`.

    Returns:
      The predictor.

    Raises:
      ValueError: window is not an integer >= 1, or regularization is negative.

    References:
      Scieur, d'Aspremont and Bach, Regularized Nonlinear Acceleration, NeurIPS 2016;
      arXiv:1606.04133.

    Examples:
      >>> import jax.numpy as jnp, optimizers
      >>> predictor = optimizers.rmpe_predictor(window=2, regularization=0.0)
      >>> state = predictor.init(jnp.zeros(2))
      >>> for n in range(5):
      ...     gradient = jnp.array([1.0, 2.0]) + 0.5**n
      ...     prediction, state = predictor.predict(gradient, state)
      >>> print(prediction.round(2))
      [1. 2.]
    """
    name = "rmpe_predictor"
    checks.non_negative(name, regularization=regularization)
    checks.functions(name, reduce=reduce)
    window = checks.size(name, "window", window)

    def init(params: PyTree) -> RmpeState:
        gradients = tuple(trees.zeros_like(name, params) for _ in range(window))
        dtypes = (numerics.dtype_of(y) for y in jax.tree.leaves(gradients[0]))
        wide = numerics.real_dtype(numerics.compute_dtype(*dtypes))
        return RmpeState(
            count=jnp.zeros([], jnp.int32),
            gradients=gradients,
            gram=jnp.zeros((window, window), wide),
        )

    def predict(gradient: PyTree, state: Any) -> tuple[PyTree, RmpeState]:
        place = state.count % window
        ring = state.gradients
        # Rounded now as it will be stored, so that later differences are the same.
        newest = trees.cast_like(gradient, ring[0])
        products = jnp.zeros_like(state.gram[0])
        for leaf in trees.per_leaf(
            functools.partial(_inner_products, place), newest, *ring
        ):
            products = products + leaf.astype(products.dtype)
        if reduce is not None:
            products = reduce(products)
        gram = _replaced(state.gram, place, products)  # (1)
        weights = _weights(gram, state.count, regularization, normalize)  # (2)
        prediction = jax.tree.map(
            lambda *ys: _average(state.count, weights, *ys), *ring
        )
        ring = donation.after(state.count, (prediction,) * window, ring)
        ring = tuple(
            jax.tree.map(functools.partial(jnp.where, place == i), newest, y)
            for i, y in enumerate(ring)
        )
        return prediction, RmpeState(numerics.increment(state.count), ring, gram)

    return Predictor(init, predict)


@numerics.inline_jit
def _subtract(x: jax.Array, y: jax.Array) -> jax.Array:
    x = numerics.upcast(x, y)
    return x - y.astype(x.dtype)


@numerics.inline_jit
def _inner_products(place: jax.Array, g: jax.Array, *ring: jax.Array) -> jax.Array:
    """Returns Re<u_i, u_k> for all differences u_i of neighbors; u_k is the newest.

    A difference has the index of its newer gradient in the ring; `place` is that of g.
    """
    last = ring[-1]
    for i, y in enumerate(ring[:-1]):
        last = jnp.where(place == i + 1, y, last)
    newest = _subtract(g, last)
    square = reductions.product(newest, newest)
    # The product computed at `place` is not used. Selecting the arrays before the
    # products would avoid it, but store each selected array.
    others = (
        reductions.product(_subtract(y, ring[i - 1]), newest)
        for i, y in enumerate(ring)
    )
    return jnp.stack(
        [jnp.where(place == i, square, other) for i, other in enumerate(others)]
    )


@numerics.inline_jit
def _replaced(gram: jax.Array, place: jax.Array, products: jax.Array) -> jax.Array:
    """Returns the matrix with row and column `place` replaced by finite products."""
    here = jnp.arange(len(gram), dtype=jnp.int32) == place
    products = jnp.nan_to_num(products)
    gram = jnp.where(here[:, None], products[None, :], gram)
    return jnp.where(here[None, :], products[:, None], gram)


def _weights(
    gram: jax.Array, count: jax.Array, regularization: Scalar, normalize: bool
) -> jax.Array:
    """Equation (2) for the differences that exist after `count` earlier gradients.

    The other weights are 0. The system is divided by its trace, so that it is regular
    in every precision.
    """
    window = len(gram)
    places = jnp.arange(window, dtype=jnp.int32)
    used = (count >= window) | ((places >= 1) & (places <= count))
    gram = jnp.where(used[:, None] & used[None, :], gram, 0.0)
    largest = jnp.finfo(gram.dtype).max / (2 * window)
    gram = jnp.clip(gram, -largest, largest)
    ridge = numerics.cast_scalar(gram, numerics.as_float_scalar(regularization))
    trace = jnp.trace(gram)
    scale = trace if normalize else trace + ridge
    scale = jnp.where(scale > 0.0, scale, 1.0)
    ridge = jnp.maximum(
        ridge if normalize else ridge / scale, 10 * jnp.finfo(gram.dtype).eps
    )
    system = gram / scale + jnp.diag(jnp.where(used, ridge, 1.0))
    z = jnp.linalg.solve(system, used.astype(gram.dtype))
    return numerics.safe_divide(z, jnp.sum(z))


@numerics.inline_jit
def _average(count: jax.Array, weights: jax.Array, *ring: jax.Array) -> jax.Array:
    """Equation (3): each weight belongs to the older gradient of its difference."""
    terms = (
        numerics.cast_scalar(wide, weights[(i + 1) % len(ring)]) * wide
        for i, wide in enumerate(map(numerics.upcast, ring))
    )
    average = functools.reduce(jnp.add, terms)  # (3)
    # Each gradient of the ring is written after the average that reads it.
    return donation.stored(count, average)
