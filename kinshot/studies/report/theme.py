"""How figures look: colours for a light and a dark page, a canvas without global state, and bytes of a PNG."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

DPI = 200


@dataclass(frozen=True)
class Theme:
    """Colours of a page.

    Args:
        name: light or dark.
        paper: behind the figure.
        ink: text and axes.
        faint: references and marks that must not shout.
        grid: lines behind the data.
        series: colours of heads, told apart with the usual colour deficiencies too; they come with different markers.
        ramp: name of the colour map of shares from 0 to 1, beginning near the paper.
        wrong: confusions and gaps.
    """

    name: str
    paper: str
    ink: str
    faint: str
    grid: str
    series: tuple[str, ...]
    ramp: tuple[str, ...]
    wrong: str


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1f2933",
    faint="#7b8794",
    grid="#e4e7eb",
    series=("#0b6aa8", "#d9660a", "#12805c", "#b0308f", "#8a6d00", "#5b4bc4", "#b3261e", "#3d7d8c"),
    ramp=("#ffffff", "#cfe3f1", "#7fb6da", "#0b6aa8", "#06324f"),
    wrong="#b3261e",
)
DARK = Theme(
    name="dark",
    paper="#1a2028",
    ink="#e6eaef",
    faint="#93a0ae",
    grid="#303a46",
    series=("#5cb3ee", "#ffa057", "#4fd1a5", "#ee86d3", "#e0c34c", "#a99cff", "#ff8a80", "#7cc7d6"),
    ramp=("#1a2028", "#1d4460", "#2a78aa", "#6cc0f5", "#e3f4ff"),
    wrong="#ff8a80",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")


def canvas(theme: Theme, width: float, height: float) -> Figure:
    """An empty figure, sizes in inches, that belongs to nobody but the caller."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=theme.paper)


def dress(axes: Axes, theme: Theme, *, grid: str | None = "y") -> None:
    """Colours of axes, ticks and grid; the frame's upper and right sides go. `grid` is x, y or none."""
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.ink, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)
    if grid in ("x", "y"):
        axes.grid(True, axis=grid, color=theme.grid, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color(theme.ink)


def legend(figure_or_axes: Any, handles: list[Any], labels: list[str], theme: Theme, **more: Any) -> None:
    """A legend without a frame. Labels are given here, as matplotlib would leave out artists whose own begin with `_`."""
    found = figure_or_axes.legend(handles, labels, frameon=False, fontsize=9, labelcolor=theme.ink, **more)
    found.set_in_layout(True)


def short(text: str, limit: int = 26) -> str:
    """The text, its middle left out where it is longer than `limit`: the beginning and the end tell names apart."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}\u2026{text[len(text) - (limit - 1 - head) :]}"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure.

    Texts are names that users give: none is read as a formula, and one whose letters the font lacks shows boxes and no warning.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # type: ignore[attr-defined]
    file, agg = io.BytesIO(), FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        agg.print_png(file, metadata={"Software": None})  # savefig would draw everything twice
    return file.getvalue()
