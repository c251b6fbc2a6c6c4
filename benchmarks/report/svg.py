"""Matplotlib figures as SVG that fits any page: light, dark, printed, offline.

Ink that must follow the page (text, axes, the reference's curve) is drawn in one
marker colour, which becomes `currentColor`. Everything else uses mid-tones with a
contrast of at least 3 : 1 on both white and near-black.
"""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

_PAGE_STYLE = (
    "<style>svg{color:#1f2328;background:none}"
    "@media (prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": "none",
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}


def line_id(name: str) -> str:
    """The id of an optimizer's line, from which the picture gets its name."""
    return f"line-{name.encode().hex()}"


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the report's figures, for drawing and rendering."""
    with mpl.rc_context(_STYLE):
        yield


@dataclass(frozen=True)
class RenderedFigure:
    """One finished figure.

    Attributes:
      name: File stem, unique in a report.
      kind: `convergence`, `sensitivity`, `speedup`, `ecdf`, `front` or `trajectory`.
      title: A short title.
      inline: `<svg>` element for a page.
      width: Inches.
      height: Inches.
    """

    name: str
    kind: str
    title: str
    inline: str
    width: float
    height: float

    def file(self) -> str:
        """The picture as the text of an SVG file that adapts to light and dark."""
        size = f'<svg width="{96 * self.width:.0f}" height="{96 * self.height:.0f}"'
        head, body = self.inline.replace("<svg", size, 1).split(">", 1)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>{_PAGE_STYLE}{body}\n'


def render(
    figure: Figure, kind: str, subject: str, title: str, description: str
) -> RenderedFigure:
    """Renders a figure; equal input gives equal text.

    Args:
      figure: Drawn under `style()`.
      kind: What kind of figure it is.
      subject: The problem it shows, which makes its name unique; may be empty.
      title: A short title, also read aloud by screen readers.
      description: What can be seen, in a sentence or two, for screen readers.
    """
    name = f"{kind}-{subject}" if subject else kind
    width, height = figure.get_size_inches()
    inline = _inline(figure, name, title, description)
    return RenderedFigure(name, kind, title, inline, float(width), float(height))


def _inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element whose ids start with `name`."""
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="line-(\w+)">', r'<g data-line="\1">', text)
    # Drop ids that nothing refers to, and make the others unique on the page.
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"',
        lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "",
        text,
    )
    text = re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)
    text = text.replace(INK, "currentColor").replace("'DejaVu Sans'", FONTS)
    # Coordinates only: labels may contain numbers too.
    text = re.sub(r"<[^>]+>", lambda m: _rounded(m[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    text = re.sub(r'<g data-line="(\w+)">', _named, text)
    head, body = text.split(">", 1)
    head = re.sub(r' (?:width|height|version)="[^"]*"', "", head)
    label = f"<title>{html.escape(title)}</title>"
    label += f"<desc>{html.escape(description)}</desc>"
    return f'{head} role="img">{label}{body}'.strip()


def _named(group: re.Match[str]) -> str:
    """The group of a line, with a name that appears when the pointer is on it."""
    name = html.escape(bytes.fromhex(group[1]).decode())
    return f'<g data-line="{name}"><title>{name}</title>'


def _rounded(tag: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", tag)
