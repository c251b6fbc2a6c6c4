"""optax's combinators and wrappers."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import Run, run, run_jitted
from optimizers.testing._extras import abstract_steps, bind_extras, drop_extras, update
from optimizers.testing._inputs import Tree
from optimizers.testing._jit import quick_jit

_KERNEL_ONLY = {"layer": {"bias": False, "kernel": True}}


def _assert_works(
    case: Case,
    tx: Any,
    params: Tree,
    stream: list[Tree],
    what: str,
    run: Callable[..., Run] = run_jitted,
) -> list[Tree]:
    """Asserts stable state types and finite results; returns the updates."""
    # The optimizer inside has its extra arguments bound; some wrappers reject any.
    result = run(drop_extras(tx), params, stream)
    start = jax.eval_shape(tx.init, params)
    _compare.assert_same_dtypes(result.state, start, f"state under {what}")
    case.assert_finite(result, f"under {what}")
    return result.updates


def _require_masks(case: Case) -> None:
    applies_if(case.refuses_masks is None, f"rejects masks: {case.refuses_masks}")


def _require_arithmetic(case: Case) -> None:
    applies_if(
        not case.is_random,
        "the state has a PRNG key, and this wrapper does arithmetic on states",
    )


def _assert_stable(tx: Any, params: Tree, grads: Tree, what: str) -> None:
    state, last, _ = abstract_steps(drop_extras(tx), params, grads)
    _compare.assert_same_dtypes(last, state, f"state under {what}")


def works_in_chain(case: Case) -> None:
    """optax.chain and optax.named_chain give bitwise equal updates.

    Most optimizers of optax are chains.
    """
    chains = {
        "chain": optax.chain(optax.identity(), case.tx, optax.identity()),
        "named_chain": optax.named_chain(("first", optax.identity()), ("it", case.tx)),
    }
    for kind, tx in chains.items():
        updates, _ = run(tx, case.params, case.stream)
        _compare.assert_same_bits(updates, case.expected[0], f"in a {kind}")


def works_under_multi_steps(case: Case) -> None:
    """optax.MultiSteps gives the update of the mean gradient.

    MultiSteps accumulates the gradients of small batches.
    """
    tx = optax.MultiSteps(bind_extras(case.tx), 2).gradient_transformation()
    first, second, _ = case.stream
    # The extra arguments are those of the mean gradient.
    updates, _ = run_jitted(drop_extras(tx), case.params, [first, second])
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), first, second)
    expected, _ = run(case.tx, case.params, [mean])
    _compare.assert_zero(updates[0], "the first of two accumulated steps")
    _compare.assert_close(updates[1], expected[0], "under MultiSteps")
    narrow = _inputs.make_params("bfloat16")
    grads = _inputs.make_grads(0, "bfloat16")
    _assert_stable(tx, narrow, grads, "MultiSteps, bfloat16")


def works_under_apply_if_finite(case: Case) -> None:
    """Under optax.apply_if_finite, a NaN gradient does not change the state.

    A bad batch must not affect training.
    """
    tx = optax.apply_if_finite(bind_extras(case.tx), max_consecutive_errors=5)
    step = quick_jit(partial(update, tx))
    _, state = step(case.stream[0], tx.init(case.params), case.params)
    bad = _inputs.full_like(case.params, float("nan"))
    updates, after = step(bad, state, case.params)
    _compare.assert_zero(updates, "the update of a NaN gradient")
    inner = after.inner_state, state.inner_state
    _compare.assert_same_bits(*inner, "the inner state after a NaN gradient")


def works_under_masked(case: Case) -> None:
    """Under optax.masked, selected leaves get the same updates as alone.

    Masks train some leaves and not others, whose gradients must pass unchanged.
    """
    _require_masks(case)
    alone = {"layer": {"kernel": case.params["layer"]["kernel"]}}
    stream = [{"layer": {"kernel": g["layer"]["kernel"]}} for g in case.stream[:2]]
    expected, _ = run(case.tx, alone, stream)
    for mask in (_KERNEL_ONLY, lambda params: _KERNEL_ONLY):
        tx = optax.masked(bind_extras(case.tx), mask)
        updates = _assert_works(case, tx, case.params, case.stream[:2], "masked", run)
        for got, wanted, grads in zip(updates, expected, case.stream, strict=False):
            kernel = wanted["layer"]["kernel"]
            _compare.assert_close(
                got["layer"]["kernel"], kernel, "a selected leaf under masked", 1e-6
            )
            bias = grads["layer"]["bias"]
            _compare.assert_same_bits(
                got["layer"]["bias"], bias, "another leaf under masked"
            )
    prefix = optax.masked(bind_extras(case.tx), {"layer": True})
    updates, _ = run(prefix, case.params, case.stream)
    _compare.assert_close(updates, case.expected[0], "with a prefix mask", 1e-6)


def works_in_partition(case: Case) -> None:
    """In optax.partition and selective_transform, groups get the same updates as alone.

    Users train groups of params with different optimizers.
    """
    _require_masks(case)
    alone = {"layer": {"kernel": case.params["layer"]["kernel"]}}
    first = {"layer": {"kernel": case.stream[0]["layer"]["kernel"]}}
    expected, _ = run(case.tx, alone, [first])
    labels = {"layer": {"bias": "frozen", "kernel": "free"}}
    groups: dict[Hashable, Any] = {
        "free": bind_extras(case.tx),
        "frozen": optax.set_to_zero(),
    }
    frozen = {"layer": {"bias": True, "kernel": False}}
    wrappers = {
        "partition": optax.partition(groups, labels),
        "selective_transform": optax.selective_transform(
            bind_extras(case.tx), freeze_mask=frozen
        ),
    }
    for kind, tx in wrappers.items():
        updates = _assert_works(case, tx, case.params, case.stream[:1], kind, run)
        leaves = updates[0]["layer"]
        kernel = expected[0]["layer"]["kernel"]
        _compare.assert_close(leaves["kernel"], kernel, f"the free leaf, {kind}", 1e-6)
        _compare.assert_zero(leaves["bias"], f"the frozen leaf, {kind}")


def works_under_lookahead(case: Case) -> None:
    """optax.lookahead works, also with reset_state, which interpolates states.

    It averages params and, with reset_state, resets the state by arithmetic.
    """
    _require_arithmetic(case)
    params = optax.LookaheadParams.init_synced(case.params)
    tx = optax.lookahead(case.optimizer, 2, 0.5, reset_state=True)
    # One step after the reset: a fresh state may be infinite.
    _assert_works(case, tx, params, case.stream, "lookahead(reset_state=True)")


def works_under_schedule_free(case: Case) -> None:
    """optax.contrib.schedule_free works: types are stable and results finite.

    It averages the iterates of any base optimizer.
    """
    tx = optax.contrib.schedule_free(case.optimizer, case.learning_rate, b1=0.9)
    _assert_works(case, tx, case.params, case.stream[:2], "schedule_free")


def works_under_mechanize(case: Case) -> None:
    """optax.contrib.mechanize works: types are stable and results finite.

    It tunes the learning rate of any base optimizer.
    """
    tx = optax.contrib.mechanize(case.optimizer)
    _assert_works(case, tx, case.params, case.stream[:2], "mechanize")


def works_under_sam(case: Case) -> None:
    """optax.contrib.sam works: types are stable and results finite.

    It runs a base optimizer at perturbed params and resets its state.
    """
    _require_arithmetic(case)
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    tx = optax.contrib.sam(case.optimizer, climb, sync_period=2, reset_state=True)
    _assert_works(case, tx, case.params, case.stream[:2], "sam")


def works_under_flatten(case: Case) -> None:
    """optax.flatten works: types are stable and results finite.

    It merges many small leaves into one, which is faster.
    """
    tx = optax.flatten(bind_extras(case.tx))
    updates = _assert_works(case, tx, case.params, case.stream[:2], "flatten")
    _compare.assert_same_dtypes(updates[0], case.params, "updates under flatten")


def works_conditionally(case: Case) -> None:
    """optax.conditionally_transform and conditionally_mask work.

    They apply an optimizer only at some steps, which are known only on the device.
    """
    even = lambda step, **_: step % 2 == 0  # noqa: E731
    first, second, _ = case.stream
    transform = optax.conditionally_transform(bind_extras(case.tx), even)
    updates, _ = run_jitted(transform, case.params, [first, second])
    expected = case.expected[0][0]
    _compare.assert_agree(updates[0], expected, "at a chosen step")
    _compare.assert_same_bits(updates[1], second, "at another step")
    mask = optax.conditionally_mask(bind_extras(case.tx), even)
    for tx in (transform, mask):
        _assert_stable(tx, case.params, first, "a condition")


def works_before_other_transformations(case: Case) -> None:
    """reduce_on_plateau and keep_params_nonnegative work after it in a chain.

    They adapt the learning rate to the loss, and constrain the params.
    """
    plateau = optax.chain(case.optimizer, optax.contrib.reduce_on_plateau())
    state, last, _ = abstract_steps(plateau, case.params, case.stream[0])
    _compare.assert_same_dtypes(last, state, "state beside reduce_on_plateau")
    keep = optax.chain(case.optimizer, optax.keep_params_nonnegative())
    positive = jax.tree.map(jnp.abs, case.params)
    updates = _assert_works(
        case, keep, positive, case.stream[:1], "keep_params_nonnegative"
    )
    after = optax.apply_updates(positive, updates[0])
    for path, leaf in _compare.leaves(after):
        assert np.min(leaf) >= 0, (
            f"params{path} has an entry {np.min(leaf)}, expected none below 0"
        )


_MASKED = (
    "Map over the trees, and do not count leaves. An optimizer that calls the loss "
    "needs the full params: raise a ValueError that mentions the mask."
)
_WORKS = "Keep the state numeric and finite and its types stable, and use jax.tree.map."

RULES = (
    rule(
        works_in_chain,
        "promise",
        (42,),
        "Accept and return plain updates and states, and keep nothing outside them.",
    ),
    rule(
        works_under_multi_steps,
        "promise",
        (15, 43),
        "Keep the types of the state stable: MultiSteps selects between two states.",
    ),
    rule(
        works_under_apply_if_finite,
        "promise",
        (44,),
        "Keep everything that changes in the state.",
    ),
    rule(works_under_masked, "promise", (31, 45), _MASKED),
    rule(works_in_partition, "promise", (31, 45), _MASKED),
    rule(works_under_lookahead, "promise", (16, 46), _WORKS),
    rule(works_under_schedule_free, "promise", (46,), _WORKS),
    rule(works_under_mechanize, "promise", (46,), _WORKS),
    rule(works_under_sam, "promise", (16, 46), _WORKS),
    rule(works_under_flatten, "promise", (46,), _WORKS),
    rule(works_conditionally, "promise", (15, 46), _WORKS),
    rule(works_before_other_transformations, "promise", (42, 46), _WORKS),
)
