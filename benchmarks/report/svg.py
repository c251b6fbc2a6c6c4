"""Matplotlib figures as SVG that fits any page: light, dark, printed, offline.

Ink that must follow the page (text, axes, the reference's curve) is drawn in one
marker colour, which becomes `currentColor`. Everything else uses mid-tones with a
contrast of at least 3 : 1 on white and on near-black alike.
"""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

_PAGE_STYLE = (
    "<style>svg{color:#1f2328;background:none}"
    "@media (prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
)
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": "none",
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the report's figures, for drawing and rendering."""
    with mpl.rc_context(_STYLE):
        yield


def render(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as inline `<svg>`; equal input gives equal text.

    Args:
      figure: Drawn under `style()`.
      name: Unique on the page; put before every id.
      title: What it shows, read aloud by screen readers.
      description: What can be seen, in a sentence or two, likewise.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids that nothing refers to only bloat the page; the others become unique on it.
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"',
        lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "",
        text,
    )
    text = re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)
    text = text.replace(INK, "currentColor").replace("'DejaVu Sans'", FONTS)
    # Coordinates only: a name on a label may hold a number too.
    text = re.sub(r"<[^>]+>", lambda m: _rounded(m[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    head, body = text.split(">", 1)
    head = re.sub(r' (?:width|height|version)="[^"]*"', "", head)
    label = f"<title>{html.escape(title)}</title>"
    label += f"<desc>{html.escape(description)}</desc>"
    return f'{head} role="img">{label}{body}'.strip()


def _rounded(tag: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", tag)


def standalone(inline: str, width: float, height: float) -> str:
    """The same picture as a file of its own, which knows light and dark itself.

    Width and height are in inches.
    """
    size = f'<svg width="{96 * width:.0f}" height="{96 * height:.0f}"'
    head, body = inline.replace("<svg", size, 1).split(">", 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>{_PAGE_STYLE}{body}\n'
