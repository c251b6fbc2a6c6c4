"""Every target of every problem: missed by controls, reached by a reference."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from benchmarks.analysis import stats
from benchmarks.engine import runner
from benchmarks.experiment.plan import Settings, make_plan
from benchmarks.experiment.targets import targets_of
from benchmarks.problems import load_problem, problem_names
from benchmarks.results import store
from benchmarks.roster import resolver
from benchmarks.roster.resolver import Optimizer

SETTINGS = Settings(
    learning_rates=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    tune_seeds=(0,),
    test_seeds=(100, 101, 102, 103, 104),
)
# Noise of the batches keeps Adam above the hard targets at every constant learning
# rate. A closed form shows that they can be reached: the frequencies of the pairs.
CLOSED_FORM = "bigram_text"


def _still(learning_rate: object) -> optax.GradientTransformation:
    del learning_rate
    return optax.set_to_zero()


def _uphill(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(optax.adam(learning_rate), optax.scale(-1.0))


SCORED = [name for name in problem_names() if load_problem(name).scored]
UNSCORED = sorted({*problem_names()} - {*SCORED})
# Plain descent moves away from an equilibrium.
REFERENCES = {"game": "optax.optimistic_gradient_descent"}


@pytest.mark.parametrize("name", UNSCORED)
def test_controls_do_not_improve_problems_without_targets(
    name: str, tmp_path: Path
) -> None:
    controls = [
        Optimizer("still", _still, "still"),
        Optimizer("uphill", _uphill, "uphill"),
    ]
    optimizers = [resolver.resolve("optax.adam"), *controls]
    problem = load_problem(name)
    problem = dataclasses.replace(problem, budget=round(0.05 * problem.budget))
    settings = Settings((0.01,), (0,), (100, 101))
    plan = make_plan("controls", [problem], optimizers, settings, "source")
    assert runner.run_plan(plan, tmp_path) == ()
    losses = {
        optimizer: curves.metrics["loss"][:, 0]
        for (_, optimizer), curves in store.load(tmp_path).curves.items()
    }
    np.testing.assert_array_equal(np.ptp(losses["still"], axis=1), 0)
    start = losses["still"][:, 0]
    assert (losses["uphill"][:, -1] > 0.8 * start).all()
    assert (losses["optax.adam"][:, -1] < 0.8 * start).all()


@pytest.mark.parametrize("name", SCORED)
def test_controls_fail_every_target_and_the_reference_passes(
    name: str, tmp_path: Path
) -> None:
    problem = load_problem(name)
    controls = [
        Optimizer("still", _still, "still"),
        Optimizer("uphill", _uphill, "uphill"),
    ]
    kind = next(iter(problem.tags & {*REFERENCES}), "")
    reference = resolver.resolve(REFERENCES.get(kind, "optax.adam"))
    plan = make_plan("controls", [problem], [reference, *controls], SETTINGS, "source")
    assert runner.run_plan(plan, tmp_path) == ()
    results = store.load(tmp_path)
    entry = results.manifest.problems[name]
    for control in controls:
        curves = results.curves[name, control.name]
        levels = stats.target_levels(curves, entry.targets, stats.baseline(entry))
        steps = stats.gradients_to_targets(
            stats.gap(curves, stats.baseline(entry)), curves.eval_steps, levels
        )
        assert not np.isfinite(steps).any(), control.name
    if name != CLOSED_FORM:
        cell = stats.summarize(results)[name, reference.name]
        assert np.isfinite(np.median(cell.needed, axis=0)).all()


def test_the_closed_form_passes_the_targets_that_adam_does_not() -> None:
    problem = load_problem(CLOSED_FORM)
    start = np.asarray(problem.init(jax.random.key(0)), float)
    counts = np.bincount(problem.data["pairs"], minlength=start.size)
    optimum = np.log(counts.reshape(start.shape) + 1e-6)
    first, last = (problem.evaluate_exact(w)["loss"] for w in (start, optimum))
    hardest = min(targets_of(problem).values)
    assert 0 <= last - problem.f_star <= hardest * (first - problem.f_star)
