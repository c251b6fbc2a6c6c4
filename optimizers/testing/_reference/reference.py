"""Compares an optimizer with equations in NumPy, or with a recorded trajectory."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from optimizers.testing._compare import as_wide
from optimizers.testing._inputs import ExtraArgs, Tree
from optimizers.testing._reference.differences import differences, named, raise_for
from optimizers.testing._reference.recorded import is_recorded, leaves_of_steps
from optimizers.testing._reference.replay import field_of_states, replay
from optimizers.testing._reference.sequence import (
    Sequence,
    as_tree,
    as_vector,
    checked,
    number_of_steps,
    with_leaves,
)

__tracebackhide__ = True  # pytest shows the message alone

_NARROW = 1e-7  # rounding errors of numbers in 32 bits

# (start, gradients) -> params, or a pair of params and state fields, for each step
Reference = Callable[[np.ndarray, np.ndarray], Iterable[Any]]
# the leaves of the params, and the leaves of each field by name
Expected = tuple[list[np.ndarray], dict[str, list[np.ndarray]]]


def assert_matches_reference(
    tx: Any,
    reference: Reference | Tree,
    *,
    sequence: Sequence | None = None,
    steps: int = 50,
    rtol: float = 1e-12,
    per_leaf: bool = True,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that an optimizer agrees with equations in NumPy, or recorded numbers.

    It runs in 64 bits on given gradients, whatever the setting of `jax_enable_x64`.
    The message names, for every quantity that is compared, the first step that differs,
    the leaf and entry, both numbers and the relative error. Build constants that `tx`
    closes over as Python or NumPy numbers: a JAX array made elsewhere has 32 bits.

    Args:
        tx: The optimizer; its updates are added to the parameters.
        reference: Function of the start, an array, and the gradients, an array with a
            leading axis of steps. It returns or, as a generator, yields for each step
            the new parameters, or a pair of the parameters and a dictionary of state
            fields by name, such as `{"mu": m}`. A field is found by name at any depth
            of the state. Or the params after each step as another library recorded
            them: the tree of the start, with a leading axis of steps in every leaf, or
            a list with one tree for each step.
        sequence: Start and gradients; by default `random_sequence(steps)`. Recorded
            params need the sequence that they were recorded with.
        steps: Length of the default sequence.
        rtol: Largest error, relative to the largest absolute value that the entry has
            had so far. 50 steps of Adam in 64 bits have rounding errors of 1e-15, sums
            over a tree more. Numbers recorded in 32 bits need about 1e-5.
        per_leaf: Whether the reference is called for each leaf. If False, it is called
            once with all entries in one vector, for methods with a norm or another sum
            over the whole tree.
        extra_args: Function of the gradients and params of a step, called inside jit,
            that returns the extra arguments of `tx.update` as a dict.

    Raises:
        AssertionError: A number differs.
        ValueError: The reference has the wrong number of steps, a wrong shape or an
            unknown field; or it is recorded, and has another structure than the start
            or no sequence.

    Examples:
        >>> import optax
        >>> from optimizers import testing
        >>> def heavy_ball(x, gradients):
        ...     m = 0.0
        ...     for g in gradients:
        ...         m = 0.9 * m + g
        ...         x = x - 0.1 * m
        ...         yield x, {"trace": m}
        >>> testing.assert_matches_reference(optax.sgd(0.1, momentum=0.9), heavy_ball)

        Params that another program recorded, here of plain gradient descent:

        >>> import numpy as np
        >>> sequence = testing.Sequence(
        ...     {"w": np.array([1.0, 2.0])}, {"w": np.array([[1.0, 0.0], [2.0, 4.0]])}
        ... )
        >>> recorded = {"w": np.array([[0.5, 2.0], [-0.5, 0.0]])}
        >>> testing.assert_matches_reference(
        ...     optax.sgd(0.5), recorded, sequence=sequence
        ... )
    """
    recorded = is_recorded(reference)
    if recorded and sequence is None:
        msg = (
            "a recorded reference needs the start and gradients that it was recorded "
            "with: pass sequence=testing.Sequence(start, gradients)."
        )
        raise ValueError(msg)
    sequence = with_leaves(
        checked(sequence, steps),
        lambda x, g: (as_wide(x), as_wide(g)),
    )
    if recorded:
        params = leaves_of_steps(reference, sequence.start, number_of_steps(sequence))
        fields: dict[str, list[np.ndarray]] = {}
    else:
        follow = _each_leaf if per_leaf else _as_one_vector
        params, fields = follow(reference, sequence)
    run = replay(tx, sequence, extra_args)
    found = []
    for field, expected in fields.items():
        got = _leaves_of_field(run.states[1:], field, len(expected))
        found += differences(got, dict(zip(got, expected, strict=True)), rtol)
    got = named("params", run.params)
    found += differences(got, dict(zip(got, params, strict=True)), rtol)
    narrow = recorded and any(leaf.dtype.itemsize < 8 for leaf in params)
    hint = (
        "The recorded numbers have fewer than 64 bits; pass rtol=1e-5 for 32 bits, or "
        "record in float64."
    )
    raise_for(
        found,
        f"differs from the reference (rtol={rtol:g}):",
        hint if narrow and rtol < _NARROW else "",
    )


def _each_leaf(reference: Reference, sequence: Sequence) -> Expected:
    leaves = zip(*map(jax.tree.leaves, sequence), strict=True)
    followed = [_follow(reference, x, g) for x, g in leaves]
    fields = {name: [own[name] for _, own in followed] for name in followed[0][1]}
    return [params for params, _ in followed], fields


def _as_one_vector(reference: Reference, sequence: Sequence) -> Expected:
    params, fields = _follow(reference, *as_vector(sequence))

    def per_leaf(values: np.ndarray) -> list[np.ndarray]:
        if values.shape != params.shape:
            return [values]
        return jax.tree.leaves(as_tree(values, sequence.start))

    return per_leaf(params), {name: per_leaf(own) for name, own in fields.items()}


def _follow(
    reference: Reference, start: np.ndarray, gradients: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns params and state fields after each step, stacked."""
    params, fields = [], []
    # Copies of inputs and outputs: a reference may work in place.
    for after in reference(start.copy(), gradients.copy()):
        x, own = after if isinstance(after, tuple) else (after, {})
        params.append(np.array(x))
        fields.append({name: np.array(value) for name, value in own.items()})
    if len(params) != len(gradients):
        msg = (
            f"the reference returned {len(params)} steps for {len(gradients)} "
            "gradients; yield the params exactly once per step."
        )
        raise ValueError(msg)
    if params[0].shape != start.shape:
        msg = (
            f"the reference returned params of shape {params[0].shape} for a start of "
            f"shape {start.shape}; yield the params after each step."
        )
        raise ValueError(msg)
    stacked = {name: np.stack([own[name] for own in fields]) for name in fields[0]}
    return np.stack(params), stacked


def _leaves_of_field(
    states: list[Tree], field: str, count: int
) -> dict[str, np.ndarray]:
    """Returns the `count` leaves of the one field of that name."""
    found = field_of_states(states, field)
    if len(found) > 1:
        msg = (
            f"the state has several fields {field!r}: {', '.join(found)}; test the "
            "transformation with this field on its own."
        )
        raise ValueError(msg)
    (leaves,) = found.values()
    if len(leaves) != count:
        msg = (
            f"the reference gives {count} values of {field!r}, one for each leaf of "
            f"the params, but the state has {len(leaves)}: {', '.join(leaves)}."
        )
        raise ValueError(msg)
    return leaves
