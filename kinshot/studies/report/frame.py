"""What the pages of all reports are: a head with what must be known first, links to the sections, a list of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinshot.studies.report.markup import Html, fill, joined, section
from kinshot.studies.report.style import FRAME, STYLE

IN_A_FILE = "The numbers behind every picture are in report.json."


def framed(
    kicker: str,
    title: str,
    warned: Html,
    tiles: Html,
    sections: Mapping[str, tuple[str, Html]],
    *,
    footer: str = IN_A_FILE,
    style: str = "",
) -> str:
    """A whole page that needs nothing else.

    Args:
        kicker: what kind of report it is.
        title: what was measured on what.
        warned: what must stand beside every figure, see `warning`.
        tiles: the most important numbers.
        sections: by key, a title and what stands below it.
        footer: the last line.
        style: further rules of how it looks.
    """
    links = joined(fill('<a href="#$key">$title</a>', key=key, title=title) for key, (title, _) in sections.items())
    return fill(
        FRAME,
        kicker=kicker,
        title=title,
        style=Html(STYLE + style),
        warning=warned,
        tiles=tiles,
        links=links,
        sections=joined(section(key, title, body) for key, (title, body) in sections.items()),
        footer=footer,
    )


def warning(text: str) -> Html:
    """What must stand beside every figure, or nothing."""
    text = text.rstrip(".")
    return fill('<p class="warning">$text.</p>', text=text[:1].upper() + text[1:]) if text else Html("")


def facts(rows: Mapping[str, str | Sequence[str]]) -> Html:
    """Labels, each with a text or several; commands and hashes as code."""
    items = []
    for label, said in rows.items():
        lines = [said] if isinstance(said, str) else said
        kind = "<div><code>$line</code></div>" if label in ("Command", "Trained by") or "hash" in label else "<div>$line</div>"
        items.append(fill("<dt>$label</dt><dd>$lines</dd>", label=label, lines=joined(fill(kind, line=line) for line in lines)))
    return fill("<dl>$items</dl>", items=joined(items))
