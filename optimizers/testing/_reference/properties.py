"""Properties that optimizers claim, each as one assertion.

All run in the dtypes of their sequence, float64 by default, whatever the setting of
`jax_enable_x64`, and apply the updates to the parameters as a training loop does.
"""

from collections.abc import Callable, Collection
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing._inputs import ExtraArgs, Tree
from optimizers.testing._jit import quick_jit
from optimizers.testing._reference.differences import differences, named, raise_for
from optimizers.testing._reference.replay import (
    field_of_states,
    replay,
    require_transformation,
)
from optimizers.testing._reference.sequence import (
    Sequence,
    as_tree,
    as_vector,
    checked,
    with_leaves,
)

__tracebackhide__ = True  # pytest shows the message alone

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

    For such an optimizer the scale of the loss does not matter; Adam without eps is an
    example. The constants are powers of two, which scale without rounding, so by
    default the updates must be bitwise equal.

    Args:
        tx: The optimizer.
        powers: Exponents of two. Choose smaller ones for sequences in 32 bits, where
            squared gradients must stay between 1e-38 and 1e38.
        rtol: Largest relative error.
        sequence: Start and gradients; by default `random_sequence(20)`.
        extra_args: Function of the gradients and params of a step, called inside jit,
            that returns the extra arguments of `tx.update` as a dict.

    Raises:
        AssertionError: Updates differ; the message shows the first differences.

    Examples:
        >>> import optimizers
        >>> from optimizers import testing
        >>> testing.assert_scale_invariant(optimizers.adam(0.1, eps=0.0))
    """
    sequence = checked(sequence, _STEPS)
    expected = _updates(tx, sequence, extra_args)
    for power in powers:
        scaled = with_leaves(
            sequence, lambda x, g, factor=2.0**power: (x, (factor * g).astype(g.dtype))
        )
        raise_for(
            differences(_updates(tx, scaled, extra_args), expected, rtol),
            f"not scale invariant: with gradients times 2**{power}",
            "Possible causes: constants that are added to gradients or their squares, "
            "such as eps, and updates that are proportional to the gradient.",
        )


def assert_translation_invariant(
    tx: Any,
    *,
    shift: float = 8.0,
    rtol: float = 1e-9,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that updates do not change when a constant is added to the parameters.

    Weight decay, trust ratios and everything else that depends on the size of the
    parameters break it. The gradients are the same at both places.

    Args:
        tx: The optimizer.
        shift: Added to every entry of the start.
        rtol: Largest relative error. It is not zero because the shift rounds the
            parameters, and some methods subtract them from the start.
        sequence: Start and gradients; by default `random_sequence(20)`.
        extra_args: Function of the gradients and params of a step, called inside jit,
            that returns the extra arguments of `tx.update` as a dict.

    Raises:
        AssertionError: Updates differ; the message shows the first differences.

    Examples:
        >>> import optax
        >>> from optimizers import testing
        >>> testing.assert_translation_invariant(optax.adamw(0.1, weight_decay=0.0))
    """
    sequence = checked(sequence, _STEPS)
    moved = with_leaves(sequence, lambda x, g: ((x + shift).astype(x.dtype), g))
    expected = _updates(tx, sequence, extra_args)
    raise_for(
        differences(_updates(tx, moved, extra_args), expected, rtol),
        f"not translation invariant: from a start moved by {shift:g}",
        "Possible causes: weight decay and norms of the parameters.",
    )


def assert_permutation_equivariant(
    tx: Any,
    *,
    rtol: float = 1e-12,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that permuted entries and leaves give permuted updates.

    Norms over a leaf or the whole tree keep this property; a method that treats rows
    and columns differently does not have it. The optimizer receives the leaves as a
    list: once in order, and once reversed with the entries of each leaf shuffled.

    Args:
        tx: The optimizer.
        rtol: Largest relative error; sums in another order round differently.
        sequence: Start and gradients; by default `random_sequence(20)`.
        extra_args: Function of the gradients and params of a step, called inside jit,
            that returns the extra arguments of `tx.update` as a dict.

    Raises:
        AssertionError: Updates differ; the message shows the first differences, in the
            original order of leaves and entries.

    Examples:
        >>> import optax
        >>> from optimizers import testing
        >>> testing.assert_permutation_equivariant(optax.lamb(0.1))
    """
    sequence = checked(sequence, _STEPS)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.size(x)) for x in jax.tree.leaves(sequence.start)]
    straight = Sequence(*map(jax.tree.leaves, sequence))
    shuffled = Sequence(
        [_permute(x[None], o)[0] for x, o in zip(straight.start, orders, strict=True)],
        [_permute(g, o) for g, o in zip(straight.gradients, orders, strict=True)],
    )
    back_to_front = Sequence(*(leaves[::-1] for leaves in shuffled))
    updates = replay(tx, back_to_front, extra_args).updates[::-1]
    restored = [
        _permute(u, np.argsort(o)) for u, o in zip(updates, orders, strict=True)
    ]
    structure = jax.tree.structure(sequence.start)
    expected = replay(tx, straight, extra_args).updates
    raise_for(
        differences(
            named("updates", structure.unflatten(restored)),
            named("updates", structure.unflatten(expected)),
            rtol,
        ),
        "not permutation equivariant: with leaves reversed and entries shuffled",
        "Possible causes: different treatment of rows and columns, or a dependence "
        "on the position of a leaf.",
    )


def assert_elementwise(
    tx: Any,
    *,
    rtol: float = 1e-12,
    sequence: Sequence | None = None,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that the updates of an entry depend only on this entry.

    First, half of the entries get another start and other gradients, and the updates of
    the other half must stay bitwise equal. Then the whole tree is merged into one
    vector, so that shapes and leaves cannot matter. An elementwise optimizer works on
    params that are sharded, split or merged in any way.

    Args:
        tx: The optimizer.
        rtol: Largest relative error between the vector and the tree.
        sequence: Start and gradients, all of one dtype; by default
            `random_sequence(20)`.
        extra_args: Function of the gradients and params of a step, called inside jit,
            that returns the extra arguments of `tx.update` as a dict.

    Raises:
        AssertionError: Updates differ; the message shows the first differences.

    Examples:
        >>> import optax
        >>> from optimizers import testing
        >>> testing.assert_elementwise(optax.adam(0.1))
    """
    sequence = checked(sequence, _STEPS)
    expected = _updates(tx, sequence, extra_args)
    vector = as_vector(sequence)
    # Large and of one sign, so that methods that estimate a distance or keep the
    # largest gradients respond within a few steps.
    largest = float(np.max(np.abs(vector.gradients), initial=0.0))
    large = min(2 * largest + 1, float(jnp.finfo(vector.gradients.dtype).max))
    for parity in (0, 1):
        changed = np.arange(vector.start.size) % 2 == parity
        other = Sequence(
            np.where(changed, vector.start + 1, vector.start),
            np.where(changed, large, vector.gradients).astype(vector.gradients.dtype),
        )
        got = _updates(tx, _as_trees(other, sequence.start), extra_args)
        masks = jax.tree.leaves(as_tree(changed[None], sequence.start))
        # Changed entries are left out of the comparison.
        kept = {
            name: np.where(mask, expected[name], u)
            for (name, u), mask in zip(got.items(), masks, strict=True)
        }
        raise_for(
            differences(kept, expected, 0.0),
            "not elementwise: when other entries get other gradients",
            "Possible causes: a norm, a mean or another sum over entries.",
        )
    merged = replay(tx, vector, extra_args).updates
    raise_for(
        differences(
            named("updates", as_tree(merged, sequence.start)),
            expected,
            rtol,
        ),
        "not elementwise: with all leaves in one vector",
        "Possible cause: a dependence on the shapes or the number of leaves.",
    )


def assert_descends(
    tx: Any,
    loss: Callable[[Tree], jax.Array] | None = None,
    start: Tree = None,
    *,
    steps: int = 100,
    ratio: float = 0.5,
) -> None:
    """Asserts that an optimizer decreases a loss, given its full gradient.

    Every update gets `value`, `grad`, `value_fn`, `grad_fn` and, as `aux_grads`, a copy
    of the gradient.

    Args:
        tx: The optimizer.
        loss: Function of the params that is never negative; by default the quadratic
            ½ Σ λ (p - 2)² with curvatures λ from 0.1 to 1.
        start: The initial params; by default ten zeros. Required with a loss.
        steps: The number of steps.
        ratio: The largest final loss that passes, as a fraction of the initial loss.

    Raises:
        AssertionError: The loss is not finite or the final loss is too large. The
            message says if most updates point uphill.
        ValueError: There is a loss but no start.

    Examples:
        >>> import optax
        >>> from optimizers import testing
        >>> testing.assert_descends(optax.sgd(0.1))
    """
    require_transformation(tx)
    if loss is not None and start is None:
        msg = "assert_descends: a loss needs a start, the initial params."
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
                f" {uphill} updates point uphill, along the gradient: chain a "
                "gradient transformation with optax.scale(-learning_rate)."
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
    """Asserts that every entry of a state field only increases, or only decreases.

    Args:
        tx: The optimizer.
        field: Name of the field, such as `nu_max`, at any depth of the state. If there
            are several, all are checked.
        direction: `increasing` or `decreasing`; equal values pass both.
        sequence: Start and gradients; by default `random_sequence(20)`, where zeros
            follow large gradients.
        extra_args: Function of the gradients and params of a step, called inside jit,
            that returns the extra arguments of `tx.update` as a dict.

    Raises:
        AssertionError: An entry moved the other way or is NaN; the message names the
            entry, the step and both values.
        ValueError: The state has no such field, or the direction is unknown.

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
    states = replay(tx, checked(sequence, _STEPS), extra_args).states
    for where, leaves in field_of_states(states, field).items():
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
    return named("updates", replay(tx, sequence, extra_args).updates)


def _permute(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the array with the entries after the first axis in another order."""
    return rows.reshape(len(rows), -1)[:, order].reshape(rows.shape)


def _as_trees(vector: Sequence, like: Tree) -> Sequence:
    start = as_tree(vector.start[None], like)
    return Sequence(
        jax.tree.map(lambda x: x[0], start), as_tree(vector.gradients, like)
    )


def _quadratic(params: jax.Array) -> jax.Array:
    curvature = np.logspace(-1, 0, 10).astype(params.dtype)
    return 0.5 * jnp.sum(curvature * jnp.square(params - 2))
