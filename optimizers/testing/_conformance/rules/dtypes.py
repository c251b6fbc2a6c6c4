"""Dtypes of updates and states, and precision in 16 bits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import run, run_jitted
from optimizers.testing._extras import abstract_steps, bind_extras, drop_extras, update
from optimizers.testing._inputs import Tree
from optimizers.testing._jit import quick_jit

_RANDOM = "the state has a PRNG key, and each dtype draws other numbers"
_SLOW_FIELDS = ("nu", "nu_max", "nu_sqrt", "mu_slow")


def updates_have_gradient_dtype(case: Case) -> None:
    """Each update leaf has the dtype of its gradient leaf.

    An update of a wider dtype can promote the params.
    """
    for dtype in ("float32", "bfloat16", "float16", _inputs.MIXED):
        params, grads = _inputs.make_params(dtype), _inputs.make_grads(0, dtype)
        _, _, traced = abstract_steps(case.tx, params, grads)
        _compare.assert_same_dtypes(traced, grads, f"updates of jit(update), {dtype}")
    for dtype in ("float32", _inputs.MIXED):
        params, grads = _inputs.make_params(dtype), _inputs.make_grads(0, dtype)
        updates, _ = run(case.tx, params, [grads])
        _compare.assert_same_dtypes(updates[0], grads, f"updates, {dtype}")


def gradients_may_differ_from_params(case: Case) -> None:
    """Gradients of another precision than the params change no types.

    In mixed precision, gradients may be float32 and params bfloat16, or vice versa.
    """
    for of_params, of_grads in (("bfloat16", "float32"), ("float32", "bfloat16")):
        params, grads = _inputs.make_params(of_params), _inputs.make_grads(0, of_grads)
        what = f"{of_grads} gradients of {of_params} params"
        state, traced, updates = abstract_steps(case.tx, params, grads)
        _compare.assert_same_types(traced, state, f"state, {what}")
        _compare.assert_same_dtypes(updates, grads, f"updates, {what}")
        eager = update(case.tx, grads, case.tx.init(params), params)[1]
        _compare.assert_same_types(eager, state, f"state without jit, {what}")


def accumulators_are_float32(case: Case) -> None:
    """nu, nu_max, nu_sqrt and mu_slow are at least float32.

    A bfloat16 average that should grow by 1/1000 per step is rounded back every time.
    """
    applies_if("nu_dtype" not in case.kwargs, "nu_dtype is given")
    for dtype in ("bfloat16", "float16"):
        state = jax.eval_shape(case.tx.init, _inputs.make_params(dtype))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if any(name in _SLOW_FIELDS for name in _compare.names(path)):
                assert jnp.finfo(leaf.dtype).bits >= 32, (
                    f"state{jax.tree_util.keystr(path)} is {leaf.dtype} for {dtype} "
                    "params, expected at least float32"
                )


def averages_do_not_stall(case: Case) -> None:
    """After 2000 equal gradients, updates in bfloat16 and float32 agree to 5 %.

    With b2 = 0.999, a bfloat16 second moment stalls at half its limit, and steps are
    40 % too large.
    """
    applies_if("nu_dtype" not in case.kwargs, "nu_dtype is given")
    shapes: Tree = {"w": (3,)}
    last = {}
    for dtype in ("float32", "bfloat16"):
        # Exact in both dtypes, so that only the accumulators differ.
        params = _inputs.full_like(_inputs.make_params(dtype, shapes), 0.5)
        grads = _inputs.full_like(params, 1.0)
        last[dtype] = _repeat(case.tx, params, grads, 2000)
    finite = all(np.all(np.isfinite(x)) for x in jax.tree.leaves(last["float32"]))
    applies_if(finite, "2000 equal gradients overflow in float32 too")
    _compare.assert_close(
        last["bfloat16"], last["float32"], "bfloat16 compared with float32", rtol=0.05
    )


def _repeat(tx: Any, params: Tree, grads: Tree, steps: int) -> Tree:
    def body(i: Any, carry: Tree) -> Tree:
        # Params that stand still look as if their dtype had rounded the steps away,
        # which an optimizer may make up for. These jump, by exact amounts.
        jump = jax.tree.map(lambda p: jnp.where(i % 2 == 0, p, p + p), params)
        return update(tx, grads, carry[1], jump)

    def loop(state: Tree) -> Tree:
        return jax.lax.fori_loop(0, steps, body, (grads, state))[0]

    return quick_jit(loop)(tx.init(params))


def half_precision_is_accurate(case: Case) -> None:
    """16-bit gradients give the updates of float32, up to 16-bit rounding.

    In float16, eps = 1e-8 is 0, and so are squares below 6e-8.
    """
    applies_if(not case.is_random, _RANDOM)
    applies_if(
        not case.has_open_loop,
        "has a search: rounding may change a comparison, which gives another valid "
        "step",
    )
    for dtype, eps in (("float16", 2e-3), ("bfloat16", 2e-2)):
        shapes = _inputs.shapes_for(dtype)
        stream = _inputs.make_stream(3, "float32", shapes)
        params = _inputs.make_params(dtype, shapes)
        for scale in (1.0, 1e-3):
            # Both start from numbers that are exact in 16 bits.
            narrow = [_scaled(g, scale, dtype) for g in stream]
            wide = [_cast(g, "float32") for g in narrow]
            got, _ = run(case.tx, params, narrow)
            expected, _ = run(case.tx, _cast(params, "float32"), wide)
            tiny = 4 * float(jnp.finfo(dtype).smallest_subnormal)
            what = f"{dtype} gradients of size {scale:g}, compared with float32"
            _compare.assert_close(got, expected, what, rtol=5 * eps, atol=tiny)


def _cast(tree: Tree, dtype: str) -> Tree:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def _scaled(tree: Tree, scale: float, dtype: str) -> Tree:
    return jax.tree.map(lambda x: (x * scale).astype(dtype), tree)


def moment_dtype_is_kept(case: Case) -> None:
    """mu_dtype and nu_dtype set the dtype at init and after every update.

    A moment that is promoted at the first update saves no memory and recompiles the
    step.
    """
    chosen = [name for name in ("mu_dtype", "nu_dtype") if name in case.parameters]
    applies_if(bool(chosen), "has no mu_dtype and no nu_dtype")
    for name in chosen:
        field = name.removesuffix("_dtype")
        for dtype in ("bfloat16", jnp.bfloat16, jnp.float32):
            tx = case.make(**{name: dtype})
            of_params = "bfloat16" if dtype is jnp.float32 else "float32"
            params = _inputs.make_params(of_params)
            grads = _inputs.make_grads(0, of_params)
            state, last, _ = abstract_steps(tx, params, grads)
            _compare.assert_same_types(last, state, f"state with {name}={dtype!r}")
            found = False
            for path, leaf in jax.tree_util.tree_leaves_with_path((state, last)):
                if field in _compare.names(path):
                    found = True
                    where = jax.tree_util.keystr(path)
                    assert leaf.dtype == jnp.dtype(dtype), (
                        f"(init, update){where} is {leaf.dtype} with {name}={dtype!r}"
                    )
            assert found, f"the state has no field {field!r} for {name}"


def complex_is_handled_or_refused(case: Case) -> None:
    """Complex gradients use |g|², or are split into two parts, or are rejected.

    For complex g, the square g·g is not the squared modulus, and a method that uses it
    converges to the wrong point.
    """
    params, stream = (
        _inputs.make_params("complex64"),
        _inputs.make_stream(3, "complex64"),
    )
    try:
        result = case.run_jitted(params, stream)
    except (TypeError, ValueError) as error:
        _compare.assert_mentions(error, "complex")
        return
    applies_if(not case.is_random, _RANDOM)
    case.assert_finite(result, "after complex gradients")
    updates, state = result
    _compare.assert_same_dtypes(updates[0], params, "updates of complex gradients")
    before = jax.eval_shape(case.tx.init, params)
    _compare.assert_same_dtypes(state, before, "state after complex gradients")
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if any(name in _SLOW_FIELDS[:3] for name in _compare.names(path)):
            where = jax.tree_util.keystr(path)
            assert not np.any(np.imag(leaf)), (
                f"state{where} is {_compare.short(leaf)}; expected a real second moment"
            )
    # Not by a right angle: methods that treat the two parts alone would pass.
    turn = lambda tree: jax.tree.map(lambda x: (0.6 + 0.8j) * x, tree)  # noqa: E731
    turned, _ = case.run_jitted(turn(params), [turn(grads) for grads in stream])
    try:
        _compare.assert_agree(turned, turn(updates), "everything times 0.6 + 0.8i")
    except AssertionError as error:
        # It may treat real and imaginary parts as two numbers on purpose.
        split = optax.contrib.split_real_and_imaginary(bind_extras(case.tx))
        try:
            apart, _ = run_jitted(drop_extras(split), params, stream)
            _compare.assert_agree(updates, apart, "")
        except Exception:
            raise error from None


def complex_may_be_split(case: Case) -> None:
    """The optimizer works under optax.contrib.split_real_and_imaginary.

    This is optax's way to apply any method to complex params.
    """
    params, stream = (
        _inputs.make_params("complex64"),
        _inputs.make_stream(2, "complex64"),
    )
    tx = optax.contrib.split_real_and_imaginary(case.optimizer)
    result = run_jitted(drop_extras(tx), params, stream)
    case.assert_finite(result, "under split_real_and_imaginary")
    _compare.assert_same_dtypes(result.updates[0], params, "updates of split gradients")


RULES = (
    rule(
        updates_have_gradient_dtype,
        "promise",
        (18, 19),
        "Cast each leaf of the updates with .astype(gradient.dtype), and "
        "hyperparameters with jnp.asarray(x, dtype): 0.9 ** count is weakly typed "
        "only without jit.",
    ),
    rule(
        gradients_may_differ_from_params,
        "polish",
        (21,),
        "Cast the new state to the dtypes of the old state.",
    ),
    rule(
        accumulators_are_float32,
        "numerics",
        (20, 22),
        "Create slow averages in numpy.promote_types(param.dtype, numpy.float32).",
    ),
    rule(
        averages_do_not_stall,
        "numerics",
        (20, 22),
        "Keep averages that change by a small fraction per step in at least float32.",
    ),
    rule(
        half_precision_is_accurate,
        "numerics",
        (22,),
        "Compute with 16-bit leaves in float32, and cast the update at the end.",
    ),
    rule(
        moment_dtype_is_kept,
        "promise",
        (20,),
        "Cast the moment back to its dtype at every update, not only at init.",
    ),
    rule(
        complex_is_handled_or_refused,
        "numerics",
        (27,),
        "Use |g|², which is real, or apply optax.contrib.split_real_and_imaginary, or "
        "raise a ValueError that mentions 'complex'.",
    ),
    rule(
        complex_may_be_split,
        "promise",
        (27, 46),
        "Do not depend on the container of the leaves.",
    ),
)
