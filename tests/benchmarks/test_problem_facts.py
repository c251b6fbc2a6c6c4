"""Tests of single problems against independent results."""

import collections
import importlib
import itertools
import math
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from flax import linen as nn

import optimizers
from benchmarks.datasets import digits
from benchmarks.errors import UserError
from benchmarks.measure.problem_checks import batch, float64, start
from benchmarks.models.cnn import CNN
from benchmarks.models.mlp import MLP
from benchmarks.problem import Problem
from tests.benchmarks.training import PROBLEMS, adam


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("quad_diag", 100),
        ("quad_rot", 100),
        ("quad_matrix", 100),
        ("logreg_bc", 31),
        ("rosen2", 2),
        ("rosen10", 10),
        ("softmax_digits", 650),
        ("mlp32_digits", 2410),
        ("cnn_digits", 1898),
    ],
)
def test_the_number_of_parameters(name: str, dimension: int) -> None:
    leaves = jax.tree.leaves(start(PROBLEMS[name]))
    assert sum(leaf.size for leaf in leaves) == dimension


# Measured results.


@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [
        ("quad_diag", 0.1, 200),
        ("quad_rot", 1.0, 600),
        ("quad_matrix", 1.0, 600),
        ("logreg_bc", 0.3, 250),
        ("rosen2", 1.0, 600),
        ("rosen10", 1.0, 600),
    ],
)
def test_tuned_adam_reaches_the_last_target(name: str, rate: float, steps: int) -> None:
    problem = PROBLEMS[name]
    first, path = adam(problem, rate, steps, range(100, 105))
    initial = problem.evaluate_exact(float64(first))["loss"] - problem.f_star
    gaps = problem.evaluate_exact(float64(path))["loss"] - problem.f_star
    best = gaps.min(axis=1) / initial
    assert np.all(best >= 0)
    assert np.median(best) <= 1e-5


def test_the_rotation_removes_the_advantage_of_scaling_coordinates() -> None:
    gaps = []
    for name in ("quad_diag", "quad_rot"):
        first, path = adam(PROBLEMS[name], rate=0.1, steps=200)
        ends = [first, jax.tree.map(lambda leaf: leaf[:, -1], path)]
        before, after = (
            PROBLEMS[name].evaluate_exact(float64(x))["loss"] for x in ends
        )
        gaps.append((after / before).item())
    assert gaps[0] < 1e-2 * gaps[1]


@pytest.mark.parametrize("name", ["quad_diag", "quad_rot"])
@pytest.mark.usefixtures("x64")
def test_the_quadratics_have_the_documented_spectrum(name: str) -> None:
    problem = PROBLEMS[name]
    hessian = jax.jit(jax.hessian(problem.loss))(
        problem.minimizer, float64(problem.data)
    )
    spectrum = np.linalg.eigvalsh(hessian)
    np.testing.assert_allclose(spectrum, np.geomspace(1e-4, 1.0, 100), rtol=1e-4)
    off_diagonal = np.abs(hessian - np.diag(np.diag(hessian))).max()
    assert (off_diagonal > 1e-2) == (name == "quad_rot")


@pytest.mark.usefixtures("x64")
def test_the_regression_has_the_measured_minimum_and_curvature() -> None:
    problem = PROBLEMS["logreg_bc"]
    assert problem.f_star == pytest.approx(0.05982794, abs=5e-9)
    hessian = jax.jit(jax.hessian(problem.loss))(
        problem.minimizer, float64(problem.data)
    )
    spectrum = np.linalg.eigvalsh(hessian)
    assert spectrum[0] == pytest.approx(1.0e-3, rel=0.05)
    assert spectrum[-1] == pytest.approx(0.14, rel=0.05)


def test_the_regression_agrees_with_another_solver() -> None:
    problem = PROBLEMS["logreg_bc"]
    solution = scipy.optimize.minimize(
        lambda x: problem.evaluate_exact(x)["loss"], np.zeros(31), method="L-BFGS-B"
    )
    assert problem.f_star <= solution.fun <= problem.f_star + 1e-5


@pytest.mark.parametrize("name", ["rosen2", "rosen10"])
def test_the_rosenbrock_function_agrees_with_scipy(name: str) -> None:
    generator = np.random.RandomState(0)
    points = 3 * generator.standard_normal((20, len(PROBLEMS[name].minimizer)))
    ours = PROBLEMS[name].evaluate_exact(points)["loss"]
    np.testing.assert_allclose(ours, scipy.optimize.rosen(points.T), rtol=1e-13)


def test_the_rosenbrock_function_has_the_documented_condition_number() -> None:
    hessian = scipy.optimize.rosen_hess(np.ones(2))
    assert np.linalg.cond(hessian) == pytest.approx(2508, abs=0.5)


def test_rosen10_has_a_local_minimum_and_starts_outside_its_basin() -> None:
    problem = PROBLEMS["rosen10"]

    def end_of(start: np.ndarray) -> float:
        derivative = scipy.optimize.rosen_der
        return scipy.optimize.minimize(scipy.optimize.rosen, start, jac=derivative).fun

    assert end_of(np.array([-1.0] + [1.0] * 9)) == pytest.approx(3.9866, abs=1e-4)
    _, path = adam(problem, 0.1, 4000, range(100, 110))
    ends = problem.evaluate_exact(float64(path))["loss"].min(axis=1)
    assert np.sum(ends < 1.0) >= 9


def test_the_split_of_the_digits_is_fixed() -> None:
    split = digits.digits()
    train, test = split["train"], split["test"]
    assert train.images.shape == (64, 1437)
    assert test.images.shape == (64, 360)
    both = np.concatenate([train.images, test.images], axis=1)
    assert len(np.unique(both, axis=1).T) == 1797  # no digit is in both parts
    assert both.min() == 0.0
    assert both.max() == 1.0
    for part in (train, test):
        np.testing.assert_array_equal(part.labels.sum(axis=0), 1.0)
        assert part.labels.sum(axis=1).min() / part.labels.shape[1] > 0.05


def test_scores_are_cross_entropy_and_accuracy() -> None:
    logits = np.random.RandomState(3).standard_normal((10, 7)).astype(np.float32)
    classes = np.array([0, 1, 2, 3, 4, 5, 6])
    expected = np.mean(
        [np.log(np.exp(z).sum()) - z[c] for z, c in zip(logits.T, classes, strict=True)]
    )
    metrics = digits.scores(logits, np.eye(10, dtype=np.float32)[classes].T)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    hits = np.mean(logits.argmax(axis=0) == classes)
    assert metrics["accuracy"] == pytest.approx(hits)
    sure = np.eye(10, dtype=np.float32)[classes].T
    assert digits.scores(100 * sure, sure)["accuracy"] == 1.0


def test_the_perceptron_is_affine_maps_with_relu_between_them() -> None:
    x = np.random.RandomState(4).standard_normal((64, 5)).astype(np.float32)
    model = MLP((32, 10))
    params = jax.jit(model.init)(jax.random.key(0), x)
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    hidden = np.maximum(first["kernel"] @ x + first["bias"][:, None], 0.0)
    expected = second["kernel"] @ hidden + second["bias"][:, None]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5, atol=1e-6)
    deviation = float(jnp.std(first["kernel"]))
    assert deviation == pytest.approx(math.sqrt(2 / 64), rel=0.05)


def test_matrix_products_with_patches_are_convolutions() -> None:
    class Reference(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for i, features in enumerate((8, 16)):
                x = nn.relu(nn.Conv(features, (3, 3), (2, 2), name=f"Dense_{i}")(x))
            # Our network flattens with the channel first.
            x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
            return nn.Dense(10, name="Dense_2")(x)

    images = np.random.RandomState(5).rand(6, 8, 8, 1).astype(np.float32)
    model = CNN((8, 16), 10)
    ours = images.transpose(3, 1, 2, 0)
    params = jax.jit(model.init)(jax.random.key(0), ours)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases that are not 0

    def theirs(layer: dict[str, jax.Array], channels: int) -> dict[str, jax.Array]:
        kernel = layer["kernel"].reshape(-1, 3, 3, channels).transpose(1, 2, 3, 0)
        return {"kernel": kernel, "bias": layer["bias"]}

    translated = {
        "Dense_0": theirs(params["Dense_0"], 1),
        "Dense_1": theirs(params["Dense_1"], 8),
        "Dense_2": params["Dense_2"] | {"kernel": params["Dense_2"]["kernel"].T},
    }
    expected = jax.jit(Reference().apply)({"params": translated}, images)
    result = jax.jit(model.apply)({"params": params}, ours)
    np.testing.assert_allclose(result.T, expected, rtol=1e-5, atol=1e-5)


def _with_topics(
    monkeypatch: pytest.MonkeyPatch, topics: dict[str, str] | None
) -> Problem:
    module = types.ModuleType("pydoc_data.topics")
    module.topics = topics
    monkeypatch.setitem(sys.modules, module.__name__, module if topics else None)
    return importlib.import_module("benchmarks.problems.bigram_text").problem()


def test_the_pairs_of_a_text_are_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _with_topics(monkeypatch, {"z": "b\ta", "a": "ab\n\xe9"})
    symbols = sorted(set("ab\n b a"))  # the text is "ab\n b a", topics sorted by name
    pairs = [divmod(code, len(symbols)) for code in problem.data["pairs"]]
    text = "".join(symbols[last] for last, _ in pairs) + symbols[pairs[-1][1]]
    assert text == "ab\n b a"
    # "a" and the newline have one successor; "b" has two, once each; so has " ".
    assert problem.f_star == pytest.approx(4 / 6 * math.log(2))


def test_the_error_without_the_text_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"pydoc_data.topics.*leave the problem out"):
        _with_topics(monkeypatch, None)


def test_the_entropy_of_the_text_agrees_with_counting() -> None:
    topics = importlib.import_module("pydoc_data.topics").topics
    text = "".join(topics[name] for name in sorted(topics))
    text = "".join(c if c == "\n" or 32 <= ord(c) < 127 else " " for c in text)
    pairs = collections.Counter(itertools.pairwise(text))
    lasts = collections.Counter(text[:-1])
    entropy = sum(
        count / (len(text) - 1) * math.log(lasts[last] / count)
        for (last, _), count in pairs.items()
    )
    problem = PROBLEMS["bigram_text"]
    assert problem.f_star == pytest.approx(entropy, rel=1e-12)
    if len(text) == 464970:  # Python 3.11.7, on which it was measured
        assert problem.f_star == pytest.approx(2.45251, abs=5e-6)
        assert start(problem).shape == (94, 94)
        assert sum(count < 100 for count in lasts.values()) == 21


def test_the_text_model_approaches_its_infimum() -> None:
    problem = PROBLEMS["bigram_text"]
    symbols = start(problem).shape[0]
    counts = np.bincount(problem.data["pairs"], minlength=symbols**2)
    logits = np.log(counts.reshape(symbols, symbols) + 1e-9)
    value = problem.evaluate_exact(logits)["loss"]
    assert problem.f_star < value < problem.f_star + 1e-6


# Two objectives, games, label noise and rare classes.


@pytest.mark.parametrize("weight", [0.003, 0.1, 2.0])
def test_the_pareto_front_of_the_quadratics_agrees_with_another_solver(
    weight: float,
) -> None:
    problem = PROBLEMS["bilevel_quad"]

    def both(x: np.ndarray) -> float:
        found = problem.evaluate_exact(x)
        return found["loss"] + weight * found["aux"]

    solution = scipy.optimize.minimize(both, np.zeros(20), tol=1e-12)
    found = problem.evaluate_exact(solution.x)
    main, aux = problem.front.points.T
    assert np.all(np.diff(main) > 0)
    assert np.all(np.diff(aux) < 0)
    assert np.all(main + weight * aux >= solution.fun - 1e-9)
    expected = np.exp(
        np.interp(
            np.log(found["aux"]), np.log(aux[-2::-1]), np.log(main[-2::-1] + 1e-300)
        )
    )
    assert found["loss"] == pytest.approx(expected, rel=2e-2)


def test_the_minimizer_of_the_quadratics_is_the_main_minimum_nearest_to_aux() -> None:
    problem = PROBLEMS["bilevel_quad"]
    root, main, aux = (np.float64(problem.data[n]) for n in ("root", "main", "aux"))
    step, *_ = np.linalg.lstsq(root.T, root.T @ (main - aux), rcond=None)
    np.testing.assert_allclose(problem.minimizer, aux + step, atol=1e-10)
    assert problem.evaluate_exact(problem.minimizer)["loss"] < 1e-25


@pytest.mark.parametrize("name", ["bilinear", "wgan_toy"])
@pytest.mark.usefixtures("x64")
def test_the_players_of_a_game_have_opposite_gradients(name: str) -> None:
    problem = PROBLEMS[name]
    full, point = float64(problem.data), float64(start(problem))
    slope = jax.grad(problem.loss)(point, full)
    half = len(point) // 2
    field = problem.gradient(point, full)
    np.testing.assert_allclose(field[:half], slope[:half], rtol=1e-12)
    np.testing.assert_allclose(field[half:], -slope[half:], rtol=1e-12)
    # The field rotates around the equilibrium: a step of descent moves away from it.
    offset = point - problem.minimizer
    assert abs(field @ offset) < 1e-7 * np.linalg.norm(field) * np.linalg.norm(offset)
    before, after = (
        problem.evaluate_exact(point - rate * np.asarray(field))["loss"]
        for rate in (0.0, 0.1)
    )
    assert after == pytest.approx(before + 0.01 * float(field @ field), rel=1e-6)


def test_the_game_has_the_documented_singular_values() -> None:
    found = np.linalg.svd(PROBLEMS["bilinear"].data["matrix"], compute_uv=False)
    np.testing.assert_allclose(found, np.linspace(1.0, 0.2, 5), rtol=1e-6)


def test_the_critic_is_clipped_and_the_generator_is_not() -> None:
    project = PROBLEMS["wgan_toy"].project
    np.testing.assert_array_equal(project(jnp.array([3.0, -2.0])), [3.0, -1.0])
    np.testing.assert_array_equal(project(jnp.array([-3.0, 0.25])), [-3.0, 0.25])


def test_spectral_norms_and_their_gradients_agree_with_numpy() -> None:
    problem = PROBLEMS["smooth_mlp"]
    params = start(problem, 3)
    value, slope = jax.jit(jax.value_and_grad(problem.aux_loss))(params, None)
    kernels = [layer["kernel"] for layer in float64(params)["params"].values()]
    norms = [np.linalg.norm(kernel, 2) for kernel in kernels]
    assert float(value) == pytest.approx(np.log(norms).sum(), rel=1e-5)
    for kernel, layer in zip(kernels, slope["params"].values(), strict=True):
        left, singular, right = np.linalg.svd(kernel)
        expected = np.outer(left[:, 0], right[0]) / singular[0]
        np.testing.assert_allclose(layer["kernel"], expected, atol=2e-4)


def test_four_in_ten_labels_are_replaced() -> None:
    clean = digits.digits(1297)
    noisy = PROBLEMS["noisy_digits"].data
    np.testing.assert_array_equal(noisy["train"].images, clean["train"].images)
    np.testing.assert_array_equal(noisy["test"].labels, clean["test"].labels)
    wrong = (noisy["train"].labels != clean["train"].labels).any(axis=0).mean()
    # A tenth of the new labels are correct by chance; 4 standard deviations.
    assert wrong == pytest.approx(0.36, abs=4 * math.sqrt(0.36 * 0.64 / 1297))
    assert noisy["train"].labels.sum(axis=0).tolist() == [1.0] * 1297


def test_sam_is_more_accurate_with_wrong_labels_at_equal_gradients() -> None:
    problem = PROBLEMS["noisy_digits"]

    def accuracy(wrap: Any, steps: int) -> float:
        rate = optax.cosine_decay_schedule(0.1, steps)
        tx = wrap(optax.sgd(rate, momentum=0.9))

        def step(carry: Any, t: jax.Array) -> tuple[Any, None]:
            params, state = carry
            rows = batch(problem, t)
            loss = lambda p: problem.loss(p, rows)  # noqa: E731
            updates, state = tx.update(
                jax.grad(loss)(params), state, params, value_fn=loss
            )
            return (optax.apply_updates(params, updates), state), None

        first = start(problem)
        carry = first, tx.init(first)
        params, _ = jax.lax.scan(step, carry, jnp.arange(steps))[0]
        return float(problem.evaluate(params, problem.data)["accuracy"])

    plain = accuracy(optax.with_extra_args_support, problem.budget)
    flat = accuracy(lambda tx: optimizers.sam(tx, 0.5), problem.budget // 2)
    assert flat - plain > 0.15


def test_the_long_tail_has_the_documented_counts_and_losses_add_up() -> None:
    problem = PROBLEMS["longtail_digits"]
    train, test = problem.data["train"], problem.data["test"]
    counts = [100, 72, 51, 37, 26, 19, 14, 10, 7, 5]
    np.testing.assert_array_equal(train.labels.sum(axis=1), counts)
    assert train.images.shape[1] + test.images.shape[1] == 1797
    params = start(problem)
    rare = train.labels.argmax(axis=0) >= 5
    tail = digits.Labelled(train.images[:, rare], train.labels[:, rare])
    whole, part = (jax.jit(f) for f in (problem.loss, problem.tail_loss))
    expected = float(whole(params, tail)) * rare.mean()
    assert float(part(params, train)) == pytest.approx(expected, rel=1e-5)
