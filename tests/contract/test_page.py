"""docs/conformance.md is fresh, and its table of optax's aliases is true."""

import importlib.metadata
import re

import pytest

from optimizers import testing
from tools import optax_conformance, rule_table

PAGE = optax_conformance.PAGE
# What is known of optax, from its issues and from measurement: each alias with rules
# that it must be seen to break.
KNOWN = {
    "adabelief": ["zero_gradients_are_safe", "strict_promotion_holds"],
    "adam": [
        "zero_gradients_are_safe",
        "averages_do_not_stall",
        "gradients_may_differ_from_params",
        "strict_promotion_holds",
        "other_shape_is_refused",
        "injected_bfloat16_is_finite",
        "rate_of_any_type_keeps_dtypes",
    ],
    "adan": ["alias_is_chain"],
    "amsgrad": ["zero_gradients_are_safe", "gradients_may_differ_from_params"],
    "contrib.ademamix": [
        "alias_is_chain",
        "gradients_may_differ_from_params",
        "moment_dtype_is_kept",
        "state_vocabulary",
    ],
    "contrib.dadapt_adamw": [
        "complex_is_handled_or_refused",
        "explicit_signature",
        "init_is_abstract",
        "state_types_are_stable",
        "state_vocabulary",
        "x64_follows_leaves",
        "zero_gradients_are_safe",
        "zero_rate_is_safe",
    ],
    "contrib.prodigy": [
        "buffers_are_fresh",
        "complex_is_handled_or_refused",
        "explicit_signature",
        "init_is_abstract",
        "params_and_state_may_be_donated",
        "state_types_are_stable",
        "state_vocabulary",
        "updates_have_gradient_dtype",
        "zero_gradients_are_safe",
        "zero_rate_is_safe",
    ],
    "contrib.simplified_ademamix": [
        "complex_is_handled_or_refused",
        "state_vocabulary",
    ],
    "novograd": ["alias_is_chain"],
    "optimistic_adam": ["schedules_count_from_zero", "state_is_plain"],
    "sm3": ["small_leaves_work"],
}
QUICK = ["sgd", "sign_sgd", "lion"]


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    text = PAGE.read_text().partition(optax_conformance.BEGIN)[2]
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", text, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", broken) for name, broken in rows}


def test_list_of_rules_is_fresh() -> None:
    assert rule_table.render() in PAGE.read_text(), (
        "The rules in docs/conformance.md are stale; run make sync."
    )


def test_table_reports_what_is_known(table: dict[str, list[str]]) -> None:
    for name, rules in KNOWN.items():
        assert set(rules) <= set(table[name]), name


def test_table_names_rules(table: dict[str, list[str]]) -> None:
    rules = {rule.name for rule in testing.conformance_rules()}
    assert {name for broken in table.values() for name in broken} <= rules
    assert len(table) > 40


@pytest.mark.parametrize("name", QUICK)
def test_table_is_what_a_check_says(name: str, table: dict[str, list[str]]) -> None:
    version = importlib.metadata.version("optax")
    if f"of optax {version}," not in PAGE.read_text():
        pytest.skip(f"the table was made with another optax than {version}")
    report = optax_conformance.check(optax_conformance.aliases()[name])
    # Two of the rules run only where there are several devices.
    assert [result.rule for result in report.failures] == table[name]
