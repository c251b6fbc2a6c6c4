"""Hashes the source that a function reaches, in its module and in others."""

import ast
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# A place in the source: a module, and a name in it or one of these two.
_WHOLE = "*"
_IMPORTED = ""  # what importing the module executes
# Code that uses one of these may reach anything in its module.
_DYNAMIC = {"globals", "locals", "vars", "eval", "exec", "__import__", "importlib"}
_DYNAMIC |= {"sys", "inspect"}
_MAIN = "__name__ == '__main__'"
_PURE_CALLS = {"partial", "functools.partial"}
_PURE_BASES = {"NamedTuple", "typing.NamedTuple", "object"}


class _Module(NamedTuple):
    """The statements of a module by kind.

    Attributes:
      tree: All of them.
      lines: Its source.
      eager: Statements with effects when the module is imported.
      lazy: By name, statements that only bind names, without effects.
    """

    tree: ast.Module
    lines: list[bytes]
    eager: list[ast.stmt]
    lazy: dict[str, list[ast.stmt]]


def source_hash(*module_names: str) -> str:
    """SHA-256, in hex, of the source of imported modules.

    A module outside the installed packages is hashed together with all modules outside
    them that it imports, directly or indirectly. An installed module is hashed alone,
    because the version of its package identifies the rest. A module without a Python
    source file is represented by its name.
    """
    return _hash([(name, _WHOLE) for name in module_names])


def reached_hash(module_name: str, name: str) -> str:
    """SHA-256, in hex, of the source that a function of an imported module reaches.

    Like `source_hash`, but of each module outside the installed packages only the
    functions, classes and constants that `name` uses, directly or indirectly, and the
    statements that do something when the module is imported. So a change of one
    function leaves the hash of its neighbors as it is. Where the source does not show
    what is used, as with `globals`, the whole module counts.
    """
    return _hash([(module_name, name)])


def _hash(start: list[tuple[str, str]]) -> str:
    texts: dict[str, dict[tuple[int, int], bytes]] = {name: {} for name, _ in start}
    seen: set[tuple[str, str]] = set()
    waiting = list(start)
    while waiting:
        place = waiting.pop()
        name, _ = place
        path = _file(name)
        if place in seen or path is None:
            continue
        seen.add(place)
        if _installed(path):
            texts.setdefault(name, {})[0, 0] = path.read_bytes()
            continue
        for part, text, reached in _parts(path, place):
            texts.setdefault(name, {})[part] = text
            waiting += [p for p in reached if (f := _file(p[0])) and not _installed(f)]
    digest = hashlib.sha256()
    for name, parts in sorted(texts.items()):
        text = b"".join(text for _, text in sorted(parts.items()))
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def _parts(
    path: Path, place: tuple[str, str]
) -> Iterator[tuple[tuple[int, int], bytes, list[tuple[str, str]]]]:
    """The parts of the source at a place: lines, text, and places that they reach."""
    module_name, name = place
    source = path.read_bytes()
    module = _sort(source)
    if name == _WHOLE:
        others = [(other, _WHOLE) for other in _imports(module_name, module.tree)]
        yield (0, len(module.lines)), source, others
        return
    if name == _IMPORTED:
        chosen = module.eager
        imports = [
            s for s in module.tree.body if isinstance(s, ast.Import | ast.ImportFrom)
        ]
        whole = any(s.names[0].name == "*" for s in imports)
        effects = [
            (other, _WHOLE if whole else _IMPORTED)
            for s in imports
            for other in _imports(module_name, s)
        ]
        yield (0, 0), b"", effects
    else:
        chosen = module.lazy.get(name, [])
        yield (0, 0), b"", [(module_name, _IMPORTED if chosen else _WHOLE)]
    for statement in chosen:
        first = min(
            [statement.lineno]
            + [d.lineno for d in getattr(statement, "decorator_list", [])]
        )
        last = statement.end_lineno or first
        text = b"".join(module.lines[first - 1 : last])
        yield (first, last), text, _reached(module_name, statement, name, module)


def _reached(
    module_name: str, statement: ast.stmt, name: str, module: _Module
) -> list[tuple[str, str]]:
    """The places that a statement reaches, or that it imports under a name."""
    if isinstance(statement, ast.Import):
        return [
            (other, _WHOLE)
            for other in _imports(module_name, statement)
            if other.split(".")[0] == name
            or any(a.asname == name and a.name == other for a in statement.names)
        ]
    if isinstance(statement, ast.ImportFrom):
        base = _base(module_name, statement)
        original = next(a.name for a in statement.names if name == (a.asname or a.name))
        inside = f"{base}.{original}"
        return [(inside, _WHOLE) if _file(inside) else (base, original)]
    used = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
    if used & _DYNAMIC:
        return [(module_name, _WHOLE)]
    places = [(module_name, other) for other in used if other in module.lazy]
    return places + [(other, _WHOLE) for other in _imports(module_name, statement)]


@functools.lru_cache(maxsize=256)
def _sort(source: bytes) -> _Module:
    module = _Module(ast.parse(source), source.splitlines(keepends=True), [], {})
    for statement in module.tree.body:
        for name in (names := _bound_without_effects(statement)) or ():
            module.lazy.setdefault(name, []).append(statement)
        if names is None:
            module.eager.append(statement)
    return module


def _bound_without_effects(statement: ast.stmt) -> list[str] | None:
    """The names that a statement binds; None if it may have other effects."""
    match statement:
        case ast.Expr(ast.Constant()):  # a docstring
            return []
        case ast.Import() | ast.ImportFrom():
            return [a.asname or a.name.split(".")[0] for a in statement.names]
        case ast.If(orelse=[]) if ast.unparse(statement.test) == _MAIN:
            return []
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            pure = not statement.decorator_list and not _calls(statement.args)
            return [statement.name] if pure else None
        case ast.ClassDef():
            fields = [s for s in statement.body if not isinstance(s, ast.FunctionDef)]
            pure = (
                not statement.decorator_list
                and not statement.keywords
                and {ast.unparse(base) for base in statement.bases} <= _PURE_BASES
                and not any(_calls(field) for field in fields)
            )
            return [statement.name] if pure else None
        case ast.Assign(targets=[*targets]):
            pass
        case ast.AnnAssign(target=target):
            targets = [target]
        case _:
            return None
    names = [t.id for t in targets if isinstance(t, ast.Name)]
    return names if len(names) == len(targets) and not _calls(statement) else None


def _calls(node: ast.AST) -> bool:
    """Whether evaluating a node calls something that may have effects."""
    return any(
        isinstance(n, ast.Call) and ast.unparse(n.func) not in _PURE_CALLS
        for n in ast.walk(node)
    )


def _file(module_name: str) -> Path | None:
    file = getattr(sys.modules.get(module_name), "__file__", None)
    path = Path(file).resolve() if file else None
    return path if path and path.suffix == ".py" and path.is_file() else None


@functools.cache
def _installed(path: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(
        path.is_relative_to(Path(paths[key]).resolve())
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def _imports(module_name: str, tree: ast.AST) -> list[str]:
    """Names of everything that some code imports; some may not be modules."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(module_name, node)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _base(module_name: str, node: ast.ImportFrom) -> str:
    """The absolute name of the module that an import takes names from."""
    module = sys.modules[module_name]
    package = module_name if hasattr(module, "__path__") else module.__package__
    dots = "." * node.level + (node.module or "")
    return importlib.util.resolve_name(dots, package or "") if dots else ""
