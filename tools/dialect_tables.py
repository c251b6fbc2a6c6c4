"""The tables of docs/migrating.md, from tools/dialects.json."""

from typing import Any

from tools import dialects


def render() -> str:
    """A list of links, then a section with a table for each package."""
    packages = dialects.data()["packages"]
    links = " ·\n".join(f"[{p['title']}](#{_anchor(p['title'])})" for p in packages)
    return f"{links}\n\n{''.join(map(_section, packages))}"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _section(package: dict[str, Any]) -> str:
    name, title = package["package"], package["title"]
    version = f"{name} {package['version']}"
    about = f"{version}. {package['about']}".strip()
    rows = [row for row in dialects.rows() if row["package"] == name]
    header = f"| {title} | here | what differs |\n|---|---|---|\n"
    return f"## {title}\n\n{about}\n\n{header}{''.join(map(_row, rows))}\n"


def _row(row: dict[str, Any]) -> str:
    given = "".join(f", {key}={_python(x)}" for key, x in row["arguments"].items())
    name = row["class"].rpartition(".")[2]
    here = f"`{row['call']}`" if row["call"] else "none"
    return f"| `{name}(lr{given})` | {here} | {_difference(row)} |\n"


def _python(value: Any) -> str:
    return repr(tuple(value)) if isinstance(value, list) else repr(value)


def _difference(row: dict[str, Any]) -> str:
    """The note, and the error of the call that a reader would expect."""
    parts = [row["note"]] if "note" in row else []
    if "guess" in row:
        error = dialects.error(row["guess"], row)
        guess = row["guess"].replace("optimizers.", "")
        parts.append(f"`{guess}` is off by {error:.1e}.")
    return " ".join(parts)
