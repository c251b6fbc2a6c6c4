"""Finite results from finite inputs."""

from functools import partial

import jax
import jax.numpy as jnp

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import follow, run
from optimizers.testing._extras import update
from optimizers.testing._inputs import Tree
from optimizers.testing._jit import quick_jit


def zero_gradients_are_safe(case: Case) -> None:
    """Zero gradients from the first step on give finite results, also at zero params.

    Frozen layers, unused experts and padded batches have zero gradients, and a NaN
    from 0/0 stays in the state.
    """
    for dtype in ("float32", "bfloat16", "float16"):
        shapes = _inputs.shapes_for(dtype)
        ordinary = _inputs.make_grads(0, dtype, shapes)
        zeros = _inputs.full_like(ordinary, 0.0)
        for params in (_inputs.make_params(dtype, shapes), zeros):
            # Six, since RAdam first divides at the sixth step.
            result = run(case.tx, params, [*[zeros] * 6, ordinary])
            case.assert_finite(
                result, f"{dtype}, six zero gradients and then one of size 1"
            )
    # As from a loss without params; XLA reorders products of constants.
    zeros = _inputs.full_like(case.params, 0.0)
    start = partial(update, case.tx), case.tx.init(zeros), case.params, [zeros]
    step = quick_jit(lambda: follow(*start))
    case.assert_finite(step(), "zero gradients that are constants of the program")


def some_zero_gradients_are_safe(case: Case) -> None:
    """Entries and leaves with zero gradients give finite results.

    Most rows of an embedding have zero gradients in a step, and so do frozen layers.
    """
    for dtype in ("float32", "float16"):
        shapes = _inputs.shapes_for(dtype)
        stream = [_sparse(grads) for grads in _inputs.make_stream(3, dtype, shapes)]
        result = run(case.tx, _inputs.make_params(dtype, shapes), stream)
        case.assert_finite(result, f"{dtype}, gradients with zero entries")
    frozen = [
        {"layer": {**grads["layer"], "bias": jnp.zeros(3)}} for grads in case.stream
    ]
    result = run(case.tx, case.params, frozen)
    case.assert_finite(result, "gradients with a leaf of zeros")


def _sparse(grads: Tree) -> Tree:
    # Every second entry of every leaf.
    keep = lambda g: jnp.where(jnp.arange(g.size).reshape(g.shape) % 2, g, 0 * g)  # noqa: E731
    return jax.tree.map(keep, grads)


def zero_learning_rate_is_safe(case: Case) -> None:
    """A learning rate of 0, constant or in a schedule, gives finite results.

    Most warm-ups start at 0.
    """
    applies_if(case.takes_learning_rate or case.is_wrapper, "has no learning rate")
    result = run(case.make(0.0), case.params, case.stream)
    case.assert_finite(result, "with a learning rate of 0")
    applies_if(case.takes_schedules or case.is_wrapper, "does not accept schedules")
    warm_up = lambda count: jnp.where(count < 2, 0.0, case.learning_rate)  # noqa: E731
    result = run(case.make(warm_up), case.params, case.stream)
    case.assert_finite(result, "with a learning rate of 0 for two steps")


def extreme_gradients_are_safe(case: Case) -> None:
    """Gradients from 1e-30 to 1e15 give finite results, also in turn or side by side.

    A spike should cost one bad step, not the run.
    """
    sizes = {
        "float32": (1e-30, 1e-25, 1e-19, 1e15),
        "bfloat16": (1e-30, 1e15),
        "float16": (6e-8, 3e4),
    }
    for dtype, scales in sizes.items():
        shapes = _inputs.shapes_for(dtype)
        params = _inputs.make_params(dtype, shapes)
        ordinary = _inputs.make_grads(0, dtype, shapes)
        for scale in scales:
            grads = _inputs.full_like(ordinary, scale)
            result = run(case.tx, params, [grads, grads, ordinary])
            case.assert_finite(result, f"{dtype}, gradients of {scale:g}")
        ends = [_inputs.full_like(ordinary, scale) for scale in (scales[0], scales[-1])]
        result = run(case.tx, params, [ends[0], ends[1], ends[0]])
        case.assert_finite(
            result,
            f"{dtype}, gradients of {scales[0]:g}, {scales[-1]:g}, {scales[0]:g} in "
            "turn",
        )
    small, large = (
        _inputs.full_like(case.params, scale)["layer"] for scale in (1e-30, 1e15)
    )
    beside = [
        {"layer": {"bias": small["bias"], "kernel": large["kernel"]}},
        {"layer": {"bias": large["bias"], "kernel": small["kernel"]}},
    ]
    result = run(case.tx, case.params, beside)
    case.assert_finite(result, "a leaf of 1e-30 beside one of 1e15, then swapped")


def no_hidden_nans(case: Case) -> None:
    """With zero gradients no intermediate result is NaN, as jax_debug_nans checks.

    A NaN that jnp.where discards still shows up under jax_debug_nans and in reverse
    mode.
    """
    zeros = _inputs.full_like(case.params, 0.0)
    with jax.debug_nans(True):
        run(case.tx, case.params, [zeros, zeros, case.stream[0]])


def learning_rate_is_differentiable(case: Case) -> None:
    """Two steps have a finite derivative with respect to the learning rate.

    Meta-learning tunes hyperparameters by gradients through the steps.
    """
    applies_if(case.takes_learning_rate, "has no learning rate")

    def travelled(rate: jax.Array) -> jax.Array:
        updates, _ = run(case.make(rate), case.params, case.stream[:2])
        return _inputs.half_square(updates)

    # Reverse mode does not support a loop of unknown length.
    derivative = jax.jacfwd if case.has_open_loop else jax.grad
    slope = quick_jit(derivative(travelled))(
        jnp.asarray(case.learning_rate, jnp.float32)
    )
    _compare.assert_finite({"learning_rate": slope}, "derivative of two steps")


def eps_root_makes_meta_gradients_finite(case: Case) -> None:
    """With eps_root > 0, updates have finite derivatives at zero gradients.

    eps_root exists because the square root has no derivative at 0.
    """
    applies_if("eps_root" in case.parameters, "has no eps_root")
    tx = case.make(eps_root=1e-8)
    state = tx.init(case.params)

    def size(grads: Tree) -> jax.Array:
        return _inputs.half_square(update(tx, grads, state, case.params)[0])

    slopes = quick_jit(jax.grad(size))(_inputs.full_like(case.params, 0.0))
    _compare.assert_finite(slopes, "derivative at zero gradients with eps_root=1e-8")


def edge_hyperparameters_are_safe(case: Case) -> None:
    """b1=0, b2=0 and eps=0 give finite results; eps=0 only for non-zero gradients.

    Adam is RMSProp for b1 = 0 and a sign method for b2 = 0; sweeps contain both.
    """
    zeros = _inputs.full_like(case.params, 0.0)
    names = [name for name in ("b1", "b2", "eps") if name in case.parameters]
    applies_if(bool(names), "has no b1, b2 or eps")
    for name in names:
        tx = case.make(**{name: 0.0})
        # Without eps, methods may define 0/0 in their own way.
        start = [] if name == "eps" else [zeros, zeros]
        result = run(tx, case.params, [*start, *case.stream[:2]])
        case.assert_finite(result, f"with {name}=0")


def loss_goes_down(case: Case) -> None:
    """300 steps on ½·|x|² decrease the loss.

    Every optimizer should decrease a quadratic.
    """
    optimizer = case.optimizer
    start = {"w": _inputs.make_params("float32", (3,))}

    def body(_: object, carry: Tree) -> Tree:
        params, state = carry
        updates, state = update(optimizer, params, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    end, _ = quick_jit(lambda c: jax.lax.fori_loop(0, 300, body, c))(
        (start, optimizer.init(start))
    )
    first, last = float(_inputs.half_square(start)), float(_inputs.half_square(end))
    assert last < first, f"the loss went from {first:.4g} to {last:.4g}"


RULES = (
    rule(
        zero_gradients_are_safe,
        "numerics",
        (22, 23),
        "Guard every division with jnp.where, inside the denominator too, and add eps "
        "in at least float32.",
    ),
    rule(
        some_zero_gradients_are_safe,
        "numerics",
        (22, 23),
        "Guard divisions elementwise, and select with jnp.where, not by "
        "multiplication.",
    ),
    rule(
        zero_learning_rate_is_safe,
        "numerics",
        (23,),
        "Guard divisions by products with the learning rate.",
    ),
    rule(
        extreme_gradients_are_safe,
        "numerics",
        (22, 23),
        "Square in at least float32, and define 0/0 of underflowed squares as 0.",
    ),
    rule(
        no_hidden_nans,
        "polish",
        (23, 47),
        "Use jnp.where inside the denominator, not only around the quotient.",
    ),
    rule(
        learning_rate_is_differentiable,
        "numerics",
        (39,),
        "Keep the learning rate an array, and avoid roots and quotients of numbers "
        "that may be 0.",
    ),
    rule(
        eps_root_makes_meta_gradients_finite,
        "numerics",
        (41,),
        "Add eps_root inside the square root.",
    ),
    rule(
        edge_hyperparameters_are_safe,
        "numerics",
        (23,),
        "Use the limits: 0 ** 0 is 1 and 0/0 is 0; avoid log(0).",
    ),
    rule(
        loss_goes_down,
        "numerics",
        (52,),
        "Check the sign and the size of the step on ½·|x|².",
    ),
)
