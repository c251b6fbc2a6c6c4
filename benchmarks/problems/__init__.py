"""One file = one problem, found by its name."""

import difflib
import functools
import importlib
import pkgutil

from benchmarks.errors import UserError
from benchmarks.problem import Problem


def problem_names() -> tuple[str, ...]:
    """Names of all problems: the modules of `benchmarks/problems`, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


@functools.cache
def load_problem(name: str) -> Problem:
    """The problem of that name, with its data loaded.

    Raises:
      UserError: No file of `benchmarks/problems` has that name.
    """
    if name not in problem_names():
        close = difflib.get_close_matches(name, problem_names(), n=2)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        msg = (
            f"unknown problem {name!r}.{hint} "
            "List all with: python -m benchmarks list problems"
        )
        raise UserError(msg)
    return importlib.import_module(f"benchmarks.problems.{name}").problem()
