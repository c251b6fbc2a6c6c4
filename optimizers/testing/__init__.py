"""Conformance tests for any optax optimizer.

    from optimizers import testing

    def test_my_optimizer_conforms():
        testing.assert_conforms(my_optimizer, b1=0.95)

Pass `rules=conformance_rules("promise")` to check only what breaks code that works with
optax's optimizers. `check` returns a report instead of raising, and `conformance_rules`
returns the rules, also for `pytest.mark.parametrize`:

    CASE = testing.Case(my_optimizer)

    @pytest.mark.parametrize("rule", testing.conformance_rules(), ids=lambda r: r.name)
    def test_my_optimizer(rule):
        rule.run(CASE)

`assert_matches_golden` compares an optimizer with numbers recorded in a file, and
`assert_matches_reference` with equations written in NumPy, or with params that another
library recorded. `assert_scale_invariant`,
`assert_translation_invariant`, `assert_permutation_equivariant`, `assert_elementwise`,
`assert_descends` and `assert_monotone` check properties that optimizers claim. The
module `optimizers.testing.strategies` draws trees and gradients with hypothesis.
"""

import importlib.util

if importlib.util.find_spec("chex") is None:
    msg = (
        "optimizers.testing needs chex: run `pip install '.[testing]'` in a checkout "
        "of verbatim-optimizers."
    )
    raise ModuleNotFoundError(msg, name="chex")

from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.check import (
    assert_conforms,
    check,
    conformance_rules,
)
from optimizers.testing._conformance.report import Report, Result
from optimizers.testing._conformance.rule import NotApplicable, Rule
from optimizers.testing._golden.api import assert_matches_golden, update_golden
from optimizers.testing._golden.diff import GoldenChange, Move
from optimizers.testing._golden.scenarios import trajectory_scenarios
from optimizers.testing._golden.trajectory import Trajectory, record_trajectory
from optimizers.testing._reference.properties import (
    assert_descends,
    assert_elementwise,
    assert_monotone,
    assert_permutation_equivariant,
    assert_scale_invariant,
    assert_translation_invariant,
)
from optimizers.testing._reference.reference import assert_matches_reference
from optimizers.testing._reference.sequence import Sequence, random_sequence

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
    "trajectory_scenarios",
    "update_golden",
]
