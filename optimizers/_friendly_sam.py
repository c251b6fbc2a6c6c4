"""Friendly SAM, perturbations along the gradient noise: Li et al. (2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import ascent, checks, masks, numerics, schedules, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["FriendlySamState", "friendly_sam", "friendly_sam_gradient"]


class FriendlySamState(NamedTuple):
    """State of `friendly_sam_gradient`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes of the params, at least float32


def friendly_sam_gradient(
    rho: ScalarOrSchedule = 0.05,
    sigma: Scalar = 1.0,
    decay: Scalar = 0.9,
    *,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The gradient of Friendly SAM, for use in a chain; see `friendly_sam`.

    Args:
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      sigma: Factor on the average gradient that is subtracted.
      decay: Decay rate of the average, in [0, 1).
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The transformation; put it before the optimizer in a chain: after it, the updates
      would point uphill; those of this library's optimizers are refused. The result has
      the dtypes of the gradients.

    Raises:
      ValueError: A hyperparameter is out of its range; in `init` and `update`, the
        params are masked; in `update`, the gradients are updates of an optimizer,
        params are missing, grad_fn and value_fn are both missing, or gradients do not
        have the structure and shapes of the params.
    """
    return _gradient("friendly_sam_gradient", rho, sigma, decay, mask, reduce)


def friendly_sam(
    optimizer: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.05,
    sigma: Scalar = 1.0,
    decay: Scalar = 0.9,
    *,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Friendly SAM: SAM that perturbs along the noise of the gradient.

    Perturbing along the full-batch gradient hurts generalization, and perturbing along
    the batch-specific noise helps. An average of gradients estimates the full-batch
    gradient. For the gradient :math:`g_t = \nabla L(x_{t-1})`, with the norm over all
    leaves,

    .. math::

       s_t &= g_t - \sigma m_{t-1}                                            && (1) \\
       m_t &= \lambda m_{t-1} + (1 - \lambda) g_t                             && (2) \\
       e_t &= \rho_t \, s_t / \|s_t\|                                         && (3) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                        && (4) \\
       x_t &= x_{t-1} + \text{optimizer}(g'_t, x_{t-1})                       && (5)

    but :math:`s_1 = m_1 = g_1`, and 0/0 is 0. `update` needs ``grad_fn`` or
    ``value_fn``, a function from params to the gradient or to the loss on the same
    batch. `friendly_sam_gradient` is (1) to (4) as the first transformation of a chain;
    it composes like `sharpness_aware`.

    To accumulate gradients, put ``optax.MultiSteps`` inside, as in
    ``friendly_sam(optax.MultiSteps(optimizer, k))``: around it, it would take the
    second gradient on the last micro-batch only.

    Cost: two gradients per step, and a state of the size of the params.

    Symbols: :math:`\rho` rho, :math:`\sigma` sigma, :math:`\lambda` decay; the state
    holds :math:`t` as count, :math:`m` as mu, in at least float32, because (1) is a
    difference of similar numbers.

    Defaults: rho is that of SAM, the others those of the released code's class; its
    script takes a decay of 0.95.

    Differences from the paper: (1) uses the average before this gradient, as the
    released code does. For :math:`\sigma = 1` both give the same direction.

    Differences from released code: none in (1) to (4). Other releases average :math:`s`
    in (2); the authors average :math:`g`.

    Args:
      optimizer: Optimizer that gets the gradient of (4).
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      sigma: Factor on the average gradient that is subtracted, finite and >= 0; 0 is
        SAM.
      decay: Decay rate of the average, in [0, 1).
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: As `friendly_sam_gradient`.

    References:
      Li, Zhou, He, Cheng and Huang, Friendly Sharpness-Aware Minimization, CVPR 2024;
      arXiv:2403.12350.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.friendly_sam(optax.sgd(0.1), rho=0.01)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(
      ...         jax.grad(loss)(x), state, x, grad_fn=jax.grad(loss)
      ...     )
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    inner = checks.inner_optimizer("friendly_sam", optimizer, "rho=0.05")
    gradient = _gradient("friendly_sam", rho, sigma, decay, mask, reduce)
    return optax.chain(gradient, inner)  # (5)


def _gradient(
    name: str,
    rho: ScalarOrSchedule,
    sigma: Scalar,
    decay: Scalar,
    mask: Mask,
    reduce: Reduce | None,
) -> optax.GradientTransformationExtraArgs:
    checks.non_negative(name, rho=rho, sigma=sigma)
    checks.decay_rates(name, decay=decay)
    checks.functions(name, reduce=reduce)
    mask = masks.checked(name, "mask", mask, rho)

    def init(params: PyTree) -> FriendlySamState:
        ascent.require_unmasked(name, params)
        return FriendlySamState(
            count=jnp.zeros([], jnp.int32), mu=trees.optional_averages_like(params)
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        grad_fn: Callable[[PyTree], PyTree] | None = None,
        value_fn: Callable[[PyTree], Any] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, FriendlySamState]:
        del extra_args
        radius = schedules.value_at(rho, state.count)
        grads = ascent.gradients_of_params(name, updates, params)
        trees.require_shapes_of(
            name, "the gradients", grads, "the params of init()", state.mu
        )
        gradient = ascent.gradient_of_loss(name, grad_fn, value_fn, grads)
        is_first = state.count == 0
        share, weight = 1.0 - numerics.as_scalar(decay), -numerics.as_scalar(sigma)
        noise = trees.map_inexact(
            lambda g, m: jnp.where(
                is_first, numerics.upcast(g), numerics.add_scaled(g, weight, m)
            ),
            grads,
            state.mu,
        )  # (1)
        mu = jax.tree.map(
            lambda m, g: _approach(is_first, share, g, m) if trees.is_inexact(g) else m,
            state.mu,
            grads,
        )  # (2)
        perturbed = ascent.perturbed_gradient(
            name, gradient, params, grads, radius, noise, mask, reduce
        )  # (3), (4)
        count = numerics.increment(state.count)
        return perturbed, FriendlySamState(count, mu)

    return optax.GradientTransformationExtraArgs(init, update)


@numerics.inline_jit
def _approach(
    is_first: jax.Array, share: Scalar, g: jax.Array, m: jax.Array
) -> jax.Array:
    """m + (1 - b) (g - m), or g at the first step, in the dtype of m."""
    wide = numerics.upcast(g, m)
    gap = wide - m.astype(wide.dtype)
    average = m.astype(wide.dtype) + numerics.cast_scalar(wide, share) * gap
    return jnp.where(is_first, wide, average).astype(m.dtype)
