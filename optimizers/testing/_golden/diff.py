"""What changed between a recorded trajectory and the one of today."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from optimizers.testing._compare import as_wide
from optimizers.testing._golden.format import File, Leaves, number_text, type_text
from optimizers.testing._golden.scenarios import is_runnable, trajectory_scenarios

# What other processors, compilers and versions of jax may change, as a fraction of the
# largest entry that the leaf has had; docs/regression.md says how each was found.
# Updates are divided by 1 - b2 ** t, which multiplies rounding errors at small t.
_RTOL = {
    "float64": {"state": 1e-12, "updates": 1e-12, "params": 1e-12},
    "float32": {"state": 2e-5, "updates": 1e-4, "params": 5e-5},
    "float16": dict.fromkeys(("state", "updates", "params"), 8 * 2.0**-10),
    "bfloat16": dict.fromkeys(("state", "updates", "params"), 8 * 2.0**-7),
}

# The place of a link in a chain, or in chains of chains, before its state.
_LINK = re.compile(r"state(\[\d+\])+")
_SHOWN = 6  # lines about leaves in a message

# Some processors flush subnormal float32 to zero.
_ATOL = float(jnp.finfo(jnp.float32).tiny)


class Move(NamedTuple):
    """One entry that differs from its recorded value.

    Attributes:
        scenario: The name of the scenario.
        step: The step, from 1.
        leaf: The leaf's path; it begins with `state`, `updates` or `params`.
        index: The position in the leaf.
        recorded: The number in the file.
        got: The number now.
        size: The largest entry that the leaf has had up to this step.
        allowed: The largest difference that passes.
    """

    scenario: str
    step: int
    leaf: str
    index: tuple[int, ...]
    recorded: Any
    got: Any
    size: float
    allowed: float

    @property
    def quantity(self) -> str:
        """The part of the trajectory that moved: state, updates or params."""
        return _quantity(self.leaf)

    @property
    def error(self) -> float:
        """The absolute difference, infinite if one of the two is not finite."""
        with np.errstate(invalid="ignore"):
            error = float(abs(as_wide(self.got) - as_wide(self.recorded)))
        return error if np.isfinite(error) else np.inf

    @property
    def relative_error(self) -> float:
        """The difference as a fraction of the largest entry so far."""
        return self.error / self.size if self.size else np.inf

    @property
    def ulps(self) -> float:
        """The difference in units in the last place of the recorded number."""
        if not jnp.issubdtype(self.recorded.dtype, jnp.inexact):
            return self.error
        info = jnp.finfo(self.recorded.dtype)
        size = max(float(abs(as_wide(self.recorded))), float(info.tiny))
        if not np.isfinite(size):
            return np.inf
        return self.error / (float(info.eps) * 2.0 ** np.floor(np.log2(size)))

    def __str__(self) -> str:
        """Returns the place and both numbers."""
        return (
            f"{self.scenario}, {self.place}: "
            f"{number_text(self.recorded)} → {number_text(self.got)}"
        )

    @property
    def place(self) -> str:
        """The step, leaf and entry in words."""
        index = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return f"step {self.step}, {self.leaf}{index}"


class GoldenChange(NamedTuple):
    """The differences between a golden file and the optimizer; false if there are none.

    Attributes:
        name: The optimizer in the file.
        recorded_with: Versions and platform when it was recorded.
        structure: Scenarios and leaves that are new, gone or of another type, in words.
        scenarios: The scenarios with moved numbers.
        first: The first entry that moved: in the first of these scenarios, the first
            step, and in it the first leaf of the state, else of the updates.
        largest: By quantity, the entry with the largest relative error.
    """

    name: str
    recorded_with: str
    structure: tuple[str, ...]
    scenarios: tuple[str, ...]
    first: Move | None
    largest: dict[str, Move]

    def __bool__(self) -> bool:
        """Returns whether anything differs."""
        return bool(self.structure or self.scenarios)

    def __str__(self) -> str:
        """Returns the first difference in full, then the largest ones."""
        lines = list(self.structure[:_SHOWN])
        if len(self.structure) > _SHOWN:
            lines.append(f"and {len(self.structure) - _SHOWN} more such lines")
        if self.first:
            first = self.first
            lines += [
                f"first in {first.scenario}: {first.place}",
                f"  got      {number_text(first.got)}",
                f"  recorded {number_text(first.recorded)}",
                f"  difference {first.error:.3g} = {first.ulps:.3g} ulps = "
                f"{first.relative_error:.3g} of the largest entry so far; "
                f"allowed {first.allowed:.3g}",
                *(
                    f"largest in {quantity}, {move.relative_error:.3g}: {move}"
                    for quantity, move in self.largest.items()
                ),
                f"changed scenarios: {', '.join(self.scenarios)}",
            ]
        return "\n".join(f"  {line}" for line in lines)


def compare(
    records: Mapping[str, Leaves],
    file: File,
    rtol: Mapping[str, float],
    refusals: Mapping[str, Exception],
) -> GoldenChange:
    """Returns the differences between today's trajectories and those of a file.

    Args:
        records: Today's trajectories by scenario.
        file: The golden file.
        rtol: Relative tolerances by a part of the leaf's path.
        refusals: What kept the optimizer from scenarios that are not in `records`.

    Raises:
        ValueError: A tolerance fits no leaf.
    """
    both = (*file.scenarios.values(), *records.values())
    leaves = {leaf for scenario in both for leaf in scenario}
    idle = [part for part in rtol if not any(part in leaf for leaf in leaves)]
    if idle:
        msg = (
            f"rtol has tolerances for {idle}, which match no leaf of {file.name}: "
            f"{sorted(leaves)}."
        )
        raise ValueError(msg)
    structure: dict[str, list[str]] = {}
    moves: list[Move] = []
    for scenario in trajectory_scenarios():
        if scenario in records and scenario in file.scenarios:
            got, recorded = records[scenario], file.scenarios[scenario]
            moved = _moved_links(got, recorded)
            if moved:
                structure.setdefault(_moved_text(moved), []).append(scenario)
                got = {_renamed(leaf, moved): array for leaf, array in got.items()}
            for change in _structural_changes(got, recorded):
                structure.setdefault(change, []).append(scenario)
            moves += find_moves(scenario, got, recorded, rtol)
        # Float64 may have been off when the file was recorded.
        elif scenario in records and "/float64/" not in scenario:
            structure.setdefault("runs, but is not recorded", []).append(scenario)
        elif scenario in file.scenarios and is_runnable(scenario):
            error = refusals.get(scenario)
            why = f": {type(error).__name__}: {error}" if error else ""
            text = f"is recorded, but does not run{why}"
            structure.setdefault(text, []).append(scenario)
    scenarios = tuple(dict.fromkeys(move.scenario for move in moves))
    # Within a step, leaves are in the order of an update: state, updates, params.
    of_first = [move for move in moves if move.scenario == scenarios[0]]
    first = min(of_first, key=lambda move: move.step, default=None)
    largest: dict[str, Move] = {}
    for move in sorted(moves, key=lambda move: -move.relative_error):
        largest.setdefault(move.quantity, move)
    return GoldenChange(
        file.name,
        file.recorded_with,
        tuple(f"{_listed(where)}: {what}" for what, where in structure.items()),
        scenarios,
        first,
        largest,
    )


def _listed(scenarios: list[str]) -> str:
    if len(scenarios) > 2:
        return f"{scenarios[0]} and {len(scenarios) - 1} more scenarios"
    return ", ".join(scenarios)


def _moved_links(got: Leaves, recorded: Leaves) -> dict[str, str]:
    """Returns, by its recorded place, where a link of a chain is now.

    Empty unless the state is the same but for the places of its links.
    """
    ours, theirs = _links(got), _links(recorded)
    moved: dict[str, str] = {}
    for link in dict.fromkeys(theirs.values()):
        old = [place for place, other in theirs.items() if other == link]
        new = [place for place, other in ours.items() if other == link]
        if len(old) != len(new):
            return {}
        stays = set(old) & set(new)
        moved |= zip(
            (place for place in old if place not in stays),
            (place for place in new if place not in stays),
            strict=True,
        )
    return moved if len(ours) == len(theirs) else {}


def _links(leaves: Leaves) -> dict[str, frozenset[str]]:
    """Returns the leaves of each link of a chain, with their types, by its place."""
    links: dict[str, set[str]] = {}
    for leaf, array in leaves.items():
        place = _LINK.match(leaf)
        if place:
            rest = f"{leaf[place.end() :]} {type_text(array)}"
            links.setdefault(place[0], set()).add(rest)
    return {place: frozenset(link) for place, link in links.items()}


def _moved_text(moved: Mapping[str, str]) -> str:
    # A link without a state, such as weight decay, leaves no trace in a file.
    what = "swapped" if set(moved) == set(moved.values()) else "swapped, new or gone"
    places = ", ".join(f"{old} is now {new}" for old, new in moved.items())
    return f"links of the chain are {what}: {places} (below, as recorded)"


def _renamed(leaf: str, moved: Mapping[str, str]) -> str:
    """Returns the recorded path of a leaf whose link moved."""
    place = _LINK.match(leaf)
    if place:
        for old, new in moved.items():
            if new == place[0]:
                return old + leaf[place.end() :]
    return leaf


def _structural_changes(got: Leaves, recorded: Leaves) -> Iterator[str]:
    for leaf, array in got.items():
        old = recorded.get(leaf)
        if old is None:
            yield f"{leaf} {type_text(array)} is not recorded"
        elif type_text(array) != type_text(old):
            yield f"{leaf} is {type_text(array)}, but {type_text(old)} is recorded"
        elif len(array) != len(old):
            yield f"{leaf} has {len(array)} steps, but {len(old)} are recorded"
    for leaf, array in recorded.items():
        if leaf not in got:
            yield f"{leaf} {type_text(array)} is recorded, but no longer exists"


def find_moves(
    scenario: str, got: Leaves, recorded: Leaves, rtol: Mapping[str, float]
) -> list[Move]:
    """Returns, for each leaf that moved, the first entry that did and the farthest."""
    leaves = [
        leaf
        for leaf, array in got.items()
        if leaf in recorded
        and (array.dtype, array.shape) == (recorded[leaf].dtype, recorded[leaf].shape)
    ]
    sizes = {leaf: _sizes(recorded[leaf]) for leaf in leaves}
    allowed = {leaf: _allowed(leaf, recorded, sizes, rtol) for leaf in leaves}
    # In units of the allowed difference, so that one comparison serves all dtypes.
    ours, theirs = (
        {leaf: _in_units(tree[leaf], allowed[leaf]) for leaf in leaves}
        for tree in (got, recorded)
    )
    try:
        chex.assert_trees_all_close(ours, theirs, rtol=0.0, atol=1.0)
    except AssertionError:
        pass
    else:
        return []
    moves = []
    for leaf in leaves:
        close = np.isclose(ours[leaf], theirs[leaf], rtol=0.0, atol=1.0, equal_nan=True)
        found = [
            Move(
                scenario,
                step + 1,
                leaf,
                tuple(index),
                recorded[leaf][step, *index],
                got[leaf][step, *index],
                sizes[leaf][step],
                allowed[leaf][step],
            )
            for step, *index in np.argwhere(~close).tolist()
        ]
        if found:
            moves += [found[0], max(found, key=lambda move: move.relative_error)]
    return moves


def _sizes(array: np.ndarray) -> np.ndarray:
    """Returns for each step the largest finite entry up to it.

    The rounding error of an average scales with the largest number in it.
    """
    sizes = np.abs(as_wide(array)).reshape(len(array), -1)
    sizes = np.where(np.isfinite(sizes), sizes, 0.0)
    return np.maximum.accumulate(sizes.max(axis=1, initial=0.0))


def _allowed(
    leaf: str,
    recorded: Leaves,
    sizes: Mapping[str, np.ndarray],
    rtol: Mapping[str, float],
) -> np.ndarray:
    """Returns for each step the largest difference that passes."""
    fitting = [value for part, value in rtol.items() if part in leaf]
    if fitting:
        return _ATOL + fitting[-1] * sizes[leaf]
    dtype = recorded[leaf].dtype
    if not jnp.issubdtype(dtype, jnp.inexact):
        return np.full(sizes[leaf].shape, 0.5)  # integers are exact
    info = jnp.finfo(dtype)
    fraction = _RTOL[str(info.dtype)][_quantity(leaf)]
    allowed = max(_ATOL, float(info.smallest_subnormal)) + fraction * sizes[leaf]
    params = re.sub("^updates", "params", leaf)
    if params != leaf and params in sizes and info.bits >= 32:
        # Some methods compute an update as a difference of params, which has an error
        # of two ulps of these. In 16 bits they would hide the update.
        allowed += 2 * float(info.eps) * sizes[params]
    return allowed


def _in_units(array: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Returns the array divided, step by step, by the allowed difference."""
    with np.errstate(over="ignore"):
        return as_wide(array) / allowed.reshape(-1, *[1] * (array.ndim - 1))


def _quantity(leaf: str) -> str:
    return re.split(r"\W", leaf)[0]
