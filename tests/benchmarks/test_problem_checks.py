"""Every check fails for a problem that is wrong in one way, and says so."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.measure import problem_checks
from benchmarks.problem import Problem

CENTER = np.random.RandomState(0).standard_normal(3)
CURVATURES = np.array([1.0, 0.5, 0.2], np.float32)


def _loss(x: jax.Array, center: jax.Array) -> jax.Array:
    offset = x - jnp.asarray(center, x.dtype)
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES, x.dtype) * offset**2)


def _exact(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"loss": 0.5 * ((x - CENTER) ** 2 @ CURVATURES.astype(np.float64))}


def bowl(**changes: Any) -> Problem:
    """½ Σ λᵢ (xᵢ − cᵢ)², with a mistake."""
    sound = Problem(
        name="bowl",
        summary="A bowl.",
        formula="½ Σ λᵢ (xᵢ − cᵢ)²",
        source="these tests",
        tags=frozenset({"convex", "deterministic"}),
        budget=500,
        init=lambda key: 3.0 + jax.random.normal(key, (3,)),
        loss=_loss,
        data=CENTER,
        evaluate_exact=_exact,
        f_star=0.0,
        minimizer=CENTER,
    )
    return dataclasses.replace(sound, **changes)


def _noisy(key: jax.Array, center: jax.Array) -> jax.Array:
    return center + jax.random.normal(key, (3,))


WRONG = {
    "no formula": ("description", {"formula": ""}, r"formula must be a single line"),
    "two kinds": (
        "description",
        {"tags": frozenset({"convex", "nonconvex", "stochastic"})},
        r"exactly one of \['convex', 'game', 'nonconvex'\]",
    ),
    "short": ("description", {"budget": 100}, "the budget is 100: give at least 500"),
    "half": (
        "precision",
        {"init": lambda key: jax.random.normal(key, (3,), jnp.float16)},
        r"must be float32, got \['float16'\]",
    ),
    "promotes": (
        "precision",
        {"loss": lambda x, c: jnp.sum((x - jnp.arange(3)) ** 2)},
        "without promotion of dtypes and ranks fails",
    ),
    "vector": (
        "precision",
        {"loss": lambda x, c: x},
        "without promotion of dtypes and ranks fails: Gradient only defined for scalar",
    ),
    "loss last": (
        "precision",
        {
            "evaluate": lambda x, c: {"error": _loss(x, c), "loss": _loss(x, c)},
            "evaluate_exact": None,
        },
        r"must give 'loss' first, got \['error', 'loss'\]",
    ),
    "elsewhere": ("minimum", {"minimizer": CENTER + 1e-3}, "the gradient is 0.00"),
    "not the value": ("minimum", {"f_star": -0.1}, r"0\.0, but f_star is -0\.1"),
    "origin": (
        "minimizer",
        {
            "minimizer": np.zeros(3),
            "evaluate_exact": lambda x: {"loss": (x**2).sum(-1)},
        },
        "too near to the origin",
    ),
    "rounded": (
        "minimizer",
        {"minimizer": np.float32(CENTER).astype(float)},
        "float32 coordinates",
    ),
    "below": ("lowest", {"f_star": 0.5}, "not above f_star, 0.5"),
    "stopped": (
        "gradient",
        {"loss": lambda x, c: _loss(jax.lax.stop_gradient(x), c) + 0.0 * x[0]},
        "the gradient is not that of the loss",
    ),
    "cast": (
        "gradient",
        {"loss": lambda x, c: _loss(x.astype(jnp.float32), c)},
        "the loss of float64 params is float32",
    ),
    "twice": (
        "evaluation",
        {"evaluate_exact": lambda x: {"loss": 2.0 * _exact(x)["loss"]}},
        "where the loss on all data is",
    ),
    "sums points": (
        "evaluation",
        {"evaluate_exact": lambda x: {"loss": np.sum(_exact(x)["loss"])}},
        r"must be float64 of shape \(2, 3\), got float64 of \(\)",
    ),
    "overflows": (
        "evaluation",
        {
            "loss": lambda x, c: jnp.sum((0.01 * x) ** 12),
            "evaluate_exact": lambda x: {"loss": ((0.01 * x) ** 12).sum(-1)},
        },
        "finite at 1e31 times the start",
    ),
    "one start": ("seeds", {"init": lambda key: 3.0 * jnp.ones(3)}, "same for two see"),
    "flat": (
        "seeds",
        {"loss": lambda x, c: 0.0 * x[0]},
        "the training loss is the same at the starts",
    ),
    "samples": ("batches", {"sample": _noisy}, "tagged `deterministic`, but `sample`"),
    "no noise": (
        "batches",
        {"tags": frozenset({"convex", "stochastic"})},
        "1000 batches have 1 different losses",
    ),
    "biased": (
        "batches",
        {"tags": frozenset({"convex", "stochastic"}), "sample": _noisy},
        "the mean loss over batches is",
    ),
    "picks": (
        "speed",
        {"loss": lambda x, c: jnp.sum(x[jnp.array([0, 2])] ** 2)},
        "contains 'gather', which is slow: write the loss with slices",
    ),
    "uphill": (
        "descent",
        {"loss": lambda x, c: -_loss(x, c)},
        "which is not a descent",
    ),
    "easy": (
        "controls",
        {"f_star": 1e6, "budget": 20},
        r"the control 'null' reaches a target on 6 of 6 seeds",
    ),
    "too short": ("controls", {"budget": 5}, "reaches . of 5 targets in 5 gradients"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_problem_is_found(case: str) -> None:
    name, changes, sentence = WRONG[case]
    check = problem_checks.CHECKS[name]
    found = " ".join(check(bowl(**changes)))
    assert re.search(sentence, found), found


def test_an_error_in_a_check_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(x: Any, data: Any) -> Any:
        message = "no such thing"
        raise KeyError(message)

    checks = {"descent": problem_checks.descent}
    monkeypatch.setattr(problem_checks, "CHECKS", checks)
    ((title, sentences),) = problem_checks.check(bowl(loss=broken))
    assert title == "Sixty steps of Adam reduce the metric"
    assert sentences == ["it fails with KeyError: 'no such thing'."]


def test_a_check_without_its_field_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("minimum", "lowest")
    checks = {name: problem_checks.CHECKS[name] for name in names}
    monkeypatch.setattr(problem_checks, "CHECKS", checks)
    results = [sentences for _, sentences in problem_checks.check(bowl(minimizer=None))]
    assert results == [None, []]


def test_the_sound_bowl_passes() -> None:
    names = {name for name, _, _ in WRONG.values()} - {"controls"}
    wrong = [s for name in names for s in problem_checks.CHECKS[name](bowl())]
    assert wrong == []
