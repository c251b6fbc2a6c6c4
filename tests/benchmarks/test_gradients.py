"""Gradients per step are counted, also for optimizers outside the library."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.engine import runner
from benchmarks.errors import UserError
from benchmarks.experiment import plan
from benchmarks.experiment.suites import SUITES
from benchmarks.problems import load_problem
from benchmarks.results import store
from benchmarks.roster import gradient_count, resolver
from benchmarks.roster.gradient_count import count
from tests.benchmarks import toys

AUX, TAIL = frozenset({"aux_grads"}), frozenset({"tail_grad_fn"})
Update = Callable[..., Any]


def stranger(update: Update) -> Callable[[Any], optax.GradientTransformation]:
    """An optimizer with that update and a count for its state."""

    def make(rate: Any) -> optax.GradientTransformationExtraArgs:
        del rate
        init = lambda params: jnp.zeros([], jnp.int32)  # noqa: E731
        return optax.GradientTransformationExtraArgs(init, update)

    return make


def twice(grads: Any, state: Any, params: Any, *, grad_fn: Any, **others: Any) -> Any:
    return jax.tree.map(jnp.add, grads, grad_fn(params)), state


def every_fourth(
    grads: Any, state: Any, params: Any, *, grad_fn: Any, **others: Any
) -> Any:
    again = jax.lax.cond(state % 4 == 0, grad_fn, lambda _: grads, params)
    return again, state + 1


def from_values(
    grads: Any, state: Any, params: Any, *, value_fn: Any, **others: Any
) -> Any:
    del grads
    return jax.grad(value_fn)(params), state


def searching(
    grads: Any, state: Any, params: Any, *, value_fn: Any, **others: Any
) -> Any:
    return jax.tree.map(lambda g: g * value_fn(params), grads), state


def mixing(grads: Any, state: Any, params: Any, *, aux_grads: Any, **o: Any) -> Any:
    return jax.tree.map(jnp.add, grads, aux_grads), state


def optional(
    grads: Any, state: Any, params: Any, *, aux_grads: Any = None, **others: Any
) -> Any:
    if aux_grads is not None:
        grads = jax.tree.map(jnp.subtract, grads, aux_grads)
    return grads, state


def by_class(
    grads: Any, state: Any, params: Any, *, tail_grad_fn: Any, **others: Any
) -> Any:
    return jax.tree.map(jnp.add, grads, tail_grad_fn(params)), state


@pytest.mark.parametrize(
    ("update", "offered", "expected"),
    [
        (twice, frozenset(), 2.0),
        (every_fourth, frozenset(), 1.25),
        (from_values, frozenset(), 2.0),
        (searching, frozenset(), 4 / 3),
        (mixing, AUX, 2.0),
        (optional, frozenset(), 1.0),
        (optional, AUX, 2.0),
        (by_class, TAIL, 2.0),
    ],
)
def test_gradients_of_a_step(
    update: Update, offered: frozenset[str], expected: float
) -> None:
    found = count(stranger(update), offered)
    assert found.gradients_per_step == pytest.approx(expected)
    assert found.asks_for_tail == (update is by_class)


def test_arguments_that_are_not_used_cost_nothing() -> None:
    for make in (optax.adam, optax.sgd, lambda rate: optax.set_to_zero()):
        assert count(make, AUX | TAIL).gradients_per_step == 1


def test_wrappers_add_up() -> None:
    inner = stranger(twice)
    both = lambda rate: optax.chain(stranger(twice)(rate), inner(rate))  # noqa: E731
    assert count(both).gradients_per_step == 3


def test_the_reason_names_what_is_missing() -> None:
    lacking = gradient_count.missing(stranger(mixing), frozenset())
    assert lacking == (
        "it needs aux_grads, but the problem does not have an auxiliary objective"
    )
    assert "tail_grad_fn" in gradient_count.missing(stranger(by_class), AUX)
    assert gradient_count.missing(stranger(optional), frozenset()) == ""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    # The run reports the failure, with its traceback.
    assert gradient_count.missing(stranger(broken), frozenset()) == ""
    found = gradient_count.count_or_one(stranger(broken), frozenset())
    assert found.gradients_per_step == 1


def test_all_get_the_same_number_of_gradients(tmp_path: Any) -> None:
    def double(rate: Any) -> optax.GradientTransformationExtraArgs:
        return optax.chain(stranger(twice)(rate), optax.scale(-rate / 2))

    doubled = toys.optimizer("doubled", double)
    mixed = toys.optimizer("mixed", stranger(mixing))
    made = toys.plan(
        [toys.quadratic(60)], [toys.SGD, doubled, mixed], toys.settings(seeds=2)
    )
    assert [(c.optimizer.name, c.steps, c.gradients_per_step) for c in made.cells] == [
        ("sgd", 60, 1.0),
        ("doubled", 30, 2.0),
    ]
    ((_, _, reason),) = made.skipped
    assert "it needs aux_grads" in reason
    results = toys.run(made, tmp_path)
    one, two = (results.curves["toy_quadratic", n] for n in ("sgd", "doubled"))
    spent = [c.eval_steps[-1] * c.gradients_per_step for c in (one, two)]
    assert spent == [60, 60]
    # The same path, at twice the price.
    shared = np.intersect1d(one.eval_steps, two.eval_steps)
    paths = [c.metrics["loss"][:, :, np.isin(c.eval_steps, shared)] for c in (one, two)]
    np.testing.assert_allclose(*paths, rtol=1e-5)
    assert {
        c.gradients_per_step for c in results.manifest.cells if c.optimizer == "doubled"
    } == {2.0}


def test_an_optimizer_that_asks_for_the_tail_gets_the_head(tmp_path: Any) -> None:
    problem = dataclasses.replace(load_problem("longtail_digits"), budget=4)

    def whole(rate: Any) -> optax.GradientTransformationExtraArgs:
        return optax.chain(stranger(by_class)(rate), optax.sgd(rate))

    optimizers = [toys.SGD, toys.optimizer("whole", whole)]
    settings = plan.Settings((0.1,), (0,), (100,))
    made = plan.make_plan("tail", [problem], optimizers, settings, "source")
    assert [cell.steps for cell in made.cells] == [4, 2]
    assert runner.run_plan(made, tmp_path) == ()
    curves = store.load(tmp_path).curves
    one, two = (curves[problem.name, n].metrics["loss"] for n in ("sgd", "whole"))
    # Head and tail add up to the gradient of the whole loss.
    np.testing.assert_array_equal(one[:, :, :3], two)


def test_nothing_left_to_run_is_a_user_error() -> None:
    from benchmarks.cli.options import chosen_plan

    settings = {"learning_rates": "0.1", "seeds": 1, "tune_seeds": 1, "schedule": None}
    with pytest.raises(UserError, match=r"nothing is left to run.*it needs aux_grads"):
        chosen_plan(
            "smoke", (f"{__name__}:needy",), only=True, problems=("rosen2",), **settings
        )


def needy(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return stranger(mixing)(learning_rate)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("optax.clip(optax.sgd, max_delta=0.5)", [-0.05, 0.025]),
        ("optax.clip(optax.sgd(momentum=0.9), max_delta=0.1)", [-0.01, 0.01]),
        (
            "optax.clip(optax.clip(optax.sgd, max_delta=0.2), max_delta=9.)",
            [-0.02, 0.02],
        ),
        (f"{__name__}:halved(optax.sgd)", [-0.025, 0.0125]),
        (f"{__name__}:halved({__name__}:plain, by=0.1)", [-0.005, 0.0025]),
        (f"{__name__}:halved({__name__}:halved({__name__}:plain))", [-0.0125, 0.00625]),
    ],
)
def test_specs_go_around_each_other(spec: str, expected: list[float]) -> None:
    found = resolver.resolve(spec)
    assert found.name == spec
    tx, params = found.make(0.1), jnp.array([1.0, 2.0])
    updates, _ = tx.update(jnp.array([0.5, -0.25]), tx.init(params), params)
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


def plain(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)


def halved(optimizer: Any, by: float = 0.5) -> optax.GradientTransformation:
    return optax.chain(optimizer, optax.scale(by))


def test_the_optimizer_inside_enters_the_hash() -> None:
    specs = ("optax.clip(optax.sgd, max_delta=1.)", "optax.clip(adam, max_delta=1.)")
    first, second = (resolver.resolve(spec).source_hash for spec in specs)
    assert first != second


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("adam(adam)", "'adam' is an optimizer and takes no optimizer inside"),
        ("optax.lion(adam)", "takes 'learning_rate' first, not an optimizer"),
        ("optax.clip(nothing, max_delta=1)", "unknown optimizer 'nothing'"),
        ("nothing(adam)", "unknown optimizer 'nothing'"),
        ("optax.clip(os:getcwd, max_delta=1)", "'os:getcwd': building it .* fails"),
        ("optax.clip(builtins:float, max_delta=1)", "object of type float"),
        ("optax.clip(adam)", "needs the argument 'max_delta': add max_delta=VALUE"),
        ("optax.clip(adam, delta=1)", "no argument 'delta'. Did you mean 'max_delta'"),
        ("optax.clip(adam, adam)", "cannot read the arguments"),
        ("optax.clip(0.1)", "cannot read the arguments"),
    ],
)
def test_a_bad_spec_inside_is_reported_in_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        resolver.resolve(spec)
    assert "\n" not in str(caught.value)


def test_the_line_searches_of_optax_run() -> None:
    found = resolver.resolve("optax.lbfgs(memory_size=2)")
    assert "lbfgs" in found.name


@pytest.mark.parametrize("name", ["generalization", "two_objectives", "games"])
def test_suites_name_what_exists(name: str) -> None:
    for problem in SUITES[name].problems:
        assert load_problem(problem).name == problem
    for spec in SUITES[name].optimizers:
        if not spec.startswith("optax"):
            assert resolver.resolve(spec).name == spec
