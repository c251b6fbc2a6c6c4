"""Files that are whole or absent, and a folder that one process writes at a time."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file atomically: writes a temporary file beside it and renames that.

    A process that is killed meanwhile leaves the old file, and a hidden one that the
    next `sweep` removes.

    Raises:
      UserError: The file cannot be written; no temporary file is left behind.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if error.errno in _FULL:
            msg = (
                f"the disk is full, {path} cannot be written: free some space and run "
                "the same command again; finished runs are kept."
            )
        else:
            msg = f"{path} cannot be written: {error.strerror or error}."
        raise UserError(msg) from error


def write_text(path: Path, text: str) -> None:
    """Replaces a text file atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file atomically.

    Raises:
      UserError: The file cannot be written.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=True)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: The file is damaged.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def sweep(folder: Path) -> None:
    """Removes the half-written files that killed processes left below `folder`."""
    for file in folder.rglob(".*.tmp"):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Creates the folder if needed, and locks it against other processes.

    The lock is released when the process ends, also when it is killed.

    Raises:
      UserError: Another process holds it, or the folder cannot be made.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror or error}."
        raise UserError(msg) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        msg = (
            f"another run is writing to {folder}: wait for it to end, or choose "
            "another folder with --out."
        )
        raise UserError(msg) from error
    try:
        yield
    finally:
        os.close(descriptor)
