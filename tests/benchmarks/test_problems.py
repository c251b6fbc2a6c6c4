"""Tests of every problem: minimum, gradient, data, starts and batches."""

import dataclasses
import functools
import hashlib
import importlib
import itertools
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.errors import UserError
from benchmarks.experiment.suites import SUITES
from benchmarks.problem import Problem
from benchmarks.problems import load_problem
from tests.benchmarks.training import PROBLEMS, PyTree, adam, batch, float64, start


def _having(test: Callable[[Problem], Any]) -> pytest.MarkDecorator:
    """Runs a test on every problem for which `test` is true."""
    chosen = [problem for problem in PROBLEMS.values() if test(problem)]
    return pytest.mark.parametrize("problem", chosen, ids=lambda problem: problem.name)


every = _having(lambda problem: True)
exact = _having(lambda problem: problem.evaluate_exact)
# The metric of a game is the distance to its equilibrium, not the loss of a player.
exact_loss = _having(lambda problem: problem.evaluate_exact and not problem.gradient)
solved = _having(lambda problem: problem.minimizer is not None)
# Constants that are drawn or computed are data; a formula without data is a definition.
drawn = _having(
    lambda problem: problem.minimizer is not None and problem.data is not None
)
deterministic = _having(lambda problem: "deterministic" in problem.tags)
stochastic = _having(lambda problem: "stochastic" in problem.tags)


def _full_batch(problem: Problem) -> PyTree:
    """All training data as one batch."""
    return problem.full_batch(problem.data)


def _flat(tree: PyTree) -> np.ndarray:
    """All numbers of a tree in one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _points(problem: Problem, *leading: int) -> PyTree:
    """Starts of several seeds, scaled up and down, in float64, with leading axes."""
    count = math.prod(leading)
    scales = np.geomspace(0.03, 30.0, count)
    points = [
        jax.tree.map(lambda leaf, by=scale: by * leaf, float64(start(problem, seed)))
        for seed, scale in enumerate(scales)
    ]

    def stack(*leaves: np.ndarray) -> np.ndarray:
        return np.reshape(leaves, (*leading, *leaves[0].shape))

    return jax.tree.map(stack, *points)


def _value(problem: Problem, params: PyTree) -> float:
    """The metric on which targets are set."""
    if problem.evaluate_exact:
        return float(problem.evaluate_exact(float64(params))["loss"])
    return float(_evaluation(problem.name)(params, problem.data)["loss"])


@functools.cache
def _evaluation(name: str) -> Callable[[PyTree, PyTree], PyTree]:
    return jax.jit(PROBLEMS[name].evaluate)


def test_the_suites_name_problems_that_exist() -> None:
    listed = set(itertools.chain.from_iterable(s.problems for s in SUITES.values()))
    assert listed <= set(PROBLEMS)
    smoke, quick, standard = (
        set(SUITES[n].problems) for n in ("smoke", "quick", "standard")
    )
    assert smoke < quick < standard
    for suite in SUITES.values():
        for names in (suite.problems, suite.optimizers, suite.learning_rates):
            assert len(set(names)) == len(names)


def test_an_unknown_problem_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"unknown problem 'quad_rott'.*'quad_rot'"):
        load_problem("quad_rott")


def test_a_problem_must_have_the_name_of_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("benchmarks.problems.rosen2")
    monkeypatch.setattr(module, "problem", lambda: PROBLEMS["rosen10"])
    with pytest.raises(ValueError, match=r"rosen2\.py: .* named 'rosen10'.*'rosen2'"):
        load_problem.__wrapped__("rosen2")


def test_a_problem_is_evaluated_in_one_way() -> None:
    with pytest.raises(ValueError, match=r"'rosen2': give exactly one .* neither"):
        dataclasses.replace(PROBLEMS["rosen2"], evaluate_exact=None)


@every
def test_the_description_is_complete(problem: Problem) -> None:
    module = importlib.import_module(f"benchmarks.problems.{problem.name}")
    assert module.problem.__module__ == module.__name__
    for heading in ("\n\nSource: ", "\n\nDifficulty: "):
        assert heading in (module.__doc__ or ""), (
            f"{problem.name}: the docstring of the file needs a paragraph that begins "
            f"with {heading.strip()!r}."
        )
    for field in ("summary", "formula", "source"):
        text = getattr(problem, field)
        assert text, f"{problem.name}: {field} is empty; describe the problem."
        assert "\n" not in text, f"{problem.name}: {field} must be a single line."
    for choices in (
        {"convex", "nonconvex", "game"},
        {"deterministic", "stochastic"},
    ):
        assert len(problem.tags & choices) == 1, (
            f"{problem.name}: tags must contain exactly one of {sorted(choices)}."
        )
    assert ("game" in problem.tags) == (problem.gradient is not None), (
        f"{problem.name}: give `gradient` in a game, and only there."
    )
    assert (problem.aux_loss is None) == (problem.front is None), (
        f"{problem.name}: give `aux_loss` and `front` together."
    )
    assert problem.scored or problem.metric != "loss", (
        f"{problem.name}: a problem that is not scored must name its `metric`."
    )
    assert problem.budget >= 500, (
        f"{problem.name}: the budget is {problem.budget}; give at least 500 gradients, "
        "so that optimizers with several gradients per step make enough steps."
    )


@solved
@pytest.mark.usefixtures("x64")
def test_the_minimizer_has_the_minimum_and_no_gradient(problem: Problem) -> None:
    value = problem.evaluate_exact(problem.minimizer)["loss"]
    assert value == pytest.approx(problem.f_star, rel=1e-12, abs=1e-14)
    slope = jax.jit(jax.grad(problem.loss))
    full = float64(problem.data)
    at_start = np.linalg.norm(_flat(slope(float64(start(problem)), full)))
    at_minimum = np.linalg.norm(_flat(slope(problem.minimizer, full)))
    assert at_minimum <= 1e-14 * at_start


@solved
def test_no_minimizer_is_at_the_origin(problem: Problem) -> None:
    minimizer = _flat(problem.minimizer)
    advice = (
        f"{problem.name}: an optimizer that only shrinks the parameters would find "
        "this minimizer; move it away from the origin."
    )
    # The critic of a GAN that has learned its data is 0 by definition.
    found = minimizer[minimizer != 0]
    assert len(found) >= len(minimizer) / 2, advice
    assert np.all(np.abs(found) > 1e-4), advice
    origin = jax.tree.map(np.zeros_like, problem.minimizer)
    at_origin = problem.evaluate_exact(origin)["loss"]
    at_start = problem.evaluate_exact(float64(start(problem)))["loss"]
    assert at_origin - problem.f_star > 1e-3 * (at_start - problem.f_star), advice


@drawn
def test_no_drawn_minimizer_is_a_float32_vector(problem: Problem) -> None:
    minimizer = _flat(problem.minimizer)
    found = minimizer[minimizer != 0]
    assert np.mean(np.float32(found) != found) > 0.9, (
        f"{problem.name}: an optimizer could reach this minimizer exactly, by "
        "rounding; draw its coordinates in float64. A formula with fixed constants "
        "needs no `data`, and this test does not apply to it."
    )


@exact
def test_nothing_is_below_the_minimum(problem: Problem) -> None:
    values = problem.evaluate_exact(_points(problem, 30))["loss"]
    assert np.all(values > problem.f_star)
    if problem.minimizer is not None:
        generator = np.random.RandomState(1)
        points = jax.tree.map(
            lambda leaf: leaf + 1e-3 * generator.standard_normal((500, *leaf.shape)),
            problem.minimizer,
        )
        near = problem.evaluate_exact(points)["loss"]
        assert np.all(near > problem.f_star)


@every
@pytest.mark.usefixtures("x64")
def test_the_gradient_is_that_of_the_loss(problem: Problem) -> None:
    generator = np.random.RandomState(2)

    def noise(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape), tree)

    def moved(params: PyTree, direction: PyTree, step: float) -> PyTree:
        return jax.tree.map(lambda p, d: p + step * d, params, direction)

    # Off the start, where the blank patches of images meet ReLU at its kink.
    params = float64(start(problem))
    params = moved(params, noise(params), 0.05)
    one_batch = float64(batch(problem))
    slope = jax.jit(jax.value_and_grad(problem.loss))
    value, grads = slope(params, one_batch)
    assert value.dtype == jnp.float64
    for _ in range(3):
        direction = noise(params)
        ahead, behind = (
            slope(moved(params, direction, step), one_batch)[0]
            for step in (1e-6, -1e-6)
        )
        expected = float(optax.tree.vdot(grads, direction))
        assert (ahead - behind) / 2e-6 == pytest.approx(expected, rel=1e-5)


@exact_loss
def test_the_exact_loss_is_the_training_loss_on_all_data(problem: Problem) -> None:
    points = _points(problem, 6)
    values = problem.evaluate_exact(points)["loss"]
    assert values.dtype == np.float64
    # One point at a time, so that the program differs from the vectorized one.
    loss = jax.jit(problem.loss)
    full = _full_batch(problem)
    for i, value in enumerate(values):
        params = jax.tree.map(lambda leaf, i=i: np.float32(leaf[i]), points)
        assert float(loss(params, full)) == pytest.approx(value, rel=2e-5)


@exact
def test_the_exact_loss_accepts_leading_axes(problem: Problem) -> None:
    points = _points(problem, 2, 3)
    metrics = problem.evaluate_exact(points)
    assert next(iter(metrics)) == "loss"
    assert metrics["loss"].shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        point = jax.tree.map(lambda leaf, at=(i, j): leaf[at], points)
        single = problem.evaluate_exact(point)["loss"]
        np.testing.assert_allclose(single, metrics["loss"][i, j], rtol=1e-13)


@exact
def test_the_exact_loss_of_diverged_parameters_is_finite(problem: Problem) -> None:
    far = jax.tree.map(lambda leaf: 1e30 * leaf, _points(problem, 3))
    assert np.all(np.isfinite(problem.evaluate_exact(far)["loss"])), (
        f"{problem.name}: `evaluate_exact` must be finite at 1e31 times the start."
    )


@every
@pytest.mark.usefixtures("strict_arithmetic")
def test_training_is_in_float32_and_never_promotes(problem: Problem) -> None:
    def step(key: jax.Array, arrays: PyTree) -> PyTree:
        params = problem.init(key)
        one_batch = problem.sample(key, arrays)
        return params, *jax.value_and_grad(problem.loss)(params, one_batch)

    def metrics(params: PyTree, arrays: PyTree) -> PyTree:
        scores = problem.evaluate(params, arrays)
        assert next(iter(scores)) == "loss"
        return scores

    arrays = jax.tree.map(jnp.asarray, problem.data)
    trained = params, value, grads = jax.eval_shape(step, jax.random.key(0), arrays)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)
    scores = jax.eval_shape(metrics, params, arrays) if problem.evaluate else {}
    for scalar in (value, *scores.values()):
        assert scalar.shape == ()
    for leaf in jax.tree.leaves((trained, scores)):
        assert leaf.dtype == jnp.float32


@every
def test_seeds_are_instances(problem: Problem) -> None:
    starts = {seed: _flat(start(problem, seed)) for seed in (0, 3, 4, 103)}
    np.testing.assert_array_equal(starts[3], _flat(start(problem, 3)))
    differs = [np.mean(starts[3] != starts[seed]) for seed in (0, 4, 103)]
    # All seeds start the biases of networks at 0.
    assert min(differs) > 0.9, (
        f"{problem.name}: `init` must use its key in all coordinates, for example with "
        "`benchmarks.problem.near`."
    )
    points = [start(problem, seed) for seed in range(4)]
    loss = jax.jit(problem.loss)
    assert len({float(loss(point, batch(problem))) for point in points}) == 4
    values = {_value(problem, point) for point in points}
    # An error rate counts examples, so two starts can have the same one.
    assert len(values) >= (2 if "error" in problem.metric else 4)


@deterministic
def test_every_batch_of_a_deterministic_problem_is_all_data(problem: Problem) -> None:
    assert problem.sample(jax.random.key(0), problem.data) is problem.data
    assert problem.full_batch(problem.data) is problem.data


@stochastic
def test_batches_are_unbiased_and_repeatable(problem: Problem) -> None:
    params = start(problem)

    @jax.jit
    def losses(steps: jax.Array) -> jax.Array:
        return jax.lax.map(lambda t: problem.loss(params, batch(problem, t)), steps)

    values = losses(jnp.arange(1000))
    deviation = float(jnp.std(values)) / math.sqrt(len(values))
    full = float(jax.jit(problem.loss)(params, _full_batch(problem)))
    assert deviation > 0
    assert float(jnp.mean(values)) == pytest.approx(full, abs=4 * deviation), (
        f"{problem.name}: the mean loss over batches is not the loss on all training "
        "data; give `full_batch`, or correct `sample`."
    )
    # In float32, some hundred of a thousand losses of the text model are equal.
    assert len(np.unique(values)) > 800
    np.testing.assert_array_equal(losses(jnp.arange(1000)[::-1])[::-1], values)


def _fingerprint(problem: Problem) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((problem.data, problem.minimizer)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"{problem.name} {digest.hexdigest()} {problem.f_star}"


def test_problems_do_not_depend_on_global_random_state() -> None:
    np.random.seed(54321)  # noqa: NPY002  this test is about the global state
    random.seed(54321)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for name, problem in reversed(PROBLEMS.items()):
        again = importlib.import_module(f"benchmarks.problems.{name}").problem()
        assert again is not problem
        assert _fingerprint(again) == _fingerprint(problem)
        key = jax.random.fold_in(jax.random.key(7), 0)
        jax.tree.map(
            np.testing.assert_array_equal,
            jax.jit(again.init)(key),
            start(problem, 7),
        )
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_problems_are_the_same_in_another_process() -> None:
    code = (
        "from tests.benchmarks import test_problems as tests\n"
        "for problem in list(tests.PROBLEMS.values())[::-1]:\n"
        "    print(tests._fingerprint(problem))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {_fingerprint(problem) for problem in PROBLEMS.values()}
    assert set(result.stdout.splitlines()) == expected


@every
def test_lanes_share_a_batch_without_gathers(problem: Problem) -> None:
    def losses(params: PyTree, one_batch: PyTree) -> list[jax.Array]:
        found = (problem.loss, problem.aux_loss, problem.tail_loss)
        return [loss(params, one_batch) for loss in found if loss]

    step = jax.vmap(jax.jacrev(losses), (0, None))
    lanes = jax.tree.map(lambda leaf: np.stack([leaf] * 3), start(problem))
    operations = str(jax.make_jaxpr(step)(lanes, batch(problem)))
    assert " mul " in operations
    for slow in ("gather", "scatter", "conv_general"):
        assert slow not in operations, (
            f"{problem.name}: the vectorized loss contains {slow!r}, which is slow; "
            "write it with slices, sums or matrix products."
        )


@_having(lambda problem: not problem.gradient)
def test_adam_descends(problem: Problem) -> None:
    first, path = adam(problem, rate=0.01, steps=60)
    value = _value(problem, jax.tree.map(lambda leaf: leaf[0, -1], path))
    before = _value(problem, jax.tree.map(lambda leaf: leaf[0], first))
    least = problem.f_star or 0.0
    assert value - least < 0.99 * (before - least)
    if problem.f_star is None:
        origin = jax.tree.map(lambda leaf: np.zeros_like(leaf[0]), first)
        assert value < 0.5 * _value(problem, origin)
