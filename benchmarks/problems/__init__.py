"""The problems: each file defines one, and its name is the name of the problem.

A problem of your own is named as `MODULE:FUNCTION` or `path/to/FILE.py:FUNCTION`, where
the function takes no arguments and returns a `benchmarks.problem.Problem`.
"""

import dataclasses
import functools
import importlib
import pkgutil
import re
from typing import Any

from benchmarks import modules
from benchmarks.errors import UserError, in_words, suggest
from benchmarks.problem import Problem


def problem_names() -> tuple[str, ...]:
    """Names of all problems: the modules of `benchmarks/problems`, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


@functools.cache
def load_problem(name: str) -> Problem:
    """The problem with the given name or spec, with its data loaded.

    Raises:
      UserError: `benchmarks/problems` has no file of that name, or the spec does not
        lead to a problem.
      ValueError: The problem's `name` is not the name of its file.
    """
    if ":" in name:
        return _own_problem(name)
    if name not in problem_names():
        hint = suggest(name, problem_names())
        if name.endswith(".py"):
            hint = f" To take it from a file, name its function: {name}:FUNCTION."
        msg = (
            f"unknown problem {name!r}.{hint} "
            "List all with: python -m benchmarks list problems"
        )
        raise UserError(msg)
    problem = importlib.import_module(module_name(name)).problem()
    if problem.name != name:
        msg = (
            f"benchmarks/problems/{name}.py: the problem is named {problem.name!r}; "
            f"give it the name of its file, {name!r}."
        )
        raise ValueError(msg)
    return problem


def module_name(name: str) -> str:
    """The module that defines the problem with the given name or spec."""
    return modules.name_of(name) if ":" in name else f"benchmarks.problems.{name}"


def _own_problem(spec: str) -> Problem:
    """A problem that a function of the user makes."""
    module = modules.load(spec)
    function = spec.rpartition(":")[2]
    if not hasattr(module, function):
        known = [n for n, value in vars(module).items() if callable(value)]
        hint = suggest(function, known)
        msg = f"{spec!r}: {module.__name__!r} has no {function!r}.{hint}"
        raise UserError(msg)
    made: Any = getattr(module, function)
    if callable(made):
        try:
            made = made()
        except UserError:
            raise
        except Exception as error:  # a function may fail in any way
            msg = (
                f"{spec!r}: calling it without arguments fails with {in_words(error)}."
            )
            raise UserError(msg) from error
    if not isinstance(made, Problem):
        msg = (
            f"{spec!r} gives an object of type {type(made).__name__}, not a "
            "benchmarks.problem.Problem: name a function that takes no arguments and "
            "returns one."
        )
        raise UserError(msg)
    if not re.fullmatch("[a-z0-9][a-z0-9_]*", made.name):
        msg = (
            f"{spec!r}: the problem is named {made.name!r}; give it a name of "
            "lower-case letters, digits and _, because folders are named after it."
        )
        raise UserError(msg)
    if made.name in problem_names():
        msg = (
            f"{spec!r}: the problem is named {made.name!r}, as one of benchmarks/"
            "problems is; give it another name."
        )
        raise UserError(msg)
    return dataclasses.replace(made, spec=spec)
