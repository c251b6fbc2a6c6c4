"""Golden files: trajectories on disk, and what moved since they were recorded."""

import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing._case import Case
from optimizers.testing._trajectory import (
    Trajectory,
    is_runnable,
    is_transformation,
    record_trajectory,
    trajectory_cases,
)

# To be raised when the layout of the files changes, or the inputs of a case.
FORMAT = 1

# What other processors, compilers and versions of jax may change, as a share of the
# largest entry that the leaf has had: docs/regression.md says how each was found.
# Updates are divided by 1 - b2 ** t, which multiplies rounding errors at small t.
_RTOL = {
    "float64": {"state": 1e-12, "updates": 1e-12, "params": 1e-12},
    "float32": {"state": 2e-5, "updates": 1e-4, "params": 5e-5},
    "float16": dict.fromkeys(("state", "updates", "params"), 8 * 2.0**-10),
    "bfloat16": dict.fromkeys(("state", "updates", "params"), 8 * 2.0**-7),
}

# Some processors flush subnormal float32 to zero.
_ATOL = float(jnp.finfo(jnp.float32).tiny)

# A trajectory by the paths of its leaves; the first axis of an array is the step.
_Leaves = dict[str, np.ndarray]


class Move(NamedTuple):
    """One entry that is not what was recorded.

    Attributes:
        case: The name of the case.
        step: The step, from 1.
        leaf: The leaf's path; it begins with `state`, `updates` or `params`.
        index: Where in the leaf.
        recorded: The number in the file.
        got: The number now.
        size: The largest entry that the leaf has had up to this step.
        allowed: The largest difference that passes.
    """

    case: str
    step: int
    leaf: str
    index: tuple[int, ...]
    recorded: Any
    got: Any
    size: float
    allowed: float

    @property
    def quantity(self) -> str:
        """Which part of the trajectory moved: state, updates or params."""
        return _quantity(self.leaf)

    @property
    def error(self) -> float:
        """The absolute difference, infinite where one of the two is not finite."""
        with np.errstate(invalid="ignore"):
            error = float(abs(_wide(self.got) - _wide(self.recorded)))
        return error if np.isfinite(error) else np.inf

    @property
    def relative_error(self) -> float:
        """The difference as a share of the largest entry so far."""
        return self.error / self.size if self.size else np.inf

    @property
    def ulps(self) -> float:
        """The difference in units in the last place of the recorded number."""
        if not jnp.issubdtype(self.recorded.dtype, jnp.inexact):
            return self.error
        info = jnp.finfo(self.recorded.dtype)
        size = max(float(abs(_wide(self.recorded))), float(info.tiny))
        if not np.isfinite(size):
            return np.inf
        return self.error / (float(info.eps) * 2.0 ** np.floor(np.log2(size)))

    def __str__(self) -> str:
        """Returns where it is, and both numbers."""
        index = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return (
            f"{self.case}, step {self.step}, {self.leaf}{index}: "
            f"{_text(self.recorded)} → {_text(self.got)}"
        )


class GoldenChange(NamedTuple):
    """What differs between a golden file and the optimizer; false if nothing does.

    Attributes:
        name: The optimizer in the file.
        recorded_with: Versions and platform when it was recorded.
        structure: Cases and leaves that came, went or changed their type, in words.
        cases: The cases with moved numbers.
        first: The first entry that moved: of the first of these cases, the first step,
            and in it the first leaf of the state, else of the updates.
        largest: By quantity, the entry with the largest relative error.
    """

    name: str
    recorded_with: str
    structure: tuple[str, ...]
    cases: tuple[str, ...]
    first: Move | None
    largest: dict[str, Move]

    def __bool__(self) -> bool:
        """Returns whether anything differs."""
        return bool(self.structure or self.cases)

    def __str__(self) -> str:
        """Returns the first difference in full, then the largest ones."""
        lines = list(self.structure)
        if self.first:
            first, case = self.first, self.first.case
            where = str(first).removeprefix(f"{case}, ").split(": ")[0]
            lines += [
                f"first in {case}: {where}",
                f"  got      {_text(first.got)}",
                f"  recorded {_text(first.recorded)}",
                f"  differ by {first.error:.3g}, which is {first.ulps:.3g} ulps and "
                f"{first.relative_error:.3g} of the largest entry so far; "
                f"allowed is {first.allowed:.3g}",
                *(
                    f"largest of {quantity}, {move.relative_error:.3g}: {move}"
                    for quantity, move in self.largest.items()
                ),
                f"moved cases: {', '.join(self.cases)}",
            ]
        return "\n".join(f"  {line}" for line in lines)


def assert_matches_golden(
    optimizer: Any,
    path: str | PathLike[str],
    *,
    rtol: Mapping[str, float] | None = None,
    cases: Iterable[str] | None = None,
    **kwargs: Any,
) -> None:
    """Asserts that an optimizer does what it did when its golden file was recorded.

    The fixture `golden_trajectory` of the pytest plugin does the same, finds the file
    by itself, and records it under `pytest --update-golden`.

    Args:
        optimizer: A transformation or a factory of one, as for `record_trajectory`.
        path: The golden file.
        rtol: Relative tolerances by a part of the leaf's path, for instance
            `{".distance": 1e-3}`; the last that fits holds. All others come from the
            dtype: for float32 2e-5 in the state, 1e-4 in updates and 5e-5 in params;
            1e-12 for float64, eight units in the last place for 16 bits, and integers
            are exact. A difference is relative to the largest entry that the leaf has
            had.
        cases: Names from `trajectory_cases()`; all when None.
        **kwargs: Keyword arguments of the factory.

    Raises:
        AssertionError: Something moved, and the message shows the first step and leaf
            that did; or there is no file.
        TypeError: `rtol` is no mapping.
        ValueError: The file is damaged, or not a golden file, or has no leaf for a
            tolerance.
    """
    __tracebackhide__ = True
    path, tolerances = Path(path), _tolerances(rtol)
    if not path.exists():
        msg = (
            f"{path} is missing. Record it with pytest --update-golden, or with "
            "optimizers.testing.update_golden, and commit it."
        )
        raise AssertionError(msg)
    records = _records(optimizer, cases, kwargs)
    change = _compare(records, _read(path), tolerances)
    if change:
        msg = (
            f"{change.name} moved from {path}, recorded with {change.recorded_with}:\n"
            f"{change}\n"
            "If that is meant, record it again with pytest --update-golden and tell "
            "users."
        )
        raise AssertionError(msg)


def update_golden(
    optimizer: Any,
    path: str | PathLike[str],
    *,
    rtol: Mapping[str, float] | None = None,
    cases: Iterable[str] | None = None,
    **kwargs: Any,
) -> GoldenChange | None:
    """Records the golden file of an optimizer, unless the one there still holds.

    A file that holds stays as it is, to the byte: that another machine rounds
    differently is no news. Records of cases that cannot run here (float64 without
    `jax_enable_x64`) are kept.

    Args:
        optimizer: As for `assert_matches_golden`.
        path: The golden file; its folder is made when missing.
        rtol: As for `assert_matches_golden`.
        cases: As for `assert_matches_golden`.
        **kwargs: Keyword arguments of the factory.

    Returns:
        What moved, false when nothing did. None when there was no file, or none that
        can be read.
    """
    path, tolerances = Path(path), _tolerances(rtol)
    records = _records(optimizer, cases, kwargs)
    try:
        file = _read(path)
    except (FileNotFoundError, ValueError):
        change = None
    else:
        change = _compare(records, file, tolerances)
        kept = {name: old for name, old in file.cases.items() if not is_runnable(name)}
        records |= kept
    if change is None or change:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_render(golden_name(optimizer, kwargs), records), "utf-8")
    return change


def golden_name(optimizer: Any, kwargs: Mapping[str, Any]) -> str:
    """Returns a factory with its arguments, or the type of a transformation."""
    if is_transformation(optimizer):
        return type(optimizer).__name__
    return Case(optimizer, dict(kwargs)).name


def _tolerances(rtol: Mapping[str, float] | None) -> Mapping[str, float]:
    if rtol is not None and not isinstance(rtol, Mapping):
        msg = (
            "rtol must be a mapping from a part of a leaf's path to a tolerance, as "
            f'{{".mu": 1e-3}}, got {rtol!r}.'
        )
        raise TypeError(msg)
    return rtol or {}


class _File(NamedTuple):
    name: str
    recorded_with: str
    cases: dict[str, _Leaves]


def _records(
    optimizer: Any, cases: Iterable[str] | None, kwargs: Mapping[str, Any]
) -> dict[str, _Leaves]:
    trajectories = record_trajectory(optimizer, cases=cases, **kwargs)
    return {case: _flatten(found) for case, found in trajectories.items()}


def _compare(
    records: Mapping[str, _Leaves], file: _File, rtol: Mapping[str, float]
) -> GoldenChange:
    both = (*file.cases.values(), *records.values())
    leaves = {leaf for case in both for leaf in case}
    idle = [part for part in rtol if not any(part in leaf for leaf in leaves)]
    if idle:
        msg = (
            f"rtol has tolerances for {idle}, which fit no leaf of {file.name}: "
            f"{sorted(leaves)}."
        )
        raise ValueError(msg)
    structure: dict[str, list[str]] = {}
    moves: list[Move] = []
    for case in trajectory_cases():
        if case in records and case in file.cases:
            got, recorded = records[case], file.cases[case]
            for change in _structural_changes(got, recorded):
                structure.setdefault(change, []).append(case)
            moves += _moves(case, got, recorded, rtol)
        # Float64 may have been off when the file was recorded.
        elif case in records and "/float64/" not in case:
            structure.setdefault("runs, but is not recorded", []).append(case)
        elif case in file.cases and is_runnable(case):
            structure.setdefault("is recorded, but does not run", []).append(case)
    cases = tuple(dict.fromkeys(move.case for move in moves))
    # In one step, leaves are in the order of an update: state, updates, params.
    of_first_case = [move for move in moves if move.case == cases[0]]
    first = min(of_first_case, key=lambda move: move.step, default=None)
    largest: dict[str, Move] = {}
    for move in sorted(moves, key=lambda move: -move.relative_error):
        largest.setdefault(move.quantity, move)
    return GoldenChange(
        file.name,
        file.recorded_with,
        tuple(f"{', '.join(where)}: {what}" for what, where in structure.items()),
        cases,
        first,
        largest,
    )


def _structural_changes(got: _Leaves, recorded: _Leaves) -> Iterator[str]:
    for leaf, array in got.items():
        if leaf not in recorded:
            yield f"{leaf} {_type(array)} is not recorded"
        elif _type(array) != _type(recorded[leaf]):
            yield f"{leaf} is {_type(array)}, recorded is {_type(recorded[leaf])}"
        elif len(array) != len(recorded[leaf]):
            yield f"{leaf} has {len(array)} steps, recorded are {len(recorded[leaf])}"
    for leaf, array in recorded.items():
        if leaf not in got:
            yield f"{leaf} {_type(array)} is recorded, but is no more"


def _moves(
    case: str, got: _Leaves, recorded: _Leaves, rtol: Mapping[str, float]
) -> list[Move]:
    """Returns of each leaf that moved the first entry that did, and the farthest."""
    leaves = [
        leaf
        for leaf, array in got.items()
        if leaf in recorded
        and (array.dtype, array.shape) == (recorded[leaf].dtype, recorded[leaf].shape)
    ]
    sizes = {leaf: _sizes(recorded[leaf]) for leaf in leaves}
    allowed = {leaf: _allowed(leaf, recorded, sizes, rtol) for leaf in leaves}
    # In units of what is allowed, so that one comparison does for all dtypes.
    ours, theirs = (
        {leaf: _over_steps(np.divide, tree[leaf], allowed[leaf]) for leaf in leaves}
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
                case,
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

    Rounding errors of an average are as large as the largest of what it averaged.
    """
    sizes = np.abs(_wide(array)).reshape(len(array), -1)
    sizes = np.where(np.isfinite(sizes), sizes, 0.0)
    return np.maximum.accumulate(sizes.max(axis=1, initial=0.0))


def _allowed(
    leaf: str,
    recorded: _Leaves,
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
    share = _RTOL[str(info.dtype)][_quantity(leaf)]
    allowed = max(_ATOL, float(info.smallest_subnormal)) + share * sizes[leaf]
    params = re.sub("^updates", "params", leaf)
    if params != leaf and params in sizes and info.bits >= 32:
        # Some methods subtract the parameters from the new ones, which leaves two ulps
        # of these. In 16 bits they would hide the update.
        allowed += 2 * float(info.eps) * sizes[params]
    return allowed


def _over_steps(operation: Any, array: np.ndarray, of_step: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return operation(_wide(array), of_step.reshape(-1, *[1] * (array.ndim - 1)))


def _flatten(trajectory: Trajectory) -> _Leaves:
    """Returns the leaves by their paths, such as state.mu['kernel']."""
    leaves = jax.tree_util.tree_leaves_with_path(trajectory)
    return {jax.tree_util.keystr(path)[1:]: leaf for path, leaf in leaves}


def _quantity(leaf: str) -> str:
    return re.split(r"\W", leaf)[0]


def _type(array: np.ndarray) -> str:
    """Returns dtype and shape of one step."""
    shape = ",".join(map(str, array.shape[1:]))
    return f"{array.dtype}[{shape}]" if shape else str(array.dtype)


def _wide(array: Any) -> Any:
    is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
    return array.astype(np.complex128 if is_complex else np.float64)


def _render(name: str, cases: Mapping[str, _Leaves]) -> str:
    """Returns the text of a file: JSON with one step of one leaf on a line."""
    head = {
        "format": FORMAT,
        "optimizer": name,
        "recorded_with": {
            package: importlib.metadata.version(package)
            for package in ("verbatim-optimizers", "jax", "jaxlib", "optax", "numpy")
        }
        | {"platform": f"{jax.devices()[0].device_kind}, {platform.machine()}"},
    }
    body = ",\n".join(
        f'"{case}": {{\n{_render_leaves(cases[case])}\n}}'
        for case in trajectory_cases()
        if case in cases
    )
    return f'{json.dumps(head, indent=0)[:-2]},\n"cases": {{\n{body}\n}}\n}}\n'


def _render_leaves(leaves: _Leaves) -> str:
    lines = []
    for leaf, array in leaves.items():
        steps = [_render_array(step) for step in _as_real(array)]
        between = ", " if array.ndim == 1 else ",\n"
        key = json.dumps(f"{leaf} {_type(array)}", ensure_ascii=False)
        lines.append(f"{key}: [{between.join(steps)}]")
    return ",\n".join(lines)


def _render_array(array: Any) -> str:
    if array.ndim:
        return f"[{', '.join(map(_render_array, array))}]"
    text = _text(array)
    return text if np.isfinite(float(array)) else f'"{text}"'


def _as_real(array: np.ndarray) -> np.ndarray:
    """Returns complex entries as pairs, the last axis."""
    if not np.iscomplexobj(array):
        return array
    return np.stack([np.real(array), np.imag(array)], axis=-1)


def _text(number: Any) -> str:
    """Returns the shortest decimals that give the same number of its dtype."""
    if np.iscomplexobj(number):
        return (
            f"{_text(number.real)}{'' if number.imag < 0 else '+'}{_text(number.imag)}j"
        )
    if not jnp.issubdtype(number.dtype, jnp.inexact):
        return str(int(number))
    if not np.isfinite(number):
        return str(float(number))
    kind = number.dtype.type
    with np.errstate(over="ignore"):
        texts = (f"{float(number):.{digits}g}" for digits in range(1, 18))
        return next(text for text in texts if kind(float(text)) == number)


def _read(path: Path) -> _File:
    text = path.read_text("utf-8")
    try:
        content = json.loads(text)
    except ValueError as error:
        msg = (
            f"{path} is damaged ({error}). Restore it, or delete it and record it "
            "again."
        )
        raise ValueError(msg) from error
    if not isinstance(content, dict) or "format" not in content:
        msg = f"{path} is not a golden file: it has no format. Name another path."
        raise ValueError(msg)
    if content["format"] != FORMAT:
        msg = (
            f"{path} has format {content['format']}, and this version of optimizers "
            f"reads format {FORMAT}: install the other, or record it again."
        )
        raise ValueError(msg)
    try:
        cases = {
            case: dict(_parse_leaf(key, steps) for key, steps in leaves.items())
            for case, leaves in content["cases"].items()
        }
        versions = content["recorded_with"].items()
        words = ", ".join(f"{name} {version}" for name, version in versions)
        return _File(content["optimizer"], words, cases)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{path} is damaged ({type(error).__name__}: {error}). Restore it, or "
            "delete it and record it again."
        )
        raise ValueError(msg) from error


def _parse_leaf(key: str, steps: Any) -> tuple[str, np.ndarray]:
    leaf, kind = key.rsplit(" ", 1)
    dtype, _, shape = kind.rstrip("]").partition("[")
    sizes = [int(size) for size in shape.split(",") if size]
    is_complex = dtype.startswith("complex")
    numbers = np.array(steps, np.int64 if "int" in dtype else np.float64)
    numbers = numbers.reshape(len(steps), *sizes, *[2] * is_complex)
    if is_complex:
        numbers = numbers[..., 0] + 1j * numbers[..., 1]
    return leaf, numbers.astype(jnp.dtype(dtype))
