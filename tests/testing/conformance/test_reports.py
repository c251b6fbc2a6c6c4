"""Reports and exemptions."""

import inspect
import sys
import types
from pathlib import Path
from typing import Any

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
    ((rules, reason, fix),) = report.causes
    assert set(rules) == set(names)
    line = inspect.getsourcelines(_branching)[1] + 4
    assert reason.endswith(f"(test_reports.py, line {line})")
    assert "same reason" in fix
    assert str(report).count("TracerBoolConversionError") == 1
    assert "\n  3 rules: _branching raised Tracer" in str(report)


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
