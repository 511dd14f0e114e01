"""Images of an index on a page: a thumbnail, a number and a name each."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from kinshot.datasets.survey import shown
from kinshot.studies.report.markup import Html, fill, joined, named
from kinshot.studies.report.words import printable


def plain(path: str) -> str:
    """A file's name as any page and any terminal can show it."""
    return printable(shown(path))


def tile(picture: bytes, path: str, number: str = "", *, bar: float | None = None, note: str = "", asked: bool = False) -> Html:
    """One image as an item of a list.

    Args:
        picture: a JPEG file; nothing where none is kept.
        path: the file.
        number: what stands largest below it.
        bar: a share from 0 to 1 that is drawn.
        note: a few more words.
        asked: whether it is what was asked for, which is framed.
    """
    name = plain(path)
    if picture:
        uri = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
        drawn = fill('<img src="$uri" alt="$alt" width="126" height="126">', uri=uri, alt=f"{name} {number}".strip())
    else:
        drawn = fill('<span class="none">no thumbnail</span>')
    share = "" if bar is None else fill('<span class="bar"><i style="width:$share%"></i></span>', share=f"{100 * min(max(bar, 0), 1):.1f}")
    bold = fill("<b>$number</b>", number=number) if number else ""
    more = fill("<span> · $note</span>", note=note) if note else ""
    kind = Html(' class="asked"') if asked else Html("")
    return fill("<li$kind>$drawn$share$bold$name$more</li>", kind=kind, drawn=drawn, share=share, bold=bold, name=named(name), more=more)


def tiles(items: Iterable[Html]) -> Html:
    """Images side by side."""
    return fill('<ul class="found">$items</ul>', items=joined(items))


def figures(numbers: Iterable[tuple[str, str]]) -> Html:
    """The most important numbers of a page, with what each is."""
    every = joined(fill("<li><b>$number</b><span>$told</span></li>", number=number, told=told) for number, told in numbers)
    return fill('<ul class="tiles">$every</ul>', every=every)
