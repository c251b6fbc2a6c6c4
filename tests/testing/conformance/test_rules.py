"""The rules find faults, and pass sound optimizers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from optimizers import sam, testing
from tests.testing.conformance.faulty import FAULTS
from tests.testing.conformance.faulty.support import Fault, broken_leaf
from tests.testing.conformance.sound import (
    scale_by_sound_adam,
    sound_adam,
    sound_ascent,
    sound_brake,
    sound_curvature,
    sound_limit,
    sound_mixture,
    sound_pause,
)

SOUND = [
    sound_adam,
    scale_by_sound_adam,
    sound_ascent,
    sound_mixture,
    sound_pause,
    sound_brake,
]


@pytest.mark.parametrize("factory", SOUND)
def test_a_sound_optimizer_conforms(factory: Callable[..., Any]) -> None:
    report = testing.check(factory)
    assert not report.failures, str(report)
    assert sum(result.outcome == "passed" for result in report.results) > 50


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found_by_its_rule(fault: Fault) -> None:
    rules = [rule for rule in testing.conformance_rules() if rule.name == fault.rule]
    (result,) = testing.check(fault.factory, rules=rules).results
    assert result.outcome == "failed"
    assert fault.says in result.reason
    assert result.fix == rules[0].fix


def accumulates_inside(learning_rate: Any = 0.1) -> Any:
    return sam(optax.MultiSteps(optax.adam(learning_rate), 2))


def searches_a_line(learning_rate: Any = 1.0) -> Any:
    """It evaluates the loss downhill, where it goes."""
    search = optax.scale_by_backtracking_linesearch(5)
    return optax.chain(optax.sgd(learning_rate), search)


@pytest.mark.parametrize("factory", [accumulates_inside, searches_a_line])
def test_the_right_order_conforms(factory: Callable[..., Any]) -> None:
    names = {
        "gradient_transformations_come_first",
        "accumulation_sees_every_micro_batch",
    }
    rules = [rule for rule in testing.conformance_rules() if rule.name in names]
    report = testing.check(factory, rules=rules)
    assert not report.failures, str(report)
    assert report.results[0].outcome == "passed"


def test_a_weak_type_does_not_fail_other_rules() -> None:
    rules = [
        rule
        for rule in testing.conformance_rules()
        if rule.check.__module__.endswith(("trees", "wrappers"))
    ]
    report = testing.check(FAULTS["has a weak count"].factory, rules=rules)
    assert not report.failures, str(report)


def test_a_masked_loss_fails_only_rules_about_masks() -> None:
    names = {
        "empty_trees_work",
        "masked_integers_work",
        "masked_node_is_an_empty_subtree",
        "works_in_partition",
        "works_under_masked",
    }
    rules = [rule for rule in testing.conformance_rules() if rule.name in names]
    factory = FAULTS["calls the loss with masked params"].factory
    failures = testing.check(factory, rules=rules).failures
    assert {failure.rule for failure in failures} == {
        "works_in_partition",
        "works_under_masked",
    }


def test_own_extra_arguments_are_passed() -> None:
    extra_args = lambda g, params: {"curvature": jax.tree.map(abs, g)}  # noqa: E731
    report = testing.check(sound_curvature, extra_args=extra_args)
    assert not report.failures, str(report)
    assert sum(result.outcome == "passed" for result in report.results) > 60
    rules = [
        rule
        for rule in testing.conformance_rules()
        if rule.name == "names_missing_extra_args"
    ]

    def forgetful(learning_rate: float = 0.1) -> Any:
        tx = sound_curvature(learning_rate)

        def update(g: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
            extra_args.setdefault("curvature", jax.tree.map(jnp.zeros_like, g))
            return tx.update(g, state, params, **extra_args)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    (failure,) = testing.check(forgetful, rules=rules, extra_args=extra_args).failures
    assert "without curvature and without an error" in failure.reason


@pytest.mark.parametrize(
    "factory",
    [
        functools.partial(sound_adam, 0.1),
        functools.partial(sound_adam, learning_rate=0.1),
        functools.partial(sound_pause, sound_adam(0.1)),
        functools.partial(sound_pause, optimizer=sound_adam(0.1)),
    ],
)
def test_arguments_of_a_partial_are_not_passed_again(factory: Any) -> None:
    names = {"counter_advances", "explicit_signature", "has_right_sign"}
    rules = [rule for rule in testing.conformance_rules() if rule.name in names]
    report = testing.check(factory, rules=rules)
    assert not report.failures, str(report)


def test_own_extra_arguments_may_be_keys_and_functions() -> None:
    def draws(learning_rate: Any = 0.1) -> Any:
        tx = sound_adam(learning_rate)

        # No **extra_args: one rule's finding, not all rules'.
        def update(
            g: Any, state: Any, params: Any = None, *, value: Any, key: Any, sign: Any
        ) -> Any:
            del value
            jax.random.uniform(key)
            return tx.update(jax.tree.map(sign, g), state, params)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    names = {"ignores_unknown_extra_args", "leaves_inputs_untouched", "is_pure"}
    rules = [rule for rule in testing.conformance_rules() if rule.name in names]
    own = lambda g, params: {"key": jax.random.key(0), "sign": jnp.abs}  # noqa: E731
    report = testing.check(draws, rules=rules, extra_args=own)
    failed = [failure.rule for failure in report.failures]
    assert failed == ["ignores_unknown_extra_args"]


def test_complex_numbers_may_be_treated_as_two_numbers() -> None:
    def split_adam(learning_rate: Any = 0.1) -> Any:
        return optax.contrib.split_real_and_imaginary(sound_adam(learning_rate))

    rules = [
        rule
        for rule in testing.conformance_rules()
        if rule.name == "complex_is_handled_or_refused"
    ]
    report = testing.check(split_adam, rules=rules)
    assert not report.failures, str(report)


def test_an_infinite_state_fails_only_where_states_are_multiplied() -> None:
    failures = testing.check(sound_limit).failures
    rules = {failure.rule for failure in failures}
    assert rules == {"works_under_lookahead", "works_under_sam"}


def test_the_carrier_of_the_faults_is_sound() -> None:
    # It has no hyperparameters to check and wraps nothing.
    names = {fault.rule for fault in FAULTS.values()} - {"bad_values_are_refused"}
    rules = [rule for rule in testing.conformance_rules() if rule.name in names]
    report = testing.check(broken_leaf(lambda u, g: u), rules=rules)
    assert not report.failures, str(report)


def test_every_rule_has_a_fault() -> None:
    # The faults for the rules about devices are in test_sharding.
    rules = testing.conformance_rules()
    here = {rule.name for rule in rules if "sharding" not in rule.check.__module__}
    assert here == {fault.rule for fault in FAULTS.values()}


def test_rules_have_distinct_names_and_texts() -> None:
    rules = testing.conformance_rules()
    assert len({rule.name for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.summary.endswith("."), rule.name
        assert rule.why.endswith("."), rule.name
        assert rule.fix.endswith("."), rule.name
        assert rule.topic.endswith("."), rule.name
        assert rule.sections, rule.name


def test_every_rule_has_one_severity() -> None:
    parts = [
        testing.conformance_rules(severity)
        for severity in ("promise", "numerics", "polish")
    ]
    assert all(parts)
    names = sorted(rule.name for part in parts for rule in part)
    assert names == sorted(rule.name for rule in testing.conformance_rules())
    with pytest.raises(ValueError, match="'urgent'"):
        testing.conformance_rules("urgent")


def test_rules_cover_the_contract() -> None:
    # The numbered rules of optax's contract, 1 to 52. Rule 51 is about frameworks,
    # which the package does not import: see tests/contract/test_frameworks.py.
    rules = testing.conformance_rules()
    covered = {section for rule in rules for section in rule.sections}
    assert set(range(1, 53)) - covered == {51}
