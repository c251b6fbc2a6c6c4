"""`optimizers/__init__.py`, from the `__all__` of each `optimizers/_*.py`.

Nothing is imported, so that a package whose names have changed can be repaired.
"""

import ast
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "optimizers"
_HEADER = (
    '"""Optimizers for JAX that read like their papers and keep optax\'s contract."""'
)
_VERSION = "from optimizers._version import __version__ as __version__\n"
_WIDTH = 88


def render(folder: Path = FOLDER) -> str:
    """The imports of all public names, then `__all__`, as ruff formats them.

    Raises:
      ValueError: A module has no literal `__all__`, or two have a name in common.
    """
    owners: dict[str, str] = {}
    imports = []
    for path in sorted(folder.glob("_[!_]*.py"), key=lambda path: path.stem):
        if path.stem == "_version":
            imports.append(_VERSION)
            continue
        names = _public_names(path)
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
    return f"{_HEADER}\n\n{''.join(imports)}\n__all__ = [\n{listed}]\n"


def _public_names(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(), str(path)).body:
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
