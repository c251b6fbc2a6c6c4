"""The first steps at which two runs differ, as lines of an error message."""

from typing import NamedTuple

import jax
import numpy as np

from optimizers.testing._compare import as_wide
from optimizers.testing._inputs import Tree

__tracebackhide__ = True  # pytest shows the message alone

_SHOWN = 5  # leaves in a message


class Difference(NamedTuple):
    """The step of a difference, counted from 1, and a line that shows it."""

    step: int
    line: str


def differences(
    actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float
) -> list[Difference]:
    """Returns, for each named leaf that differs, the first step at which it does.

    An error is relative to the largest absolute value that the expected entry has had
    so far: a difference of large numbers has their rounding errors. NaN differs from
    everything.
    """
    found = []
    for name, leaf in actual.items():
        a, e = as_wide(leaf), as_wide(expected[name])
        if a.shape[1:] != e.shape[1:]:
            msg = f"{name} has shape {a.shape[1:]}, expected {e.shape[1:]}."
            raise AssertionError(msg)
        scale = np.maximum.accumulate(np.abs(e), axis=0)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.abs(a - e)
            wrong = (a != e) & ~(error <= rtol * scale)
            relative = np.where(wrong, error / scale, -1.0)
        if wrong.any():
            step = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
            # The entry with the largest error in this step; NaN counts as largest.
            index = np.unravel_index(np.argmax(relative[step]), relative[step].shape)
            entry = f"{name}{[int(i) for i in index] if index else ''}"
            line = (
                f"step {step + 1}: {entry} is {a[step][index]:.15g}, expected "
                f"{e[step][index]:.15g}, relative error {relative[step][index]:.2g}"
            )
            found.append(Difference(step + 1, line))
    return found


def raise_for(found: list[Difference], headline: str, hint: str = "") -> None:
    """Raises an `AssertionError` with the earliest differences, if there are any."""
    if found:
        ordered = sorted(found, key=lambda difference: difference.step)
        lines = [f"  {difference.line}" for difference in ordered[:_SHOWN]]
        if len(ordered) > _SHOWN:
            lines.append(f"  and {len(ordered) - _SHOWN} more, none of them earlier")
        raise AssertionError("\n".join([headline, *lines, *([hint] if hint else [])]))


def named(what: str, tree: Tree) -> dict[str, np.ndarray]:
    """Returns the leaves by name, such as `params['bias']`."""
    return {
        f"{what}{jax.tree_util.keystr(path)}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
