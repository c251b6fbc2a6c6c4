"""Trajectories and golden files: recording, comparison and messages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers import testing
from optimizers.testing._golden import api, diff, scenarios
from optimizers.testing._golden import format as file_format

SMOOTH, SPIKES = "layers/float32/smooth", "layers/float32/spikes"
NARROW = "nested/mixed/sparse"

Tree = Any


class HeavyBallState(NamedTuple):
    count: jax.Array
    mu: Tree


def heavy_ball(
    learning_rate: float = 0.5, fault: Callable[..., Tree] = lambda count, mu: mu
) -> optax.GradientTransformation:
    """m ← m / 2 + g and x ← x - η m: exact enough to be followed by hand."""

    def init(params: Tree) -> HeavyBallState:
        return HeavyBallState(
            jnp.zeros([], "int32"), jax.tree.map(jnp.zeros_like, params)
        )

    def update(grads: Tree, state: HeavyBallState, params: Tree = None) -> Any:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: m * 0.5 + g, state.mu, grads)
        mu = fault(count, mu)
        return jax.tree.map(lambda m: -learning_rate * m, mu), HeavyBallState(count, mu)

    return optax.GradientTransformation(init, update)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a golden file of `heavy_ball`."""
    path = tmp_path_factory.mktemp("recorded") / "heavy_ball.json"
    assert testing.update_golden(heavy_ball, path) is None
    return path.read_text()


@pytest.fixture(scope="module")
def trajectories() -> dict[str, testing.Trajectory]:
    return testing.record_trajectory(heavy_ball)


@pytest.fixture
def path(recorded: str, tmp_path: Path) -> Path:
    copy = tmp_path / "heavy_ball.json"
    copy.write_text(recorded)
    return copy


@pytest.fixture
def again(
    trajectories: dict[str, testing.Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares the trajectories at hand, which saves compiling them again."""
    monkeypatch.setattr(api, "try_scenarios", lambda *_: (trajectories, {}))


def _edit(path: Path, case: str, leaf: str, edit: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    leaves = content["cases"][case]
    (key,) = [key for key in leaves if key.startswith(leaf)]
    leaves[key] = edit(leaves[key])
    path.write_text(json.dumps(content))


# --- Recording.


def test_a_trajectory_equals_the_equations(
    trajectories: dict[str, testing.Trajectory],
) -> None:
    params, stream = scenarios.make_inputs(SPIKES)
    x, m = np.asarray(params["kernel"], np.float64), np.zeros((2, 3))
    state, updates, after = trajectories[SPIKES]
    for step, gradients in enumerate(stream):
        m = m / 2 + np.asarray(gradients["kernel"], np.float64)
        x = x - m / 2
        np.testing.assert_allclose(state.mu["kernel"][step], m, rtol=1e-5)
        np.testing.assert_allclose(updates["kernel"][step], -m / 2, rtol=1e-5)
        np.testing.assert_allclose(after["kernel"][step], x, rtol=1e-5, atol=1e-5)
        assert state.count[step] == step + 1
    assert len(state.count) == 8


def test_all_scenarios_except_float64_run(
    trajectories: dict[str, testing.Trajectory],
) -> None:
    skipped = set(testing.trajectory_scenarios()) - trajectories.keys()
    assert skipped == {"vector/float64/smooth"}


@pytest.mark.usefixtures("x64")
def test_float64_runs_with_x64() -> None:
    case = "vector/float64/smooth"
    found = testing.record_trajectory(heavy_ball, scenarios=[case])
    assert found[case].params.dtype == np.float64


def test_inputs_are_the_documented_ones() -> None:
    # By hand: the entry i of the parameters is 2 frac((i + 1) / φ) - 1, and a tenth
    # farther from zero. Golden files of users depend on these numbers.
    params, _ = scenarios.make_inputs(SMOOTH)
    frac = ((np.arange(9) + 1) * (np.sqrt(5) - 1) / 2) % 1
    expected = 2 * frac - 1 + np.copysign(0.1, 2 * frac - 1)
    flat = np.concatenate([params["bias"], params["kernel"].ravel()])
    np.testing.assert_allclose(flat, expected, rtol=1e-6)
    streams = {
        name: np.array([g["kernel"] for g in scenarios.make_inputs(case)[1]])
        for case in testing.trajectory_scenarios()
        if (name := case.removeprefix("layers/float32/")) != case
    }
    smooth = streams["smooth"]
    np.testing.assert_allclose(np.diff(smooth, axis=0, n=2), 0.0, atol=1e-6)
    np.testing.assert_array_equal(streams["spikes"][3], smooth[3] * 1024)
    np.testing.assert_array_equal(streams["spikes"][4:], smooth[4:])
    np.testing.assert_array_equal(streams["scales"][4], smooth[4])
    assert np.abs(streams["scales"][0]).max() < 1e-7
    assert np.abs(streams["scales"][7]).max() > 1e5
    sparse = streams["sparse"]
    np.testing.assert_array_equal(sparse, np.where(sparse == 0, 0, smooth))
    assert not sparse[5].any()
    assert not sparse[:, 0, 1].any()
    assert np.mean(sparse == 0) > 0.6


def test_every_extra_argument_is_passed() -> None:
    def demanding() -> optax.GradientTransformationExtraArgs:
        def update(
            grads: Tree,
            state: Tree,
            params: Tree = None,
            *,
            value: Any,
            grad: Any,
            value_fn: Any,
            grad_fn: Any,
            aux_grads: Any,
            **others: Any,
        ) -> Any:
            del grads, others
            ahead = grad_fn(jax.tree.map(lambda p, g: p + g, params, grad))
            scale = value_fn(params) - value  # is zero
            return jax.tree.map(lambda a, b: a + b + scale, ahead, aux_grads), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    (found,) = testing.record_trajectory(demanding, scenarios=[SMOOTH]).values()
    params, (gradient, *_) = scenarios.make_inputs(SMOOTH)
    expected = params["bias"] + gradient["bias"] * (1 + np.array([1, -0.5, 1]))
    np.testing.assert_allclose(found.updates["bias"][0], expected, rtol=1e-6)


def _refusing(params: Tree) -> Tree:
    if jnp.iscomplexobj(params):
        msg = "complex parameters are not supported."
        raise ValueError(msg)
    return ()


def _dropping(grads: Tree, state: Tree, params: Tree = None) -> Any:
    del params
    return grads.astype("float32").astype(grads.dtype), state


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.GradientTransformation(_refusing, lambda g, s, p=None: (g, s)),
        optax.GradientTransformation(lambda p: (), _dropping),
    ],
    ids=["refuses", "drops the imaginary part"],
)
def test_complex_is_left_out_if_it_is_rejected(optimizer: Any) -> None:
    cases = ["scalar/float16/smooth", "vector/complex64/smooth"]
    assert list(testing.record_trajectory(optimizer, scenarios=cases)) == cases[:1]


def test_errors_of_the_optimizer_are_not_hidden() -> None:
    def failing(grads: Tree, state: Tree, params: Tree = None) -> Any:
        msg = "no such thing"
        raise ValueError(msg)

    optimizer = optax.GradientTransformation(lambda params: (), failing)
    with pytest.raises(ValueError, match="no such thing"):
        testing.record_trajectory(optimizer, scenarios=[SMOOTH])


def test_unknown_scenarios_and_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"'layers/int8'.*trajectory_scenarios"):
        testing.record_trajectory(heavy_ball, scenarios=["layers/int8"])
    with pytest.raises(ValueError, match=r"\['b1'\] are arguments of a factory"):
        testing.record_trajectory(heavy_ball(), b1=0.9)


# --- Comparison.


def test_a_recorded_file_matches(path: Path) -> None:
    before = path.stat().st_mtime_ns
    testing.assert_matches_golden(heavy_ball, path)
    assert not testing.update_golden(heavy_ball(), path)
    assert path.stat().st_mtime_ns == before


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize(
    ("case", "leaf", "index", "bound"),
    [
        (SMOOTH, "state.mu['kernel']", (4, 1, 0), 2e-5),
        (SPIKES, "updates['bias']", (6, 2), 1e-4),
        (SPIKES, "params['bias']", (2, 0), 5e-5),
        (NARROW, "updates['blocks'][1][0]", (4, 0, 1), 8 * 2.0**-7),
        (NARROW, "updates['blocks'][0]['scale']", (2,), 1e-4),
        ("scalar/float16/smooth", "params", (7,), 8 * 2.0**-10),
        ("vector/complex64/smooth", "params", (1, 2, 1), 5e-5),
    ],
)
def test_the_tolerance_depends_on_the_dtype(
    path: Path, case: str, leaf: str, index: tuple[int, ...], bound: float
) -> None:
    """Half of it passes and twice is found, at its step, leaf and place."""

    def off_by(share: float) -> Callable[[Any], Any]:
        def edit(values: Any) -> Any:
            array = np.array(values, np.float64)
            # The size of a complex entry is its modulus.
            entries = np.hypot.reduce(array, axis=-1) if "complex" in case else array
            array[index] += share * bound * np.abs(entries[: index[0] + 1]).max()
            return array.tolist()

        return edit

    original = path.read_text()
    _edit(path, case, leaf, off_by(0.4))
    testing.assert_matches_golden(heavy_ball, path)
    path.write_text(original)
    _edit(path, case, leaf, off_by(2.5))
    place = index[1:-1] if "complex" in case else index[1:]
    where = f"{leaf}[{', '.join(map(str, place))}]" if place else leaf
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_golden(heavy_ball, path)
    assert f"  first in {case}: step {index[0] + 1}, {where}\n" in str(caught.value)
    assert f"changed scenarios: {case}\n" in str(caught.value)


@pytest.mark.usefixtures("again")
def test_counters_are_exact(path: Path) -> None:
    _edit(path, SMOOTH, "state.count", lambda steps: [*steps[:7], 9])
    with pytest.raises(AssertionError, match=r"step 8, state\.count\n +got +8\n"):
        testing.assert_matches_golden(heavy_ball, path)


def test_the_first_step_and_leaf_of_a_fault_are_named(path: Path) -> None:
    def late(count: jax.Array, mu: Tree) -> Tree:
        factor = jnp.where(count < 4, 1.0, 1.001)
        return {"bias": mu["bias"], "kernel": mu["kernel"] * factor}

    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_golden(heavy_ball, path, scenarios=[SMOOTH], fault=late)
    (got, recorded) = (
        line.split()[1]
        for line in str(caught.value).splitlines()
        if line.split()[0] in ("got", "recorded")
    )
    assert f"first in {SMOOTH}: step 4, state.mu['kernel'][0, 0]" in str(caught.value)
    assert float(got) / float(recorded) == pytest.approx(1.001, rel=1e-6)


@pytest.mark.usefixtures("again")
def test_a_move_knows_its_size(path: Path) -> None:
    # The recorded number is 1, the largest so far 4: 2⁻¹⁰ is 2¹³ ulps of 2⁻²³.
    steps = [[4.0, 1.0, 0.0]] * 8
    move = diff.find_moves(
        SMOOTH,
        {"updates": np.array([[4.0, 1.0 + 2.0**-10, 0.0]] * 8, np.float32)},
        {"updates": np.array(steps, np.float32)},
        {},
    )[0]
    assert (move.step, move.index, move.quantity) == (1, (1,), "updates")
    assert (move.error, move.relative_error, move.ulps) == (2.0**-10, 2.0**-12, 2**13)
    assert move.allowed == pytest.approx(4e-4)
    assert str(move) == f"{SMOOTH}, step 1, updates[1]: 1 → 1.0009766"


@pytest.mark.usefixtures("again")
def test_a_tolerance_can_be_given_by_leaf(path: Path) -> None:
    def edit(steps: Any) -> Any:
        return (np.array(steps) * 1.01).tolist()

    _edit(path, SMOOTH, "state.mu['bias']", edit)
    testing.assert_matches_golden(heavy_ball, path, rtol={".mu": 0.02})
    for rtol in ({"['kernel']": 0.02}, {".mu": 0.02, "['bias']": 1e-3}):
        with pytest.raises(AssertionError, match=r"\.mu\['bias'\]"):
            testing.assert_matches_golden(heavy_ball, path, rtol=rtol)
    with pytest.raises(ValueError, match=r"'\.nu'.* match no leaf of heavy_ball"):
        testing.assert_matches_golden(heavy_ball, path, rtol={".nu": 0.02})
    with pytest.raises(TypeError, match=r"must be a mapping .* got 0\.02"):
        testing.update_golden(heavy_ball, path, rtol=0.02)  # pyright: ignore


def test_infinities_and_nans_are_recorded_and_compared(tmp_path: Path) -> None:
    def diverging(limit: float) -> optax.GradientTransformation:
        return optax.stateless(lambda g, p: jax.tree.map(lambda x: x * limit, g))

    path, cases = tmp_path / "diverging.json", [SMOOTH]
    testing.update_golden(diverging, path, scenarios=cases, limit=np.nan)
    assert json.loads(path.read_text())["cases"][SMOOTH]
    testing.assert_matches_golden(diverging, path, scenarios=cases, limit=np.nan)
    for limit in (1.0, np.inf):
        with pytest.raises(AssertionError, match=r"step 1, updates"):
            testing.assert_matches_golden(diverging, path, scenarios=cases, limit=limit)


@pytest.mark.parametrize(("ulps", "moves"), [(1, False), (4, True)])
def test_updates_may_be_differences_of_params(ulps: int, moves: bool) -> None:
    params = np.ones((8, 1), np.float32)
    recorded = {"updates": params * 1e-5, "params": params}
    got = {**recorded, "updates": recorded["updates"] + np.float32(ulps * 2.0**-23)}
    assert bool(diff.find_moves(SMOOTH, got, recorded, {})) is moves
    del recorded["params"], got["params"]
    assert diff.find_moves(SMOOTH, got, recorded, {})


def test_an_equal_nan_is_no_move() -> None:
    got = {"state": np.full((8, 1), np.nan), "updates": np.ones((8, 1))}
    moves = diff.find_moves(SMOOTH, got, {**got, "updates": np.zeros((8, 1))}, {})
    assert {move.leaf for move in moves} == {"updates"}


@pytest.mark.usefixtures("again")
def test_new_and_missing_leaves_and_scenarios_are_reported(path: Path) -> None:
    content = json.loads(path.read_text())
    content["cases"][SMOOTH]["state.nu float32[3]"] = [[0.0] * 3] * 8
    counts = content["cases"][SMOOTH].pop("state.count int32")
    content["cases"][SPIKES]["state.count float32"] = counts
    content["cases"][SPIKES]["updates['bias'] float32[3]"].pop()
    del content["cases"][SPIKES]["state.count int32"], content["cases"][NARROW]
    path.write_text(json.dumps(content))
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_golden(heavy_ball, path)
    for line in (
        f"{SMOOTH}: state.count int32 is not recorded",
        f"{SMOOTH}: state.nu float32[3] is recorded, but no longer exists",
        f"{SPIKES}: state.count is int32, but float32 is recorded",
        f"{SPIKES}: updates['bias'] has 8 steps, but 7 are recorded",
        f"{NARROW}: runs, but is not recorded",
    ):
        assert f"  {line}\n" in str(caught.value)


_SCALED = optax.scale(-0.1)
_MOMENTUM, _ADAM = optax.trace(0.9), optax.scale_by_adam()


@pytest.mark.parametrize(
    ("recorded", "now", "says"),
    [
        (
            optax.chain(_ADAM, _MOMENTUM, _SCALED),
            optax.chain(_MOMENTUM, _ADAM, _SCALED),
            "are swapped: state[0] is now state[1], state[1] is now state[0] (",
        ),
        (
            optax.chain(_MOMENTUM, optax.add_decayed_weights(0.1), _SCALED),
            optax.chain(optax.add_decayed_weights(0.1), _MOMENTUM, _SCALED),
            "are swapped, new or gone: state[0] is now state[1] (",
        ),
        (
            optax.chain(_MOMENTUM, optax.chain(_ADAM, _SCALED)),
            optax.chain(_MOMENTUM, optax.chain(_SCALED, _ADAM)),
            "are swapped, new or gone: state[1][0] is now state[1][1] (",
        ),
    ],
)
def test_links_in_another_order_are_one_line(
    tmp_path: Path, recorded: Any, now: Any, says: str
) -> None:
    path, cases = tmp_path / "chain.json", [SMOOTH, SPIKES]
    testing.update_golden(recorded, path, scenarios=cases)
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_golden(now, path, scenarios=cases)
    lines = str(caught.value).splitlines()
    assert f"{SMOOTH}, {SPIKES}: links of the chain {says}" in lines[1]
    assert lines[2].startswith(f"  first in {SMOOTH}: step ")
    assert "no longer exists" not in str(caught.value)


def test_links_that_moved_and_changed_are_listed_in_a_few_lines(
    tmp_path: Path,
) -> None:
    path, cases = tmp_path / "chain.json", [SMOOTH, SPIKES]
    testing.update_golden(optax.chain(_ADAM, _SCALED), path, scenarios=cases)
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_golden(
            optax.chain(_MOMENTUM, _SCALED), path, scenarios=cases
        )
    # count, and mu, nu and trace for two leaves each.
    assert "  and 1 more such lines\n" in str(caught.value)
    assert "swapped" not in str(caught.value)


def test_the_exception_that_keeps_a_recorded_scenario_from_running_is_named(
    tmp_path: Path,
) -> None:
    path, cases = tmp_path / "x.json", ["vector/complex64/smooth"]
    testing.update_golden(_SCALED, path, scenarios=cases)
    refusing = optax.GradientTransformation(_refusing, lambda g, s, p=None: (g, s))
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_golden(refusing, path, scenarios=cases)
    assert (
        f"  {cases[0]}: is recorded, but does not run: "
        "ValueError: complex parameters are not supported.\n"
    ) in str(caught.value)


def test_the_scenario_in_which_an_optimizer_fails_is_named() -> None:
    def init(params: Tree) -> tuple[()]:
        if any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(params)):
            msg = "float16 is not supported."
            raise ValueError(msg)
        return ()

    failing = optax.GradientTransformation(init, lambda g, s, p=None: (g, s))
    with pytest.raises(ValueError, match="float16 is not supported") as caught:
        testing.record_trajectory(failing)
    assert "float16" in caught.value.__notes__[0]


def test_a_misspelt_argument_of_the_factory_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no argument 'rates'; its arguments are:"):
        testing.update_golden(heavy_ball, tmp_path / "x.json", rates=0.1)
    with pytest.raises(TypeError, match="'scenario'; did you mean 'scenarios'"):
        testing.record_trajectory(heavy_ball, scenario=[SMOOTH])


def test_a_scenario_that_no_longer_runs_is_reported(path: Path) -> None:
    with pytest.raises(AssertionError, match="is recorded, but does not run"):
        testing.assert_matches_golden(heavy_ball, path, scenarios=[SMOOTH])


# --- Files.


def test_the_error_for_a_missing_file_explains_recording(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"missing\. .*--update-golden"):
        testing.assert_matches_golden(heavy_ball, tmp_path / "none.json")


_RAGGED = {"layers/float32/smooth": {"updates float32[2]": [[1, 2], [1]]}}
_HEAD = {"format": 1, "optimizer": "x", "recorded_with": {}}
BAD = {
    "cut off": ("[1, 2", "is damaged"),
    "foreign": ("[1, 2]", "is not a golden file"),
    "newer": ('{"format": 99}', "has format 99.*reads format 1"),
    "empty": ('{"format": 1}', "is damaged"),
    "ragged": (json.dumps({**_HEAD, "cases": _RAGGED}), "is damaged"),
}


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_rejected_and_can_be_replaced(
    text: str, message: str, path: Path
) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        testing.assert_matches_golden(heavy_ball, path)
    assert testing.update_golden(heavy_ball, path) is None
    testing.assert_matches_golden(heavy_ball, path)


@pytest.mark.usefixtures("again")
def test_a_file_has_versions_and_one_step_per_line(recorded: str) -> None:
    content = json.loads(recorded)
    assert content["optimizer"] == "heavy_ball"
    assert content["recorded_with"]["jax"] == jax.__version__
    assert content["recorded_with"]["platform"].startswith(jax.default_backend())
    assert '"state.count int32": [1, 2, 3, 4, 5, 6, 7, 8],\n' in recorded
    assert max(map(len, recorded.splitlines())) < 150


@pytest.mark.usefixtures("again")
def test_float64_records_are_kept_without_x64(path: Path) -> None:
    content = json.loads(path.read_text())
    kept = {"params float64": [1.0] * 8}
    content["cases"]["vector/float64/smooth"] = kept
    del content["cases"][SMOOTH]
    path.write_text(json.dumps(content))
    assert testing.update_golden(heavy_ball, path)
    cases = json.loads(path.read_text())["cases"]
    assert cases["vector/float64/smooth"] == kept
    assert SMOOTH in cases


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_numbers_in_files_are_exact(dtype: str) -> None:
    kind = np.dtype(jnp.dtype(dtype)).type
    info = jnp.finfo(dtype)
    edges = [info.max, info.tiny, info.smallest_subnormal, info.eps, 0, -0.1]
    for value in [*np.exp(np.linspace(-9, 9, 200)), *edges]:
        number = kind(value)
        assert kind(float(file_format.number_text(number))) == number
    assert file_format.number_text(kind(0.5)) == "0.5"


def test_a_file_round_trips(
    path: Path, trajectories: dict[str, testing.Trajectory]
) -> None:
    for case, leaves in file_format.read(path).scenarios.items():
        for leaf, array in file_format.flatten(trajectories[case]).items():
            assert array.dtype == leaves[leaf].dtype
            np.testing.assert_array_equal(leaves[leaf], array)
