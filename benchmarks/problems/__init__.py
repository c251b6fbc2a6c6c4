"""The problems: each file defines one, and its name is the name of the problem."""

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
    """The problem with the given name, with its data loaded.

    Raises:
      UserError: `benchmarks/problems` has no file of that name.
      ValueError: The problem's `name` is not the name of its file.
    """
    if name not in problem_names():
        close = difflib.get_close_matches(name, problem_names(), n=2)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        msg = (
            f"unknown problem {name!r}.{hint} "
            "List all with: python -m benchmarks list problems"
        )
        raise UserError(msg)
    problem = importlib.import_module(f"benchmarks.problems.{name}").problem()
    if problem.name != name:
        msg = (
            f"benchmarks/problems/{name}.py: the problem is named {problem.name!r}; "
            f"give it the name of its file, {name!r}."
        )
        raise ValueError(msg)
    return problem
