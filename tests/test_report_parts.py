"""The parts of a report: what is read from records, names that want to break the page, samples, and the folder it goes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.fewshot.episodes import sample_episodes
from kinshot.fewshot.records import Records
from kinshot.samples.characters import text_of
from kinshot.studies.report.content import KIND, Content, Focus
from kinshot.studies.report.details import classes_of, confusion_of, encounters, gallery_of, reliability_of, spread_of
from kinshot.studies.report.figures import accuracy_figure, said_p, signed
from kinshot.studies.report.figures_classes import classes_figure
from kinshot.studies.report.fitting import check_shots, fitted
from kinshot.studies.report.folder import NUMBERS, PAGE, check_out, publish
from kinshot.studies.report.page import page
from kinshot.studies.report.pictures import sheets
from kinshot.studies.report.samples import Sample, load_samples, picture_of
from kinshot.studies.report.theme import LIGHT, png
from kinshot.studies.report.words import named_runs, printable
from kinshot.studies.report.write import report_files
from kinshot.studies.summaries import Difference, Line
from kinshot.studies.tasks import Drawing
from tests.pages import check_page


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
    samples = dict.fromkeys(numbers_of(content), picture)
    assert "The first 10 of 14 classes" in page(content, [], samples)
    assert page(content, [], samples) == page(content, [], samples)
    assert [p.name for p in sheets(content, samples)][:2] == ["gallery-1", "gallery-2"]


@pytest.mark.parametrize("shots", [(1,), (1, 5)])
def test_references_can_be_seen_with_one_number_of_shots_too(shots: tuple[int, ...]) -> None:
    records = {head: random_records(0, classes=5, ways=5) for head in ("prototype", "nearest")}
    measured = [("pretrained", "backbone", 90.0), ("untrained", "backbone", 60.0), ("raw pixels", "pixels", 50.0)]
    rows = [Line(model, feature, head, 5, k, mean + k, 1.0, 12) for model, feature, mean in measured for head in records for k in shots]
    (axes,) = accuracy_figure(content_of(records, list("abcde"), rows=rows), "backbone", 5, LIGHT).axes
    drawn = [line for line in axes.get_lines() if line.get_linestyle() in ("--", ":")]
    assert len(drawn) == 2
    for line in drawn:
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        assert len(set(zip(x, y, strict=True))) > 1, "a line of one point is nothing to see"
        along = x if len(shots) == 1 else y
        low, high = axes.get_xlim() if len(shots) == 1 else axes.get_ylim()
        assert low < along.min() <= along.max() < high


def test_the_same_figure_is_the_same_file() -> None:
    rows = classes_of({"prototype": random_records(0, classes=5, ways=5)}, list("abcde"))
    first, second = (png(classes_figure(rows, "prototype", LIGHT)) for _ in range(2))
    assert first == second


def test_samples_of_every_kind(tmp_path: Path) -> None:
    assert picture_of(np.zeros((1, 5, 7), np.uint8)).size == (7, 5)
    assert picture_of(np.zeros((3, 300, 150), np.uint8)).size == (48, 96)
    assert picture_of(np.full((2, 4, 4), 9, np.uint8)).getpixel((0, 0)) == 9
    assert Sample(picture=Image.new("RGB", (96, 96))).data_uri().startswith("data:image/jpeg;")
    assert text_of([3, 1, 4, 2, 0, 0], "ab") == "a\u2592b\ufffd"
    np.save(tmp_path / "m.npy", np.arange(6.0).reshape(3, 2))
    rows = SOURCES.build("table", settings={"root": str(tmp_path / "m.npy")})
    assert load_samples(rows, [2, 0, 2]) == {0: Sample(text="sample 0"), 2: Sample(text="sample 2")}


def test_numbers_in_words() -> None:
    assert [signed(x) for x in (0.004, -0.004, 1.2, -1.2)] == ["0.00", "0.00", "+1.20", "\u22121.20"]
    assert [said_p(p) for p in (1e-9, 0.0024, 0.04123, 1.0)] == ["p < 0.0001", "p = 0.0024", "p = 0.041", "p = 1"]


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
    monkeypatch.setattr("kinshot.studies.report.folder.replace_folder", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
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


@pytest.mark.parametrize(("ways", "shots"), [([(3, 5)], [1]), ([5], [1, (1, 5)])])
def test_a_report_of_ranges_is_refused(ways: list[Any], shots: list[Any]) -> None:
    with pytest.raises(ConfigError, match="a report needs numbers of ways and of shots, got a range"):
        check_shots(np.repeat(np.arange(6), 30), list("abcdef"), "letters", Drawing(ways, shots, 5, 10, 0))


@pytest.mark.parametrize(
    ("images", "classes", "free", "shots", "queries", "ways"),
    [
        (20, 9, ("ways", "shots", "queries"), [1, 2, 5, 10], 10, 5),  # 10 + 15 of 20
        (25, 9, ("ways", "shots", "queries"), [1, 2, 5, 10], 15, 5),
        (8, 3, ("ways", "shots", "queries"), [1, 2], 6, 3),
        (2, 9, ("ways", "shots", "queries"), [1], 1, 5),
        (20, 9, ("ways", "queries"), [1, 2, 5, 10], 10, 5),
        (20, 9, ("ways", "shots"), [1, 2, 5], 15, 5),
        (20, 3, (), [1, 2, 5, 10], 15, 5),
    ],
)
def test_what_was_not_asked_for_follows_the_data(
    images: int, classes: int, free: tuple[str, ...], shots: list[int], queries: int, ways: int
) -> None:
    labels = np.repeat(np.arange(classes), images)
    wanted = Drawing([5], [1, 2, 5, 10], 15, 10, 0)
    found, said = fitted(wanted, labels, free)
    assert (list(found.shots), found.queries, list(found.ways)) == (shots, queries, [ways])
    assert (not said) == (found == wanted)
    if found != wanted:
        check_shots(labels, [str(c) for c in range(classes)], "letters", found)


def test_runs_are_called_by_the_names_of_their_folders() -> None:
    step = "checkpoints/step-00000001"
    assert named_runs([Path("runs/demo") / step]) == "demo"
    assert named_runs([Path("runs/a"), Path("runs/b") / step]) == "a, b"
    assert named_runs([Path(f"sweep/{i}") for i in range(5)]) == "5 runs"
