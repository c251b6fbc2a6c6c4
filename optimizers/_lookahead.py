"""Lookahead: Zhang, Lucas, Hinton and Ba (2019)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    donation,
    numerics,
    order,
    readers,
    trees,
)
from optimizers._common.typing import PyTree, Scalar

__all__ = ["LookaheadState", "lookahead", "lookahead_params"]

_INNER_STATES = ("maintain", "reset", "pullback")

# Names of averages of gradients or steps in the states of optax and this library.
_MOMENTA = ("mu", "mu_slow", "trace", "velocity")


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    steps_since_sync: jax.Array  # t mod k, shape (), int32
    slow: PyTree  # phi, shapes of the params, at least float32
    inner_state: PyTree  # of the optimizer
    momenta: PyTree  # m at the last synchronization; None unless pulled back


def lookahead(
    optimizer: optax.GradientTransformation,
    sync_period: Scalar = 5,
    slow_step_size: Scalar = 0.5,
    *,
    inner_state: str = "maintain",
) -> optax.GradientTransformationExtraArgs:
    r"""Lookahead: every k steps, slow weights move part of the way to the fast ones.

    The optimizer updates the fast weights :math:`x` by :math:`u_t`, from the gradient
    at :math:`x_{t-1}`. If :math:`k` divides :math:`t`, both weights are synchronized,

    .. math::

       \tilde x_t &= x_{t-1} + u_t                                          && (1) \\
       \phi_t &= \phi_{t-1} + \alpha (\tilde x_t - \phi_{t-1})              && (2) \\
       x_t &= \phi_t                                                        && (3)

    and at all other steps :math:`x_t = \tilde x_t` and :math:`\phi_t = \phi_{t-1}`,
    from :math:`\phi_0 = x_0`. On a noisy quadratic the slow weights have a lower
    variance than the optimizer alone, and their mean converges as fast. Evaluate the
    model at the slow weights, with `lookahead_params`.

    By default the state of the optimizer is kept at a synchronization. With
    ``inner_state="reset"`` it is initialized again from :math:`x_t`. With
    ``inner_state="pullback"`` its momentum is interpolated, too,

    .. math:: m_t \leftarrow \alpha m_t + (1 - \alpha) \bar m,
       \quad \bar m \leftarrow m_t \qquad (4)

    from :math:`\bar m = 0`. Momenta are the state fields mu, mu_slow, trace and
    velocity; second moments are kept.

    The params hold the fast weights; the slow weights are in the state, in at least
    float32. Put it outermost or last in a chain: a transformation of its updates would
    break the synchronization. It works inside `optax.MultiSteps`, `optax.partition`,
    `optax.masked` and `optax.inject_hyperparams`, and passes on extra arguments. Around
    `optax.MultiSteps` it counts micro-batches, not whole steps. The gradients may have
    any shape that the optimizer takes, as those of single examples for differentially
    private SGD. With the gradients of S domains in turn and ``sync_period=S``, it is
    Fish (Shi et al., 2022; arXiv:2104.09937), with slow_step_size as its meta learning
    rate.

    Symbols: :math:`k` sync_period, :math:`\alpha` slow_step_size; the state holds
    :math:`t \bmod k` as steps_since_sync, :math:`\phi` as slow, :math:`\bar m` as
    momenta.

    Defaults: those of the paper for ImageNet. For CIFAR it uses slow_step_size=0.8.

    Differences from the paper: none. Differences from released code: the authors'
    TensorFlow version initializes the slow weights with 0 and synchronizes one step too
    late; their PyTorch version stores a reference to the momentum instead of a copy as
    :math:`\bar m`, so that (4) only scales it from the second synchronization on. In
    optax, the params are a pair of fast and slow weights, and extra arguments are
    refused.

    Args:
      optimizer: Optimizer of the fast weights.
      sync_period: Number of steps between synchronizations, an integer >= 1.
      slow_step_size: Step size of the slow weights towards the fast ones, >= 0; with 1
        it is the optimizer alone.
      inner_state: ``"maintain"``, ``"reset"`` or ``"pullback"``.

    Returns:
      The optimizer. Its updates have the dtypes of those of the inner optimizer; add
      them to the params unchanged.

    Raises:
      TypeError: optimizer is not a gradient transformation.
      ValueError: A hyperparameter is out of its range; in `init`, inner_state is
        ``"pullback"`` and the optimizer has no momentum, or it is ``"reset"`` and the
        optimizer accumulates gradients; in `update`, params are missing, or the updates
        of the optimizer do not have their structure and shapes.

    References:
      Zhang, Lucas, Hinton and Ba, Lookahead Optimizer: k Steps Forward, 1 Step Back,
      NeurIPS 2019, Algorithm 1; arXiv:1907.08610.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.lookahead(optimizers.adam(learning_rate=0.3))
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(optimizers.lookahead_params(state, x)):.2f}")
      0.00
    """
    inner = checks.inner_optimizer("lookahead", optimizer, "sync_period=5")
    checks.positive_integers("lookahead", sync_period=sync_period)
    checks.non_negative("lookahead", slow_step_size=slow_step_size)
    checks.one_of("lookahead", "inner_state", inner_state, _INNER_STATES)

    def init(params: PyTree) -> LookaheadState:
        state = inner.init(params)
        if inner_state == "reset":
            _require_no_accumulation(state)
        return LookaheadState(
            steps_since_sync=jnp.zeros([], jnp.int32),
            slow=jax.tree.map(_slow_copy, params),
            inner_state=state,
            momenta=_no_momenta(state) if inner_state == "pullback" else None,
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, LookaheadState]:
        if params is None:
            msg = (
                "lookahead: update() needs params, the fast weights that the slow ones "
                "follow. Call update(grads, state, params)."
            )
            raise ValueError(msg)
        fast, after = inner.update(updates, state.inner_state, params, **extra_args)
        trees.require_shapes_of(
            "lookahead",
            "the updates of the optimizer",
            fast,
            "the params of init()",
            state.slow,
            "This depends on the gradients that update() got.",
        )
        params = trees.with_gradients("lookahead", updates, params)
        since = numerics.increment(state.steps_since_sync)
        # As floats, because optax may inject the period in the dtype of the params.
        due = numerics.as_float_scalar(since) >= numerics.as_float_scalar(sync_period)
        alpha = numerics.as_scalar(slow_step_size)

        steps = jax.tree.map(
            lambda s, p, u: _step(due, alpha, s, p, u) if trees.is_inexact(s) else u,
            *(state.slow, params, fast),
        )  # (1), (2)
        slow = trees.map_inexact(
            lambda s, p, u: _arrived(due, s, p, u), state.slow, params, steps
        )  # (3)
        momenta = state.momenta
        if inner_state == "reset":
            fresh = inner.init(_in_dtypes_of(params, slow))
            after = jax.tree.map(lambda f, a: _chosen(due, f, a), fresh, after)
        if inner_state == "pullback":
            now = _momenta(after)
            momenta = trees.map_inexact(
                lambda last, m: _pulled_back(due, alpha, last, m), momenta, now
            )  # (4)
            after = _with_momenta(
                after, trees.map_inexact(lambda m, b: _chosen(due, b, m), now, momenta)
            )
        since = jnp.where(due, 0, since)
        steps = trees.map_inexact(
            lambda u, step: step.astype(numerics.dtype_of(u)), fast, steps
        )
        steps = order.remember_updates(steps)
        return steps, LookaheadState(since, slow, after, momenta)

    return optax.GradientTransformationExtraArgs(init, update)


def lookahead_params(state: PyTree, params: PyTree) -> PyTree:
    """Returns the slow weights of `lookahead`, for evaluation.

    Args:
      state: The state of an optimizer, which may contain lookahead inside chains,
        masks, partitions, injected hyperparameters and other wrappers. It may also be
        an ``nnx.Optimizer`` or its ``opt_state``, or a state that was restored as dicts
        and lists.
      params: The params, whose dtypes the result has. For flax.nnx, ``nnx.state`` of
        the model.

    Returns:
      A tree like the params. Leaves outside the mask of lookahead and leaves that have
      no gradients are those of the params.

    Raises:
      TypeError: The state is not one, but for instance an optimizer.
      ValueError: There is no lookahead in the state, or the params lack a leaf that has
        a slow weight.

    Examples:
      >>> import jax.numpy as jnp, optax, optimizers
      >>> optimizer = optimizers.lookahead(optax.sgd(1.0), sync_period=2)
      >>> x, state = jnp.zeros(2), optimizer.init(jnp.zeros(2))
      >>> updates, state = optimizer.update(jnp.ones(2), state, x)
      >>> x = optax.apply_updates(x, updates)
      >>> print(x, optimizers.lookahead_params(state, x))
      [-1. -1.] [0. 0.]
    """
    readers.require_state("lookahead_params", state)
    found = readers.nodes(state, "steps_since_sync", "slow")
    if not found:
        msg = (
            "lookahead_params: there is no lookahead in this state of type "
            f"{type(state).__name__}. Pass the state that update() returned."
        )
        raise ValueError(msg)
    for _, node in found:
        params = _with_slow(
            params, readers.leaves_by_names(readers.fields(node)["slow"])
        )
    return params


def _with_slow(params: PyTree, slow: dict[tuple[str, ...], Any]) -> PyTree:
    """The slow weights in the dtypes of the params; the params where there are none."""

    def leaf(path: Any, p: Any) -> Any:
        s = slow.pop(readers.names(path), None)
        return jnp.asarray(s, numerics.dtype_of(p)) if trees.is_inexact(s) else p

    evaluated = jax.tree_util.tree_map_with_path(leaf, params)
    for path in slow:
        msg = (
            "lookahead_params: there is a slow weight, but no leaf of the params, at "
            f"{'/'.join(path)}. Pass the params that update() got."
        )
        raise ValueError(msg)
    return evaluated


def _slow_copy(leaf: Any) -> jax.Array:
    """The leaf in at least float32, in a buffer of its own."""
    wide = None
    if trees.is_inexact(leaf):
        wide = numerics.compute_dtype(numerics.dtype_of(leaf))
    return donation.own_buffer(leaf, wide)


def _in_dtypes_of(params: PyTree, slow: PyTree) -> PyTree:
    """The slow weights in the dtypes of the params; the params if there are none."""

    def subtree(s: Any, params: PyTree) -> PyTree:
        # None and a masked node stand for a whole subtree.
        if _is_empty(s) or not trees.is_inexact(s):
            return params
        return s.astype(numerics.dtype_of(params))

    return jax.tree.map(subtree, slow, params, is_leaf=_is_empty)


def _is_empty(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _require_no_accumulation(state: PyTree) -> None:
    """Raises ValueError if the state of an optimizer holds accumulated gradients."""

    def accumulates(node: Any) -> bool:
        return isinstance(node, optax.MultiStepsState | optax.ApplyEvery)

    if any(map(accumulates, jax.tree.leaves(state, is_leaf=accumulates))):
        msg = (
            "lookahead: inner_state='reset' would throw away the gradients that the "
            "optimizer has accumulated. Put lookahead inside: "
            "optax.MultiSteps(lookahead(optimizer, inner_state='reset'), k), which "
            "synchronizes every sync_period whole steps."
        )
        raise ValueError(msg)


def _has_momentum(node: Any) -> bool:
    return any(name in _MOMENTA for name in getattr(node, "_fields", ()))


def _momenta(state: PyTree) -> list[PyTree]:
    """Every momentum in the state of an optimizer."""
    nodes = jax.tree.leaves(state, is_leaf=_has_momentum)
    return [
        getattr(node, name)
        for node in nodes
        for name in getattr(node, "_fields", ())
        if name in _MOMENTA
    ]


def _with_momenta(state: PyTree, momenta: list[PyTree]) -> PyTree:
    """The state with other momenta."""
    rest = iter(momenta)

    def leaf(node: Any) -> Any:
        names = (n for n in getattr(node, "_fields", ()) if n in _MOMENTA)
        changes = {name: next(rest) for name in names}
        return node._replace(**changes) if changes else node

    return jax.tree.map(leaf, state, is_leaf=_has_momentum)


def _no_momenta(state: PyTree) -> list[PyTree]:
    momenta = _momenta(state)
    if not momenta:
        msg = (
            "lookahead: inner_state='pullback' needs an optimizer with momentum, a "
            f"state with a field {', '.join(_MOMENTA[:-1])} or {_MOMENTA[-1]}; this "
            "one has none. Use inner_state='maintain' or 'reset'."
        )
        raise ValueError(msg)
    return jax.tree.map(jnp.zeros_like, momenta)


@numerics.inline_jit
def _step(
    due: jax.Array, alpha: Scalar, s: jax.Array, p: jax.Array, u: jax.Array
) -> jax.Array:
    """The update from the params to the fast weights, or to the new slow ones."""
    p, wide = p.astype(s.dtype), u.astype(s.dtype)
    slow = s + numerics.cast_scalar(s, alpha) * (p + wide - s)  # (1), (2)
    return jnp.where(due, slow - p, wide)


@numerics.inline_jit
def _arrived(due: jax.Array, s: jax.Array, p: jax.Array, step: jax.Array) -> jax.Array:
    """The slow weights, computed from the updated params.

    They are then identical to the params, and XLA need not store the update of the
    optimizer for them.
    """
    return jnp.where(due, p.astype(s.dtype) + step, s)  # (3)


@numerics.inline_jit
def _pulled_back(
    due: jax.Array, alpha: Scalar, last: jax.Array, m: jax.Array
) -> jax.Array:
    wide, before = numerics.upcast(m), numerics.upcast(last)
    pulled = before + numerics.cast_scalar(wide, alpha) * (wide - before)
    return jnp.where(due, pulled.astype(last.dtype), last)


@numerics.inline_jit
def _chosen(due: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(due, new, old)
