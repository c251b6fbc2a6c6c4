"""Every rule, on every public optimizer."""

from typing import Any

import pytest

import optimizers
from optimizers.testing import Case, NotApplicable, Rule, conformance_rules

RULES = conformance_rules()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule(
    case: Case,
    rule: Rule,
    exemptions: dict[str, dict[str, str]],
    request: pytest.FixtureRequest,
) -> None:
    reason = exemptions.get(case.name, {}).get(rule.name)
    if reason is not None:
        mark = pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True)
        request.applymarker(mark)
    try:
        rule.run(case)
    except NotApplicable as why:
        pytest.skip(str(why))


def test_tables_name_what_exists(
    cases: list[Case],
    exemptions: dict[str, dict[str, str]],
    tables: dict[str, Any],
) -> None:
    public, rules = set(optimizers.__all__), {rule.name for rule in RULES}
    assert tables["not_factories"].keys() <= public
    assert tables["variants"].keys() <= public
    assert exemptions.keys() <= {case.name for case in cases}
    for names in exemptions.values():
        assert names.keys() <= rules


def test_rules_have_distinct_names_and_texts() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.summary.endswith("."), rule.name
        assert rule.why.endswith("."), rule.name
        assert rule.mend.endswith("."), rule.name
        assert rule.topic.endswith("."), rule.name
        assert rule.sections, rule.name


def test_rules_cover_the_contract() -> None:
    # The numbered rules of optax's contract, 1 to 52. The frameworks of 51 have tests
    # of their own beside this file, since the package imports none of them.
    covered = {section for rule in RULES for section in rule.sections}
    assert set(range(1, 53)) - covered == {51}
