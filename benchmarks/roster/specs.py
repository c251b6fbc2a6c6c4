"""Optimizers by name: what a spec typed by the user stands for.

A spec is `NAME` (an alias of this library), `optax.NAME`, `optax.contrib.NAME`,
`MODULE:FUNCTION` (any module that Python can import, the current folder included) or
`path/to/FILE.py:FUNCTION`, each optionally followed by keyword arguments that are
Python literals: `amsgrad(variant="paper")`. One argument of a run may be tuned beside
the learning rate: `adam(b1={0.8, 0.9})`. Wrappers and gradient transformations take an
optimizer, which is a spec itself, as their first argument: `sam(adam, rho=0.1)`.
"""

import ast
import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax.typing import ArrayLike

import optimizers
from benchmarks import modules
from benchmarks.errors import UserError, suggest
from optimizers import catalog
from optimizers.catalog import Kind

Factory = Callable[..., Any]
# A number, a traced scalar, or a schedule of the step count.
LearningRate = ArrayLike | Callable[[ArrayLike], ArrayLike]
Make = Callable[[LearningRate], optax.GradientTransformationExtraArgs]

_LIST = "List them with: python -m benchmarks list optimizers"
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_FILE = r"[^\s(){},:=][^(){},:=]*\.py"
_TARGET = rf"(?:(?:{_FILE}|{_NAME}):)?{_NAME}"
# Python knows no `MODULE:FUNCTION`; inside brackets it is read as attributes, of a name
# that holds the module or file in hex.
_PLACE = "_PLACE_"


class Spec(NamedTuple):
    """A spec taken apart.

    Attributes:
      target: What is to be called.
      base: The spec of the optimizer that it goes around or in front of, or None.
      arguments: Its keyword arguments.
    """

    target: str
    base: str | None
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """An optimizer with an argument that is tuned beside the learning rate.

    Attributes:
      name: The spec as the user wrote it, such as `adam(b1={0.8, 0.9})`.
      argument: Name of the argument.
      variants: By value, as written, the spec with that value.
    """

    name: str
    argument: str
    variants: dict[str, str]


def alias_names() -> tuple[str, ...]:
    """The names of the public optimizers."""
    return tuple(catalog.functions(optimizers, Kind.OPTIMIZER))


def around_names() -> tuple[str, ...]:
    """The names of the public wrappers and gradient transformations."""
    found = catalog.functions(optimizers, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION)
    return tuple(found)


def parse(spec: str) -> Spec:
    """The target of a spec, the optimizer inside, and its keyword arguments.

    Raises:
      UserError: The spec does not follow the grammar.
    """
    target, bracket, rest = spec.partition("(")
    target = target.strip()
    if re.fullmatch(_FILE, target):
        msg = f"{spec!r} names a file: name its function as well, {target}:FUNCTION."
        raise UserError(msg)
    if not re.fullmatch(_TARGET, target):
        msg = (
            f"cannot read the optimizer {spec!r}: write NAME, optax.NAME, "
            "MODULE:FUNCTION or path/to/FILE.py:FUNCTION, with (key=value, ...) after "
            "it if needed."
        )
        raise UserError(msg)
    if not bracket:
        return Spec(target, None, {})
    opening = rf"^((?:\s*{_TARGET}\s*\()*\s*)({_FILE}|{_NAME}):(?={_NAME})"
    while (replaced := re.sub(opening, _hidden, rest)) != rest:
        rest = replaced
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
    except (SyntaxError, ValueError):
        call = None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or len(call.args) > 1
        or not all(isinstance(_callee(a), ast.Name | ast.Attribute) for a in call.args)
        or any(k.arg is None for k in call.keywords)
    ):
        msg = (
            f"cannot read the arguments of {spec!r}: write key=value pairs in "
            "brackets, after the optimizer inside if there is one, and put quotes "
            "around the whole for the shell."
        )
        raise UserError(msg)
    arguments = {}
    for keyword in call.keywords:
        if isinstance(keyword.value, ast.Set):
            msg = (
                f"{spec!r}: only `plan` and `run` take a set of values; write "
                f"{keyword.arg}=VALUE."
            )
            raise UserError(msg)
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            value = ast.unparse(keyword.value)
            msg = (
                f"{spec!r}: {keyword.arg}={value} is not a plain value: write a "
                "number, a quoted string, True, False, None, a tuple, list or dict."
            )
            raise UserError(msg) from None
    inside = [
        re.sub(rf"{_PLACE}([0-9a-f]+)\.", _shown, ast.unparse(a)) for a in call.args
    ]
    return Spec(target, inside[0] if inside else None, arguments)


def sweep(spec: str) -> Sweep | None:
    """The variants of a spec with a set of values, `{…}`; None without one.

    Raises:
      UserError: The set cannot be read, has fewer than two values or one value twice,
        or is not the only one.
    """
    spec = spec.strip()
    # Braces with a colon are a dict, which is a plain value.
    found = list(re.finditer(r"(\w+)\s*=\s*(\{[^{}:]*[^{}:\s][^{}:]*\})", spec))
    if not found:
        return None
    if len(found) > 1:
        msg = (
            f"{spec!r}: {found[0][1]} and {found[1][1]} both have a set of values: "
            "tune only one argument beside the learning rate."
        )
        raise UserError(msg)
    ((argument, text),) = (match.groups() for match in found)
    try:
        body = ast.parse(text, mode="eval").body
        values = (
            [ast.unparse(v) for v in body.elts] if isinstance(body, ast.Set) else []
        )
        plain = [ast.literal_eval(value) for value in values]
    except (SyntaxError, ValueError):
        msg = (
            f"cannot read the values {argument}={text} in {spec!r}: write plain values "
            "with commas between them, as in b1={0.8, 0.9}."
        )
        raise UserError(msg) from None
    if len(values) < 2 or any(plain.count(value) > 1 for value in plain):
        msg = f"{spec!r}: {argument}={text} needs at least two values, all different."
        raise UserError(msg)
    before, after = spec[: found[0].start(2)], spec[found[0].end(2) :]
    return Sweep(spec, argument, {value: before + value + after for value in values})


def _hidden(match: re.Match[str]) -> str:
    return f"{match[1]}{_PLACE}{match[2].encode().hex()}."


def _shown(match: re.Match[str]) -> str:
    return f"{bytes.fromhex(match[1]).decode()}:"


def _callee(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def find(target: str, *, around: bool = False) -> tuple[Factory, str]:
    """The factory of a target, and the name of the module that is its source.

    With `around`, one of those that go around an optimizer or in front of it.

    Raises:
      UserError: There is no such module or factory, or it is not callable.
    """
    _, colon, attribute = target.partition(":")
    if colon:
        module = modules.load(target)
        return _attribute(module, attribute, target), module.__name__
    if "." not in target:
        names = around_names() if around else alias_names()
        if target in around_names() and not around:
            needed = catalog.required_arguments(getattr(optimizers, target))
            call = ", ".join(["adam", *(f"{key}=VALUE" for key in needed)])
            msg = f"{target!r} is not an optimizer by itself: write {target}({call})."
            raise UserError(msg)
        if around and target in alias_names():
            msg = (
                f"{target!r} is an optimizer and takes no optimizer inside: write "
                "all its arguments as key=value."
            )
            raise UserError(msg)
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
