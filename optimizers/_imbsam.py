"""ImbSAM, SAM for imbalanced classes: Zhou et al. (2023)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from optimizers._common import ascent, checks, masks, numerics, schedules, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["imbsam", "imbsam_gradient"]


def imbsam_gradient(
    rho: ScalarOrSchedule = 0.05,
    *,
    tail_weight: Scalar = 1.0,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The gradient of ImbSAM, for use in a chain; see `imbsam`.

    Args:
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      tail_weight: Factor on the gradient of the tail.
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
        params or tail_grad_fn are missing, or gradients do not have the structure and
        shapes of the params.
    """
    return _gradient("imbsam_gradient", rho, tail_weight, mask, reduce)


def imbsam(
    optimizer: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.05,
    *,
    tail_weight: Scalar = 1.0,
    mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""ImbSAM: SAM on the loss of rare classes, plain gradients on the rest.

    Models overfit most to classes with few examples. The loss is the sum of two: the
    head, over frequent classes, and the tail, over classes with few training examples
    (fewer than 20 in the released code). Both are divided by the size of the whole
    batch. With the norm over all leaves,

    .. math::

       e_t &= \rho_t \frac{\nabla L_{tail}(x_{t-1})}
         {\|\nabla L_{tail}(x_{t-1})\|}                                       && (1) \\
       g'_t &= \nabla L_{head}(x_{t-1})
         + w \nabla L_{tail}(x_{t-1} + e_t)                                   && (2) \\
       x_t &= x_{t-1} + \text{optimizer}(g'_t, x_{t-1})                       && (3)

    where 0/0 is 0: a batch without a tail gives the gradient of the head. Pass `update`
    the gradients of the head, and ``tail_grad_fn``, a function from params to the
    gradient of the tail::

        def part(params, of_tail):
            losses = cross_entropy(model(params, inputs), labels)
            return jnp.mean(jnp.where(is_tail[labels] == of_tail, losses, 0.0))

        tail_grad_fn = lambda params: jax.grad(part)(params, True)
        grads = jax.grad(part)(params, False)
        updates, state = optimizer.update(
            grads, state, params, tail_grad_fn=tail_grad_fn
        )

    `imbsam_gradient` is (1) and (2) as the first transformation of a chain; it composes
    like `sharpness_aware`.

    To accumulate gradients, put ``optax.MultiSteps`` inside, as in
    ``imbsam(optax.MultiSteps(optimizer, k))``: around it, it would take the gradients
    of the tail on the last micro-batch only.

    Cost: three gradients per step, one of the head and two of the tail (one if rho is
    the number 0, which only weights the classes); no state except a step count if rho
    is a schedule.

    Symbols: :math:`\rho` rho, :math:`w` tail_weight.

    Defaults: rho is that of the released code; :math:`w` that of the paper.

    Differences from the paper: none.

    Differences from released code: its trainer multiplies the loss of the tail by 2;
    use ``tail_weight=2.0`` for that.

    Args:
      optimizer: Optimizer that gets the gradient of (2).
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      tail_weight: Factor on the gradient of the tail, finite and >= 0.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: As `imbsam_gradient`.

    References:
      Zhou, Qu, Xu and Shen, ImbSAM: A Closer Look at Sharpness-Aware Minimization in
      Class-Imbalanced Recognition, ICCV 2023; arXiv:2308.07815.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> head = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> tail = lambda x: jnp.sum((x - 4.0) ** 2)
      >>> optimizer = optimizers.imbsam(optax.sgd(0.1), rho=0.05)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(
      ...         jax.grad(head)(x), state, x, tail_grad_fn=jax.grad(tail)
      ...     )
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{head(x) + tail(x):.1f}")
      1.0
    """
    inner = checks.inner_optimizer("imbsam", optimizer, "rho=0.05")
    return optax.chain(
        _gradient("imbsam", rho, tail_weight, mask, reduce), inner
    )  # (3)


def _gradient(
    name: str,
    rho: ScalarOrSchedule,
    tail_weight: Scalar,
    mask: Mask,
    reduce: Reduce | None,
) -> optax.GradientTransformationExtraArgs:
    checks.non_negative(name, rho=rho, tail_weight=tail_weight)
    checks.functions(name, reduce=reduce)
    mask = masks.checked(name, "mask", mask, rho)

    def init(params: PyTree) -> Any:
        ascent.require_unmasked(name, params)
        return schedules.init_state(rho)

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        tail_grad_fn: Callable[[PyTree], PyTree] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, Any]:
        del extra_args
        radius, state = schedules.advance(rho, state)
        grads = ascent.gradients_of_params(name, updates, params)
        if tail_grad_fn is None:
            msg = (
                f"{name}: update() needs tail_grad_fn, a function from params to the "
                "gradient of the rare classes' loss; it is None. Call "
                "update(head_grads, state, params, tail_grad_fn=jax.grad(tail_loss))."
            )
            raise ValueError(msg)
        argument = "tail_grad_fn"
        x = trees.with_gradients(name, grads, params)
        tail = ascent.gradient_at(name, tail_grad_fn, x, params, grads, argument)
        tail = ascent.perturbed_gradient(
            name, tail_grad_fn, params, tail, radius, tail, mask, reduce, argument
        )  # (1)
        total = trees.add_multiple(grads, numerics.as_scalar(tail_weight), tail)  # (2)
        return trees.saturating_cast_like(total, grads), state

    return optax.GradientTransformationExtraArgs(init, update)
