"""HTML by pure functions: whatever is not `Html` already is escaped on its way into the page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from string import Template

from kinshot.studies.report.picture import Picture

_NARROW = 3
"""Up to so many columns fit the window of a phone."""


class Html(str):
    """Text that is HTML already. Only functions of this package make it."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Anything as HTML: itself where it is HTML, else its text with every special character written out."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def fill(template: str, **values: object) -> Html:
    """A template whose `$names` are replaced by values, escaped."""
    return Html(Template(template).substitute({key: escaped(value) for key, value in values.items()}))


def joined(parts: Iterable[object]) -> Html:
    """Parts one after another, escaped."""
    return Html("".join(escaped(part) for part in parts))


def named(text: str) -> Html:
    """A name that a user gave: kept apart from the text around it, whatever direction it is written in."""
    return fill("<bdi>$text</bdi>", text=text)


def section(key: str, title: str, *parts: object) -> Html:
    """A part of the page that the navigation can point to."""
    return fill('<section id="$key"><h2>$title</h2>$parts</section>\n', key=key, title=title, parts=joined(parts))


def paragraph(*parts: object) -> Html:
    """A paragraph."""
    return fill("<p>$parts</p>", parts=joined(parts))


def folded(summary: str, *parts: object) -> Html:
    """Something that opens when it is asked for."""
    return fill("<details><summary>$summary</summary>$parts</details>", summary=summary, parts=joined(parts))


def table(caption: str, head: Sequence[object], rows: Sequence[Sequence[object]], *, texts: int = 1) -> Html:
    """A table: the first `texts` columns hold words, of which the first names the row; the others hold numbers.

    It scrolls by itself where the window is too narrow for it; its first column then stays, and its edges and its caption say so.
    """
    wide = Html(" wide") if len(head) > _NARROW else Html("")
    titles = joined(_cell("th", title, i >= texts, "col") for i, title in enumerate(head))
    body = joined(_row(row, texts) for row in rows)
    return fill(
        '<div class="scroll$wide" role="region" aria-label="$caption" tabindex="0"><table><caption><span>$caption</span></caption>'
        "<thead><tr>$titles</tr></thead><tbody>$body</tbody></table></div>",
        wide=wide, caption=caption, titles=titles, body=body,
    )  # fmt: skip


def _row(cells: Sequence[object], texts: int) -> Html:
    found = joined(_cell("td" if i else "th", cell, i >= texts, "" if i else "row") for i, cell in enumerate(cells))
    return fill("<tr>$cells</tr>", cells=found)


def _cell(tag: str, content: object, number: bool, scope: str) -> Html:
    attributes = Html((' class="number"' if number else "") + (f' scope="{scope}"' if scope else ""))
    return fill(f"<{tag}$attributes>$content</{tag}>", attributes=attributes, content=content)


def illustrated(found: Sequence[Picture], text: Html, beside: Html | str = "") -> Html:
    """Pictures in two columns with a text and a table: beside an odd last picture, else above and below them all.

    Each picture is in the version that suits the reader's light or dark scheme; in a narrow window there is one column.
    """
    each = joined(map(_figure, found))
    if len(found) % 2:
        return fill('<div class="pictures">$each<div>$text$beside</div></div>', each=each, text=text, beside=beside)
    return fill('$text<div class="pictures">$each</div>$beside', each=each, text=text, beside=beside)


def small(found: Sequence[Picture]) -> Html:
    """Pictures side by side, at a fraction of their size."""
    return fill('<div class="pictures small">$each</div>', each=joined(map(_figure, found)))


def _figure(picture: Picture) -> Html:
    width, height = picture.size
    dark = fill('<source media="(prefers-color-scheme: dark)" srcset="$uri">', uri=_png_uri(picture.dark)) if picture.dark else Html("")
    return fill(
        '<figure><figcaption>$title</figcaption><picture>$dark<img src="$uri" alt="$alt" width="$width" height="$height"></picture>'
        "</figure>",
        title=picture.title, dark=dark, uri=_png_uri(picture.light), alt=picture.alt, width=width, height=height,
    )  # fmt: skip


def _png_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
