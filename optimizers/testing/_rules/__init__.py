"""The rules, one module per idea."""

from optimizers.testing._rule import Rule
from optimizers.testing._rules import (
    compilation,
    dtypes,
    hyperparameters,
    interface,
    numerics,
    serialization,
    sharding,
    state,
    trees,
    wrappers,
)

ALL: tuple[Rule, ...] = (
    *interface.RULES,
    *state.RULES,
    *dtypes.RULES,
    *numerics.RULES,
    *trees.RULES,
    *hyperparameters.RULES,
    *wrappers.RULES,
    *compilation.RULES,
    *sharding.RULES,
    *serialization.RULES,
)
