"""The public names as text, for `tests/public_api.txt`.

A change of that file is a change that users see: of a signature, a default, or a
field of a state, on which checkpoints depend.
"""

import enum
import inspect
from types import ModuleType

import optimizers
import optimizers.catalog
import optimizers.testing


def render() -> str:
    """One line for every public name, sorted; states with their fields."""
    modules = (optimizers, optimizers.catalog, optimizers.testing)
    return "".join(
        f"{_describe(module, name)}\n"
        for module in modules
        for name in sorted(module.__all__)
    )


def _describe(module: ModuleType, name: str) -> str:
    thing = getattr(module, name)
    full_name = f"{module.__name__}.{name}"
    if isinstance(thing, enum.EnumType):
        return f"{full_name}: {', '.join(thing.__members__)}"
    if hasattr(thing, "_fields"):
        return f"{full_name}: {', '.join(thing._fields)}"
    if not callable(thing) or _is_exception(thing):
        return full_name
    return f"{full_name}{_without_annotations(inspect.signature(thing))}"


def _is_exception(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def _without_annotations(signature: inspect.Signature) -> inspect.Signature:
    """Names, order and defaults: how a type is spelled depends on versions."""
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
