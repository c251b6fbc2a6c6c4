"""The error for a name that the package does not have."""

import difflib
import importlib

_SUBMODULES = ("catalog", "testing")


def error(name: str, public: list[str]) -> AttributeError:
    """An error that says where the name is, or which names are close to it.

    Args:
      name: The name that does not exist.
      public: The public names of the package.
    """
    message = f"module 'optimizers' has no attribute {name!r}"
    if name.startswith("_"):  # Python and its tools look up many of these
        return AttributeError(message)
    if name in _SUBMODULES:
        return AttributeError(f"{message}: write `import optimizers.{name}`.")
    for module in ("optax", "optax.contrib"):
        if name in vars(importlib.import_module(module)):
            # Classes of states and params belong to the functions of their library.
            advice = (
                ", for the functions of optax"
                if name[0].isupper()
                else ", which works together with the functions of this package"
            )
            return AttributeError(f"{message}: it is {module}.{name}{advice}.")
    advice = "help(optimizers) lists the methods."
    if close := difflib.get_close_matches(name.lower(), public):
        advice = f"did you mean {' or '.join(map(repr, close))}?"
    return AttributeError(f"{message}: {advice}")
