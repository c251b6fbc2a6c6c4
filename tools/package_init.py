"""`optimizers/__init__.py`, from the `__all__` of each `optimizers/_*.py`.

Nothing is imported, so that a package whose names have changed can be repaired.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "optimizers"
_HEADER = """Optimizers for JAX that read like their papers and keep optax's contract.

Optimizers, wrappers and gradient transformations are those of optax::

    optimizer = optimizers.adamw(learning_rate=1e-3)
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)

`help(optimizers.adamw)` gives the equations, the arguments and the paper.
"""
_FOOTER = """
Each optimizer has a part `scale_by_*` without the learning rate, and some wrappers have
a part `*_gradient` to be chained before an optimizer. `optimizers.testing` tests
optimizers, and `optimizers.catalog` lists functions by kind.
"""
# By the first parameter; functions whose docstring begins without a title come last.
_TITLES = {
    "learning_rate": "Optimizers",
    "optimizer": "Wrappers, which take an optimizer",
    "": "Gradient transformations, to be chained with an optimizer",
    None: "Other functions",
}
_GETATTR = """
if not _typing.TYPE_CHECKING:  # type checkers find wrong names themselves

    def __getattr__(name: str) -> _typing.NoReturn:
        raise _error(name, __all__)
"""
_PRIVATE = {
    "_missing": "from optimizers._missing import error as _error\n",
    "_version": "from optimizers._version import __version__ as __version__\n",
}
_WIDTH = 88


def render(folder: Path = FOLDER) -> str:
    """A docstring that lists the functions, the imports of all names, and `__all__`.

    Raises:
      ValueError: A module has no literal `__all__`, or two have a name in common.
    """
    owners: dict[str, str] = {}
    imports = ["import typing as _typing\n\n"]
    sections: dict[str | None, dict[str, str]] = {key: {} for key in _TITLES}
    for path in sorted(folder.glob("_[!_]*.py"), key=lambda path: path.stem):
        if path.stem in _PRIVATE:
            imports.append(_PRIVATE[path.stem])
            continue
        module = ast.parse(path.read_text(), str(path))
        names = _public_names(path, module)
        for function in _functions(module, names):
            section, purpose = _described(function)
            sections[section][function.name] = purpose
        for name in names:
            if name in owners:
                msg = (
                    f"{name!r} is public in both optimizers/{owners[name]} and "
                    f"optimizers/{path.name}: rename one."
                )
                raise ValueError(msg)
            owners[name] = path.name
        imports.append(_import(path.stem, names))
    listed = "".join(f'    "{name}",\n' for name in sorted(owners))
    doc = f"{_HEADER}{''.join(map(_table, _TITLES, sections.values()))}{_FOOTER}"
    return f'"""{doc}"""\n\n{"".join(imports)}\n__all__ = [\n{listed}]\n\n{_GETATTR}'


def _table(key: str | None, purposes: dict[str, str]) -> str:
    """The title of a section and a line for each function; empty without any."""
    if not purposes:
        return ""
    width = max(map(len, purposes))
    lines = (
        textwrap.fill(
            purpose,
            _WIDTH,
            initial_indent=f"  {name:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, purpose in sorted(purposes.items())
    )
    return "\n".join(["", f"{_TITLES[key]}:", "", *lines, ""])


def _functions(module: ast.Module, names: list[str]) -> Iterator[ast.FunctionDef]:
    """The public functions that are no parts of others."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            part = node.name.removeprefix("scale_by_").removesuffix("_gradient")
            if part == node.name:
                yield node


def _described(function: ast.FunctionDef) -> tuple[str | None, str]:
    """The section and the purpose, from the first line of the docstring."""
    first = (ast.get_docstring(function) or "").split("\n")[0].removesuffix(".")
    _, colon, purpose = first.partition(": ")
    if not colon:
        return None, first
    parameters = [*function.args.args, *function.args.kwonlyargs]
    section = parameters[0].arg if parameters else ""
    return section if section in _TITLES else "", purpose[:1].upper() + purpose[1:]


def _public_names(path: Path, module: ast.Module) -> list[str]:
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    msg = f"optimizers/{path.name}: no __all__; list the public names of the module."
    raise ValueError(msg)


def _import(module: str, names: list[str]) -> str:
    start = f"from optimizers.{module} import "
    line = f"{start}{', '.join(names)}\n"
    if len(line) <= _WIDTH + 1:
        return line
    listed = "".join(f"    {name},\n" for name in names)
    return f"{start}(\n{listed})\n"
