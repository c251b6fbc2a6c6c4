"""The order of transformations and wrappers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import NotApplicable, applies_if, rule
from optimizers.testing._conformance.run import run
from optimizers.testing._inputs import Tree

_FUNCTIONS = ("value_fn", "grad_fn", "obj_fn", "tail_grad_fn")
_STEPS = 3  # some methods have a zero first update
_MOST_MICRO_BATCHES = 64
_ROUNDING = 1e-4  # of a cosine
_FELT = 1e-2  # relative to the largest update


def gradient_transformations_come_first(case: Case) -> None:
    """What uses grad_fn, value_fn or aux_grads comes before the optimizer in a chain.

    After the optimizer it gets updates, which point downhill, in place of gradients:
    it then explores the loss downhill, and adds auxiliary gradients with the wrong
    sign.
    """
    applies_if(
        case.needs(*_FUNCTIONS, "aux_grads"),
        "needs neither a function of the params nor auxiliary gradients",
    )
    _assert_explores_uphill(case)
    _assert_adds_with_the_sign_of_gradients(case)


def _assert_explores_uphill(case: Case) -> None:
    params = case.params
    slopes: list[float] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(point: Tree, *rest: Any) -> Any:
            # The values, also inside jit, loops and derivatives.
            step = jax.tree.map(jnp.subtract, point, params)
            jax.debug.callback(slopes.append, _product(step, params))
            return function(point, *rest)

        return call

    grads = jax.tree.map(jnp.array, params)  # of ½·|x|²
    own = _inputs.extra_args(grads, params)
    extras = {**own, **{name: watched(own[name]) for name in _FUNCTIONS}}
    along = float(_product(_sum_of_updates(case, grads, extras), grads))
    jax.effects_barrier()
    explored = float(sum(slopes))
    # Line searches explore downhill, and then go there.
    assert not (explored < 0 < along), (
        "it evaluates the loss or its gradient downhill (⟨point − params, gradient⟩ is "
        f"{explored:.3g}), but its updates point uphill (⟨update, gradient⟩ is "
        f"{along:.3g})"
    )


def _assert_adds_with_the_sign_of_gradients(case: Case) -> None:
    params = case.params
    grads = jax.tree.map(jnp.array, params)
    weights = jax.tree.map(lambda g: np.resize([1.0, -0.5], g.shape) * g, grads)
    share = _product(weights, grads) / _product(grads, grads)
    other = jax.tree.map(lambda w, g: w - share * g, weights, grads)  # orthogonal

    def updates(sign: float) -> Tree:
        signed = jax.tree.map(lambda a: sign * a, other)
        own = _inputs.extra_args(grads, params)
        tail_grad_fn = lambda _: signed  # noqa: E731
        extras = {**own, "aux_grads": signed, "tail_grad_fn": tail_grad_fn}
        return _sum_of_updates(case, grads, extras)

    plus, minus = updates(1.0), updates(-1.0)
    of_other = _cosine(jax.tree.map(jnp.subtract, plus, minus), other)
    of_main = _cosine(jax.tree.map(jnp.add, plus, minus), grads)
    opposite = of_other * of_main < 0.0
    assert not opposite or min(abs(of_other), abs(of_main)) < _ROUNDING, (
        "its updates follow the gradient and the auxiliary gradient with opposite "
        f"signs (cosines {of_main:.2g} and {of_other:.2g})"
    )


def _sum_of_updates(case: Case, grads: Tree, extras: dict[str, Any]) -> Tree:
    state = case.tx.init(case.params)
    total = jax.tree.map(jnp.zeros_like, case.params)
    for _ in range(_STEPS):
        updates, state = case.tx.update(grads, state, case.params, **extras)
        total = jax.tree.map(jnp.add, total, updates)
    return total


def _product(one: Tree, other: Tree) -> jax.Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other)), jnp.zeros([]))


def _cosine(one: Tree, other: Tree) -> float:
    size = float(jnp.sqrt(_product(one, one) * _product(other, other)))
    return float(_product(one, other)) / size if size > 0.0 else 0.0


def accumulation_sees_every_micro_batch(case: Case) -> None:
    """Accumulated gradients use the extra arguments of every micro-batch.

    optax.MultiSteps hands over those of the last micro-batch only: what is inside it
    must not need the loss or the auxiliary gradients of all.
    """
    state = jax.eval_shape(case.tx.init, case.params)
    is_accumulated = lambda node: isinstance(node, optax.MultiStepsState)  # noqa: E731
    nodes = jax.tree.leaves(state, is_leaf=is_accumulated)
    applies_if(any(map(is_accumulated, nodes)), "does not accumulate gradients")
    plain = _inputs.extra_args(case.stream[0], case.params)

    def first_step(changed: int | None, of: int) -> tuple[int, Tree]:
        """Returns how many micro-batches the first step takes, and its update."""
        state = case.tx.init(case.params)
        other = _other_loss(plain, of)
        for micro_batch in range(of):
            extras = other if micro_batch == changed else plain
            updates, state = case.tx.update(
                case.stream[0], state, case.params, **extras
            )
            if any(np.any(u) for u in jax.tree.leaves(updates)):
                return micro_batch + 1, updates
        msg = f"makes no step in {of} micro-batches"
        raise NotApplicable(msg)

    number, update = first_step(None, _MOST_MICRO_BATCHES)
    applies_if(number > 1, "makes a step with every micro-batch")
    _, with_first = first_step(0, number)
    _, with_last = first_step(number - 1, number)
    applies_if(not _same(update, with_last), "uses no extra arguments")
    assert not _same(update, with_first), (
        f"of {number} micro-batches, the step uses the extra arguments of the last only"
    )


def learning_rate_changes_the_updates(case: Case) -> None:
    """Half the learning rate gives updates that differ by more than a hundredth.

    A method that normalizes gradients divides the learning rate out again if it comes
    after it in a chain; the run then has a learning rate of 1.
    """
    applies_if(case.takes_learning_rate, "has no learning rate")
    stream = case.stream[:_STEPS]
    halved, _ = run(case.make(0.5 * case.learning_rate), case.params, stream)
    given = case.expected[0][:_STEPS]
    change = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), given, halved)
    size = jax.tree.map(lambda a: jnp.max(jnp.abs(a)), given)
    largest = max(map(float, jax.tree.leaves(size)))
    assert max(map(float, jax.tree.leaves(change))) > _FELT * largest, (
        f"learning rates of {case.learning_rate:g} and {0.5 * case.learning_rate:g} "
        "give the same updates"
    )


def _other_loss(extras: dict[str, Any], scale: int) -> dict[str, Any]:
    """The extra arguments for a loss whose gradient has other signs."""

    def gradient(params: Tree, step: Any = None) -> Tree:
        del step
        return jax.tree.map(lambda p: _weighted(p, scale), params)

    def value(params: Tree) -> jax.Array:
        return 0.5 * _product(params, gradient(params))

    other = {
        "value_fn": value,
        "obj_fn": value,
        "grad_fn": gradient,
        "tail_grad_fn": gradient,
        "value": -10.0 * scale * extras["value"],
        "aux_grads": gradient(extras["aux_grads"]),
    }
    return {**extras, **other}


def _weighted(leaf: jax.Array, scale: int) -> jax.Array:
    return leaf * jnp.resize(jnp.array([-10.0, 5.0]) * scale, leaf.shape)


def _same(one: Tree, other: Tree) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


RULES = (
    rule(
        gradient_transformations_come_first,
        "numerics",
        (5,),
        "Put it before the optimizer: optax.chain(sharpness_aware(0.05), adam(0.1)), "
        "optax.chain(bloop(0.1), adam(0.1)).",
    ),
    rule(
        learning_rate_changes_the_updates,
        "numerics",
        (5,),
        "Put the learning rate last: optax.chain(scale_by_adam(), "
        "scale_by_learning_rate(learning_rate)).",
    ),
    rule(
        accumulation_sees_every_micro_batch,
        "numerics",
        (43,),
        "Put optax.MultiSteps inside: sam(optax.MultiSteps(adam(0.1), 4)), "
        "optax.chain(bloop(0.1), optax.MultiSteps(adam(0.1), 4)).",
    ),
)
