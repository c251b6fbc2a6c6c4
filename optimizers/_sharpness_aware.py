"""SAM, sharpness-aware minimization: Foret et al. (2020), Kwon et al. (2021)."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optimizers._common import ascent, checks, numerics, reductions, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = ["asam", "sam", "sam_value_and_grad", "sharpness_aware"]


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
    climb = _climber(name, p, adaptive, eta, mask, ascent_steps, per_leaf, reduce)
    return _prefix(name, rho, climb)


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
    inner = ascent.base("sam", optimizer)
    climb = _climber("sam", p, False, 0.0, mask, ascent_steps, per_leaf, reduce)
    return optax.chain(_prefix("sam", rho, climb), inner)  # (4)


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
    inner = ascent.base("asam", optimizer)
    climb = _climber("asam", p, adaptive, eta, mask, ascent_steps, per_leaf, reduce)
    return optax.chain(_prefix("asam", rho, climb), inner)  # (4)


def sam_value_and_grad(
    loss: Callable[..., Any],
    rho: Scalar = 0.05,
    *,
    p: Scalar = 2,
    adaptive: bool | Mask = False,
    eta: Scalar = 0.01,
    mask: Mask = None,
    ascent_steps: Scalar = 1,
    per_leaf: bool = False,
    reduce: Reduce | None = None,
    has_aux: bool = False,
    microbatches: int = 1,
    batch_argnums: int | Sequence[int] = 1,
) -> Callable[..., tuple[Any, PyTree]]:
    r"""As `jax.value_and_grad`, with the gradient of SAM.

    It needs no support by the optimizer: any can follow, also inside
    ``optax.MultiSteps``, ``optax.masked`` and ``optax.partition``. The method is that
    of `sharpness_aware`::

        @jax.jit
        def step(params, state, batch, key):
            value_and_grad = sam_value_and_grad(model_loss, 0.05, has_aux=True)
            (value, aux), grads = value_and_grad(params, batch, key)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value, aux

    Value and aux are those at the params: keep the statistics of batch normalization
    from there. All evaluations get the same arguments, so the same key for dropout.

    With ``microbatches``, the examples are split, each group finds its own point
    uphill, and the gradients there are averaged, one group after another in the memory
    of one. This is the m-sharpness of the paper, for which smaller groups generalized
    better.
    The value is the mean of the groups' and aux has a leading axis of groups.

    Under ``jax.shard_map`` with the params on every device and the batch split, each
    device is a group if params are varying when the gradient is taken; average after::

        params = jax.lax.pcast(params, "data", to="varying")
        value, grads = sam_value_and_grad(model_loss, 0.05)(params, batch)
        value, grads = jax.lax.pmean((value, grads), "data")

    Complex leaves: as from `jax.grad`, what is returned is the conjugate of the
    direction uphill.

    Args:
      loss: A function from params and other arguments to a number, or to a pair of it
        and anything with ``has_aux``.
      rho: The radius; the number 0 gives `jax.value_and_grad`.
      p: Of the norm that the radius is measured in, from 1 to infinity.
      adaptive: True for ASAM in leaves of two or more axes; or which leaves.
      eta: Added to the size of the params where adaptive.
      mask: Which leaves move: a tree of booleans, a prefix of one, or a function from
        the params to one.
      ascent_steps: How many steps of the length rho lead to the point.
      per_leaf: Whether each leaf has a norm of its own.
      reduce: Under ``shard_map``, sums a small vector over the devices that hold parts
        of the params. For p of 2 and infinity.
      has_aux: Whether loss returns a pair.
      microbatches: Number of groups that the examples are split into.
      batch_argnums: With microbatches, which positional arguments hold the examples,
        along the first axis of all their arrays; params are 0, as for `jax.grad`.

    Returns:
      A function of the arguments of loss. It returns the value, or the value and aux as
      a pair, and the gradient.

    Raises:
      ValueError: A hyperparameter is out of its range; when called, the examples cannot
        be split into the groups.

    References:
      Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization for
      Efficiently Improving Generalization, ICLR 2021; arXiv:2010.01412.

    Examples:
      >>> import jax, jax.numpy as jnp, optimizers
      >>> loss = lambda x, rows: jnp.mean((rows @ x) ** 2)
      >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> value_and_grad = optimizers.sam_value_and_grad(loss, 0.5, microbatches=2)
      >>> value, gradient = value_and_grad(jnp.ones(2), rows)
      >>> print(value, gradient)
      2.5 [1.5 6. ]
    """
    name = "sam_value_and_grad"
    climb = _climber(name, p, adaptive, eta, mask, ascent_steps, per_leaf, reduce)
    checks.non_negative(name, rho=rho)
    ascent.positive_integer(name, microbatches=microbatches)
    if callable(rho):
        msg = f"{name}: rho must be a number, got {rho!r}; call the schedule yourself."
        raise ValueError(msg)  # noqa: TRY004
    radius = numerics.scalar(rho)
    argnums = (batch_argnums,) if isinstance(batch_argnums, int) else batch_argnums

    def whole(params: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, PyTree]:
        found, grads = jax.value_and_grad(loss, has_aux=has_aux)(
            params, *args, **kwargs
        )
        if ascent.is_number(radius, 0):
            return found, grads

        def uphill(x: PyTree) -> PyTree:
            gradient = jax.grad(loss, has_aux=has_aux)(x, *args, **kwargs)
            return _conjugate(gradient[0] if has_aux else gradient)

        gradient = climb(radius, params, _conjugate(grads), uphill)
        return found, _conjugate(gradient)

    def split(params: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, PyTree]:
        groups = [_split(name, args, i, microbatches) for i in argnums]

        def add(total: PyTree, groups: list[PyTree]) -> tuple[PyTree, Any]:
            own = list(args)
            for i, group in zip(argnums, groups, strict=True):
                own[i - 1] = group
            found, grads = whole(params, *own, **kwargs)
            return jax.tree.map(_sum, total, grads), found

        zeros = jax.tree.map(
            lambda x: numerics.widen(jnp.zeros_like(x, dtype=numerics.dtype_of(x))),
            params,
        )
        total, found = lax.scan(add, zeros, groups)
        grads = jax.tree.map(
            lambda g, x: (g / numerics.like(g, microbatches)).astype(
                numerics.dtype_of(x)
            ),
            total,
            params,
        )
        if has_aux:
            return (jnp.mean(found[0], axis=0), found[1]), grads
        return jnp.mean(found, axis=0), grads

    return whole if microbatches == 1 else split


# (radius, x, g(x), g) -> g(x + e)
_Climb = Callable[[Scalar, PyTree, PyTree, Callable[[PyTree], PyTree]], PyTree]


def _prefix(
    name: str, rho: ScalarOrSchedule, climb: _Climb
) -> optax.GradientTransformationExtraArgs:
    checks.non_negative(name, rho=rho)

    def init(params: PyTree) -> Any:
        return ascent.init(name, rho, params)

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
        radius, state = ascent.advance(rho, state)
        grads = ascent.gradients(name, updates, params)
        if ascent.is_number(radius, 0):
            return grads, state
        gradient = ascent.gradient_of_loss(name, grad_fn, value_fn)
        return climb(radius, params, grads, gradient), state

    return optax.GradientTransformationExtraArgs(init, update)


def _climber(
    name: str,
    p: Scalar,
    adaptive: bool | Mask,
    eta: Scalar,
    mask: Mask,
    ascent_steps: Scalar,
    per_leaf: bool,
    reduce: Reduce | None,
) -> _Climb:
    """How to find the gradient at the highest point nearby."""
    checks.at_least_one(name, p=p)
    checks.non_negative(name, eta=eta)
    ascent.positive_integer(name, ascent_steps=ascent_steps)
    if reduce is not None and not (
        ascent.is_number(p, 2) or ascent.is_number(p, math.inf)
    ):
        msg = (
            f"{name}: p must be the number 2 or infinity with reduce, got {p!r}: other "
            "norms need a maximum over the devices, which no sum can give."
        )
        raise ValueError(msg)

    def direction(radius: Scalar, grads: PyTree) -> PyTree:
        if ascent.is_number(p, 2):
            return ascent.euclidean(radius, grads, reductions.norm(grads, reduce))
        if ascent.is_number(p, math.inf):
            return trees.map_inexact(lambda g: ascent.times(radius, lax.sign(g)), grads)
        return _steepest(radius, p, grads)

    def climb(
        radius: Scalar,
        params: PyTree,
        grads: PyTree,
        grad_fn: Callable[[PyTree], PyTree],
    ) -> PyTree:
        adapts = _adapts(adaptive, params)

        def stretched(tree: PyTree, x: PyTree) -> PyTree:
            return jax.tree.map(
                lambda adapts, leaf, x: _stretch(leaf, x, eta) if adapts else leaf,
                *(adapts, tree, x),
            )  # (1)

        def higher(x: PyTree, grads: PyTree) -> PyTree:
            slopes = stretched(ascent.selected(grads, mask, params), x)
            if per_leaf:
                steps = trees.map_inexact(lambda g: direction(radius, g), slopes)
            else:
                steps = direction(radius, slopes)
            return ascent.moved(x, stretched(steps, x))  # (2)

        def gradient(x: PyTree) -> PyTree:
            return ascent.gradient_at(name, grad_fn, x, params, grads)

        point = higher(params, grads)
        if not ascent.is_number(ascent_steps, 1):
            steps = jnp.asarray(ascent_steps).astype(jnp.int32) - 1
            point = lax.fori_loop(0, steps, lambda _, x: higher(x, gradient(x)), point)
        return gradient(point)  # (3)

    return climb


def _adapts(adaptive: bool | Mask, params: PyTree) -> PyTree:
    """Booleans like the params: which leaves T differs from 1 in."""
    if adaptive is True:
        return jax.tree.map(lambda x: trees.is_inexact(x) and jnp.ndim(x) >= 2, params)
    chosen = ascent.flags(adaptive, params)
    return jax.tree.map(
        lambda x, adapts: adapts and trees.is_inexact(x), params, chosen
    )


def _steepest(radius: Scalar, p: Scalar, grads: PyTree) -> PyTree:
    """rho sign(g) |g|^r / (sum |g|^(r + 1))^(1/p) for r = q - 1 = 1/(p - 1).

    Entries are brought to at most 1 before they get an exponent, which is infinite for
    p = 1 and then finds the largest.
    """
    p = numerics.wide_scalar(p)
    r = 1.0 / (p - 1.0)
    zero = numerics.wide_scalar(0.0)
    leaves = [g for g in jax.tree.leaves(grads) if trees.is_inexact(g)]
    largest = functools.reduce(jnp.maximum, map(_largest, leaves), zero)
    total = sum((_power_sum(g, largest, r) for g in leaves), start=zero)
    scale = numerics.wide_scalar(radius) * jnp.where(total > 0.0, total, 1.0) ** (
        -1 / p
    )
    return trees.map_inexact(lambda g: _powers(g, largest, r, scale), grads)


def _split(name: str, args: Sequence[Any], argnum: int, groups: int) -> PyTree:
    """The arrays of an argument with a leading axis of groups.

    Raises:
      ValueError: There is no such argument, or its arrays cannot be split.
    """
    if not 1 <= argnum <= len(args):
        msg = (
            f"{name}: batch_argnums has {argnum}, but there are arguments 1 to "
            f"{len(args)} beside the params, which are 0. Pass examples by position."
        )
        raise ValueError(msg)

    def leaf(path: Any, x: Any) -> jax.Array:
        shape = jnp.shape(x)
        if not shape or shape[0] % groups:
            where = jax.tree_util.keystr(path)
            msg = (
                f"{name}: argument {argnum}{where} has the shape {shape}, whose first "
                f"axis cannot be split into {groups} microbatches. Give arguments "
                "without examples other positions than batch_argnums."
            )
            raise ValueError(msg)
        return jnp.reshape(x, (groups, shape[0] // groups, *shape[1:]))

    return jax.tree_util.tree_map_with_path(leaf, args[argnum - 1])


def _conjugate(tree: PyTree) -> PyTree:
    return trees.map_inexact(jnp.conj, tree)


@numerics.inline_jit
def _sum(total: jax.Array, g: jax.Array) -> jax.Array:
    return total + g.astype(total.dtype)


@numerics.inline_jit
def _stretch(leaf: jax.Array, x: jax.Array, eta: Scalar) -> jax.Array:
    """(|x| + eta) times the leaf, in at least float32."""
    leaf, x = numerics.widen(leaf, x), numerics.widen(x, leaf)
    size = jnp.abs(x)
    return (size + numerics.like(size, eta)).astype(leaf.dtype) * leaf


@numerics.inline_jit
def _largest(g: jax.Array) -> jax.Array:
    return numerics.wide_scalar(jnp.max(jnp.abs(g), initial=0.0))


@numerics.inline_jit
def _power_sum(g: jax.Array, largest: jax.Array, r: jax.Array) -> jax.Array:
    size = _relative_size(g, largest)
    return jnp.sum(_power(size, r) * size)


@numerics.inline_jit
def _powers(
    g: jax.Array, largest: jax.Array, r: jax.Array, scale: jax.Array
) -> jax.Array:
    wide = numerics.widen(g)
    size = scale * _power(_relative_size(g, largest), r)
    return size.astype(wide.dtype) * lax.sign(wide)


def _relative_size(g: jax.Array, largest: jax.Array) -> jax.Array:
    """|g| over the largest; exactly 1 also where that was rounded in another way."""
    wide = numerics.widen(g)
    size = jnp.abs(wide).astype(largest.dtype)
    ratio = numerics.safe_divide(size, largest)
    return jnp.where(ratio > 1.0 - 8.0 * float(jnp.finfo(wide.dtype).eps), 1.0, ratio)


def _power(size: jax.Array, r: jax.Array) -> jax.Array:
    """size^r, where 0^0 = 1 and 1^inf = 1."""
    return jnp.where(size == 1.0, 1.0, size**r)
