"""Compare the numbers of two results folders bitwise.

`python -m tools.same_numbers BEFORE AFTER` reads every seed run in either folder. It
exits with 1 if a file or a numeric column is missing, or if a single bit differs. Use
it after a change that must not change any number: run a suite before and after with
`python -m benchmarks run smoke --out DIR`.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def differences(before: Path, after: Path) -> tuple[list[str], int]:
    """Compares two results folders.

    Returns:
      One line for each file that differs, and the number of values compared.

    Raises:
      ValueError: A folder holds no seed runs.
    """
    files = [_files(before), _files(after)]
    found = [
        f"{name}: only in {(after, before)[name in files[0]]}"
        for name in sorted(files[0].keys() ^ files[1].keys())
    ]
    values = 0
    for name in sorted(files[0].keys() & files[1].keys()):
        old, new = (_numeric_columns(every[name]) for every in files)
        values += sum(column.size for column in old.values())
        changed = [
            column
            for column in sorted(old.keys() | new.keys())
            if column not in old
            or column not in new
            or not _same(old[column], new[column])
        ]
        if changed:
            found.append(f"{name}: {', '.join(changed)}")
    return found, values


def _files(folder: Path) -> dict[str, Path]:
    found = {
        str(path.relative_to(folder)): path
        for path in (folder / "runs").rglob("*.parquet")
    }
    if not found:
        msg = f"{folder} holds no seed runs: name a folder that `run --out` wrote."
        raise ValueError(msg)
    return found


def _numeric_columns(path: Path) -> dict[str, np.ndarray]:
    with pq.ParquetFile(path) as file:
        table = file.read(use_threads=False)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return {n: c for n, c in columns.items() if np.issubdtype(c.dtype, np.number)}


def _same(old: np.ndarray, new: np.ndarray) -> bool:
    """Compares bytes, so that NaN equals NaN and 0 differs from -0."""
    return old.dtype == new.dtype and old.tobytes() == new.tobytes()


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m tools.same_numbers BEFORE AFTER", file=sys.stderr)
        return 2
    try:
        found, values = differences(*map(Path, arguments))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"{len(found)} files differ; {values:,} values compared")
    return bool(found)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
