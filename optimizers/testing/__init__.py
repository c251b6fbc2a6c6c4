"""Conformance tests for any optax optimizer.

    from optimizers import testing

    def test_my_optimizer_conforms():
        testing.assert_conforms(my_optimizer, b1=0.95)

`check` returns the same as a report, and `conformance_rules` are the single rules, for
`pytest.mark.parametrize`:

    @pytest.mark.parametrize("rule", testing.conformance_rules(), ids=lambda r: r.name)
    def test_my_optimizer(rule):
        rule.run(testing.Case(my_optimizer))

`assert_matches_reference` compares an optimizer with equations written in NumPy;
`assert_scale_invariant`, `assert_translation_invariant`,
`assert_permutation_equivariant`, `assert_elementwise`, `assert_descends` and
`assert_monotone` are properties that optimizers claim. `optimizers.testing.strategies`,
a module of its own, draws trees and gradients with hypothesis.
"""

import importlib.util

if importlib.util.find_spec("chex") is None:
    msg = "optimizers.testing needs chex: install verbatim-optimizers[testing]."
    raise ModuleNotFoundError(msg, name="chex")

from optimizers.testing._case import Case
from optimizers.testing._conformance import (
    Report,
    Result,
    assert_conforms,
    check,
    conformance_rules,
)
from optimizers.testing._golden import (
    GoldenChange,
    Move,
    assert_matches_golden,
    update_golden,
)
from optimizers.testing._properties import (
    assert_descends,
    assert_elementwise,
    assert_monotone,
    assert_permutation_equivariant,
    assert_scale_invariant,
    assert_translation_invariant,
)
from optimizers.testing._reference import assert_matches_reference
from optimizers.testing._replay import Sequence, random_sequence
from optimizers.testing._rule import NotApplicable, Rule
from optimizers.testing._trajectory import (
    Trajectory,
    record_trajectory,
    trajectory_cases,
)

__all__ = [
    "Case",
    "GoldenChange",
    "Move",
    "NotApplicable",
    "Report",
    "Result",
    "Rule",
    "Sequence",
    "Trajectory",
    "assert_conforms",
    "assert_descends",
    "assert_elementwise",
    "assert_matches_golden",
    "assert_matches_reference",
    "assert_monotone",
    "assert_permutation_equivariant",
    "assert_scale_invariant",
    "assert_translation_invariant",
    "check",
    "conformance_rules",
    "random_sequence",
    "record_trajectory",
    "trajectory_cases",
    "update_golden",
]
