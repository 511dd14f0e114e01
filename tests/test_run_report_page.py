"""What the page of a run calls normal, and how a browser shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinshot.studies.run_report import normal
from kinshot.studies.run_report.content import Content, Curve
from kinshot.studies.run_report.curves import curves_from
from kinshot.studies.run_report.figures import figures_of
from kinshot.studies.run_report.page import TITLES
from tests.browser import BROWSER, needs_browser
from tests.run_reports import clustered, made, write_hostile


def test_collapse_and_divergence_are_flagged_with_what_to_do() -> None:
    wide, narrow = normal.Size(256, 128), normal.Size(256, 8)
    for gauge, verdict in (
        (normal.spread("s", 0.2, 0.95), "normal"),
        (normal.spread("s", 0.2, 0.5), "look"),
        (normal.spread("s", 0.2, 0.01), "wrong"),
        (normal.spread("s", 0.2, float("nan")), "wrong"),
        (normal.rank("r", None, 20.0, wide), "normal"),
        (normal.rank("r", None, 4.0, wide), "wrong"),
        (normal.rank("r", None, 4.0, narrow), "normal"),  # half of the directions that there are
        (normal.rank("r", None, 2.0, wide, classes=3), "normal"),  # three classes need no more
        (normal.evenness("u", None, -3.0), "normal"),
        (normal.evenness("u", None, -0.01), "look"),
        (normal.closeness("a", None, 0.4, 0.9), "normal"),
        (normal.closeness("a", None, 1.9, 0.9), "look"),
        (normal.closeness("a", None, 0.001, 0.01), "look"),
        (normal.found_again("v", 0.04, 0.3, 256), "normal"),
        (normal.found_again("v", 0.04, 0.06, 256), "look"),
        (normal.found_again("v", 0.04, 0.04, 256), "wrong"),
        (normal.agreed("v", 0.2, 0.1, 256), "look"),
        (normal.loss_gauge(curve(4, 3, 2, 2, 1)), "normal"),
        (normal.loss_gauge(curve(4, 4, 4, 4, 4)), "look"),
        (normal.loss_gauge(curve(4, None, 4, 4, 4)), "wrong"),
        (normal.loss_gauge(curve(4, 3)), "unknown"),
        (normal.gradient_gauge(curve(1, 1, 1, 1, 30)), "look"),
        (normal.probe_gauge(curve(0.1, 0.8, 0.5)), "look"),
        (normal.waiting_gauge(curve(0.9, 0.8, 0.1)), "look"),
    ):
        assert gauge.verdict == verdict, gauge
        assert bool(gauge.advice) == (verdict in ("look", "wrong"))


def curve(*values: float | None) -> Curve:
    return Curve("train/loss", list(range(len(values))), list(values))


def test_curves_of_records_in_the_order_in_which_to_look() -> None:
    records = [{"step": s, "epoch": 0, "x/y": s, "collapse/z": None, "train/lr": 0.1, "train/loss": 2.0} for s in (1, 2)]
    found = curves_from([*records, {"step": 3, "eval/knn/backbone": 0.5, "text": "no number"}])
    assert [one.tag for one in found] == ["train/loss", "eval/knn/backbone", "collapse/z", "train/lr", "x/y"]
    assert found[2].values == [None, None]
    assert figures_of(Content("", "", "", {}, [], found[2:3], 0, [])) == []  # there is no line to draw


# -- as a browser shows it


@needs_browser
def test_a_browser_shows_it_in_light_and_dark_wide_and_narrow(tmp_path: Path) -> None:
    write_hostile(tmp_path / "data")
    page = made(clustered(tmp_path / "run", tmp_path / "data"), tmp_path / "page")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width, scheme, card in ((1280, "light", "rgb(255, 255, 255)"), (400, "dark", "rgb(26, 32, 40)")):
            window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            said: list[str] = []
            window.on("console", lambda message, said=said: said.append(message.text))
            window.on("pageerror", lambda error, said=said: said.append(str(error)))
            window.on("request", lambda request, said=said: said.append(request.url) if request.url[:5] not in ("file:", "data:") else None)
            window.goto(page.file.as_uri())
            assert window.evaluate("document.documentElement.scrollWidth") <= width
            assert window.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0
            sections = window.locator("section")
            assert [sections.nth(i).get_attribute("id") for i in range(sections.count())] == list(TITLES)
            assert all(sections.nth(i).bounding_box()["height"] > 60 for i in range(sections.count()))
            assert window.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor") == card
            assert window.evaluate(_OVERLAPS) == []
            _walk_through_the_map(window)
            assert said == []
            window.close()
        browser.close()


_OVERLAPS = """(() => { const found = [];
  const all = [...document.querySelectorAll('figure, .gauges > li, .clusters > li, .way, nav, .map, .legend, .scroll, section > p')]
    .filter(e => e.offsetHeight && !e.closest('details:not([open])'));
  for (const a of all) for (const b of all) if (a !== b && !a.contains(b) && !b.contains(a) && a.tagName !== 'NAV' && b.tagName !== 'NAV') {
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)
      found.push(a.outerHTML.slice(0, 80)); }
  return found })()"""


def _walk_through_the_map(window: Any) -> None:
    """Arrow keys go from point to point and show each; the other kind of map puts points elsewhere."""
    window.emulate_media(reduced_motion="reduce")
    shown = (
        "[...document.querySelectorAll('.pop')].map((e, i) => getComputedStyle(e).visibility === 'visible' ? i : -1).filter(i => i >= 0)"
    )
    assert window.evaluate(shown) == []
    window.locator(".points input").first.focus()
    window.keyboard.press("Space")
    assert window.evaluate(shown) == [0]
    window.keyboard.press("ArrowDown")
    assert window.evaluate(shown) == [1]
    place = "(() => { const r = document.querySelectorAll('.points .dot')[5].getBoundingClientRect(); return [r.left, r.top] })()"
    before = window.evaluate(place)
    window.locator(".choice .pca").check()
    assert window.evaluate(place) != before
    box = window.locator(".map").bounding_box()
    dots = window.evaluate("[...document.querySelectorAll('.map .dot')].map(e => e.getBoundingClientRect()).map(r => [r.left, r.right])")
    assert all(box["x"] <= left and right <= box["x"] + box["width"] for left, right in dots)
