"""Conformance tests for any optax optimizer.

    from optimizers import testing

    def test_my_optimizer_conforms():
        testing.assert_conforms(my_optimizer, b1=0.95)

`check` returns the same as a report, and `conformance_rules` are the single rules, for
`pytest.mark.parametrize`:

    @pytest.mark.parametrize("rule", testing.conformance_rules(), ids=lambda r: r.name)
    def test_my_optimizer(rule):
        rule.run(testing.Case(my_optimizer))
"""

from optimizers.testing._case import Case
from optimizers.testing._conformance import (
    Report,
    Result,
    assert_conforms,
    check,
    conformance_rules,
)
from optimizers.testing._rule import NotApplicable, Rule

__all__ = [
    "Case",
    "NotApplicable",
    "Report",
    "Result",
    "Rule",
    "assert_conforms",
    "check",
    "conformance_rules",
]
