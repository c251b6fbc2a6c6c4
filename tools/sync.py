"""Write the generated files again: `python -m tools.sync`, or `make sync`."""

import re
from pathlib import Path

from tools import optimizer_table, public_api

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
API = ROOT / "tests" / "public_api.txt"
BEGIN, END = "<!-- optimizers: make sync -->\n", "<!-- end -->"


def generated() -> dict[Path, str]:
    """What the generated files should hold, by path."""
    readme = re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}{optimizer_table.render()}{END}",
        README.read_text(),
        flags=re.DOTALL,
    )
    return {API: public_api.render(), README: readme}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
