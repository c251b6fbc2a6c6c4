"""Tests of every problem: minimum, gradient, data, starts and batches."""

import dataclasses
import importlib
import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.experiment.suites import SUITES
from benchmarks.measure import problem_checks
from benchmarks.measure.problem_checks import fingerprint, start
from benchmarks.problem import Problem
from benchmarks.problems import load_problem
from tests.benchmarks.training import PROBLEMS, adam

# The others run the engine and another process.
QUICK_CHECKS = [n for n in problem_checks.CHECKS if n not in ("controls", "repeatable")]


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


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
def test_the_docstring_is_complete(problem: Problem) -> None:
    module = importlib.import_module(f"benchmarks.problems.{problem.name}")
    assert module.problem.__module__ == module.__name__
    for heading in ("\n\nSource: ", "\n\nDifficulty: "):
        assert heading in (module.__doc__ or ""), (
            f"{problem.name}: the docstring of the file needs a paragraph that begins "
            f"with {heading.strip()!r}."
        )


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("check", QUICK_CHECKS)
def test_every_check_passes(check: str, problem: Problem) -> None:
    assert list(problem_checks.CHECKS[check](problem)) == []


UNKNOWN = [p for p in PROBLEMS.values() if p.f_star is None]


@pytest.mark.parametrize("problem", UNKNOWN, ids=lambda p: p.name)
def test_adam_beats_params_that_are_zero(problem: Problem) -> None:
    first, path = adam(problem, rate=0.01, steps=60)
    last = jax.tree.map(lambda leaf: leaf[0, -1], path)
    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), first)
    value, at_zero = (
        float(problem.evaluate(params, problem.data)["loss"]) for params in (last, zero)
    )
    assert value < 0.5 * at_zero


def test_problems_do_not_depend_on_global_random_state() -> None:
    np.random.seed(54321)  # noqa: NPY002  this test is about the global state
    random.seed(54321)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for name, problem in reversed(PROBLEMS.items()):
        again = importlib.import_module(f"benchmarks.problems.{name}").problem()
        assert again is not problem
        assert fingerprint(again) == fingerprint(problem)
        key = jax.random.fold_in(jax.random.key(7), 0)
        jax.tree.map(
            np.testing.assert_array_equal, jax.jit(again.init)(key), start(problem, 7)
        )
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_problems_are_the_same_in_another_process() -> None:
    code = (
        "from tests.benchmarks import test_problems as tests\n"
        "for problem in list(tests.PROBLEMS.values())[::-1]:\n"
        "    print(problem.name, tests.fingerprint(problem))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {f"{name} {fingerprint(problem)}" for name, problem in PROBLEMS.items()}
    assert set(result.stdout.splitlines()) == expected
