"""Properties that optimizers claim, each as one assertion.

All run in the dtypes of their sequence, float64 by default, whatever JAX is set to, and
apply the updates to the parameters as a training loop does.
"""

from collections.abc import Callable, Collection
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _replay
from optimizers.testing._data import Tree
from optimizers.testing._jit import quick_jit
from optimizers.testing._replay import ExtraArgs, Sequence

_STEPS = 20


def assert_scale_invariant(
    tx: Any,
    *,
    powers: Collection[int] = (-100, 100),
    rtol: float = 0.0,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that gradients times a constant give the same updates.

    Such an optimizer does not care in which unit the loss is; Adam without eps is one.
    The constants are powers of two, which scale without rounding: unless you allow an
    error, not a bit may differ.

    Args:
      tx: The optimizer.
      powers: Exponents of two. Choose smaller ones for sequences in 32 bits, where the
        squares of gradients must stay between 1e-38 and 1e38.
      rtol: Largest relative error.
      sequence: Start and gradients; by default `random_sequence(20)`.
      extra_args: Called with gradients and params, inside jit; returns the keyword
        arguments of `tx.update`.

    Raises:
      AssertionError: Updates differ; the message says where first and by how much.

    Examples:
      >>> import optimizers
      >>> from optimizers import testing
      >>> testing.assert_scale_invariant(optimizers.adam(0.1, eps=0.0))
    """
    sequence = _replay.checked(sequence, _STEPS)
    expected = _updates(tx, sequence, extra_args)
    for power in powers:
        scaled = _replay.with_leaves(
            sequence, lambda x, g, factor=2.0**power: (x, (factor * g).astype(g.dtype))
        )
        _replay.raise_for(
            _replay.differences(_updates(tx, scaled, extra_args), expected, rtol),
            f"not scale invariant: with gradients times 2**{power}",
            "Constants of the unit of gradients, such as eps, have this effect, and so "
            "have updates in proportion to the gradient.",
        )


def assert_translation_invariant(
    tx: Any,
    *,
    shift: float = 8.0,
    rtol: float = 1e-9,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that updates do not depend on where the origin of the parameters is.

    Weight decay, trust ratios and all else that looks at the size of parameters break
    it. The gradients are the same at both places.

    Args:
      tx: The optimizer.
      shift: Added to every entry of the start.
      rtol: Largest relative error. It is not zero because methods that remember the
        start subtract from it parameters that the shift has rounded.
      sequence: Start and gradients; by default `random_sequence(20)`.
      extra_args: Called with gradients and params, inside jit; returns the keyword
        arguments of `tx.update`.

    Raises:
      AssertionError: Updates differ; the message says where first and by how much.

    Examples:
      >>> import optax
      >>> from optimizers import testing
      >>> testing.assert_translation_invariant(optax.adamw(0.1, weight_decay=0.0))
    """
    sequence = _replay.checked(sequence, _STEPS)
    moved = _replay.with_leaves(sequence, lambda x, g: ((x + shift).astype(x.dtype), g))
    expected = _updates(tx, sequence, extra_args)
    _replay.raise_for(
        _replay.differences(_updates(tx, moved, extra_args), expected, rtol),
        f"not translation invariant: from a start moved by {shift:g}",
        "Weight decay and norms of the parameters have this effect.",
    )


def assert_permutation_equivariant(
    tx: Any,
    *,
    rtol: float = 1e-12,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that permuted entries and leaves give permuted updates.

    Norms over a leaf or the whole tree keep it; a rule that treats rows unlike columns
    does not. The optimizer meets the leaves as a list, in their order and reversed,
    with the entries of each leaf in their order and shuffled.

    Args:
      tx: The optimizer.
      rtol: Largest relative error, for sums in another order.
      sequence: Start and gradients; by default `random_sequence(20)`.
      extra_args: Called with gradients and params, inside jit; returns the keyword
        arguments of `tx.update`.

    Raises:
      AssertionError: Updates differ; the message says where first and by how much, in
        the order of the original leaves and entries.

    Examples:
      >>> import optax
      >>> from optimizers import testing
      >>> testing.assert_permutation_equivariant(optax.lamb(0.1))
    """
    sequence = _replay.checked(sequence, _STEPS)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.size(x)) for x in jax.tree.leaves(sequence.start)]
    straight = Sequence(*map(jax.tree.leaves, sequence))
    shuffled = Sequence(
        [_permute(x[None], o)[0] for x, o in zip(straight.start, orders, strict=True)],
        [_permute(g, o) for g, o in zip(straight.gradients, orders, strict=True)],
    )
    back_to_front = Sequence(*(leaves[::-1] for leaves in shuffled))
    updates = _replay.replay(tx, back_to_front, extra_args).updates[::-1]
    restored = [
        _permute(u, np.argsort(o)) for u, o in zip(updates, orders, strict=True)
    ]
    structure = jax.tree.structure(sequence.start)
    expected = _replay.replay(tx, straight, extra_args).updates
    _replay.raise_for(
        _replay.differences(
            _replay.named("updates", structure.unflatten(restored)),
            _replay.named("updates", structure.unflatten(expected)),
            rtol,
        ),
        "not permutation equivariant: with leaves reversed and entries shuffled",
        "A rule that treats rows unlike columns, or counts leaves, has this effect.",
    )


def assert_elementwise(
    tx: Any,
    *,
    rtol: float = 1e-12,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that the updates of an entry depend on nothing but this entry.

    Half of the entries get another start and other gradients, which may not change a
    bit of the other half; then the whole tree becomes one vector, so that neither
    shapes nor leaves may matter. What is elementwise may be sharded, split and merged
    at will.

    Args:
      tx: The optimizer.
      rtol: Largest relative error of the vector against the tree.
      sequence: Start and gradients, all of one dtype; by default `random_sequence(20)`.
      extra_args: Called with gradients and params, inside jit; returns the keyword
        arguments of `tx.update`.

    Raises:
      AssertionError: Updates differ; the message says where first and by how much.

    Examples:
      >>> import optax
      >>> from optimizers import testing
      >>> testing.assert_elementwise(optax.adam(0.1))
    """
    sequence = _replay.checked(sequence, _STEPS)
    expected = _updates(tx, sequence, extra_args)
    vector = _replay.as_vector(sequence)
    # Large and of one sign: methods that estimate a distance or keep the largest
    # gradients respond to it within a few steps.
    largest = float(np.max(np.abs(vector.gradients), initial=0.0))
    large = min(2 * largest + 1, float(jnp.finfo(vector.gradients.dtype).max))
    for parity in (0, 1):
        changed = np.arange(vector.start.size) % 2 == parity
        other = Sequence(
            np.where(changed, vector.start + 1, vector.start),
            np.where(changed, large, vector.gradients).astype(vector.gradients.dtype),
        )
        got = _updates(tx, _as_trees(other, sequence.start), extra_args)
        masks = jax.tree.leaves(_replay.as_tree(changed[None], sequence.start))
        # What changed is left out of the comparison.
        kept = {
            name: np.where(mask, expected[name], u)
            for (name, u), mask in zip(got.items(), masks, strict=True)
        }
        _replay.raise_for(
            _replay.differences(kept, expected, 0.0),
            "not elementwise: when other entries get other gradients",
            "A norm, a mean or another sum over entries has this effect.",
        )
    merged = _replay.replay(tx, vector, extra_args).updates
    _replay.raise_for(
        _replay.differences(
            _replay.named("updates", _replay.as_tree(merged, sequence.start)),
            expected,
            rtol,
        ),
        "not elementwise: with all leaves in one vector",
        "A rule that looks at shapes or counts leaves has this effect.",
    )


def assert_descends(
    tx: Any,
    loss: Callable[[Tree], jax.Array] | None = None,
    start: Tree = None,
    *,
    steps: int = 100,
    ratio: float = 0.5,
) -> None:
    """Asserts that an optimizer lowers a loss whose full gradient it gets.

    Every update gets `value`, `grad`, `value_fn`, `grad_fn` and, as `aux_grads`, the
    gradient once more.

    Args:
      tx: The optimizer.
      loss: From params to a number that is never negative; by default the quadratic
        ½ Σ λ (p - 2)² with curvatures λ from 0.1 to 1.
      start: Where it starts; by default ten parameters at 0. Required with a loss.
      steps: How many steps it gets.
      ratio: The largest loss that is allowed after them, in units of the first.

    Raises:
      AssertionError: The loss or an update is not finite, or the loss is too large in
        the end. The message tells an update that points uphill.
      ValueError: There is a loss and no start.

    Examples:
      >>> import optax
      >>> from optimizers import testing
      >>> testing.assert_descends(optax.sgd(0.1))
    """
    if loss is not None and start is None:
        msg = "assert_descends: a loss needs a start, the params of the first step."
        raise ValueError(msg)
    objective = _quadratic if loss is None else loss
    update = optax.with_extra_args_support(tx).update
    gradient = jax.grad(objective)

    @quick_jit
    def step(state: Tree, params: Tree) -> tuple[Tree, Tree, jax.Array, jax.Array]:
        value, grads = jax.value_and_grad(objective)(params)
        extras = {"value": value, "grad": grads, "aux_grads": grads}
        updates, state = update(
            grads, state, params, value_fn=objective, grad_fn=gradient, **extras
        )
        params = optax.apply_updates(params, updates)
        slope = jnp.asarray(optax.tree.vdot(updates, grads))
        return state, params, objective(params), slope

    with jax.enable_x64(True):
        start = np.zeros(10) if start is None else start
        params = jax.tree.map(jnp.asarray, start)
        first = value = float(objective(params))
        state = tx.init(params)
        uphill = 0
        for number in range(1, steps + 1):
            state, params, value, slope = step(state, params)
            uphill += bool(slope > 0)
            value = float(value)
            if not np.isfinite(value):
                msg = f"does not descend: the loss is {value} after step {number}."
                raise AssertionError(msg)
    if not value <= ratio * first:
        msg = (
            f"does not descend: the loss went from {first:.6g} to {value:.6g} in "
            f"{steps} steps, expected at most {ratio * first:.6g}."
        )
        if uphill > steps / 2:
            msg += (
                f" {uphill} updates point uphill, along the gradient: a primitive is "
                "followed by optax.scale(-learning_rate)."
            )
        raise AssertionError(msg)


def assert_monotone(
    tx: Any,
    field: str,
    direction: Literal["increasing", "decreasing"] = "increasing",
    *,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that no entry of a state field ever moves the other way.

    Args:
      tx: The optimizer.
      field: Name of the field, such as `nu_max`, at whatever depth of the state; if
        there are several, all are checked.
      direction: `increasing`, which means that nothing shrinks, or `decreasing`.
      sequence: Start and gradients; by default `random_sequence(20)`, in which zeros
        follow large gradients.
      extra_args: Called with gradients and params, inside jit; returns the keyword
        arguments of `tx.update`.

    Raises:
      AssertionError: An entry moved the other way or is NaN; the message says which,
        when, from what and to what.
      ValueError: The state has no such field, or the direction is not one of the two.

    Examples:
      >>> import optax
      >>> from optimizers import testing
      >>> testing.assert_monotone(optax.amsgrad(0.1), "nu_max")
    """
    if direction not in ("increasing", "decreasing"):
        msg = (
            "assert_monotone: direction must be 'increasing' or 'decreasing', got "
            f"{direction!r}."
        )
        raise ValueError(msg)
    states = _replay.replay(tx, _replay.checked(sequence, _STEPS), extra_args).states
    for where, leaves in _replay.field_of_states(states, field).items():
        for name, values in leaves.items():
            before, after = values[:-1], values[1:]
            holds = after >= before if direction == "increasing" else after <= before
            if not holds.all():
                step, *index = (int(i) for i in np.argwhere(~holds)[0])
                at = (step, *index)
                msg = (
                    f"not {direction}: {name}{index or ''} of state{where} went from "
                    f"{before[at]:.6g} to {after[at]:.6g} in step {step + 1}."
                )
                raise AssertionError(msg)


def _updates(
    tx: Any, sequence: Sequence, extra_args: ExtraArgs | None
) -> dict[str, np.ndarray]:
    return _replay.named("updates", _replay.replay(tx, sequence, extra_args).updates)


def _permute(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the array with the entries after the first axis in another order."""
    return rows.reshape(len(rows), -1)[:, order].reshape(rows.shape)


def _as_trees(vector: Sequence, like: Tree) -> Sequence:
    start = _replay.as_tree(vector.start[None], like)
    return Sequence(
        jax.tree.map(lambda x: x[0], start), _replay.as_tree(vector.gradients, like)
    )


def _quadratic(params: jax.Array) -> jax.Array:
    curvature = np.logspace(-1, 0, 10).astype(params.dtype)
    return 0.5 * jnp.sum(curvature * jnp.square(params - 2))
