"""Imports what the user names as `MODULE:FUNCTION` or `path/to/FILE.py:FUNCTION`."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from benchmarks.errors import UserError, in_words


def name_of(spec: str) -> str:
    """The name of the module in a spec; for a file, its name without `.py`."""
    place = spec.rpartition(":")[0]
    return Path(place).stem if place.endswith(".py") else place


def load(spec: str) -> ModuleType:
    """The module in a spec.

    Raises:
      UserError: There is no such module or file, or importing it fails.
    """
    place, name = spec.rpartition(":")[0], name_of(spec)
    path = Path(place).resolve() if place.endswith(".py") else None
    if path is not None:
        if not path.is_file():
            msg = f"{spec!r}: there is no file {str(path)!r}."
            raise UserError(msg)
        # As for a script, so that the file can import its neighbours.
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a module may fail in any way
        # A parent or the module itself is missing, not something that it imports.
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(
            f"{error.name}."
        ):
            msg = (
                f"{spec!r}: no module {error.name!r} in the current folder or "
                "installed; run from the folder that holds it, or name its file as "
                "path/to/FILE.py:FUNCTION."
            )
            raise UserError(msg) from None
        msg = f"{spec!r}: importing {name!r} fails with {in_words(error)}."
        raise UserError(msg) from error
    found = getattr(module, "__file__", None)
    if path is not None and (found is None or Path(found).resolve() != path):
        msg = (
            f"{spec!r}: a module {name!r} exists already, at {found}; rename the file."
        )
        raise UserError(msg)
    return module
