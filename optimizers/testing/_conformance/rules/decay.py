"""Decoupled weight decay and its mask."""

from typing import Any, NamedTuple

import jax
import numpy as np

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import run
from optimizers.testing._extras import update
from optimizers.testing._inputs import Tree


class _CallableTree(NamedTuple):
    layer: Any
    other: Any

    def __call__(self, x: Any) -> Any:
        return x


def weight_decay_is_decoupled(case: Case) -> None:
    """Weight decay is proportional to the params and may be a schedule.

    Decay that is added to the gradient is another method. Like learning rates, decay
    is often scheduled.
    """
    updates = _decay_at_rest(case)
    sign = -1.0 if case.descends else 1.0
    decayed = False
    for (path, u), (_, p) in zip(
        _compare.leaves(updates), _compare.leaves(case.params), strict=True
    ):
        # Some methods decay matrices only.
        if not np.any(np.asarray(u)):
            continue
        decayed = True
        ratio = sign * np.asarray(u, np.float64) / np.asarray(p, np.float64)
        assert np.all(ratio > 0), (
            f"decay{path} does not shrink the params: ratios {ratio.ravel()}"
        )
        assert np.ptp(ratio) <= 1e-4 * np.max(ratio), (
            f"decay{path} is not proportional to the params: ratios {ratio.ravel()}"
        )
    assert decayed, "weight_decay=0.5 changed nothing"
    _assert_no_memory_of_decay(case)
    constant, _ = run(case.make(weight_decay=0.1), case.params, case.stream)
    schedule = case.make(weight_decay=lambda count: 0.1)
    scheduled, _ = run(schedule, case.params, case.stream)
    _compare.assert_close(scheduled, constant, "a constant schedule of the decay", 1e-6)


def _assert_no_memory_of_decay(case: Case) -> None:
    """Asserts that decay of past params does not move params that are zero now."""
    # If momentum is optional, with momentum.
    options = ((name, case.parameters.get(name)) for name in ("b1", "momentum"))
    momentum = {name: 0.9 for name, option in options if option and not option.default}
    zeros = _inputs.full_like(case.params, 0.0)

    def sizes(decay: float) -> list[float]:
        tx = case.make(weight_decay=decay, **momentum)
        first, state = update(tx, zeros, tx.init(case.params), case.params)
        second, _ = update(tx, zeros, state, zeros)
        # NumPy's maximum does not lose a NaN.
        return [
            float(np.max([np.max(np.abs(u)) for u in jax.tree.leaves(of_one)]))
            for of_one in (first, second)
        ]

    before, after = sizes(0.5)
    if after == 0 or sizes(0.0)[1] > 0:
        return  # else it remembers the params, and moves even without decay
    assert np.isfinite(before + after), (
        f"weight_decay=0.5 at zero gradients moves params by {before:.3g}, and those "
        f"that are zero by {after:.3g}, expected finite numbers"
    )
    # In a dynamical system of params and velocity a small part remains, of the order
    # of the learning rate.
    assert after <= 0.3 * before, (
        f"weight_decay=0.5 moves params by {before:.3g} and at the next step, where "
        f"params and gradients are zero, by {after:.3g}: decay is in the momentum"
    )


def weight_decay_mask_is_any_mask(case: Case) -> None:
    """Decay masks may be trees, prefix trees, functions or callable trees.

    Masks exclude biases and norms from decay; users write them as trees or functions.
    """
    _decay_at_rest(case)
    names = [n for n in ("weight_decay_mask", "mask") if n in case.parameters]
    assert names, f"{case.base_name} has weight_decay but no weight_decay_mask"
    around = lambda tree: _CallableTree(tree["layer"], tree["layer"]["bias"])  # noqa: E731
    params = around(case.params)
    grads = around(case.stream[0])
    full = _CallableTree({"bias": True, "kernel": True}, False)
    masks = {"callable tree": full, "prefix tree": _CallableTree(True, False)}
    for name in names:
        # With zero gradients only decay moves params, even if a method couples them.
        still = _inputs.full_like(grads, 0.0)
        masked = case.make(weight_decay=0.5, **{name: lambda tree: full})
        updates = run(masked, params, [still])[0][0]
        _compare.assert_zero(updates.other, f"decay outside {name}")
        decays = any(np.any(np.asarray(x)) for _, x in _compare.leaves(updates.layer))
        assert decays, f"weight_decay=0.5 changed nothing inside {name}"
        expected = run(masked, params, [grads])[0][0]
        for kind, mask in masks.items():
            tx = case.make(weight_decay=0.5, **{name: mask})
            updates, _ = run(tx, params, [grads])
            what = f"{name} as a {kind}"
            _compare.assert_close(updates[0], expected, what, rtol=1e-6)


def _decay_at_rest(case: Case) -> Tree:
    """Returns the update for zero gradients, which only decay can move."""
    applies_if("weight_decay" in case.parameters, "has no weight_decay")
    tx = case.make(weight_decay=0.5)
    zeros = _inputs.full_like(case.params, 0.0)
    (at_rest,), _ = run(tx, case.params, [zeros])
    if not any(np.any(np.asarray(u)) for u in jax.tree.leaves(at_rest)):
        decays = run(tx, case.params, case.stream[:1]).updates
        does_not = run(case.make(weight_decay=0.0), case.params, case.stream[:1])
        pairs = zip(*map(jax.tree.leaves, (decays, does_not.updates)), strict=True)
        moves = any(np.any(np.asarray(a) != np.asarray(b)) for a, b in pairs)
        applies_if(not moves, "decays only where gradients are not zero")
    return at_rest


RULES = (
    rule(
        weight_decay_is_decoupled,
        "promise",
        (40,),
        "Add weight_decay * params after the primitive and its momentum and before "
        "the learning rate, in the dtype of the updates (optax.add_decayed_weights "
        "promotes them if weight_decay is an array).",
    ),
    rule(
        weight_decay_mask_is_any_mask,
        "promise",
        (29, 40),
        "Pass the mask to optax.add_decayed_weights. To see whether it is a function, "
        "look at its leaves, since a tree may be callable too.",
    ),
)
