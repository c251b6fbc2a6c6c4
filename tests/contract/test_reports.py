"""Reports and exemptions."""

import optax
import pytest

from optimizers import testing
from tests.contract.sound import sound_adam

RULES = {rule.name: rule for rule in testing.conformance_rules()}


def _sign_only(**options: object) -> testing.Result:
    flipped = lambda learning_rate=-0.1: optax.sgd(learning_rate)  # noqa: E731
    report = testing.check(flipped, rules=[RULES["has_right_sign"]], **options)
    return report.results[0]


def test_a_failure_says_why_and_how_to_mend() -> None:
    result = _sign_only()
    assert result.outcome == "failed"
    assert "not downhill" in result.reason
    assert result.mend == RULES["has_right_sign"].mend


def test_an_exemption_covers_a_failure() -> None:
    result = _sign_only(exemptions={"has_right_sign": "climbs on purpose"})
    assert (result.outcome, result.reason) == ("exempt", "climbs on purpose")


def test_an_exemption_that_is_not_needed_fails() -> None:
    report = testing.check(
        sound_adam,
        exemptions={"has_right_sign": "climbs on purpose"},
        rules=[RULES["has_right_sign"]],
    )
    assert report.results[0].outcome == "failed"
    assert "no longer needed" in report.results[0].reason


def test_an_exemption_from_no_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="no_such_rule"):
        testing.check(sound_adam, exemptions={"no_such_rule": "why"}, rules=[])


def test_assert_conforms_spells_failures_out() -> None:
    def climbing(learning_rate: float = 0.1) -> optax.GradientTransformation:
        return sound_adam(-learning_rate)

    with pytest.raises(AssertionError) as caught:
        testing.assert_conforms(climbing, rules=[RULES["has_right_sign"]])
    text = str(caught.value)
    assert text.startswith("climbing: ")
    assert "has_right_sign: ⟨update, gradient⟩" in text
    assert f"mend: {RULES['has_right_sign'].mend}" in text


def test_kwargs_reach_the_factory() -> None:
    case = testing.Case(sound_adam, {"b1": 0.5})
    assert case.name == "sound_adam(b1=0.5)"
    case.make()
    with pytest.raises(ValueError, match="b1"):
        case.make(b1=1.5)


def test_a_result_of_another_kind_fails_in_words() -> None:
    report = testing.check(lambda learning_rate=0.1: "adam")
    (only,) = report.results
    assert (only.rule, only.outcome) == ("returns_transformation", "failed")
    assert "returned a str" in only.reason
