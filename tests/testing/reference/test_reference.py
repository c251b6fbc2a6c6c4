"""The comparison with NumPy passes correct equations and reports wrong ones."""

import doctest
import functools
import io
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers import testing
from tests.reference.recorded import sequence as recorded_sequence

MOMENTUM = optax.sgd(0.1, momentum=0.9)
Steps = Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]


def heavy_ball(x: np.ndarray, gradients: np.ndarray, error: float = 0.0) -> Steps:
    """Momentum whose third gradient is off by a relative error."""
    m = np.zeros_like(x)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + g * (1 + error * (t == 3))
        x = x - 0.1 * m
        yield x, {"trace": m}


def misprint(x: np.ndarray, gradients: np.ndarray) -> Steps:
    return heavy_ball(x, gradients, error=0.1)


def in_place(x: np.ndarray, gradients: np.ndarray) -> Iterator[np.ndarray]:
    m = np.zeros_like(x)
    for g in gradients:
        g += 0.9 * m
        m = g
        x -= 0.1 * m
        yield x


def stacked(x: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.stack([params for params, _ in heavy_ball(x, gradients)])


@pytest.mark.parametrize("reference", [heavy_ball, in_place, stacked])
@pytest.mark.parametrize("per_leaf", [True, False])
def test_references_of_every_form_pass(
    reference: Callable[..., Any], per_leaf: bool
) -> None:
    testing.assert_matches_reference(MOMENTUM, reference, per_leaf=per_leaf)


def test_x64_is_restored() -> None:
    assert not jax.config.jax_enable_x64
    testing.assert_matches_reference(MOMENTUM, heavy_ball)
    with pytest.raises(AssertionError):
        testing.assert_matches_reference(
            MOMENTUM, lambda x, g: heavy_ball(x, g, error=0.1)
        )
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("per_leaf", [True, False])
def test_the_message_names_step_leaf_numbers_and_error(per_leaf: bool) -> None:
    sequence = testing.Sequence({"w": np.ones((1, 2))}, {"w": np.ones((5, 1, 2))})

    def reference(x: np.ndarray, gradients: np.ndarray) -> Steps:
        for t, (after, fields) in enumerate(heavy_ball(x, gradients)):
            after[..., 1] += 1e-3 * (t >= 2)
            yield after, fields

    with pytest.raises(AssertionError) as error:
        testing.assert_matches_reference(
            MOMENTUM, reference, sequence=sequence, rtol=1e-9, per_leaf=per_leaf
        )
    # 1 - 0.1 - 0.19 - 0.271; errors are relative to the largest so far, 0.9.
    assert str(error.value).splitlines() == [
        "differs from the reference (rtol=1e-09):",
        "  step 3: params['w'][0, 1] is 0.439, expected 0.44, relative error 0.0011",
    ]


def test_the_first_wrong_step_is_named() -> None:
    with pytest.raises(AssertionError) as error:
        testing.assert_matches_reference(
            MOMENTUM, lambda x, g: heavy_ball(x, g, error=1e-6)
        )
    assert set(re.findall(r"step (\d+):", str(error.value))) <= {"3", "4"}
    assert "step 3: trace['bias'][" in str(error.value)
    assert "step 3: params['bias'][" in str(error.value)


@pytest.mark.parametrize(("error", "passes"), [(1e-14, True), (1e-11, False)])
def test_the_tolerance_is_that_of_64_bits(error: float, passes: bool) -> None:
    def compare() -> None:
        testing.assert_matches_reference(
            MOMENTUM, lambda x, g: heavy_ball(x, g, error=error)
        )

    if passes:
        compare()
    else:
        with pytest.raises(AssertionError):
            compare()


def test_32_bit_state_fails() -> None:
    narrow = optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.float32)
    with pytest.raises(AssertionError, match=r"trace.*relative error [1-9.]+e-0[89]"):
        testing.assert_matches_reference(narrow, heavy_ball)


def test_a_wrong_field_fails_with_correct_params() -> None:
    def reference(x: np.ndarray, gradients: np.ndarray) -> Steps:
        for after, fields in heavy_ball(x, gradients):
            yield after, {"trace": 0.1 * fields["trace"]}

    with pytest.raises(AssertionError, match="step 1: trace") as error:
        testing.assert_matches_reference(MOMENTUM, reference)
    assert "params" not in str(error.value)


def test_errors_are_relative_to_the_largest_number_so_far() -> None:
    """After 1e6 - 1e6 a rounding error of 1e-10 is right, though the rest is 1e-3."""
    gradients = np.array([[1e6], [-1e6], [1e-3]])

    def reference(x: np.ndarray, gradients: np.ndarray) -> Iterator[np.ndarray]:
        total = np.zeros_like(x)
        for t, g in enumerate(gradients):
            total = total + g
            yield x - 0.1 * total + 1e-10 * (t == 2)

    sequence = testing.Sequence(np.zeros(1), gradients)
    testing.assert_matches_reference(optax.sgd(0.1), reference, sequence=sequence)
    tail = testing.Sequence(np.zeros(1), gradients[[2, 2, 2]])
    with pytest.raises(AssertionError, match="step 3"):
        testing.assert_matches_reference(optax.sgd(0.1), reference, sequence=tail)


def test_a_global_norm_needs_per_leaf_false() -> None:
    clipped = optax.chain(optax.clip_by_global_norm(0.5), optax.scale(-1.0))

    def reference(x: np.ndarray, gradients: np.ndarray) -> Iterator[np.ndarray]:
        for g in gradients:
            x = x - g * 0.5 / max(0.5, np.linalg.norm(g))
            yield x

    testing.assert_matches_reference(clipped, reference, per_leaf=False)
    with pytest.raises(AssertionError, match="step 1: params"):
        testing.assert_matches_reference(clipped, reference)


def test_scalar_fields() -> None:
    def reference(x: np.ndarray, gradients: np.ndarray) -> Iterator[Any]:
        for t, g in enumerate(gradients, start=1):
            x = x - 0.1 / t * g
            yield x, {"count": t}

    tx = optax.sgd(lambda count: 0.1 / (count + 1.0))
    testing.assert_matches_reference(tx, reference, per_leaf=False)


def test_extra_arguments_reach_the_optimizer() -> None:
    def update(updates: Any, state: Any, params: Any, *, aux_grads: Any) -> Any:
        return jax.tree.map(lambda g, a: -0.1 * (g + a), updates, aux_grads), state

    tx = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)

    def reference(x: np.ndarray, gradients: np.ndarray) -> Iterator[np.ndarray]:
        for g in gradients:
            x = x - 0.1 * (g + 2 * x)
            yield x

    testing.assert_matches_reference(
        tx,
        reference,
        extra_args=lambda grads, params: {
            "aux_grads": jax.tree.map(lambda p: 2 * p, params)
        },
    )


def test_complex_parameters() -> None:
    sequence = testing.Sequence(np.ones(2) * 1j, np.ones((4, 2)) * (1 - 2j))
    testing.assert_matches_reference(MOMENTUM, heavy_ball, sequence=sequence)
    with pytest.raises(AssertionError, match=r"is 0\+0.9j|is -"):
        testing.assert_matches_reference(
            MOMENTUM, lambda x, g: heavy_ball(x.conj(), g), sequence=sequence
        )


def test_nan_always_fails() -> None:
    sequence = testing.Sequence(np.zeros(1), np.full((2, 1), np.nan))
    with pytest.raises(AssertionError, match=r"step 1: .* is nan, expected nan"):
        testing.assert_matches_reference(MOMENTUM, heavy_ball, sequence=sequence)


def _fields(**fields: Any) -> Callable[..., Any]:
    def reference(x: np.ndarray, gradients: np.ndarray) -> Iterator[Any]:
        for after, _ in heavy_ball(x, gradients):
            yield after, {name: value + 0 * after for name, value in fields.items()}

    return reference


@pytest.mark.parametrize(
    ("tx", "reference", "message"),
    [
        (MOMENTUM, lambda x, g: [x], "returned 1 steps for 50 gradients"),
        (MOMENTUM, lambda x, g: g.sum(axis=1, keepdims=True)[..., None], "of shape"),
        (MOMENTUM, _fields(mu=1.0), r"no field 'mu' .* its fields are: trace\."),
        (
            optax.chain(optax.trace(0.9), MOMENTUM),
            _fields(trace=1.0),
            r"several fields 'trace': \[0\]\.trace, \[1\]\[0\]\.trace",
        ),
        (optax.adam(0.1), _fields(count=1.0), "3 values of 'count', .* state has 1"),
    ],
)
def test_a_reference_of_a_wrong_form_is_rejected(
    tx: Any, reference: Any, message: str
) -> None:
    sequence = testing.random_sequence()
    flat = testing.Sequence(
        *(
            dict(zip("abc", (v["bias"], v["layers"][0], v["bias"]), strict=True))
            for v in sequence
        )
    )
    with pytest.raises(ValueError, match=message):
        testing.assert_matches_reference(tx, reference, sequence=flat)


@pytest.mark.parametrize(
    ("start", "gradients", "message"),
    [
        ({"w": 1.0}, {"v": np.ones(3)}, "give both the same structure"),
        ({"w": np.ones(2)}, {"w": np.ones(2)}, r"gradients\['w'\] has shape \(2,\)"),
        ([1.0, 1.0], [np.ones(3), np.ones(4)], r"same number of steps.*\[3, 4\]"),
        ([1.0], [np.ones(0)], r"at least one, got \[0\]"),
    ],
)
def test_a_sequence_that_does_not_match_is_rejected(
    start: Any, gradients: Any, message: str
) -> None:
    sequence = testing.Sequence(start, gradients)
    with pytest.raises(ValueError, match=message):
        testing.assert_matches_reference(MOMENTUM, heavy_ball, sequence=sequence)


# What PyTorch's Adam did, in the file of test_released.py.
RELEASED = Path(__file__).parents[2] / "reference" / "recorded" / "released.json"
RECORDED = json.loads(RELEASED.read_text())["runs"][0]["params"]
START = {name: np.array(x) for name, x in recorded_sequence.START.items()}
GRADIENTS = {
    name: np.array(g) for name, g in recorded_sequence.gradients(drift=0).items()
}


def _by_step(arrays: dict[str, Any]) -> list[OrderedDict[str, np.ndarray]]:
    """What `model.state_dict()` leaves at each step."""
    return [
        OrderedDict((name, np.array(arrays[name][t])) for name in reversed(arrays))
        for t in range(recorded_sequence.STEPS)
    ]


def _saved(arrays: dict[str, Any]) -> Any:
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return np.load(file)


@pytest.mark.parametrize(
    "form",
    [
        lambda recorded: {name: np.array(x) for name, x in recorded.items()},
        _by_step,
        _saved,
    ],
    ids=["arrays by leaf", "trees by step", "a file of numpy.savez"],
)
def test_a_recorded_trajectory_is_a_reference(form: Callable[[Any], Any]) -> None:
    sequence = testing.Sequence(START, GRADIENTS)
    recorded = form(RECORDED)
    adam = optax.adam(0.1)
    testing.assert_matches_reference(adam, recorded, sequence=sequence, rtol=1e-12)
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches_reference(
            optax.adam(0.1, b2=0.99), recorded, sequence=sequence
        )
    # The first step does not depend on b2.
    assert "\n  step 2: params['bias'][" in str(caught.value)
    assert "step 1" not in str(caught.value)


def test_gradients_may_be_a_list_of_steps() -> None:
    steps = [{name: g[t] for name, g in GRADIENTS.items()} for t in range(50)]
    sequence = testing.Sequence(START, steps)
    recorded = {name: np.array(x) for name, x in RECORDED.items()}
    testing.assert_matches_reference(optax.adam(0.1), recorded, sequence=sequence)
    steps[7]["bias"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"gradients\[7\]\['bias'\] has shape \(3,\)"):
        testing.assert_matches_reference(optax.adam(0.1), recorded, sequence=sequence)


def test_numbers_recorded_in_32_bits_get_a_hint() -> None:
    recorded = {name: np.array(x, np.float32) for name, x in RECORDED.items()}
    compare = functools.partial(
        testing.assert_matches_reference,
        optax.adam(0.1),
        recorded,
        sequence=testing.Sequence(START, GRADIENTS),
    )
    with pytest.raises(AssertionError, match="pass rtol=1e-5 for 32 bits"):
        compare()
    compare(rtol=1e-5)


class _Tensor:
    def __array__(self, *arguments: Any, **options: Any) -> Any:
        msg = "Can't call numpy() on Tensor that requires grad."
        raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (
            {"w": np.ones((4, 2))},
            r"reference\['w'\] has 4 steps for 3 .* without the st",
        ),
        ([{"w": np.ones(2)}] * 4, "reference has 4 steps for 3 gradients"),
        (
            {"w": np.ones((3, 2, 1))},
            r"\['w'\] has shape \(3, 2, 1\), expected \(3, 2\)",
        ),
        ([{"w": np.ones(3)}] * 3, r"reference\[0\]\['w'\] has shape \(3,\), expected"),
        ({"v": np.ones((3, 2))}, r"reference has no \['w'\]\. Give the params"),
        ([{"w": np.ones(2), "v": 1.0}] * 3, r"no \['v'\], which reference\[0\] has"),
        ({"w": _Tensor()}, r"is a _Tensor, which NumPy cannot .*detach\(\)\.numpy\(\)"),
        ({"w": "adam.npz"}, "is 'adam.npz', expected an array of numbers"),
        ("adam.npz", r"reference has no \['w'\]"),
    ],
)
def test_recorded_arrays_that_do_not_match_are_rejected(
    recorded: Any, message: str
) -> None:
    sequence = testing.Sequence({"w": np.ones(2)}, {"w": np.ones((3, 2))})
    with pytest.raises(ValueError, match=message):
        testing.assert_matches_reference(MOMENTUM, recorded, sequence=sequence)


def test_a_recorded_trajectory_needs_its_sequence() -> None:
    with pytest.raises(ValueError, match=r"pass sequence=testing\.Sequence\(start, gr"):
        testing.assert_matches_reference(MOMENTUM, RECORDED)


_SIGN_ERROR = optax.scale(1.0)


@pytest.mark.parametrize(
    "fails",
    [
        lambda: testing.assert_matches_reference(MOMENTUM, misprint),
        lambda: testing.assert_matches_reference(MOMENTUM, lambda x, g: [x]),
        lambda: testing.assert_scale_invariant(MOMENTUM),
        lambda: testing.assert_monotone(MOMENTUM, "trace"),
        lambda: testing.assert_descends(_SIGN_ERROR),
    ],
    ids=["reference", "wrong reference", "scale", "monotone", "descends"],
)
def test_pytest_shows_no_frame_of_ours(fails: Callable[[], None]) -> None:
    with pytest.raises((AssertionError, ValueError)) as caught:
        fails()
    shown = caught.traceback.filter(caught)
    assert {Path(entry.path) for entry in shown} == {Path(__file__)}


def test_random_sequences_are_wide_and_the_same_each_time() -> None:
    one, same, other = (testing.random_sequence(30, seed=s) for s in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one.start["bias"], other.start["bias"])
    entries = np.concatenate([np.ravel(g) for g in jax.tree.leaves(one.gradients)])
    assert 0.02 < np.mean(entries == 0.0) < 0.2
    sizes = np.abs(entries[entries != 0.0])
    assert sizes.max() / sizes.min() > 1e5


@pytest.mark.parametrize(
    "function",
    [
        testing.assert_descends,
        testing.assert_elementwise,
        testing.assert_matches_reference,
        testing.assert_monotone,
        testing.assert_permutation_equivariant,
        testing.assert_scale_invariant,
        testing.assert_translation_invariant,
        testing.random_sequence,
    ],
    ids=lambda function: function.__name__,
)
def test_example_runs(function: Callable[..., Any]) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(function, function.__name__)
    assert example.examples
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not printed, "".join(printed)


@pytest.mark.parametrize(
    "assertion",
    [
        lambda tx: testing.assert_matches_reference(tx, lambda x, g: g),
        testing.assert_elementwise,
        testing.assert_descends,
    ],
    ids=["reference", "property", "descent"],
)
def test_a_factory_in_place_of_an_optimizer_is_named(
    assertion: Callable[[Any], None],
) -> None:
    with pytest.raises(TypeError, match="got adam: call it, as in adam"):
        assertion(optax.adam)


def test_a_pair_in_place_of_a_sequence_is_named() -> None:
    pair = (np.zeros(2), np.ones((3, 2)))
    with pytest.raises(TypeError, match="got a tuple"):
        testing.assert_elementwise(optax.sgd(0.1), sequence=pair)


def test_open_files_are_a_sequence(tmp_path: Path) -> None:
    np.savez(tmp_path / "start.npz", w=np.zeros(2))
    np.savez(tmp_path / "gradients.npz", w=np.ones((3, 2)))
    with (
        np.load(tmp_path / "start.npz") as start,
        np.load(tmp_path / "gradients.npz") as gradients,
    ):
        testing.assert_matches_reference(
            optax.sgd(0.1),
            {"w": -0.1 * np.arange(1.0, 4.0)[:, None] * np.ones(2)},
            sequence=testing.Sequence(start, gradients),
        )
