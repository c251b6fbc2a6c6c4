"""The hash of a module's source together with the local modules that it imports."""

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path


def source_hash(module_name: str) -> str:
    """SHA-256, in hex, of the source that an imported module is made of.

    An installed module counts alone: the package's version speaks for the rest. A
    module outside the installed packages counts with every module that it imports,
    directly or not, from the same place, because nothing else would tell that one
    of those has changed.
    """
    start = _file(module_name)
    if start is None:
        return hashlib.sha256(module_name.encode()).hexdigest()
    found: dict[str, bytes] = {}
    waiting = [module_name]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path.read_bytes()
        if not _installed(path):
            waiting += [
                other
                for other in _imports(name, found[name])
                if (file := _file(other)) and not _installed(file)
            ]
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name} {len(found[name])}\n".encode() + found[name])
    return digest.hexdigest()


def _file(module_name: str) -> Path | None:
    file = getattr(sys.modules.get(module_name), "__file__", None)
    path = Path(file).resolve() if file else None
    return path if path and path.suffix == ".py" and path.is_file() else None


def _installed(path: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(
        path.is_relative_to(Path(paths[key]).resolve())
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def _imports(module_name: str, source: bytes) -> list[str]:
    """Names, some of them perhaps not modules, of everything that is imported."""
    module = sys.modules[module_name]
    package = module_name if hasattr(module, "__path__") else module.__package__
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(dots, package or "") if dots else ""
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names
