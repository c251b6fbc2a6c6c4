"""Measurements: the right counterpart, exact bytes, consistent ratios."""

import dataclasses
import io
import itertools
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks.cli.main import main
from benchmarks.errors import UserError
from benchmarks.measure import memory_plan, profile, throughput, timing
from benchmarks.measure.profile import TREES, compare, counterpart
from benchmarks.problems import load_problem
from benchmarks.roster import resolver
from benchmarks.roster.specs import Make

SHAPES = ((200,), (10, 20))
PARAMETERS = 400


@pytest.fixture(autouse=True)
def small_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "TREES", {"small": SHAPES})
    monkeypatch.setattr(timing, "TURN_S", 1e-3)


def direction(make: Make) -> np.ndarray:
    params, grads = jnp.array([1.0, 2.0]), jnp.array([0.5, -0.25])
    tx = make(0.1)
    return np.asarray(tx.update(grads, tx.init(params), params)[0])


def test_counterpart_has_the_same_name_and_the_arguments_it_knows() -> None:
    name, make = counterpart("adam(b1=0.5, eps=1.0, nesterov=True)")
    assert name == "optax.adam"
    expected = direction(lambda rate: optax.adam(rate, b1=0.5, eps=1.0, nesterov=True))
    np.testing.assert_array_equal(direction(make), expected)
    name, make = counterpart('amsgrad(variant="paper")')
    assert name == "optax.amsgrad"
    np.testing.assert_array_equal(direction(make), direction(optax.amsgrad))
    assert counterpart("muon")[0] == "optax.contrib.muon"


def test_no_counterpart_if_optax_has_none() -> None:
    assert counterpart("adam_nc") is None
    assert counterpart("optax.adam") is None
    assert counterpart("mine:adam") is None


def test_trees_have_the_documented_sizes() -> None:
    sizes = {n: sum(int(np.prod(s)) for s in shapes) for n, shapes in TREES.items()}
    assert sizes["one"] == 10_000_000
    assert sizes["many"] == 9_900_000
    assert sizes["tiny"] == 100_000
    assert 10_000_000 < sizes["transformer"] < 11_000_000
    assert [len(shapes) for shapes in TREES.values()] == [1, 300, 1000, 145]


def test_both_sides_are_measured_on_the_same_tree() -> None:
    found = compare("adam", "small", seconds=0.01)
    assert (found.ours.name, found.theirs.name) == ("adam", "optax.adam")
    for cost in (found.ours, found.theirs):
        assert cost.state_bytes == 8 * PARAMETERS + 4  # two moments and a counter
        # Params, gradients and both moments in; params and both moments out.
        assert cost.moved_bytes >= 7 * 4 * PARAMETERS
        assert cost.update_us > 0
        assert cost.trace_s > 0
        assert cost.compile_s > 0
    assert found.update_ratio > 0
    assert found.compile_ratio > 0


def test_an_optimizer_without_counterpart_stands_alone() -> None:
    found = compare("optax.sgd", "small", seconds=0.01)
    assert found.theirs is None
    assert found.update_ratio is None
    assert found.ours.state_bytes == 0


def test_unknown_tree() -> None:
    with pytest.raises(UserError, match="unknown tree 'big': choose from small"):
        compare("adam", "big")


def test_ratio_is_the_median_over_turns_with_its_order_statistics() -> None:
    ours = np.array([2.0, 3.0, 2.5, 2.2, 40.0])
    ratio, error = timing.median_ratio(np.stack([ours, np.ones(5)], axis=1))
    assert ratio == 2.5
    assert error == (40.0 - 2.0) / 2  # five turns: from the least to the greatest
    many = np.linspace(1.0, 2.0, 101)
    ratio, error = timing.median_ratio(np.stack([many, np.ones(101)], axis=1))
    assert ratio == pytest.approx(1.5)
    # Ranks 50.5 ± 0.98 √101 hold the median with 95 % probability.
    assert error == pytest.approx(0.98 * np.sqrt(101) / 100, abs=0.01)


def test_table_shows_both_sides_and_the_ratio() -> None:
    cost = profile.Cost("adam", 100.0, 0.1, 0.2, 3204, 68, 11_200)
    theirs = dataclasses.replace(cost, name="optax.adam", update_us=200.0)
    item = profile.CostComparison("small", cost, theirs, 0.5, 0.01, 1.0)
    stream = io.StringIO()
    Console(width=200, file=stream).print(profile.table([item]))
    text = stream.getvalue()
    assert "0.500 ± 0.010" in text
    assert "min 0.500" in text
    assert "3.2 kB" in text


def test_command_prints_json() -> None:
    arguments = ("-o", "optax.sgd", "--tree", "small", "--seconds", "0.01", "--json")
    result = CliRunner().invoke(main, ("profile", *arguments))
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["ours"]["name"] == "optax.sgd"
    assert row["theirs"] is None


def test_command_says_how_much_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    times = itertools.count(0.0, 180.0)
    cost = profile.Cost("adam", 100.0, 0.1, 0.2, 3204, 68, 11_200)
    item = profile.CostComparison("small", cost, None, None, None, None)
    monkeypatch.setattr(profile, "compare", lambda *_, **__: item)
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    specs = ("-o", "adam", "-o", "adamw", "-o", "adamax")
    result = CliRunner().invoke(main, ("profile", *specs))
    assert result.stderr.splitlines() == [
        "measuring adam on small, 1 of 3; each optimizer is compiled at least four "
        "times",
        "measuring adamw on small, 2 of 3; about 6 min left",
        "measuring adamax on small, 3 of 3; about 3 min left",
    ]


def test_each_side_is_compiled_at_least_four_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Make] = []

    def compiled(make: Make, shapes: timing.Shapes) -> tuple[None, float, float]:
        seen.append(make)
        return None, 1.0, 1.0

    monkeypatch.setattr(timing, "_compile", compiled)
    timing.compilations({"ours": optax.adam, "theirs": optax.sgd}, SHAPES, 1e-9)
    assert seen.count(optax.adam) == seen.count(optax.sgd) == 4


def test_engine_and_plain_loop_are_measured_in_one_run() -> None:
    found = throughput.measure(
        load_problem("rosen2"), resolver.resolve("adam"), turns=1
    )
    assert min(found.loop_us, found.engine_us) > 0
    assert found.ratio == pytest.approx(found.loop_us / found.engine_us)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("dadapt_adam", "optax.contrib.dadapt_adamw"),
        ("optimistic_amsgrad", "optax.optimistic_adam_v2"),
        ("prodigy", "optax.contrib.prodigy"),
    ],
)
def test_counterparts_with_other_names(ours: str, theirs: str) -> None:
    found = counterpart(ours)
    assert found is not None
    assert found[0] == theirs


def test_plan_adds_up_bytes_per_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "TREES", {"small": SHAPES})
    mesh = memory_plan.parse_mesh("data=8, model=5")
    found = memory_plan.plan("adam", "small", mesh)
    # Of 200 entries, data leaves 25 and model 5 of them. Of 10 x 20, data divides
    # neither side, and model leaves 10 x 4.
    assert (found.params_bytes, found.state_bytes) == (4 * 400, 8 * 400 + 4)
    assert found.replicated_bytes == 16 * 400 + 4
    assert found.zero1_bytes == 8 * 400 + 8 * (25 + 200) + 4
    assert found.sharded_bytes == 16 * (5 + 40) + 4
    assert found.mesh == {"data": 8, "model": 5}


@pytest.mark.parametrize("text", ["", "8", "data=0", "data=8,model", "data=2,data=4"])
def test_bad_meshes_are_refused(text: str) -> None:
    result = CliRunner().invoke(main, ("profile", "--mesh", text))
    assert result.exit_code != 0
    assert f"--mesh {text!r}" in result.stderr
    assert "as in --mesh data=8,model=4" in result.stderr


def test_command_plans_a_billion_parameters() -> None:
    arguments = ("--mesh", "data=8", "-o", "dadapt_sgd", "-o", "optax.adafactor")
    result = CliRunner().invoke(main, ("profile", *arguments, "--json"))
    assert result.exit_code == 0, result.stderr
    ours, theirs = json.loads(result.stdout)
    count = ours["params_bytes"] / 4
    assert 1e9 < count < 1.02e9
    # One float32 per parameter, and a few scalars.
    assert 4 * count < ours["state_bytes"] < 4 * count + 100
    assert ours["zero1_bytes"] == pytest.approx(8.5 * count)
    assert ours["sharded_bytes"] == pytest.approx(1.5 * count)
    assert theirs["state_bytes"] < 0.01 * count
    shown = CliRunner().invoke(main, ("profile", *arguments))
    assert "8.58 GB" in shown.stdout
