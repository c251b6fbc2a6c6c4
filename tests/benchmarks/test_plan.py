"""Run keys, evaluation steps, settings, estimates."""

import dataclasses
import os
import stat
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import provenance
from benchmarks.cli import show
from benchmarks.engine import compilation_cache
from benchmarks.errors import UserError
from benchmarks.experiment import cost as costs
from benchmarks.experiment import plan
from benchmarks.experiment.plan import Settings, eval_steps
from benchmarks.problem import Problem
from tests.benchmarks import toys

texts = st.text(max_size=5)


def key(problem: Problem | None = None, **changes: Any) -> str:
    problems = [problem or toys.plane()]
    (cell,) = plan.make_plan(
        "any", problems, [toys.SGD], Settings(**changes), "source"
    ).cells
    return cell.key


@given(st.dictionaries(texts, texts, min_size=1), st.data())
def test_every_ingredient_enters_the_key(
    ingredients: dict[str, str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(ingredients)))
    other = data.draw(texts.filter(lambda text: text != ingredients[name]))
    assert plan.run_key(ingredients | {name: other}) != plan.run_key(ingredients)
    order = data.draw(st.permutations(list(ingredients.items())))
    assert plan.run_key(dict(order)) == plan.run_key(ingredients)


def test_the_key_holds_what_numbers_depend_on() -> None:
    (cell,) = plan.make_plan(
        "any", [toys.plane()], [toys.SGD], Settings(), "source"
    ).cells
    found = cell.ingredients
    assert found.keys() == {
        "problem",
        "problem source",
        "problem data",
        "engine source",
        "learning rates",
        "schedule",
        "evaluation steps",
        "python version",
        "jax version",
        "jaxlib version",
        "optax version",
        "flax version",
        "numpy version",
        "scikit-learn version",
        "cpu",
        "cores",
        "system",
        "device_kind",
        "xla_flags",
        "jax_config",
        "optimizer",
        "optimizer source",
    }
    assert all(isinstance(value, str) for value in found.values())


def test_keys_differ_where_numbers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    regression = toys.regression()
    data = {name: values.copy() for name, values in regression.data.items()}
    data["x"][3, 2] += 1e-6
    keys = [
        key(),
        key(learning_rates=(0.1, 0.2)),
        key(schedule="cosine"),
        key(toys.plane(budget=15)),
        key(dataclasses.replace(toys.plane(), name="other")),
        key(regression),
        key(dataclasses.replace(regression, data=data)),
    ]
    for name in ("jax", "optax"):
        changed = provenance.versions() | {name: "0.0"}
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "versions", lambda changed=changed: changed)
            keys.append(key())
    with jax.enable_x64(True):
        keys.append(key())
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_keys_agree_where_numbers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1 --xla_b=2")
    first = key()
    assert key(test_seeds=(5, 6), tune_seeds=(1,)) == first
    rates = key(learning_rates=(0.1, 0.2))
    assert key(learning_rates=(0.2, 0.1)) == rates
    assert key(dataclasses.replace(toys.plane(), summary="Other words.")) == first
    flags = "--xla_b=2 --xla_force_host_platform_device_count=8 --xla_a=1"
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert key() == first


def test_the_source_of_a_problem_enters_its_hash() -> None:
    plane = toys.plane()
    assert plan.source_hash(dataclasses.replace(plane)) == plan.source_hash(plane)
    moved = dataclasses.replace(plane, loss=lambda p, data: p["a"])
    assert plan.source_hash(moved) != plan.source_hash(plane)


@given(st.integers(1, 200_000))
def test_evaluation_steps(budget: int) -> None:
    steps = eval_steps(budget)
    assert steps.dtype == np.int32
    assert steps[0] == 0
    assert steps[-1] == budget
    assert (np.diff(steps) > 0).all()
    assert len(steps) <= 61
    # After the early ones, no gap is wider than a fortieth of the budget.
    assert np.diff(steps).max() <= budget / 40 + 1


def test_evaluation_steps_of_the_usual_budget() -> None:
    steps = eval_steps(2000)
    assert len(steps) == 57
    assert steps[:6].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rates": ()}, "empty"),
        ({"learning_rates": (0.0,)}, r"learning rate 0\.0"),
        ({"learning_rates": (0.1, -1.0)}, r"learning rate -1\.0"),
        ({"learning_rates": (float("nan"),)}, "learning rate nan"),
        ({"learning_rates": (float("inf"),)}, "learning rate inf"),
        ({"learning_rates": (1e-46,)}, "learning rate 1e-46"),
        ({"learning_rates": (1e39,)}, r"learning rate 1e\+39"),
        ({"learning_rates": (0.1, 0.1 + 1e-12)}, "duplicate learning rates"),
        ({"tune_seeds": ()}, "at least one tuning seed"),
        ({"test_seeds": ()}, "at least one tuning seed and one evaluation seed"),
        ({"tune_seeds": (-1,)}, "seeds must be"),
        ({"tune_seeds": (100,)}, "duplicate seeds"),
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
    ],
)
def test_bad_settings_are_reported(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Settings(**changes)


def test_the_default_grid_is_thirteen_half_decades() -> None:
    rates = Settings().learning_rates
    assert len(rates) == 13
    assert rates[0] == 1e-5
    assert rates[-1] == 10
    ratios = np.array(rates[1:]) / rates[:-1]
    np.testing.assert_allclose(ratios, [3, 10 / 3] * 6)
    assert len(Settings().tune_seeds) == 3
    assert len(Settings().test_seeds) == 10


def test_an_optimizer_named_twice_is_skipped() -> None:
    made = plan.make_plan(
        "any", [toys.plane()], [toys.SGD, toys.SGD], Settings(), "source"
    )
    assert len(made.cells) == 1
    assert made.skipped == (("toy_plane", "sgd", "named twice"),)


def test_an_estimate_grows_with_the_work(tmp_path: Path) -> None:
    def cost(problem: Problem, **changes: Any) -> costs.Estimate:
        made = plan.make_plan(
            "any", [problem], [toys.SGD], Settings(**changes), "source"
        )
        (estimate,) = costs.estimate(made).values()
        return estimate

    base = cost(toys.regression())
    assert base.compilations == 1
    assert cost(toys.regression(4000)).cpu_seconds > base.cpu_seconds
    assert cost(toys.plane()).cpu_seconds < base.cpu_seconds
    assert cost(toys.regression(), test_seeds=(7,)).disk_bytes < base.disk_bytes
    settings = Settings(tune_seeds=(0,), test_seeds=(100,))
    made = plan.make_plan("any", [toys.regression()], [toys.SGD], settings, "source")
    toys.run(made, tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    (estimate,) = costs.estimate(made).values()
    assert 0.5 < estimate.disk_bytes / written < 2


def test_an_estimate_counts_what_the_optimizer_does() -> None:
    def seconds(optimizer: Any) -> float:
        settings = Settings(tune_seeds=(0,), test_seeds=(100,))
        made = plan.make_plan(
            "any", [toys.regression(4000)], [optimizer], settings, "source"
        )
        return costs.estimate(made)["toy_regression"].cpu_seconds

    def failing(rate: Any) -> Any:
        raise RuntimeError

    muon = toys.optimizer("muon", optax.contrib.muon)
    assert seconds(toys.SGD) < seconds(toys.ADAM) < seconds(muon)
    assert 0 < seconds(toys.optimizer("failing", failing)) < seconds(toys.ADAM)


def test_the_line_about_a_plan_counts_the_start_and_one_thing_as_one() -> None:
    settings = Settings(learning_rates=(0.1,), tune_seeds=(0,), test_seeds=(100,))
    made = plan.make_plan("any", [toys.plane()], [toys.SGD], settings, "source")
    line = show.plan_line(made, {"toy_plane": costs.Estimate(1.0, 1, 1000)})
    assert line == (
        "any: 1 problem × 1 optimizer × 1 learning rate × 2 seeds = 2 runs\n"
        "estimated cost: 6 s on one core, 1 compilation, 0.1 MB (less if some runs are "
        "already done)"
    )


def test_the_compilation_cache_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = {}
    monkeypatch.setattr(jax.config, "update", set_to.__setitem__)
    folder = compilation_cache.enable_compilation_cache(tmp_path / "root")
    assert set_to["jax_compilation_cache_dir"] == str(folder)
    assert jax.__version__ in folder.name
    for private in (folder, tmp_path / "root"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(UserError, match="belongs to another user"):
        compilation_cache.enable_compilation_cache(tmp_path / "root")
