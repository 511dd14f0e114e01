"""`fewshot report`: its numbers against slow ones, and its page as a parser and as a browser see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import kinshot
from kinshot.cli.fewshot import main
from kinshot.datasets import SOURCES
from kinshot.fewshot.episodes import Episodes, sample_episodes
from kinshot.studies.report.figures import signed
from kinshot.studies.report.folder import NUMBERS, PAGE
from tests.browser import laid_out, needs_browser, seen, share
from tests.pages import Outline, check_page
from tests.tiny import arguments, result, run

NAMES = ['a<b>&"$x^$', "_under", "ελληνικά", "a name that is rather long for a bar or a cell", "x" * 9, "it's"]
WAYS, QUERIES, EPISODES, SHOTS = 3, 4, 30, [2, 1]
REPORT = ["--data", "folder:data", "--ways", WAYS, "--shots", "2,1", "--queries", QUERIES, "--episodes", EPISODES]
REPORT += ["--heads", "prototype,nearest,ridge,imprint,matching"]


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
        for head in ("prototype", "nearest", "ridge", "imprint", "matching")
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
    scores = slow["prototype", 2].reshape(-1, WAYS)  # with one head of cosines, imprinting is the prototype at scale 10
    odds = np.exp(10 * (scores - scores.max(1, keepdims=True)))
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
    assert found["imprint"]["error"] == pytest.approx(error, abs=1e-5)
    assert list(found) == ["imprint", "matching"], "cosines and regressed labels say nothing of how sure an answer is"
    assert sum(found["matching"]["counts"]) == EPISODES * WAYS * QUERIES
    assert "The scores of prototype, nearest, ridge are similarities" in " ".join(check_page(made.page).words)


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
    (found,) = [cells for cells in outline.cells if cells[:2] == ["ridge", "3-way 2-shot"]]
    (paired,) = [d for d in numbers["paired"] if d["head"] == "ridge" and d["shots"] == 2]
    assert found[2] == f"{signed(paired['mean'])} ± {paired['ci95']:.2f}"


def test_the_first_lines_name_run_and_data_and_show_the_best_head_beside_the_best_reference(made: Made) -> None:
    outline, rows = check_page(made.page), made.numbers["rows"]
    words = " ".join(" ".join(outline.words).split())
    assert made.numbers["title"] == "run on data, 3-way"
    for shots in SHOTS:
        mine = [r for r in rows if r["shots"] == shots]
        best, reference = (
            max((r for r in mine if (r["model"] == "pretrained") == trained), key=lambda r: r["mean"]) for trained in (True, False)
        )
        assert (
            f"{best['mean']:.1f} ± {best['ci95']:.1f} % {shots}-shot, {best['head']} {reference['model']}, {reference['head']}: " in words
        )
        assert f"{reference['head']}: {reference['mean']:.1f} ± {reference['ci95']:.1f} %" in words
    assert words.index("the best of 5 heads") < words.index("Heads side by side")
    wide = [tag for tag in outline.named("div") if "scroll" in str(tag.get("class")) and "wide" in str(tag.get("class"))]
    assert wide, "tables that do not fit a phone say that they scroll"


def test_a_report_without_settings_asks_what_the_data_can_give(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight images of each class: 10 + 15 and 5 + 15 are too many, and nobody asked for them."""
    monkeypatch.chdir(made.place)
    plain = ["report", "run", "--data", "folder:data", "--episodes", "4", "--heads", "prototype", "--no-reference"]
    assert main([*plain, "--out", "plain"]) == 0
    numbers = json.loads((made.place / "plain" / NUMBERS).read_text(encoding="utf-8"))
    assert [r["shots"] for r in numbers["rows"]] == [1, 2]
    assert "queries 6 per class" in numbers["about"]["Episodes"]
    printed = capsys.readouterr().err
    assert "no episodes of 5, 10 shots: the smallest class has 8 samples" in printed
    assert "6 queries of each class" in printed
    assert main([*plain, "--queries", "15", "--shots", "1", "--out", "none"]) == 3, "what was asked for is not changed"


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
    wanted = {"accuracy-backbone", "heads", "paired", "classes", "confusion", "calibration-1", "calibration-2", "episodes", "gallery-1"}
    assert figures >= {f"{name}.png" for name in wanted}
    assert all(made.numbers["alt"][name.removesuffix(".png")] for name in figures if not name.startswith("gallery"))
    for name in figures:
        with Image.open(made.out / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


def test_mistakes_cost_nothing_and_say_what_to_do(made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(made.place)
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
        assert main([*common, *more]) == code
        printed = capsys.readouterr()
        assert expected in printed.err
        assert "Traceback" not in printed.err
        assert printed.out == ""
    assert "5 + 4 = 9, 10 + 4 = 14 are too many; use --shots 1,2" in printed.err
    assert (made.place / "full" / "cat.txt").read_text() == "mine"
    assert not (made.place / "new").exists()


@needs_browser
@pytest.mark.parametrize("width", [1280, 500])
def test_every_image_shows_and_nothing_sticks_out(made: Made, tmp_path: Path, width: int) -> None:
    found = laid_out(made.page, tmp_path, width)
    assert found["images"] == len(Outline(made.page).named("img"))
    assert found["empty"] == 0
    assert found["wide"] <= 0
    assert found["height"] > 3000


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (500, "light")])
def test_the_page_is_seen_in_light_and_dark(made: Made, tmp_path: Path, width: int, scheme: str) -> None:
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    pixels = seen(made.out / PAGE, tmp_path, (width, 4000), *dark)
    assert pixels.shape == (4000, width, 3)
    assert len(np.unique(pixels.reshape(-1, 3) @ [1 << 16, 1 << 8, 1])) > 200
    cards, bars = {"light": ("#ffffff", "#0b6aa8"), "dark": ("#1a2028", "#5cb3ee")}[scheme]
    assert share(pixels, cards) > 0.3
    assert share(pixels, bars) > 0.003  # the figures of this scheme, which have these colours and text and frames have not
