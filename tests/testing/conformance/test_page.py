"""docs/conformance.md is fresh, and its table of optax's aliases is correct."""

import importlib.metadata
import re

import pytest

from optimizers import testing
from tools import optax_conformance, rule_table

PAGE = optax_conformance.PAGE
# Known failures of optax, from its issues and from measurements: aliases with rules
# that they break.
KNOWN = {
    "adabelief": ["zero_gradients_are_safe", "strict_promotion_holds"],
    "adam": [
        "zero_gradients_are_safe",
        "averages_do_not_stall",
        "gradients_may_differ_from_params",
        "strict_promotion_holds",
        "other_shape_is_refused",
        "injected_bfloat16_is_accurate_or_refused",
        "learning_rate_of_any_type_keeps_dtypes",
    ],
    "adafactor": ["counter_saturates", "hyperparameters_may_be_injected"],
    "adamax": ["zero_gradients_are_safe", "gradients_may_differ_from_params"],
    "adan": ["alias_is_chain"],
    "amsgrad": ["zero_gradients_are_safe", "gradients_may_differ_from_params"],
    "clip_by_global_norm": ["no_hidden_nans"],
    "contrib.ademamix": [
        "alias_is_chain",
        "gradients_may_differ_from_params",
        "moment_dtype_is_kept",
        "state_vocabulary",
    ],
    "contrib.cocob": ["alias_is_chain", "params_and_state_may_be_donated"],
    "contrib.dadapt_adamw": [
        "complex_is_handled_or_refused",
        "explicit_sharding_is_stable",
        "explicit_signature",
        "init_is_abstract",
        "state_types_are_stable",
        "state_vocabulary",
        "weight_decay_mask_is_any_mask",
        "x64_follows_leaves",
        "zero_gradients_are_safe",
        "zero_learning_rate_is_safe",
    ],
    "contrib.dog": ["state_is_plain", "works_under_lookahead"],
    "contrib.galore": [
        "complex_is_handled_or_refused",
        "hyperparameters_may_be_injected",
        "none_is_an_empty_subtree",
    ],
    "contrib.normalize": ["zero_gradients_are_safe"],
    "contrib.prodigy": [
        "buffers_are_fresh",
        "complex_is_handled_or_refused",
        "explicit_sharding_is_stable",
        "explicit_signature",
        "init_is_abstract",
        "params_and_state_may_be_donated",
        "state_types_are_stable",
        "state_vocabulary",
        "updates_have_gradient_dtype",
        "weight_decay_mask_is_any_mask",
        "zero_gradients_are_safe",
        "zero_learning_rate_is_safe",
    ],
    "contrib.sam": [
        "accepts_any_inner_state",
        "forwards_extra_args",
        "ignores_unknown_extra_args",
        "masked_integers_work",
        "zero_gradients_are_safe",
    ],
    "contrib.sam(opaque_mode=True)": [
        "forwards_extra_args",
        "ignores_unknown_extra_args",
        "works_in_partition",
        "works_under_masked",
        "zero_gradients_are_safe",
    ],
    "contrib.sam(sync_period=1)": ["loss_goes_down"],
    "contrib.sophia": ["works_under_masked"],
    "contrib.schedule_free_sgd": ["no_hidden_nans", "schedules_count_from_zero"],
    "contrib.simplified_ademamix": [
        "complex_is_handled_or_refused",
        "state_vocabulary",
    ],
    "lars": ["weight_decay_is_decoupled"],
    "lbfgs": [
        "counter_is_int32",
        "empty_trees_work",
        "hyperparameters_may_be_injected",
        "params_and_state_may_be_donated",
        "params_are_found_in_state",
        "state_types_are_stable",
        "works_under_masked",
    ],
    "novograd": ["alias_is_chain", "eps_root_makes_meta_gradients_finite"],
    "optimistic_adam": ["schedules_count_from_zero", "state_is_plain"],
    "radam": ["zero_gradients_are_safe", "no_hidden_nans"],
    "sm3": ["small_leaves_work"],
}
# Rules that aliases follow, although they may seem to break them.
SOUND = {
    "contrib.madgrad": ["complex_is_handled_or_refused"],
    "contrib.momo": ["names_missing_params"],
    "contrib.schedule_free_adamw": [
        "complex_is_handled_or_refused",
        "hyperparameters_may_be_injected",
        "learning_rate_may_be_traced",
    ],
    "lbfgs": [
        "complex_is_handled_or_refused",
        "none_is_an_empty_subtree",
        "learning_rate_is_differentiable",
        "learning_rate_may_be_traced",
        "works_before_other_transformations",
        "works_under_flatten",
        "works_under_lookahead",
        "works_under_mechanize",
        "works_under_multi_steps",
        "works_under_schedule_free",
    ],
    "polyak_sgd": ["explicit_signature", "schedules_count_from_zero"],
}
QUICK = ["sgd", "sign_sgd", "lion"]


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    text = PAGE.read_text().partition(optax_conformance.BEGIN)[2]
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (.*) \|$", text, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", broken) for name, broken in rows}


def test_list_of_rules_is_fresh() -> None:
    assert rule_table.render() in PAGE.read_text(), (
        "The rules in docs/conformance.md are stale; run make sync."
    )


def test_table_has_the_known_failures(table: dict[str, list[str]]) -> None:
    for name, rules in KNOWN.items():
        assert set(rules) <= set(table[name]), name


def test_most_of_optax_keeps_its_promises(table: dict[str, list[str]]) -> None:
    promises = {rule.name for rule in testing.conformance_rules("promise")}
    for name in ("adam", "adamw", "lion", "rmsprop", "sgd"):
        assert not promises & set(table[name]), name
    for promise in promises:
        broken = sum(promise in rules for rules in table.values())
        assert broken <= len(table) / 4, promise


@pytest.mark.parametrize("name", SOUND)
def test_sound_optimizers_are_not_reported(
    name: str, table: dict[str, list[str]]
) -> None:
    factory = optax_conformance.checked()[name]
    rules = [rule for rule in testing.conformance_rules() if rule.name in SOUND[name]]
    report = testing.check(factory, rules=rules)
    assert not report.failures, str(report)
    assert not set(SOUND[name]) & set(table[name])


def test_table_names_rules(table: dict[str, list[str]]) -> None:
    rules = {rule.name for rule in testing.conformance_rules()}
    assert {name for broken in table.values() for name in broken} <= rules
    assert len(table) > 40


@pytest.mark.parametrize("name", QUICK)
def test_table_equals_a_check(name: str, table: dict[str, list[str]]) -> None:
    version = importlib.metadata.version("optax")
    if f"of optax {version}," not in PAGE.read_text():
        pytest.skip(f"the table was made with another optax than {version}")
    report = optax_conformance.check(optax_conformance.checked()[name])
    # Two of the rules need several devices.
    assert [result.rule for result in report.failures] == table[name]
