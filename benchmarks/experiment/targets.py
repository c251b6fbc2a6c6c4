"""The targets of a problem: five loss levels, from easy to hard."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.problem import Problem, data_hash
from benchmarks.problems import module_name

PATH = Path(__file__).with_name("targets.json")
# Fractions of f(x0) - f*: five target levels instead of a single threshold.
RELATIVE = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclasses.dataclass(frozen=True)
class Targets:
    """The targets of a problem, easiest first.

    Attributes:
      kind: `relative`: fractions of f(x₀) − f*; `absolute`: values of the loss;
        `none` for a problem that is not scored.
      values: The targets; empty for `none`.
    """

    kind: str
    values: tuple[float, ...]


NO_TARGETS = Targets("none", ())


def path_of(problem: Problem) -> Path:
    """The file of a problem's targets; for a problem of your own, beside its module."""
    if not problem.spec:
        return PATH
    module = sys.modules[module_name(problem.spec)]
    return Path(str(module.__file__)).with_suffix(".targets.json")


def targets_of(problem: Problem, path: Path | None = None) -> Targets:
    """The targets of a problem, easiest first.

    Args:
      problem: Any problem.
      path: The file written by `python -m benchmarks calibrate`, by default the one
        at `path_of(problem)`.

    Returns:
      Relative targets if f* is known; else absolute ones, values of `"loss"` from a
      reference run; `NO_TARGETS` for a problem that is not scored.

    Raises:
      UserError: f* is unknown, and the file has no targets for this problem and its
        data.
    """
    if not problem.scored:
        return NO_TARGETS
    if problem.f_star is not None:
        return Targets("relative", RELATIVE)
    entry = read(path or path_of(problem)).get(problem.name)
    name = problem.spec or problem.name
    cure = f"make them with: python -m benchmarks calibrate {name}"
    if entry is None:
        msg = f"problem {problem.name!r} has no targets yet; {cure}"
        raise UserError(msg)
    if entry["data_hash"] != data_hash(problem):
        msg = f"the targets of {problem.name!r} belong to other data; {cure}"
        raise UserError(msg)
    return Targets("absolute", tuple(entry["values"]))


def read(path: Path = PATH) -> dict[str, Any]:
    """The contents of the file of targets, by problem; empty if there is no file.

    Raises:
      UserError: The file is damaged.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        # Check what `targets_of` reads; later versions may add other keys.
        for entry in entries.values():
            _ = entry["data_hash"], [float(value) for value in entry["values"]]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"the file of targets {path} is damaged ({error}); delete it and make it "
            "again with: python -m benchmarks calibrate"
        )
        raise UserError(msg) from error
    return entries


def write(entries: Mapping[str, Any], path: Path = PATH) -> None:
    """Replaces the file of targets atomically."""
    text = json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
