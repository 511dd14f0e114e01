"""`fewshot report`: its numbers against slow ones, its page as a parser and as a browser see it, and the folder that it goes to."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import kinshot
from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.fewshot.episodes import Episodes, sample_episodes
from kinshot.fewshot.records import Records
from kinshot.recipes.report.content import KIND, Content, Focus
from kinshot.recipes.report.details import classes_of, confusion_of, encounters, gallery_of, reliability_of, spread_of
from kinshot.recipes.report.figures import said_p, signed
from kinshot.recipes.report.figures_classes import classes_figure
from kinshot.recipes.report.folder import NUMBERS, PAGE, check_out, publish
from kinshot.recipes.report.gather import printable
from kinshot.recipes.report.samples import Sample, load_samples, picture_of, text_of
from kinshot.recipes.report.theme import LIGHT, png
from kinshot.recipes.report.write import report_files
from kinshot.recipes.summaries import Difference, Line
from tests.tiny import arguments, environment, result, run

NAMES = ['a<b>&"$x^$', "_under", "ελληνικά", "a name that is rather long for a bar or a cell", "x" * 9, "it's"]
WAYS, QUERIES, EPISODES, SHOTS = 3, 4, 30, [2, 1]
REPORT = ["--data", "folder:data", "--ways", WAYS, "--shots", "2,1", "--queries", QUERIES, "--episodes", EPISODES]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser", "chrome"))), None)
VOID = {"meta", "img", "source", "br", "link"}


@dataclass(frozen=True)
class Made:
    """A report made by the real commands: where, its page and its numbers."""

    place: Path
    page: str
    numbers: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.place / "report"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tiny checkpoint, and a report on a folder of blurred noise whose classes have names that need care."""
    place = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for name in NAMES:
        (place / "data" / name).mkdir(parents=True)
        prototype = rng.uniform(0, 255, (7, 7))
        for i in range(8):
            pixels = np.clip(prototype + rng.normal(0, 70, (7, 7)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((21, 21), Image.Resampling.BILINEAR).save(place / "data" / name / f"{i}.png")
    assert result(run("ssl", *arguments("simclr", "train.epochs=1", "--out", "run", "--json"), cwd=place))["steps"] > 0
    done = run("fewshot", "report", "run", *map(str, REPORT), "--json", cwd=place)
    shown = result(done)
    assert shown["page"] == "report/report.html"
    assert {Path(name).name for name in shown["files"]} == {p.name for p in (place / "report").iterdir()}
    text = (place / "report" / PAGE).read_text(encoding="utf-8")
    return Made(place, text, json.loads((place / "report" / NUMBERS).read_text(encoding="utf-8")))


# --- numbers -----------------------------------------------------------------------------------------------------------------------


def slow_scores(features: np.ndarray, episodes: Episodes, e: int, head: str) -> np.ndarray:
    """Scores (Q, W) of one episode, by loops: cosine to the mean of unit vectors, or to the nearest support image."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores = np.empty((episodes.query.shape[1], WAYS))
    for q, index in enumerate(episodes.query[e].tolist()):
        for way in range(WAYS):
            mine = unit[episodes.support[e][episodes.support_labels[e] == way].numpy()]
            mean = mine.mean(0)
            scores[q, way] = unit[index] @ mean / np.linalg.norm(mean) if head == "prototype" else max(mine @ unit[index])
    return scores


@pytest.fixture(scope="module")
def slow(made: Made) -> dict[tuple[str, int], np.ndarray]:
    """Scores (E, Q, W) of two heads for every number of shots, from the checkpoint's features alone."""
    model = kinshot.load(made.place / "run")
    source = SOURCES.build("folder", settings={"root": str(made.place / "data"), "size": 16, "channels": 1})
    features = model.embed(source.load(np.arange(len(source))))["backbone"].double().numpy()
    found = {}
    for shots in SHOTS:
        episodes = drawn(made, shots)
        for head in ("prototype", "nearest"):
            found[head, shots] = np.stack([slow_scores(features, episodes, e, head) for e in range(EPISODES)])
    return found


def drawn(made: Made, shots: int) -> Episodes:
    labels = np.repeat(np.arange(len(NAMES)), 8)
    return sample_episodes(labels, ways=WAYS, shots=shots, queries=QUERIES, episodes=EPISODES, seed=0)


def slow_accuracy(scores: np.ndarray) -> np.ndarray:
    return 100 * (scores.argmax(-1) == np.repeat(np.arange(WAYS), QUERIES)).mean(1)


def test_accuracies_and_differences_are_those_of_a_slow_computation(made: Made, slow: dict[tuple[str, int], np.ndarray]) -> None:
    rows = {(r["model"], r["feature"], r["head"], r["shots"]): r for r in made.numbers["rows"]}
    assert {key[:3] for key in rows} == {
        (model, feature, head)
        for model, feature in (("pretrained", "backbone"), ("untrained", "backbone"), ("raw pixels", "pixels"))
        for head in ("prototype", "nearest", "ridge")
    }
    for (head, shots), scores in slow.items():
        row, accuracy = rows["pretrained", "backbone", head, shots], slow_accuracy(scores)
        assert row["mean"] == pytest.approx(accuracy.mean())
        low, _ = stats.t.interval(0.95, EPISODES - 1, accuracy.mean(), stats.sem(accuracy))
        assert row["mean"] - row["ci95"] == pytest.approx(low)
    (paired,) = [d for d in made.numbers["paired"] if d["head"] == "nearest" and d["shots"] == 2]
    expected = stats.ttest_rel(slow_accuracy(slow["nearest", 2]), slow_accuracy(slow["prototype", 2]))
    assert paired["p"] == pytest.approx(expected.pvalue, nan_ok=True)
    assert made.numbers["hashes"] == {f"{WAYS}-way {shots}-shot": drawn(made, shots).hash() for shots in SHOTS}


def test_classes_confusions_and_episodes_are_those_of_loops(made: Made, slow: dict[tuple[str, int], np.ndarray]) -> None:
    numbers, episodes, scores = made.numbers, drawn(made, 2), slow["prototype", 2]
    names = sorted(NAMES)
    counts, met = np.zeros((6, 6), int), np.zeros((6, 6), int)
    for e in range(EPISODES):
        classes = episodes.classes[e].tolist()
        for q, way in enumerate(episodes.query_labels[e].tolist()):
            counts[classes[way], classes[int(scores[e, q].argmax())]] += 1
            for other in classes:
                met[classes[way], other] += 1
    assert numbers["focus"] == {"model": "pretrained", "feature": "backbone", "head": "prototype", "ways": WAYS, "shots": 2}
    assert numbers["confusion"]["names"] == names
    assert numbers["confusion"]["counts"] == counts.tolist()
    assert numbers["confusion"]["met"] == met.tolist()
    assert {row["name"]: row["accuracy"]["prototype"] for row in numbers["classes"]} == pytest.approx(
        {name: 100 * counts[c, c] / counts[c].sum() for c, name in enumerate(names)}
    )
    accuracy = slow_accuracy(scores)
    assert numbers["spread"]["mean"] == pytest.approx(accuracy.mean())
    assert sum(numbers["spread"]["counts"]) == EPISODES
    assert numbers["spread"]["worst"][0]["accuracy"] == pytest.approx(accuracy.min())
    assert numbers["spread"]["best"][0]["number"] == int(accuracy.argmax())
    for shown in numbers["gallery"]:
        e = shown["number"]
        for way, row in enumerate(shown["ways"]):
            asked = episodes.query_labels[e] == way
            assert [a["index"] for a in row["queries"]] == episodes.query[e][asked].tolist()
            assert [a["way"] for a in row["queries"]] == scores[e][asked.numpy()].argmax(-1).tolist()
            assert row["support"] == episodes.support[e][episodes.support_labels[e] == way].tolist()
            assert [a["right"] for a in row["queries"]] == [a["predicted"] == row["name"] for a in row["queries"]]


def test_calibration_is_that_of_loops(made: Made, slow: dict[tuple[str, int], np.ndarray]) -> None:
    scores = slow["prototype", 2].reshape(-1, WAYS)
    odds = np.exp(scores - scores.max(1, keepdims=True))
    confidence, right = (
        (odds / odds.sum(1, keepdims=True)).max(1),
        scores.argmax(1) == np.tile(np.repeat(np.arange(WAYS), QUERIES), EPISODES),
    )
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    found = {r["head"]: r for r in made.numbers["reliability"]}
    assert found["prototype"]["error"] == pytest.approx(error, abs=1e-5)
    assert list(found) == ["prototype", "nearest", "ridge"]
    assert sum(found["ridge"]["counts"]) == EPISODES * WAYS * QUERIES


def random_records(seed: int, classes: int, ways: int, episodes: int = 12, queries: int = 3) -> Records:
    found = sample_episodes(np.repeat(np.arange(classes), 6), ways=ways, shots=1, queries=queries, episodes=episodes, seed=seed)
    rng = np.random.default_rng(seed)
    return Records(found, rng.integers(0, ways, tuple(found.query.shape)), rng.uniform(0.3, 1, tuple(found.query.shape)))


def test_many_classes_show_the_most_frequent_confusions() -> None:
    records = random_records(1, classes=60, ways=5, episodes=40)
    names = [f"class {c}" for c in range(60)]
    found = confusion_of(records, names)
    assert found.classes > len(found.names) > 10
    first = found.pairs[0]
    assert {first.true, first.predicted} <= set(found.names)
    assert [p.count for p in found.pairs] == sorted((p.count for p in found.pairs), reverse=True)
    assert all(p.true != p.predicted and p.count <= p.met for p in found.pairs)
    i, j = found.names.index(first.true), found.names.index(first.predicted)
    assert found.counts[i][j] == first.count
    assert found.percent[i][j] == pytest.approx(100 * first.count / first.met)
    assert all((p is None) == (m == 0) for ps, ms in zip(found.percent, found.met, strict=True) for p, m in zip(ps, ms, strict=True))
    labels = np.unique(records.episodes.classes.numpy())
    assert int(np.trace(encounters(records, labels))) == records.predictions.size


# --- the page ----------------------------------------------------------------------------------------------------------------------


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


def test_page_is_self_contained_and_says_everything(made: Made) -> None:
    outline = check_page(made.page)
    words = " ".join(outline.words)
    numbers = made.numbers
    for said in [
        *numbers["hashes"].values(),
        numbers["weights"][0][:16],
        "Student t, 95 %",
        "seed 0",
        kinshot.__version__,
        torch.__version__,
    ]:
        assert said in words
    command = f"fewshot report run {' '.join(map(str, REPORT))} --json"
    assert numbers["command"] == command
    assert command in words
    for name in NAMES:  # as text, whatever characters they have
        assert any(name in row for row in outline.cells)
    for row in numbers["rows"]:
        assert any(f"{row['mean']:.2f} ± {row['ci95']:.2f}" in cells for cells in outline.cells)
    (found,) = [cells for cells in outline.cells if cells[:1] == ["ridge"] and cells[3:4] == ["3-way 2-shot"]]
    (paired,) = [d for d in numbers["paired"] if d["head"] == "ridge" and d["shots"] == 2]
    assert found[4] == f"{signed(paired['mean'])} ± {paired['ci95']:.2f}"


def test_gallery_marks_right_and_wrong_by_a_symbol_too(made: Made) -> None:
    outline = check_page(made.page)
    marks = "".join(outline.words)
    answers = [a for e in made.numbers["gallery"] for way in e["ways"] for a in way["queries"]]
    right = sum(a["right"] for a in answers)
    assert 0 < right < len(answers)
    assert marks.count("\u2713") == right
    assert marks.count("\u2717") == len(answers) - right
    classes = [item.get("class") for item in outline.named("li")]
    assert (classes.count("right"), classes.count("wrong")) == (right, len(answers) - right)
    alts = [str(image["alt"]) for image in outline.named("img")]
    assert sum(alt.endswith(", right") for alt in alts) == right
    assert sum("wrong: put into" in alt for alt in alts) == len(answers) - right


def test_figures_are_files_too(made: Made) -> None:
    files = {path.name for path in made.out.iterdir()}
    assert files == set(made.numbers["files"])
    figures = {name for name in files if name.endswith(".png")}
    wanted = {"accuracy-backbone", "heads", "paired", "classes", "confusion", "calibration-1", "calibration-3", "episodes", "gallery-1"}
    assert figures >= {f"{name}.png" for name in wanted}
    assert all(made.numbers["alt"][name.removesuffix(".png")] for name in figures if not name.startswith("gallery"))
    for name in figures:
        with Image.open(made.out / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


def content_of(records: dict[str, Records], names: list[str], **more: Any) -> Content:
    """A report whose accuracies are made up and whose details are those of records."""
    heads = list(records)
    rows = [Line("pretrained", "backbone", head, 5, shots, 50.0 + shots, 1.0, 12) for head in heads for shots in (1, 5)]
    paired = [Difference("pretrained", "backbone", head, heads[0], 5, 1, -0.5, 0.4, 0.02, 3, 6, 12) for head in heads[1:]]
    first = records[heads[0]]
    made_up = {
        "title": names[0], "command": "fewshot report", "about": {"Data": names[0], "Trained by": names}, "versions": {"kinshot": "0"},
        "focus": Focus("pretrained", "backbone", heads[0], 5, 1), "main": "pretrained", "rows": rows, "beats_references": None,
        "paired": paired, "weights": ["0"], "hashes": {},
        "classes": classes_of(records, names), "confusion": confusion_of(first, names), "reliability": reliability_of(records),
        "spread": spread_of(first, names), "gallery": gallery_of(first, names),
    }  # fmt: skip
    return Content(**{**made_up, **more})


def numbers_of(content: Content) -> list[int]:
    return [i for e in content.gallery for way in e.ways for i in (*way.support, *(a.index for a in way.queries))]


HOSTILE = ["<script>alert(1)</script>", "</title><img src=x onerror=alert(1)>", "\"' onload='x", "$\\frac{$", "$name ${0}", "_hidden"]
HOSTILE += ["漢字 \u202e rtl", "\ud83d\ude00", "a" * 300, "&lt;", " "]


def test_names_cannot_break_out_of_the_page_or_the_figures() -> None:
    records = random_records(3, classes=40, ways=5, episodes=30)
    names = [printable(name) for name in HOSTILE + [f"c\x00{i}\ud800" for i in range(40 - len(HOSTILE))]]
    content = content_of({names[0]: records, "nearest": records}, names)
    samples = {i: Sample(text=f"<i>{i}</i>") for i in numbers_of(content)}
    files = report_files(content, samples)
    outline = check_page(files[PAGE].decode("utf-8") + '<img alt="x" src="data:image/png;base64," width="1">')
    words = "".join(outline.words)
    assert HOSTILE[0] in words
    assert HOSTILE[1] in words
    assert "<i>" in words
    assert not any(name.startswith("gallery") for name in files)  # samples without pictures
    assert json.loads(files[NUMBERS])["focus"]["head"] == HOSTILE[0]


def test_one_head_and_every_class_at_once() -> None:
    records = random_records(0, classes=14, ways=14, episodes=4)
    content = content_of({"prototype": records}, [str(c) for c in range(14)], paired=[])
    picture = Sample(picture=Image.new("L", (9, 9)))
    files = report_files(content, dict.fromkeys(numbers_of(content), picture))
    words = " ".join(check_page(files[PAGE].decode("utf-8")).words)
    assert "paired.png" not in files
    assert "The first 10 of 14 classes" in words
    again = png(classes_figure(content.classes, "prototype", LIGHT))
    assert files["classes.png"] == again


def test_samples_of_every_kind(tmp_path: Path) -> None:
    assert picture_of(np.zeros((1, 5, 7), np.uint8)).size == (7, 5)
    assert picture_of(np.zeros((3, 300, 150), np.uint8)).size == (48, 96)
    assert picture_of(np.full((2, 4, 4), 9, np.uint8)).getpixel((0, 0)) == 9
    assert Sample(picture=Image.new("RGB", (96, 96))).data_uri().startswith("data:image/jpeg;")
    assert text_of(np.array([3, 1, 4, 2, 0, 0], np.uint8), "ab") == "a\u2592b\ufffd"
    np.save(tmp_path / "m.npy", np.arange(6.0).reshape(3, 2))
    rows = SOURCES.build("table", settings={"root": str(tmp_path / "m.npy")})
    assert load_samples(rows, [2, 0, 2]) == {0: Sample(text="sample 0"), 2: Sample(text="sample 2")}


def test_numbers_in_words() -> None:
    assert [signed(x) for x in (0.004, -0.004, 1.2, -1.2)] == ["0.00", "0.00", "+1.20", "\u22121.20"]
    assert [said_p(p) for p in (1e-9, 0.0024, 0.04123, 1.0)] == ["p < 0.0001", "p = 0.0024", "p = 0.041", "p = 1"]


# --- the folder --------------------------------------------------------------------------------------------------------------------


def document(*names: str) -> bytes:
    return json.dumps({"kind": KIND, "files": [PAGE, NUMBERS, *names]}).encode()


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "a" / "report"
    publish({PAGE: b"1", NUMBERS: document("old.png"), "old.png": b"1"}, out, False)
    publish({PAGE: b"2", NUMBERS: document("new.png"), "new.png": b"2"}, out, False)
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.name != NUMBERS} == {PAGE: b"2", "new.png": b"2"}
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt.*--overwrite"):
        publish({PAGE: b"3", NUMBERS: document()}, out, False)
    assert (out / PAGE).read_bytes() == b"2"
    publish({PAGE: b"3", NUMBERS: document()}, out, True)
    assert {p.name for p in out.iterdir()} == {PAGE, NUMBERS, "notes.txt"}
    assert (out / PAGE).read_bytes() == b"3"
    assert [p.name for p in out.parent.iterdir()] == ["report"]


def test_a_failed_write_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    publish({PAGE: b"1", NUMBERS: document()}, out, False)
    monkeypatch.setattr("kinshot.recipes.report.folder.replace_folder", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(DataError, match="No space left"):
        publish({PAGE: b"2", NUMBERS: document()}, out, False)
    assert (out / PAGE).read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"kind": "kinshot report", "files": 3}', "no json", '{"kind": "other", "files": ["report.json"]}']
)
def test_what_only_looks_like_a_report_is_not_one(tmp_path: Path, content: str) -> None:
    (tmp_path / NUMBERS).write_text(content)
    with pytest.raises(ConfigError, match="--overwrite"):
        check_out(tmp_path, False)
    check_out(tmp_path, True)


def test_mistakes_cost_nothing_and_say_what_to_do(made: Made) -> None:
    (made.place / "full").mkdir(exist_ok=True)
    (made.place / "full" / "cat.txt").write_text("mine")
    (made.place / "file").write_text("mine")
    common = ["report", "run", "--data", "folder:data", "--ways", "3", "--episodes", "10"]
    for more, code, expected in (
        (["--out", "full"], 2, "cat.txt"),
        (["--out", "file/report"], 2, "is a file"),
        (["--heads", "protoype"], 2, "prototype"),
        (["--queries", "4", "--shots", "1,2,5,10", "--out", "new"], 3, "has 8 images"),
    ):
        done = run("fewshot", *common, *more, cwd=made.place)
        assert done.returncode == code, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
    assert "5 + 4 = 9, 10 + 4 = 14 are too many; use --shots 1,2" in done.stderr
    assert (made.place / "full" / "cat.txt").read_text() == "mine"
    assert not (made.place / "new").exists()


# --- a browser ---------------------------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed to show the page")
_MEASURE = """<script>addEventListener("load", () => { const images = [...document.images]; document.body.dataset.found = JSON.stringify({
  images: images.length, empty: images.filter(i => !i.naturalWidth || !i.clientWidth).length,
  wide: document.documentElement.scrollWidth - innerWidth, height: document.body.scrollHeight}) })</script></body>"""


def browse(page: Path, tmp_path: Path, *options: str) -> str:
    """Open a page in a browser without a window; returns what it prints."""
    assert BROWSER is not None
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    line = [BROWSER, "--headless", "--no-sandbox", *quiet, "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=2000"]
    line += [f"--user-data-dir={tmp_path / 'profile'}", *options, page.resolve().as_uri()]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=120, check=True).stdout


def shown(page: Path, tmp_path: Path, size: tuple[int, int], *options: str) -> np.ndarray:
    """Pixels (H, W, 3) of a page in a window of some size."""
    file = tmp_path / "shown.png"
    browse(page, tmp_path, f"--window-size={size[0]},{size[1]}", f"--screenshot={file}", *options)
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")).astype(int)


def share(pixels: np.ndarray, color: str) -> float:
    """Share of pixels that have a colour."""
    return float((abs(pixels - [int(color[i : i + 2], 16) for i in (1, 3, 5)]).max(-1) <= 2).mean())


@needs_browser
@pytest.mark.parametrize("width", [1280, 500])
def test_every_image_shows_and_nothing_sticks_out(made: Made, tmp_path: Path, width: int) -> None:
    measuring = tmp_path / "measuring.html"  # the page's own policy would not let a script run
    measuring.write_text(re.sub(r"<meta http-equiv[^>]*>", "", made.page).replace("</body>", _MEASURE), encoding="utf-8")
    outline = Outline(browse(measuring, tmp_path, f"--window-size={width},900", "--dump-dom").replace(_MEASURE[:-7], ""))
    (body,) = outline.named("body")
    found = json.loads(str(body["data-found"]))
    assert found["images"] == len(Outline(made.page).named("img"))
    assert found["empty"] == 0
    assert found["wide"] <= 0
    assert found["height"] > 3000


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (500, "light")])
def test_the_page_is_seen_in_light_and_dark(made: Made, tmp_path: Path, width: int, scheme: str) -> None:
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    pixels = shown(made.out / PAGE, tmp_path, (width, 4000), *dark)
    assert pixels.shape == (4000, width, 3)
    assert len(np.unique(pixels.reshape(-1, 3) @ [1 << 16, 1 << 8, 1])) > 200
    cards, bars = {"light": ("#ffffff", "#0b6aa8"), "dark": ("#1a2028", "#5cb3ee")}[scheme]
    assert share(pixels, cards) > 0.3
    assert share(pixels, bars) > 0.003  # the figures of this scheme, which have these colours and text and frames have not
