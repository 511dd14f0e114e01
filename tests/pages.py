"""A page as a parser sees it, and what every page of kinshot's must be."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "source", "br", "link", "input"}


class Outline(HTMLParser):
    """What is in a page: every start tag with its attributes, all text, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def check_page(text: str) -> Outline:
    """A page that is well formed, needs nothing from anywhere, and says in words what its pictures show."""
    outline = Outline(text)
    assert outline.open == []
    kinds = {tag for tag, _ in outline.tags}
    assert not kinds & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert kinds >= {"main", "nav", "h1", "h2", "table", "caption", "thead", "img", "picture", "details"}
    for tag, attributes in outline.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "srcset"):
                assert str(value).startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
            if key == "href":
                assert str(value).startswith("#")
    assert not re.search(r"url\(|@import|https?://", text)
    assert all(image["alt"] and int(str(image["width"])) > 0 for image in outline.named("img"))
    ids = {section["id"] for section in outline.named("section")}
    assert ids == {str(link["href"])[1:] for link in outline.named("a")}
    assert all(cell.get("scope") for cell in outline.named("th"))
    return outline
