"""Reports and exemptions."""

import inspect
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from optimizers import testing
from optimizers.testing import _compare
from tests.testing.conformance.sound import sound_adam

RULES = {rule.name: rule for rule in testing.conformance_rules()}


def _sign_only(**options: object) -> testing.Result:
    flipped = lambda learning_rate=-0.1: optax.sgd(learning_rate)  # noqa: E731
    report = testing.check(flipped, rules=[RULES["has_right_sign"]], **options)
    return report.results[0]


def test_a_failure_has_a_reason_and_a_fix() -> None:
    result = _sign_only()
    assert result.outcome == "failed"
    assert "not point downhill" in result.reason
    assert result.fix == RULES["has_right_sign"].fix


def _branching(learning_rate: float = 0.1) -> optax.GradientTransformationExtraArgs:
    tx = sound_adam(learning_rate)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        if state[0].count > 3:  # the line that the report must name
            return updates, state
        return tx.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def test_a_common_cause_is_reported_once_with_its_line() -> None:
    names = ("jit_equals_eager", "rank_promotion_holds", "x64_follows_leaves")
    report = testing.check(_branching, rules=[RULES[name] for name in names])
    ((severity, rules, reason, fix),) = report.causes
    assert severity == "promise"  # the highest of the three
    assert set(rules) == set(names)
    line = inspect.getsourcelines(_branching)[1] + 4
    assert reason.endswith(f"(test_reports.py, line {line})")
    assert "same reason" in fix
    assert str(report).count("TracerBoolConversionError") == 1
    assert "\n  3 rules: _branching raised Tracer" in str(report)


class _AdamState(NamedTuple):
    count: Any
    mu: Any
    nu: Any


def _textbook_adam(learning_rate: float = 0.1) -> optax.GradientTransformation:
    b1, b2, eps = 0.9, 0.999, 1e-8

    def init(params: Any) -> _AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _AdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads: Any, state: _AdamState, params: Any = None) -> Any:
        t = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, grads)

        def step(m: Any, v: Any) -> Any:
            root = jnp.sqrt(v / (1 - b2**t)) + eps
            return -learning_rate * m / (1 - b1**t) / root

        return jax.tree.map(step, mu, nu), _AdamState(t, mu, nu)

    return optax.GradientTransformation(init, update)


def test_the_findings_of_a_textbook_adam_are_in_order_of_severity() -> None:
    names = (
        "counter_saturates",
        "gradients_may_differ_from_params",
        "schedules_count_from_zero",
        "buffers_are_fresh",
    )
    report = testing.check(_textbook_adam, rules=[RULES[name] for name in names])
    ours = [line for line in str(report).splitlines() if "fix: " not in line]
    assert [line.split(": ")[0] for line in ours] == [
        "_textbook_adam",
        "promises of optax and JAX, 2 rules:",
        "  schedules_count_from_zero",
        "  buffers_are_fresh",
        "numerics that can lose a training run, 1 rule:",
        "  counter_saturates",
        "polish, 1 rule:",
        "  gradients_may_differ_from_params",
    ]


def _impure(learning_rate: float = 0.1) -> optax.GradientTransformationExtraArgs:
    tx = sound_adam(learning_rate)
    calls = []

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        calls.append(None)
        updates, state = tx.update(updates, state, params, **extra)
        return jax.tree.map(lambda u: u / len(calls), updates), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


def test_an_impure_optimizer_is_told_of_purity_first_and_nothing_else() -> None:
    names = ("ignores_unknown_extra_args", "names_missing_params", "is_pure")
    report = testing.check(_impure, rules=[RULES[name] for name in names])
    assert len(report.failures) == 3
    _, title, finding, fix, note = str(report).splitlines()
    assert title == "fix this first:"
    assert finding.startswith("  is_pure: a repeated update: ")
    assert fix == f"    fix: {RULES['is_pure'].fix}"
    assert note == (
        "2 more rules failed, probably for this reason: check again after the fix."
    )
    shown = [
        cause for _, causes in report.sections(everything=True) for cause in causes
    ]
    assert {rule for cause in shown for rule in cause.rules} == set(names)


def test_a_number_made_of_a_gradient_is_one_finding() -> None:
    def normalizing(learning_rate: float = 0.1) -> Any:
        tx = sound_adam(learning_rate)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            size = float(optax.tree.norm(updates))
            updates = jax.tree.map(lambda u: u / size, updates)
            return tx.update(updates, state, params, **extra)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    # Under two of them, the gradients are bfloat16 and complex.
    names = (
        "jit_equals_eager",
        "learning_rate_of_any_type_keeps_dtypes",
        "complex_is_handled_or_refused",
    )
    report = testing.check(normalizing, rules=[RULES[name] for name in names])
    (cause,) = report.causes
    assert "; use jax.numpy instead of float(), int(), if or math (" in cause.reason


def test_an_error_in_every_rule_hides_no_other_finding() -> None:
    # is_pure fails too, but not because of impurity.
    names = ("is_pure", "jit_equals_eager", "is_hashable")

    class Unhashable(optax.GradientTransformationExtraArgs):
        __hash__ = None

    def raising(learning_rate: float = 0.1) -> Any:
        return Unhashable(sound_adam(learning_rate).init, lambda *a, **k: 1 / 0)

    report = testing.check(raising, rules=[RULES[name] for name in names])
    assert {rule for cause in report.causes for rule in cause.rules} == set(names)
    assert all(name in str(report) for name in names)


def test_what_the_baseline_breaks_too_is_named_and_does_not_fail() -> None:
    names = ("bad_values_are_refused", "buffers_are_fresh", "has_right_sign")
    rules = [RULES[name] for name in names]
    report = testing.check(_textbook_adam, rules=rules, baseline=optax.adam)
    outcomes = [result.outcome for result in report.results]
    assert outcomes == ["shared", "failed", "passed"]
    assert "1 failed as in adam" in report.summary
    assert str(report).endswith("\nadam also breaks bad_values_are_refused.")
    testing.assert_conforms(
        _textbook_adam, rules=[RULES["bad_values_are_refused"]], baseline=optax.adam
    )


def test_the_baseline_must_be_an_optimizer() -> None:
    with pytest.raises(TypeError, match="baseline must be a function"):
        testing.check(sound_adam, rules=[], baseline=optax.adam(0.1))


@pytest.mark.parametrize(
    ("factory", "arguments", "says"),
    [
        (
            sound_adam,
            {"beta1": 0.5},
            "sound_adam has no argument 'beta1'; did you mean 'b1'? Its arguments are: "
            "learning_rate, b1, ",
        ),
        (optax.sgd, {"lr": 0.5}, "sgd has no argument 'lr'; its arguments are: "),
        (optax.sgd, {"exemption": {}}, "'exemption'; did you mean 'exemptions'?"),
        (
            optax.clip_by_global_norm,
            {},
            "clip_by_global_norm needs the argument 'max_norm', which has no default; "
            "pass max_norm=... too.",
        ),
    ],
)
def test_arguments_that_do_not_fit_the_factory_are_rejected(
    factory: Any, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError) as caught:
        testing.check(factory, rules=[], **arguments)
    assert says in str(caught.value)


def test_a_factory_that_raises_gets_advice_about_the_call() -> None:
    (only,) = testing.check(lambda learning_rate, **kwargs: 1 / 0, b3=0.5).results
    assert only.fix == "Make this call of the factory work first; then check again."


def test_an_error_is_not_hidden_by_rejected_extra_arguments() -> None:
    def branching(learning_rate: float = 0.1) -> optax.GradientTransformation:
        tx = _branching(learning_rate)
        update = lambda updates, state, params=None: tx.update(updates, state, params)  # noqa: E731
        return optax.GradientTransformation(tx.init, update)

    rules = [RULES["jit_equals_eager"], RULES["has_right_sign"]]
    jitted, eager = testing.check(branching, rules=rules).results
    assert "TracerBoolConversionError" in jitted.reason
    assert eager.outcome == "passed"


def test_a_factory_that_exits_is_a_failure() -> None:
    def quits(learning_rate: float = 0.1) -> optax.GradientTransformation:
        raise SystemExit(learning_rate)

    line = inspect.getsourcelines(quits)[1] + 1
    (only,) = testing.check(quits).results
    assert only.reason == f"quits raised SystemExit: 0.1 (test_reports.py, line {line})"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"learning_rate": optax.constant_schedule(0.1)}, "learning_rate is a sched"),
        ({"extra_args": {"value": 1.0}}, "'dict' object is not callable"),
        ({"extra_args": lambda grads: {}}, "takes 1 positional argument"),
        (
            {"extra_args": lambda grads, params: {1: params}},
            r"names as keys, got \[1\]",
        ),
    ],
)
def test_bad_arguments_are_rejected(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        testing.check(sound_adam, rules=[], **options)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (optax.sgd(0.1), "is not a factory"),
        (dict, "raised ValueError"),
    ],
)
def test_a_wrong_factory_is_a_failure(factory: Any, says: str) -> None:
    (only,) = testing.check(factory).results
    assert only.rule == "returns_transformation"
    assert says in only.reason


def test_a_learning_rate_of_another_name_fails_one_rule() -> None:
    def short(lr: Any) -> Any:
        return sound_adam(lr)

    rules = [RULES["explicit_signature"], RULES["has_right_sign"]]
    (failure,) = testing.check(short, rules=rules).failures
    assert failure.rule == "explicit_signature"
    assert "'lr'" in failure.reason


def test_a_class_without_a_file_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    body = {"__module__": "__main__", "__call__": lambda self: 1 / 0}
    (only,) = testing.check(type("InANotebook", (), body)()).results
    assert only.reason == "InANotebook raised ZeroDivisionError: division by zero"


def test_half_a_transformation_is_a_failure() -> None:
    half = lambda: types.SimpleNamespace(init=dict)  # noqa: E731
    (only,) = testing.check(half).results
    assert "returned a SimpleNamespace" in only.reason


def test_reasons_name_updates_and_state() -> None:
    rules = [RULES["trajectory_is_finite"]]
    (failure,) = testing.check(lambda: optax.scale(jnp.nan), rules=rules).failures
    assert ".updates[0]['layer']['bias'] is [nan, nan, nan]" in failure.reason


def test_an_exemption_covers_a_failure() -> None:
    result = _sign_only(exemptions={"has_right_sign": "climbs on purpose"})
    assert (result.outcome, result.reason) == ("exempt", "climbs on purpose")


def test_a_needless_exemption_fails() -> None:
    report = testing.check(
        sound_adam,
        exemptions={"has_right_sign": "climbs on purpose"},
        rules=[RULES["has_right_sign"]],
    )
    assert report.results[0].outcome == "failed"
    assert "no longer needed" in report.results[0].reason


def test_an_exemption_from_an_unknown_rule_is_rejected() -> None:
    with pytest.raises(ValueError, match="no_such_rule"):
        testing.check(sound_adam, exemptions={"no_such_rule": "why"}, rules=[])


def test_assert_conforms_lists_failures() -> None:
    def climbing(learning_rate: float = 0.1) -> optax.GradientTransformation:
        return sound_adam(-learning_rate)

    with pytest.raises(AssertionError) as caught:
        testing.assert_conforms(climbing, rules=[RULES["has_right_sign"]])
    text = str(caught.value)
    assert text.startswith("climbing: ")
    assert "has_right_sign: ⟨update, gradient⟩" in text
    assert f"fix: {RULES['has_right_sign'].fix}" in text


def test_kwargs_reach_the_factory() -> None:
    case = testing.Case(sound_adam, {"b1": 0.5})
    assert case.name == "sound_adam(b1=0.5)"
    case.make()
    with pytest.raises(ValueError, match="b1"):
        case.make(b1=1.5)


def test_a_wrong_return_type_is_reported() -> None:
    report = testing.check(lambda learning_rate=0.1: "adam")
    (only,) = report.results
    assert (only.rule, only.outcome) == ("returns_transformation", "failed")
    assert "returned a str" in only.reason


_FOLDER = "jax_compilation_cache_dir"


def _folders_of_a_check() -> list[str | None]:
    """The folder of compiled programs while an update runs, and after the check."""
    seen: list[str | None] = []

    def factory(learning_rate: float = 0.1) -> optax.GradientTransformation:
        seen.append(getattr(jax.config, _FOLDER))
        return sound_adam(learning_rate)

    testing.check(factory, rules=[RULES["is_pure"]])
    return [seen[-1], getattr(jax.config, _FOLDER)]


def test_programs_are_cached_during_a_check() -> None:
    if getattr(jax.config, _FOLDER) is not None:
        pytest.skip("JAX keeps programs already")
    during, after = _folders_of_a_check()
    assert during is not None
    assert not Path(during).exists()
    assert after is None


def test_a_users_cache_folder_is_kept(tmp_path: Path) -> None:
    before = getattr(jax.config, _FOLDER)
    jax.config.update(_FOLDER, str(tmp_path))
    try:
        assert _folders_of_a_check() == [str(tmp_path)] * 2
    finally:
        jax.config.update(_FOLDER, before)
        compilation_cache.reset_cache()


def test_names_of_cases_have_no_addresses() -> None:
    kwargs = {"b1": sound_adam, "b2": 0.9, "inner": optax.sgd(0.1)}
    assert testing.Case(sound_adam, kwargs).name == (
        "sound_adam(b1=sound_adam, b2=0.9, inner=GradientTransformationExtraArgs(...))"
    )


def test_the_rules_use_the_given_learning_rate() -> None:
    names = ("schedules_count_from_zero", "hyperparameters_may_be_injected")
    rules = [RULES[name] for name in (*names, "bad_values_are_refused")]
    report = testing.check(sound_adam, rules=rules, learning_rate=0.01)
    assert not report.failures, str(report)
    assert testing.Case(sound_adam, {"learning_rate": 0.01}).learning_rate == 0.01


def test_only_equal_infinities_are_close() -> None:
    inf, nan = jnp.array([jnp.inf, 1.0]), jnp.array([jnp.nan, 1.0])
    _compare.assert_close(inf, inf, "x")
    for other in (-inf, nan, jnp.ones(2)):
        with pytest.raises(AssertionError, match="x: "):
            _compare.assert_close(other, inf, "x")
    with pytest.raises(AssertionError, match="x: "):
        _compare.assert_close(nan, nan, "x")


def test_a_python_number_in_the_state_is_compared() -> None:
    """The rule on types reports it; the others must not fail inside the kit."""

    def counting(learning_rate: float) -> optax.GradientTransformationExtraArgs:
        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            step = jax.tree.map(lambda g: -learning_rate * g, updates)
            return step, {"count": state["count"] + 1}

        return optax.GradientTransformationExtraArgs(lambda p: {"count": 0}, update)

    names = ("is_pure", "state_is_plain")
    report = testing.check(counting, rules=[RULES[name] for name in names])
    outcomes = {result.rule: result.outcome for result in report.results}
    assert outcomes == {"is_pure": "passed", "state_is_plain": "failed"}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"rules": "promise"}, TypeError, "conformance_rules\\('promise'\\)"),
        ({"rules": ["is_pure"]}, TypeError, "got 'is_pure'"),
        ({"exemptions": ["is_pure"]}, TypeError, "your reasons, got a list"),
        ({"exemptions": {"is_pure": ""}}, ValueError, "'is_pure'. needs a reason"),
    ],
    ids=["text", "names", "list", "empty reason"],
)
def test_rules_and_exemptions_of_the_wrong_type(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        testing.check(optax.sgd, **options)
