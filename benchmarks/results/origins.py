"""Where the results of two folders come from, compared."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import blocks, paths

# Longer values, such as hashes, say nothing to a reader.
_SHORT = 40


def differences(
    first: Path,
    second: Path,
    pairs: Sequence[tuple[str, str]],
    problems: Sequence[str],
) -> list[str]:
    """What the seed runs of pairs of optimizers depend on and does not agree, in words.

    Args:
      first: The folder of the first optimizer of each pair.
      second: The folder of the second.
      pairs: The pairs.
      problems: Names of problems.
    """
    found: dict[str, None] = {}
    for problem in problems:
        for old, new in pairs:
            before = _ingredients(first, problem, old)
            after = _ingredients(second, problem, new)
            for name in before:
                values = before[name], after.get(name, before[name])
                if name == "optimizer" or values[0] == values[1]:
                    continue
                short = max(map(len, values)) <= _SHORT
                text = f"{name}: {' → '.join(values)}" if short else name
                if name == "optimizer source":
                    text = f"{name} of {new}" if old == new else name
                found[text] = None
    return list(found)


def _ingredients(out: Path, problem: str, optimizer: str) -> dict[str, str]:
    for path in paths.block_paths(out, problem, optimizer):
        if (origin := blocks.read_origin(path)) is not None:
            return origin[1]
    return {}
