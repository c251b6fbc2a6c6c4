"""Hashes the source of modules together with the local modules that they import."""

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path


def source_hash(*module_names: str) -> str:
    """SHA-256, in hex, of the source of imported modules.

    A module outside the installed packages is hashed together with all modules outside
    them that it imports, directly or indirectly. An installed module is hashed alone,
    because the version of its package identifies the rest. A module without a Python
    source file is represented by its name.
    """
    found = {name: b"" for name in module_names if _file(name) is None}
    waiting = [name for name in module_names if name not in found]
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
    """Names of everything that a module imports; some may not be modules."""
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
