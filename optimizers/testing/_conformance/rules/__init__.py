"""The rules, one module per topic."""

from optimizers.testing._conformance.rule import Rule
from optimizers.testing._conformance.rules import (
    compilation,
    composition,
    counters,
    decay,
    dtypes,
    grammar,
    hyperparameters,
    interface,
    numerics,
    promotion,
    serialization,
    sharding,
    state,
    trees,
    wrappers,
)

ALL: tuple[Rule, ...] = (
    *interface.RULES,
    *grammar.RULES,
    *state.RULES,
    *counters.RULES,
    *dtypes.RULES,
    *promotion.RULES,
    *numerics.RULES,
    *trees.RULES,
    *hyperparameters.RULES,
    *decay.RULES,
    *wrappers.RULES,
    *composition.RULES,
    *compilation.RULES,
    *sharding.RULES,
    *serialization.RULES,
)
