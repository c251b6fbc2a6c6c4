"""SAM, sharpness-aware minimization: Foret et al. (2020), Kwon et al. (2021)."""

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
    r"""SAM as the first link of a chain: gradients come from where the loss is higher.

    The worst loss within a distance :math:`\rho` of the params is lower in flat
    minima. For the gradient :math:`g_t = \nabla L(x_{t-1})` and :math:`1/p + 1/q = 1`,

    .. math::

       T_t &= |x_{t-1}| + \eta \text{ in adaptive leaves, 1 in others}         && (1) \\
       e_t &= \rho_t \, T_t \, \operatorname{sign}(g_t)
         \frac{|T_t g_t|^{q-1}}{\|T_t g_t\|_q^{q-1}}                           && (2) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                         && (3)

    and what follows in the chain is applied to :math:`g'_t` at :math:`x_{t-1}`. The
    norm is over all leaves, so :math:`\|e_t / T_t\|_p = \rho_t`; for :math:`p = 2` it
    is :math:`e_t = \rho_t g_t / \|g_t\|`, for :math:`p = \infty` it is
    :math:`\rho_t \operatorname{sign}(g_t)`, and for :math:`p = 1` all of it goes to the
    largest entries. A zero gradient gives :math:`e_t = 0`.

    `update` needs to evaluate the gradient at another point of the same batch, by the
    keyword ``grad_fn``, from params to the gradient, or ``value_fn``, from params to
    the loss. Make them inside the jitted step, and let them use the same key for
    dropout as the first gradient. One keyword serves most optimizers of optax::

        optimizer = optax.chain(sharpness_aware(0.05), optax.adamw(1e-3))

        @jax.jit
        def step(params, state, batch):
            loss = lambda p: model_loss(p, batch)
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(
                grads, state, params, value=value, grad=grads, value_fn=loss
            )
            return optax.apply_updates(params, updates), state, value

    Cost: ascent_steps more gradients per step (none where rho is the number 0) and a
    temporary copy of the params; no state, except a count where rho is a schedule.

    Composition: it goes first, and what acts on :math:`g'_t` goes after it. Clipping by
    the global norm or a factor on the loss before it changes nothing. To accumulate
    gradients, put ``optax.MultiSteps`` after it::

        base = optax.MultiSteps(optax.adamw(1e-3), 4).gradient_transformation()
        optimizer = optax.chain(sharpness_aware(0.05), base)

    Each micro-batch then has its own :math:`e_t`: the m-sharpness of the paper. The
    other way round is wrong: it would climb along the mean of the gradients, and take
    the gradient there from the last micro-batch alone. It must stand outside of
    ``optax.masked``, ``optax.partition`` and ``optax.flatten``, because the loss needs
    all params; they may follow it. Which leaves move is said by ``mask``.

    Devices: under ``jax.jit`` the norm is global whatever the sharding. Under
    ``jax.shard_map`` with the params on every device and the batch split, average both
    gradients over the devices before they come here; or neither, and :math:`g'_t`
    after it, for m-sharpness with the part of the device as micro-batch::

        mean = optax.stateless(lambda g, _: jax.lax.pmean(g, "data"))
        optimizer = optax.chain(sharpness_aware(0.05), mean, optax.adamw(1e-3))

    For the second, update with the gradients of the device alone: by params marked with
    ``jax.lax.pcast(params, "data", to="varying")``. Where the params are split, use
    ``reduce``.

    Symbols: :math:`\rho` rho, :math:`p` p, :math:`\eta` eta.

    Defaults: :math:`\rho` and :math:`p` of the paper; :math:`\eta` that of ASAM.

    Differences from the paper: (2) has no 0/0. What the params' dtype cannot tell from
    0 is lost: in bfloat16 an entry moves if :math:`|e|` is at least 1/512 to 1/256 of
    it.

    Differences from released code: weight decay of the base optimizer acts at
    :math:`x_{t-1}` and tilts neither gradient. ``optax.contrib.sam`` with
    ``opaque_mode`` and ``sync_period=k`` is ``ascent_steps=k - 1`` here, where each
    step of the ascent also has the length :math:`\rho`. The popular PyTorch release
    sets T to :math:`|x|` in all leaves, which is ``eta=0`` and ``adaptive=lambda
    params: jax.tree.map(lambda _: True, params)``.

    Args:
      rho: The radius, a number or a schedule of the 0-based count of updates. The
        number 0 turns the method off: gradients pass through.
      p: Of the norm that the radius is measured in, from 1 to infinity.
      adaptive: True for ASAM, (1) in leaves of two or more axes; or which leaves are
        adaptive: a tree of booleans, a prefix of one that is not a boolean, or a
        function from the params to one.
      eta: Added to the size of the params where adaptive.
      mask: Which leaves move: a tree of booleans, a prefix of one, or a function from
        the params to one. Others count in no norm.
      ascent_steps: How often (1) to (3) are applied, each from where the last ended.
      per_leaf: Whether each leaf has a norm of its own; then :math:`\|e_t\|_2` is
        :math:`\rho` times the root of their number.
      reduce: Only where each device holds a part of the params and calls `update` by
        itself, as in ``shard_map``: sums a small vector over these devices, for
        instance ``lambda x: jax.lax.psum(x, "data")``. For p of 2 and infinity.

    Returns:
      The transformation. Its updates have the dtypes of the gradients.

    Raises:
      ValueError: A hyperparameter is out of its range; reduce is given and p is not 2
        or infinity; in `init` and `update`, the params are masked; in `update`, there
        are no params, neither grad_fn nor value_fn, or gradients without the structure
        and shapes of the params.

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
    r"""SAM around an optimizer: it steps along the gradient at a higher point nearby.

    For the gradient :math:`g_t = \nabla L(x_{t-1})`, with the norm over all leaves,

    .. math::

       e_t &= \rho_t \, g_t / \|g_t\|_2                                       && (2) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                        && (3) \\
       x_t &= x_{t-1} + \text{optimizer}(g'_t, x_{t-1})                       && (4)

    It is ``optax.chain(sharpness_aware(rho), optimizer)``; `sharpness_aware` has the
    whole method, how it composes, and what it costs: two gradients per step. `update`
    needs ``grad_fn`` or ``value_fn``, a function from params to the gradient or to the
    loss of the same batch. All keywords are handed on to the optimizer too, whose
    ``value`` and ``grad`` are then those of :math:`x_{t-1}`. A line search of optax
    refuses keywords that it does not know: give it ``value_fn`` and no ``grad_fn``.

    Symbols: :math:`\rho` rho. Defaults and differences are those of
    `sharpness_aware`.

    Args:
      optimizer: What steps along the gradient of (3).
      rho: The radius, a number or a schedule of the 0-based count of updates.
      p: Of the norm that the radius is measured in, from 1 to infinity.
      mask: Which leaves move: a tree of booleans, a prefix of one, or a function from
        the params to one.
      ascent_steps: How often (2) and (3) are applied, each from where the last ended.
      per_leaf: Whether each leaf has a norm of its own.
      reduce: Under ``shard_map``, sums a small vector over the devices that hold parts
        of the params. For p of 2 and infinity.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: The optimizer is no transformation.
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
    r"""ASAM around an optimizer: SAM in which every weight moves by a share of itself.

    A network's loss may stay the same when weights are rescaled, while its sharpness
    does not; that of ASAM does. For :math:`g_t = \nabla L(x_{t-1})`, with the norm over
    all leaves,

    .. math::

       T_t &= |x_{t-1}| + \eta \text{ in weights, 1 in other leaves}          && (1) \\
       e_t &= \rho_t \, T_t^2 g_t / \|T_t g_t\|_2                             && (2) \\
       g'_t &= \nabla L(x_{t-1} + e_t)                                        && (3) \\
       x_t &= x_{t-1} + \text{optimizer}(g'_t, x_{t-1})                       && (4)

    It is ``optax.chain(sharpness_aware(rho, adaptive=True), optimizer)``;
    `sharpness_aware` has the whole method, how it composes, and what it costs: two
    gradients per step. `update` needs ``grad_fn`` or ``value_fn``.

    Symbols: :math:`\rho` rho, :math:`\eta` eta.

    Defaults: those of the paper; it takes rho = 0.5 for CIFAR-10 and 1 for CIFAR-100.

    Differences from the paper: weights are the leaves of two or more axes.

    Differences from released code: it finds weights by their name, so that also the
    scales of norms are adaptive; give such a rule as ``adaptive``. Its example script
    sets eta to 0. The popular PyTorch release of SAM has no eta and adapts all leaves:
    ``adaptive=lambda params: jax.tree.map(lambda _: True, params), eta=0``, for which
    its authors take rho = 2.

    Args:
      optimizer: What steps along the gradient of (3).
      rho: The radius, a number or a schedule of the 0-based count of updates.
      eta: Added to the size of the weights.
      p: Of the norm that the radius is measured in, from 1 to infinity.
      adaptive: Which leaves are weights, instead of those of two or more axes: a tree
        of booleans, or a function from the params to one.
      mask: Which leaves move: a tree of booleans, a prefix of one, or a function from
        the params to one.
      ascent_steps: How often (1) to (3) are applied, each from where the last ended.
      per_leaf: Whether each leaf has a norm of its own.
      reduce: Under ``shard_map``, sums a small vector over the devices that hold parts
        of the params. For p of 2 and infinity.

    Returns:
      The optimizer. Its updates are to be added to the params.

    Raises:
      TypeError: The optimizer is no transformation.
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
        gradient = ascent.gradient_of_loss(name, grad_fn, value_fn)
        return perturbed_gradient(radius, params, grads, gradient), state

    return optax.GradientTransformationExtraArgs(init, update)
