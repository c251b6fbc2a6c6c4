"""Equal results under jit, scan, vmap and donation."""

import gc
from functools import partial

import jax
import jax.numpy as jnp
import optax

from optimizers.testing import _compare
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import rule
from optimizers.testing._conformance.run import Run, follow, run
from optimizers.testing._extras import abstract_steps, update
from optimizers.testing._inputs import Tree, make_params, make_stream
from optimizers.testing._jit import quick_jit


def jit_equals_eager(case: Case) -> None:
    """jit gives the same numbers as eager mode, and traces two steps once.

    Code is debugged without jit and trained with it. A second trace compiles the
    program again.
    """
    traces: list[int] = []

    tx = case.make_eager()

    def step(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        traces.append(1)
        return update(tx, grads, state, params)

    state = tx.init(case.params)
    result = follow(jax.jit(step), state, case.params, case.stream[:2])
    expected = run(tx, case.params, case.stream[:2])
    _compare.assert_agree(result, expected, "under jit")
    assert len(traces) == 1, f"two steps were traced {len(traces)} times, expected once"


def params_and_state_may_be_donated(case: Case) -> None:
    """A jitted step may donate params and state together.

    Without donation, training needs twice the memory for params and state.
    """

    def step(params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        updates, state = update(case.tx, grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = quick_jit(step, donate_argnums=(0, 1))
    params = make_params()
    state = case.tx.init(params)
    for grads in case.stream[:2]:
        params, state = compiled(params, state, grads)
    case.assert_finite(Run([params], state), "after two donated steps")


def scan_equals_loop(case: Case) -> None:
    """Steps inside lax.scan give the updates of a Python loop.

    Whole epochs are often compiled as one program.
    """

    def body(state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        updates, state = update(case.tx, grads, state, case.params)
        return state, updates

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *case.stream)
    scan = quick_jit(lambda state: jax.lax.scan(body, state, stacked))
    state, updates = scan(case.tx.init(case.params))
    steps = [jax.tree.map(lambda u, i=i: u[i], updates) for i in range(3)]
    _compare.assert_agree(Run(steps, state), case.expected, "inside scan")


def vmap_over_models(case: Case) -> None:
    """Init and update under vmap give each model the results it has alone.

    Ensembles and sweeps train many models at once.
    """
    other = make_params(), make_stream(3)[2]
    params = jax.tree.map(lambda a, b: jnp.stack([a, b]), case.params, other[0])
    grads = jax.tree.map(lambda a, b: jnp.stack([a, b]), case.stream[0], other[1])
    state = jax.vmap(case.tx.init)(params)
    updates, _ = quick_jit(jax.vmap(partial(update, case.tx)))(grads, state, params)
    for i, (own, grad) in enumerate(((case.params, case.stream[0]), other)):
        alone, _ = run(case.tx, own, [grad])
        lane = jax.tree.map(lambda leaf, i=i: leaf[i], updates)
        _compare.assert_agree(lane, alone[0], f"model {i} of a vmap")


def no_leaked_tracers(case: Case) -> None:
    """Init and update leak no tracer: jax.checking_leaks is silent.

    A tracer stored outside the state fails at the next step, with a message that does
    not show the cause.
    """
    tx = case.make_eager()
    # When JAX finds a leak, it searches all objects for a reference to it. Those that
    # exist already cannot hold one, and in a long test session they took minutes.
    gc.freeze()
    try:
        with jax.checking_leaks():
            abstract_steps(tx, case.params, case.stream[0])
    finally:
        gc.unfreeze()


RULES = (
    rule(
        jit_equals_eager,
        "promise",
        (7, 15, 47),
        "Branch on arrays with jnp.where, and keep the types of the state stable, weak "
        "types included.",
    ),
    rule(
        params_and_state_may_be_donated,
        "promise",
        (14,),
        "Copy params that the state keeps: jax.tree.map(jnp.copy, params).",
    ),
    rule(scan_equals_loop, "promise", (15, 47), "Keep the types of the state stable."),
    rule(
        vmap_over_models,
        "promise",
        (47,),
        "Do not branch on values in Python, and reduce only over leaves.",
    ),
    rule(
        no_leaked_tracers,
        "promise",
        (7, 47),
        "Do not store anything outside the state.",
    ),
)
