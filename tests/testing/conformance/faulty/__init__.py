"""Adams with one fault each, and the rule that must find it; one module per topic.

The modules mirror those of the rules. `sharding` stands apart: its faults need several
devices.
"""

from tests.testing.conformance.faulty import (
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
    state,
    trees,
    wrappers,
)
from tests.testing.conformance.faulty.support import Fault

FAULTS: dict[str, Fault] = {
    **interface.FAULTS,
    **grammar.FAULTS,
    **state.FAULTS,
    **counters.FAULTS,
    **dtypes.FAULTS,
    **promotion.FAULTS,
    **numerics.FAULTS,
    **trees.FAULTS,
    **hyperparameters.FAULTS,
    **decay.FAULTS,
    **wrappers.FAULTS,
    **composition.FAULTS,
    **compilation.FAULTS,
    **serialization.FAULTS,
}
