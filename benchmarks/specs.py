"""Optimizers by name: what a spec typed by the user stands for.

A spec is `NAME` (an alias of this library), `optax.NAME`, `optax.contrib.NAME` or
`MODULE:FACTORY` (any module that Python can import, the current folder included),
each optionally followed by keyword arguments that are Python literals:
`amsgrad(variant="paper")`.
"""

import ast
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import optax

import optimizers
from benchmarks.errors import UserError

Factory = Callable[..., Any]

_LIST = "List them with: python -m benchmarks list optimizers"


def alias_names() -> tuple[str, ...]:
    """The public functions that take a learning rate first, primitives left out."""
    return tuple(
        name
        for name in sorted(optimizers.__all__)
        if inspect.isfunction(factory := getattr(optimizers, name))
        and not name.startswith("scale_by_")
        and next(iter(inspect.signature(factory).parameters), "") == "learning_rate"
    )


def suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean …?` with the known words closest to a mistyped one, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=2)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """The target of a spec and its keyword arguments.

    Raises:
      UserError: The spec does not follow the grammar.
    """
    target, bracket, rest = spec.partition("(")
    target = target.strip()
    dotted = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    if not re.fullmatch(rf"{dotted}(:{dotted})?", target):
        msg = (
            f"cannot read the optimizer {spec!r}: write NAME, optax.NAME or "
            "MODULE:FACTORY, with (key=value, ...) after it if needed."
        )
        raise UserError(msg)
    if not bracket:
        return target, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
    except (SyntaxError, ValueError):
        call = None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.args
        or any(k.arg is None for k in call.keywords)
    ):
        msg = (
            f"cannot read the arguments of {spec!r}: write key=value pairs in one "
            "pair of brackets, and quote the whole for the shell."
        )
        raise UserError(msg)
    arguments = {}
    for keyword in call.keywords:
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            value = ast.unparse(keyword.value)
            msg = (
                f"{spec!r}: {keyword.arg}={value} is not a plain value: write a "
                "number, a quoted string, True, False, None, a tuple, list or dict."
            )
            raise UserError(msg) from None
    return target, arguments


def find(target: str) -> tuple[Factory, str]:
    """The factory of a target, and the name of the module that is its source.

    Raises:
      UserError: There is no such module or factory, or it is not callable.
    """
    module_name, colon, attribute = target.partition(":")
    if colon:
        found = _attribute(_import(module_name, target), attribute, target)
        return found, module_name
    if "." not in target:
        names = alias_names()
        if target not in names:
            optax_names = [f"optax.{n}" for n in _public(optax)]
            optax_names += [f"optax.contrib.{n}" for n in _public(optax.contrib)]
            exact = [n for n in optax_names if n.rpartition(".")[2] == target][:1]
            hint = suggest(target, names) or suggest(exact[0] if exact else "", exact)
            msg = f"unknown optimizer {target!r}.{hint} {_LIST}"
            raise UserError(msg)
        found = getattr(optimizers, target)
        return found, found.__module__
    package, _, attribute = target.rpartition(".")
    if package not in ("optax", "optax.contrib"):
        msg = (
            f"unknown optimizer {target!r}: for a factory of your own write "
            f"{package}:{attribute}."
        )
        raise UserError(msg)
    found = _attribute(importlib.import_module(package), attribute, target)
    return found, getattr(found, "__module__", package)


def _import(module_name: str, target: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A parent or the module itself is missing, not something that it imports.
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            msg = (
                f"{target!r}: no module {error.name!r} in the current folder or "
                "installed; run from the folder that holds it."
            )
            raise UserError(msg) from None
        raise _import_failed(target, error) from error
    except Exception as error:  # a module may fail in any way
        raise _import_failed(target, error) from error


def _import_failed(target: str, error: Exception) -> UserError:
    module_name = target.partition(":")[0]
    return UserError(
        f"{target!r}: importing {module_name!r} fails with "
        f"{in_words(error)}; mend it or name another module."
    )


def _attribute(owner: Any, path: str, target: str) -> Factory:
    for name in path.split("."):
        if not hasattr(owner, name):
            where = getattr(owner, "__name__", repr(owner))
            hint = suggest(name, _public(owner))
            msg = f"{target!r}: {where!r} has no {name!r}.{hint or f' {_LIST}'}"
            raise UserError(msg)
        owner = getattr(owner, name)
    if not callable(owner):
        kind = type(owner).__name__
        msg = (
            f"{target!r} is of type {kind}, not a function: name a function that "
            "takes a learning rate and returns an optax transformation."
        )
        raise UserError(msg)
    return owner


def _public(owner: Any) -> list[str]:
    return [
        name
        for name in dir(owner)
        if not name.startswith("_") and callable(getattr(owner, name, None))
    ]


def in_words(error: Exception) -> str:
    """An exception as `Type: first line of its message`."""
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line.rstrip('.')}".removesuffix(": ")
