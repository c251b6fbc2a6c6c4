"""The names of the files in a results folder."""

import hashlib
import re
from pathlib import Path


def slug(name: str) -> str:
    """A file name for an optimizer: readable, and different for different names.

    Names of lower-case letters, digits, `_` and `.` stay as they are. Any other gets
    a `-` and 12 hex digits of its hash, so that names that differ only in case or
    punctuation stay apart, also on file systems that ignore case.
    """
    if re.fullmatch(r"[a-z0-9_][a-z0-9_.]{0,79}", name):
        return name
    readable = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def cell_folder(out: Path, problem: str, optimizer: str) -> Path:
    """The folder of the seed runs of a cell."""
    return out / "runs" / problem / slug(optimizer)


def block_path(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """The file of the results of a seed run."""
    return cell_folder(out, problem, optimizer) / f"seed-{seed:03d}.parquet"


def block_paths(out: Path, problem: str, optimizer: str) -> list[Path]:
    """The files of the stored seed runs of a cell."""
    return sorted(cell_folder(out, problem, optimizer).glob("seed-*.parquet"))


def checkpoint_path(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """The file of the checkpoint of a seed run."""
    return block_path(out, problem, optimizer, seed).with_suffix(".checkpoint.npz")


def cost_path(out: Path, problem: str, optimizer: str) -> Path:
    """The file of the costs of a cell."""
    return cell_folder(out, problem, optimizer) / "cost.json"


def seed_of(path: Path) -> int:
    """The seed of a file of results."""
    return int(path.stem.removeprefix("seed-"))
