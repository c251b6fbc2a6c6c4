"""Adam with critical momenta (Adam+CM): Malviya et al. (2024)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    donation,
    moments,
    numerics,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["ScaleByAdamCmState", "adam_cm", "scale_by_adam_cm"]

_CAPACITY = 5


class ScaleByAdamCmState(NamedTuple):
    """State of `scale_by_adam_cm`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params, at least bfloat16
    nu: PyTree  # v, shapes of the params, real, at least float32
    buffer: tuple[PyTree, ...]  # critical momenta, each as mu; unused slots are 0
    keys: jax.Array  # priorities of the slots, shape (capacity,), at least float32


def scale_by_adam_cm(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    capacity: int | None = None,
    decay: Scalar = 0.7,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients as Adam+CM does, without the learning rate; see `adam_cm`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      capacity: Number of stored momenta; None means 5.
      decay: Decay rate of the priorities, in [0, 1].
      reduce: All-reduce for the squared gradient norm under `jax.shard_map`, e.g.
        ``lambda x: jax.lax.psum(x, "data")``. Leave None under `jax.jit`.

    Returns:
      The gradient transformation. Follow it with ``optax.scale_by_learning_rate``.

    Raises:
      ValueError: A hyperparameter is out of range. In `update`: the gradients do not
        match the params in structure and shapes.
    """
    return _scale_by_adam_cm(
        "scale_by_adam_cm", b1, b2, eps, capacity=capacity, decay=decay, reduce=reduce
    )


def adam_cm(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    capacity: int | None = None,
    decay: Scalar = 0.7,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam+CM: Adam with a buffer of momenta from past steps with large gradients.

    The critical momenta, :math:`C` past momenta stored in a buffer with priorities,
    help to escape sharp minima. For the gradient :math:`g_t` at the params
    :math:`x_{t-1}`,

    .. math::

       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t                          && (1) \\
       M_t &= m_t + \text{mean of the momenta in the buffer}               && (2) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |M_t|^2                      && (3) \\
       d_t &= \frac{M_t / (1 - \beta_1^t)}
         {\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}                      && (5) \\
       x_t &= x_{t-1} - \eta_t (d_t + \lambda x_{t-1})                     && (6)

    with :math:`m_0 = v_0 = 0` and an empty buffer, whose mean is 0. After (2), the
    buffer is updated:

    4. :math:`m_t` enters the buffer with priority :math:`\|g_t\|_2`, the norm of the
       whole tree. It takes a free slot if there is one, and otherwise replaces the
       momentum of lowest priority if its own priority is higher. Then all priorities
       are multiplied by :math:`\delta`.

    For constant gradients, :math:`M \to 2g`. In (3), :math:`v` averages squares of a
    moment whose bias is corrected only later, in (5). Hence the first step has the
    size :math:`\eta / (1 - \beta_1)`, ten times Adam's by default.

    Symbols: :math:`\eta` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`C` capacity, :math:`\delta` decay,
    :math:`\lambda` weight_decay; the state holds :math:`t` as count, :math:`m` as mu,
    :math:`v` as nu.

    Defaults: those of the released code. The authors recommend a capacity of 5, 10 or
    20, a decay of 0.7 or 0.99, and Adam's learning rate or a tenth of it.

    Differences from the released code: the released code makes no step at
    :math:`t = 1` and stores the raw gradient there; it uses the sum of the leaves'
    norms as priority; it updates the sum of the buffer by adding and subtracting, which
    accumulates rounding errors; and it fails for a capacity of 0, which here is Adam
    with :math:`|m|^2` in place of :math:`|g|^2` in (3). Its first-in-first-out buffer,
    which always replaces the first momentum, is not implemented.

    Args:
      learning_rate: A float or an optax schedule (called with the step count,
        starting at 0). Negative values ascend.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Small constant added to the denominator, outside the square root.
      capacity: Number of stored momenta, each a tree like the params; None means 5.
        It determines the shapes of the state, so list it in the static_args of
        ``optax.inject_hyperparams``.
      decay: Decay rate of the priorities, in [0, 1].
      weight_decay: Decoupled weight decay, a float or an optax schedule; multiplied by
        the learning rate.
      weight_decay_mask: Leaves to decay: a tree of booleans, a prefix of one, or a
        function from the params to one. None decays all.
      reduce: All-reduce for the squared gradient norm under `jax.shard_map`, e.g.
        ``lambda x: jax.lax.psum(x, "data")``. Leave None under `jax.jit`.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients; add them to the
      params with ``optax.apply_updates``.

    Raises:
      ValueError: A hyperparameter is out of range. In `init`: capacity is traced. In
        `update`: the gradients do not match the params in structure and shapes, or
        weight_decay is used without params.

    References:
      Malviya, Mordido, Baratin, Babanezhad Harikandeh, Huang, Lacoste-Julien,
      Pascanu and Chandar, Promoting Exploration in Memory-Augmented Adam using
      Critical Momenta, TMLR 2024; arXiv:2307.09638.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> learning_rate = optax.cosine_decay_schedule(0.1, 300)
      >>> optimizer = optimizers.adam_cm(learning_rate, capacity=2)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    checks.finite("adam_cm", learning_rate=learning_rate)
    checks.non_negative("adam_cm", weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adam_cm(
            "adam_cm", b1, b2, eps, capacity=capacity, decay=decay, reduce=reduce
        ),
        transforms.add_decayed_weights("adam_cm", weight_decay, weight_decay_mask),
        transforms.scale_by_learning_rate(learning_rate),  # (6)
    )


def _scale_by_adam_cm(
    name: str,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    *,
    capacity: int | None,
    decay: Scalar,
    reduce: Reduce | None,
) -> optax.GradientTransformationExtraArgs:
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps)
    checks.unit_interval(name, decay=decay)
    checks.functions(name, reduce=reduce)
    slots = _CAPACITY if capacity is None else capacity
    if not isinstance(slots, jax.core.Tracer):
        checks.size(name, "capacity", slots, smallest=0)

    def init(params: PyTree) -> ScaleByAdamCmState:
        size = checks.size(name, "capacity", slots, smallest=0)
        mu = trees.zeros_like(name, params)
        dtypes = (numerics.dtype_of(m) for m in jax.tree.leaves(mu))
        wide = numerics.real_dtype(numerics.compute_dtype(*dtypes))
        return ScaleByAdamCmState(
            count=jnp.zeros([], jnp.int32),
            mu=mu,
            nu=trees.accumulators_like(name, params),
            buffer=tuple(trees.zeros_like(name, params) for _ in range(size)),
            keys=jnp.zeros(size, wide),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByAdamCmState]:
        del params, extra_args
        grads = trees.gradients(name, updates, state.nu)
        count = numerics.increment(state.count)
        wide_mu = moments.ema(b1, grads, state.mu)  # (1)
        total, buffer, keys = wide_mu, state.buffer, state.keys
        stored = jnp.minimum(state.count, len(buffer))
        if buffer:
            share = 1.0 / numerics.as_float_scalar(jnp.maximum(stored, 1))
            total = jax.tree.map(
                lambda m, *critical: _add_mean(m, share, *critical), wide_mu, *buffer
            )  # (2)
        nu = moments.ema_of_squares(b2, total, state.nu)  # (3)
        direction = moments.ratio(
            moments.debias(total, b1, count), moments.debias(nu, b2, count), eps
        )  # (5)
        # The direction reads the old momenta. Computed after it, the new ones can be
        # written in place.
        mu = donation.after(state.count, direction, trees.cast_like(wide_mu, state.mu))
        if buffer:
            norm = _norm(grads, keys.dtype, reduce)
            chosen = _chosen(keys, stored, norm)
            keys = _decayed(keys, chosen, norm, numerics.as_float_scalar(decay))
            buffer = tuple(
                jax.tree.map(functools.partial(jnp.where, chosen[i]), mu, slot)
                for i, slot in enumerate(buffer)
            )  # (4)
        return trees.cast_like(direction, grads), ScaleByAdamCmState(
            count, mu, trees.cast_like(nu, state.nu), buffer, keys
        )

    return optax.GradientTransformationExtraArgs(init, update)


@jax.jit
def _add_mean(m: jax.Array, share: jax.Array, *critical: jax.Array) -> jax.Array:
    """Equation (2); unused slots hold 0."""
    total = critical[0].astype(m.dtype)
    for other in critical[1:]:
        total = total + other.astype(m.dtype)
    return m + numerics.cast_scalar(m, share) * total


def _norm(grads: PyTree, dtype: Any, reduce: Reduce | None) -> jax.Array:
    """Returns the norm of the whole tree, clipped to finite numbers."""
    square = jnp.zeros(1, dtype)
    for leaf in trees.per_leaf(_sum_of_squares, grads):
        square = square + leaf.astype(dtype)
    if reduce is not None:
        square = reduce(square)
    return numerics.safe_sqrt(jnp.minimum(square[0], jnp.finfo(dtype).max))


@jax.jit
def _sum_of_squares(g: jax.Array) -> jax.Array:
    return jnp.sum(numerics.abs_square(numerics.upcast(g)))


@jax.jit
def _chosen(keys: jax.Array, stored: jax.Array, norm: jax.Array) -> jax.Array:
    """Returns which slot the new momentum takes, one-hot, or all False for none."""
    slots = jnp.arange(keys.size, dtype=jnp.int32)
    free = slots == stored
    lowest = (slots == jnp.argmin(keys).astype(jnp.int32)) & (norm > jnp.min(keys))
    return jnp.where(stored < keys.size, free, lowest)


@jax.jit
def _decayed(
    keys: jax.Array, chosen: jax.Array, norm: jax.Array, decay: jax.Array
) -> jax.Array:
    return numerics.cast_scalar(keys, decay) * jnp.where(chosen, norm, keys)
