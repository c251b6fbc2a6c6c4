"""Compares an optimizer with equations written in NumPy."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from optimizers.testing import _replay
from optimizers.testing._data import Tree
from optimizers.testing._replay import ExtraArgs, Sequence

# (start, gradients) -> after each step the params, or a pair of them and state fields
Reference = Callable[[np.ndarray, np.ndarray], Iterable[Any]]
# params leaf by leaf, and of each field by name its leaves
Expected = tuple[list[np.ndarray], dict[str, list[np.ndarray]]]


def assert_matches_reference(
    tx: Any,
    reference: Reference,
    *,
    sequence: Sequence | None = None,
    steps: int = 50,
    rtol: float = 1e-12,
    per_leaf: bool = True,
    extra_args: ExtraArgs | None = None,
) -> None:
    """Asserts that an optimizer does what equations written in NumPy say.

    Both run in 64 bits through the same gradients, whatever JAX is set to. A message
    names the first step that differs, the leaf and entry, both numbers and the relative
    error, for every quantity that is compared. Build constants that `tx` closes over as
    Python or NumPy numbers: a JAX array made elsewhere has 32 bits.

    Args:
      tx: The optimizer, as applied: its updates are added to the parameters.
      reference: Called with the start, an array, and the gradients, the same with an
        axis of steps in front. Returns or, as a generator, yields what holds after each
        step: the parameters, or a pair of the parameters and a dictionary of state
        fields by name, such as `{"mu": m}`, wherever in the state they are.
      sequence: Start and gradients; by default `random_sequence(steps)`.
      steps: Length of the default sequence.
      rtol: Largest error, relative to the largest size that the entry has had so far.
        50 steps of Adam in 64 bits round to 1e-15, sums over a tree to more.
      per_leaf: Whether the reference is called for each leaf. If False it is called
        once, with all entries in one vector: for methods with a norm or another sum
        over the whole tree.
      extra_args: Called with gradients and params of a step, inside jit; returns the
        keyword arguments that `tx.update` needs, such as `grad_fn`.

    Raises:
      AssertionError: A number differs.
      ValueError: The reference has too few steps, another shape or an unknown field.

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
    """
    sequence = _replay.with_leaves(
        _replay.checked(sequence, steps),
        lambda x, g: (_replay.as_wide(x), _replay.as_wide(g)),
    )
    follow = _each_leaf if per_leaf else _as_one_vector
    params, fields = follow(reference, sequence)
    run = _replay.replay(tx, sequence, extra_args)
    found = []
    for field, expected in fields.items():
        got = _leaves_of_field(run.states[1:], field, len(expected))
        found += _replay.differences(got, dict(zip(got, expected, strict=True)), rtol)
    got = _replay.named("params", run.params)
    found += _replay.differences(got, dict(zip(got, params, strict=True)), rtol)
    _replay.raise_for(found, f"differs from the reference (rtol={rtol:g}):")


def _each_leaf(reference: Reference, sequence: Sequence) -> Expected:
    leaves = zip(*map(jax.tree.leaves, sequence), strict=True)
    followed = [_follow(reference, x, g) for x, g in leaves]
    fields = {name: [own[name] for _, own in followed] for name in followed[0][1]}
    return [params for params, _ in followed], fields


def _as_one_vector(reference: Reference, sequence: Sequence) -> Expected:
    params, fields = _follow(reference, *_replay.as_vector(sequence))

    def per_leaf(values: np.ndarray) -> list[np.ndarray]:
        if values.shape != params.shape:
            return [values]
        return jax.tree.leaves(_replay.as_tree(values, sequence.start))

    return per_leaf(params), {name: per_leaf(own) for name, own in fields.items()}


def _follow(
    reference: Reference, start: np.ndarray, gradients: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns params and state fields after each step, stacked."""
    params, fields = [], []
    # Copies on the way in and out: a reference may work in place.
    for after in reference(start.copy(), gradients.copy()):
        x, own = after if isinstance(after, tuple) else (after, {})
        params.append(np.array(x))
        fields.append({name: np.array(value) for name, value in own.items()})
    if len(params) != len(gradients):
        msg = (
            f"the reference returned {len(params)} steps for {len(gradients)} "
            "gradients; yield the params once after each step."
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
    found = _replay.field_of_states(states, field)
    if len(found) > 1:
        msg = (
            f"the state has several fields {field!r}: {', '.join(found)}; compare the "
            "transformation whose field it is by itself."
        )
        raise ValueError(msg)
    (leaves,) = found.values()
    if len(leaves) != count:
        msg = (
            f"the reference gives {count} values of {field!r}, one for each leaf of "
            f"the params, and the state has {len(leaves)}: {', '.join(leaves)}."
        )
        raise ValueError(msg)
    return leaves
