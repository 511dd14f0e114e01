"""What is dropped on a page, as the system does it."""

from __future__ import annotations

from pathlib import Path

COUNT_HITS = """
window.hits ??= (addEventListener('drop', (event) => { window.hits += Boolean(event.target.closest?.('[data-zone]')) }, true), 0)
"""


def drop(page, place: dict[str, float], *files: Path) -> None:
    """Files or folders dropped somewhere, as the system does it; again where the page moved away under the hand, which a person sees."""
    session, before = page.context.new_cdp_session(page), page.evaluate(COUNT_HITS)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for _ in range(5):
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
        for _ in range(40):
            if page.evaluate("window.hits") > before:
                return
            page.wait_for_timeout(50)


def where(page, selector: str) -> dict[str, float]:
    """The upper middle of an element."""
    box = page.locator(selector).first.bounding_box()
    return {"x": box["x"] + box["width"] / 2, "y": box["y"] + 8}
