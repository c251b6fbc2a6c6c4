"""SAM, sharpness-aware minimization: Foret et al. (2020), Kwon et al. (2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from optimizers._common import ascent, checks, numerics, perturbation, schedules
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["asam", "sam", "sharpness_aware"]


def sharpness_aware(
    rho: ScalarOrSchedule = 0.05,
    *,
    p: Scalar = 2,
    adaptive: bool | Mask = False,
    eta: Scalar = 0.01,
    mask: Mask = None,
    ascent_steps: Scalar = 1,
    per_leaf: bool = False,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SAM: the gradient at the point of highest loss nearby, for flat minima.

    Minimizing the highest loss within a distance :math:`\rho` of the params favors flat
    minima. Put it first in a chain. For the gradient :math:`g_t = \nabla L(x_{t-1})`
    and :math:`1/p + 1/q = 1`,

    .. math::

       T_t &= |x_{t-1}| + \eta \text{ in adaptive leaves, 1 in others}         && (1) \\
       e_t &= \rho_t \, T_t \, \operatorname{sign}(g_t)
         \frac{|T_t g_t|^{q-1}}{\|T_t g_t\|_q^{q-1}}                           && (2) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                         && (3)

    and the following transformations of the chain are applied to :math:`g'_t` at
    :math:`x_{t-1}`. The norm is over all leaves, so :math:`\|e_t / T_t\|_p = \rho_t`;
    for :math:`p = 2` it is :math:`e_t = \rho_t g_t / \|g_t\|`, for :math:`p = \infty`
    it is :math:`\rho_t \operatorname{sign}(g_t)`, and for :math:`p = 1` only the
    largest elements are perturbed. A zero gradient gives :math:`e_t = 0`.

    `update` evaluates the gradient at another point on the same batch. Pass it
    ``grad_fn``, a function from params to the gradient, or ``value_fn``, one to the
    loss, neither with auxiliary output. It must compute from its argument, not from a
    model outside: for flax.nnx, split the model with ``graph, params, others =
    nnx.split(model, nnx.Param, ...)`` and pass ``value_fn=lambda params:
    model_loss(nnx.merge(graph, params, others))``. Define it inside the jitted step,
    with the dropout key of the first gradient. The following step serves most
    optimizers of optax, too::

        optimizer = optax.chain(sharpness_aware(0.05), optax.adamw(1e-3))

        @jax.jit
        def step(params, state, batch):
            loss = lambda p: model_loss(p, batch)
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(
                grads, state, params, value=value, grad=grads, value_fn=loss
            )
            return optax.apply_updates(params, updates), state, value

    Cost: ascent_steps additional gradients per step (none if rho is the number 0) and a
    temporary copy of the params; no state except a step count if rho is a schedule.

    Composition: it comes first; transformations of :math:`g'_t` come after it. Scaling
    the incoming gradient, as clipping by the global norm does, has no effect, because
    only its direction is used. To accumulate gradients, put ``optax.MultiSteps`` after
    it::

        base = optax.MultiSteps(optax.adamw(1e-3), 4)
        optimizer = optax.chain(sharpness_aware(0.05), base)

    Each micro-batch then has its own :math:`e_t`: the m-sharpness of the paper. The
    reverse order, ``optax.MultiSteps(optimizer, 4)`` around a chain with
    sharpness_aware, is wrong and cannot be recognized: it perturbs along the mean
    gradient, but evaluates the gradient there on the last micro-batch only. It must be
    outside of ``optax.masked``,
    ``optax.partition`` and ``optax.flatten``, because the loss needs all params; they
    may follow it. Its own argument ``mask`` chooses the leaves to perturb.

    Devices: under ``jax.jit`` the norm is global whatever the sharding. Under
    ``jax.shard_map`` with the params on every device and the batch split, average both
    gradients over the devices first; or average only :math:`g'_t`, for m-sharpness with
    one micro-batch per device::

        mean = optax.stateless(lambda g, _: jax.lax.pmean(g, "data"))
        optimizer = optax.chain(sharpness_aware(0.05), mean, optax.adamw(1e-3))

    The latter needs the separate gradients of each device: mark the params with
    ``jax.lax.pcast(params, "data", to="varying")``. If the params are sharded, use
    ``reduce``.

    Symbols: :math:`\rho` rho, :math:`p` p, :math:`\eta` eta.

    Defaults: :math:`\rho` and :math:`p` of the paper; :math:`\eta` that of ASAM.

    Differences from the paper: in (2), 0/0 is 0. Perturbations below the rounding error
    of the params' dtype are lost: in bfloat16, an element changes only if :math:`|e|`
    is at least 1/512 to 1/256 of it.

    Differences from released code: weight decay of the base optimizer acts at
    :math:`x_{t-1}` and is part of neither gradient. ``optax.contrib.sam`` with
    ``opaque_mode`` and ``sync_period=k`` is ``ascent_steps=k - 1`` here, and there,
    too, each ascent step has the length :math:`\rho`. The popular PyTorch release sets
    T to :math:`|x|` in all leaves, which is ``eta=0`` and ``adaptive=lambda params:
    jax.tree.map(lambda _: True, params)``.

    Args:
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0). The number 0 turns the method off: gradients pass
        through unchanged.
      p: Order of the norm that bounds the perturbation, from 1 to infinity.
      adaptive: Which leaves are adaptive. False: none. True: those with two or more
        axes, as in ASAM. Otherwise a tree of booleans, a prefix of one that is not a
        single boolean, or a function from the params to one. With
        `optax.inject_hyperparams`, name a function in static_args.
      eta: Added to the absolute value of the params in adaptive leaves.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one. The norms leave out the other leaves.
      ascent_steps: Number of ascent steps (1) to (3), each from the end of the previous
        one. Reverse-mode derivatives through `update` need a number that is not traced.
      per_leaf: Whether each leaf has its own norm; then :math:`\|e_t\|_2` is
        :math:`\rho` times the square root of the number of leaves.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Needs
        a p of 2 or infinity.

    Returns:
      The transformation; put it before the optimizer in a chain: after it, the updates
      would point uphill; those of this library's optimizers are refused. The result has
      the dtypes of the gradients.

    Raises:
      ValueError: A hyperparameter is out of its range; reduce is given and p is not 2
        or infinity; in `init` and `update`, the params are masked; in `update`, the
        gradients are updates of an optimizer, params are missing, grad_fn and value_fn
        are both missing, or gradients do not have the structure and shapes of the
        params.

    References:
      Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization for
      Efficiently Improving Generalization, ICLR 2021; arXiv:2010.01412.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optax.chain(optimizers.sharpness_aware(0.05), optax.sgd(0.1))
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
    name = "sharpness_aware"
    gradient = perturbation.sam_gradient(
        name,
        p=p,
        adaptive=adaptive,
        eta=eta,
        mask=mask,
        ascent_steps=ascent_steps,
        per_leaf=per_leaf,
        reduce=reduce,
    )  # (1), (2), (3)
    return _transformation(name, rho, gradient)


def sam(
    optimizer: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.05,
    *,
    p: Scalar = 2,
    mask: Mask = None,
    ascent_steps: Scalar = 1,
    per_leaf: bool = False,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SAM: steps along the gradient at the point of highest loss nearby.

    For the gradient :math:`g_t = \nabla L(x_{t-1})`, with the norm over all leaves,

    .. math::

       e_t &= \rho_t \, g_t / \|g_t\|_2                                       && (2) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                        && (3) \\
       x_t &= x_{t-1} + \text{optimizer}(g'_t, x_{t-1})                       && (4)

    It is ``optax.chain(sharpness_aware(rho), optimizer)``; `sharpness_aware` documents
    the whole method, its composition and its cost: two gradients per step. `update`
    needs ``grad_fn`` or ``value_fn``, a function from params to the gradient or to the
    loss on the same batch. All keywords are also passed to the optimizer; its ``value``
    and ``grad`` are then those at :math:`x_{t-1}`. Line searches of optax refuse
    unknown keywords: pass them ``value_fn`` and no ``grad_fn``.

    To accumulate gradients, put ``optax.MultiSteps`` inside, as in
    ``sam(optax.MultiSteps(optimizer, k))``: around it, it would take the second
    gradient on the last micro-batch only.

    Symbols: :math:`\rho` rho. Defaults and differences are those of
    `sharpness_aware`.

    Args:
      optimizer: Optimizer that gets the gradient of (3).
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      p: Order of the norm that bounds the perturbation, from 1 to infinity.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      ascent_steps: Number of ascent steps (1) to (3), each from the end of the previous
        one.
      per_leaf: Whether each leaf has its own norm.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Needs
        a p of 2 or infinity.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: As `sharpness_aware`.

    References:
      Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization for
      Efficiently Improving Generalization, ICLR 2021; arXiv:2010.01412.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.sam(optax.sgd(0.1), rho=0.05)
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
    inner = checks.inner_optimizer("sam", optimizer, "rho=0.05")
    gradient = perturbation.sam_gradient(
        "sam",
        p=p,
        adaptive=False,
        eta=0.0,
        mask=mask,
        ascent_steps=ascent_steps,
        per_leaf=per_leaf,
        reduce=reduce,
    )  # (2), (3)
    return optax.chain(_transformation("sam", rho, gradient), inner)  # (4)


def asam(
    optimizer: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.5,
    *,
    eta: Scalar = 0.01,
    p: Scalar = 2,
    adaptive: bool | Mask = True,
    mask: Mask = None,
    ascent_steps: Scalar = 1,
    per_leaf: bool = False,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""ASAM: SAM with perturbations relative to the size of each weight.

    Rescaling the weights of a network can leave its loss unchanged and still change its
    sharpness; the adaptive sharpness of ASAM is invariant. For :math:`g_t = \nabla
    L(x_{t-1})`, with the norm over all leaves,

    .. math::

       T_t &= |x_{t-1}| + \eta \text{ in weights, 1 in other leaves}          && (1) \\
       e_t &= \rho_t \, T_t^2 g_t / \|T_t g_t\|_2                             && (2) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                        && (3) \\
       x_t &= x_{t-1} + \text{optimizer}(g'_t, x_{t-1})                       && (4)

    It is ``optax.chain(sharpness_aware(rho, adaptive=True), optimizer)``;
    `sharpness_aware` documents the whole method, its composition and its cost: two
    gradients per step. `update` needs ``grad_fn`` or ``value_fn``.

    To accumulate gradients, put ``optax.MultiSteps`` inside, as in
    ``asam(optax.MultiSteps(optimizer, k))``: around it, it would take the second
    gradient on the last micro-batch only.

    Symbols: :math:`\rho` rho, :math:`\eta` eta.

    Defaults: those of the paper, which uses rho = 0.5 for CIFAR-10 and 1 for CIFAR-100.

    Differences from the paper: weights are the leaves with two or more axes.

    Differences from released code: it finds weights by their name, so that the scales
    of normalization layers are adaptive, too; pass such a rule as ``adaptive``. Its
    example script sets eta to 0. The popular PyTorch release of SAM has no eta and
    adapts all leaves: ``adaptive=lambda params: jax.tree.map(lambda _: True, params),
    eta=0``, with rho = 2.

    Args:
      optimizer: Optimizer that gets the gradient of (3).
      rho: Radius of the perturbation: a float or an optax schedule (called with the
        step count, starting at 0).
      eta: Added to the absolute value of the weights.
      p: Order of the norm that bounds the perturbation, from 1 to infinity.
      adaptive: Which leaves are weights, instead of those with two or more axes: a tree
        of booleans, or a function from the params to one. With
        `optax.inject_hyperparams`, name a function in static_args.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      ascent_steps: Number of ascent steps (1) to (3), each from the end of the previous
        one.
      per_leaf: Whether each leaf has its own norm.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Needs
        a p of 2 or infinity.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: As `sharpness_aware`.

    References:
      Kwon, Kim, Park and Choi, ASAM: Adaptive Sharpness-Aware Minimization for
      Scale-Invariant Learning of Deep Neural Networks, ICML 2021; arXiv:2102.11600.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.asam(optax.sgd(0.1), rho=0.05)
      >>> x = jnp.zeros((2, 2))
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(
      ...         jax.grad(loss)(x), state, x, grad_fn=jax.grad(loss)
      ...     )
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    inner = checks.inner_optimizer("asam", optimizer, "rho=0.05")
    gradient = perturbation.sam_gradient(
        "asam",
        p=p,
        adaptive=adaptive,
        eta=eta,
        mask=mask,
        ascent_steps=ascent_steps,
        per_leaf=per_leaf,
        reduce=reduce,
    )  # (1), (2), (3)
    return optax.chain(_transformation("asam", rho, gradient), inner)  # (4)


def _transformation(
    name: str, rho: ScalarOrSchedule, perturbed_gradient: perturbation.SamGradient
) -> optax.GradientTransformationExtraArgs:
    checks.non_negative(name, rho=rho)

    def init(params: PyTree) -> Any:
        ascent.require_unmasked(name, params)
        return schedules.init_state(rho)

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        grad_fn: Callable[[PyTree], PyTree] | None = None,
        value_fn: Callable[[PyTree], Any] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, Any]:
        del extra_args
        radius, state = schedules.advance(rho, state)
        grads = ascent.gradients_of_params(name, updates, params)
        if numerics.is_number(radius, 0):
            return grads, state
        gradient = ascent.gradient_of_loss(name, grad_fn, value_fn, grads)
        return perturbed_gradient(radius, params, grads, gradient), state

    return optax.GradientTransformationExtraArgs(init, update)
