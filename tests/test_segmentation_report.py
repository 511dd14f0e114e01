"""The page on segmentation: its numbers against loops over pixels, and what a parser and a browser see of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.segmentation.pictures import WAY_COLORS
from kinshot.studies.segmentation.report.content import Content
from kinshot.studies.segmentation.report.details import GROUND, OTHERS, classes_of, gallery_of, mistakes_of, spread_of
from kinshot.studies.segmentation.report.figures import draw
from kinshot.studies.segmentation.report.gather import data_of, lines_of
from kinshot.studies.segmentation.report.page import TITLES, page
from kinshot.studies.segmentation.report.panels import SIDE, query_pictures, shown
from tests import segmentation_page as made_up
from tests.browser import laid_out, needs_browser, seen, share
from tests.pages import Outline, check_page

SALIENCY = "perfect saliency"
TASKS = [(2, 1), (2, 5), (1, 1)]


@pytest.fixture(scope="module")
def content() -> Content:
    return made_up.content(TASKS)


@pytest.fixture(scope="module")
def html(content: Content) -> str:
    return page(content, draw(content), made_up.pictures(content))


def slow_sums(task: made_up.Task, prediction: np.ndarray) -> dict[int, tuple[int, int]]:
    """Intersection and union of every class, pixel by pixel as sets."""
    sums: dict[int, tuple[int, int]] = {}
    for e, q in np.ndindex(task.truth.shape[:2]):
        known = task.truth[e, q] != 255
        for way, value in enumerate(task.episodes.classes[e].tolist(), 1):
            is_, said = (known & (labels[e, q] == way) for labels in (task.truth, prediction))
            above, below = sums.get(value, (0, 0))
            sums[value] = above + int((is_ & said).sum()), below + int((is_ | said).sum())
    return sums


def test_figures_are_those_of_loops(content: Content) -> None:
    for ways, shots in TASKS:
        task = made_up.task(ways, shots)
        sums = slow_sums(task, task.prediction)
        (line,) = [one for one in content.of("miou", ways, shots) if one.who == "cosine"]
        assert line.mean == pytest.approx(100 * np.mean([above / below for above, below in sums.values()]))
        assert line.low < line.mean < line.high
        saliency = ((task.masks != 0) & (task.masks != 255)).astype(int)
        blind = slow_sums(task, saliency)
        (line,) = [one for one in content.of("miou", ways, shots) if one.who == SALIENCY]
        assert line.mean == pytest.approx(100 * np.mean([above / below for above, below in blind.values()]))
        (versus,) = [v for v in content.paired if (v.figure, v.ways, v.shots, v.against) == ("miou", ways, shots, SALIENCY)]
        cosine = next(one for one in content.of("miou", ways, shots) if one.who == "cosine")
        assert versus.mean == pytest.approx(cosine.mean - line.mean)
    task = made_up.task(*TASKS[0])
    sums, blind = (slow_sums(task, said) for said in (task.prediction, ((task.masks != 0) & (task.masks != 255)).astype(int)))
    for row in content.classes:
        value = made_up.NAMES.index(row.name) + 1
        assert row.iou == pytest.approx(100 * sums[value][0] / sums[value][1])
        assert row.rules[SALIENCY] == pytest.approx(100 * blind[value][0] / blind[value][1])
    assert [row.iou for row in content.classes] == sorted(row.iou for row in content.classes if row.iou is not None)


def test_mistakes_are_those_of_loops(content: Content) -> None:
    task, found = made_up.task(*TASKS[0]), content.mistakes
    where: dict[tuple[str, str], int] = {}
    objects, ground = [], []
    for e, q in np.ndindex(task.truth.shape[:2]):
        classes = task.episodes.classes[e]
        for true, label in zip(task.masks[e, q].ravel().tolist(), task.prediction[e, q].ravel().tolist(), strict=True):
            if true == 255:
                continue
            if true not in classes:
                (objects if true else ground).append(label > 0)
            if label:
                name = GROUND if not true else OTHERS if true == made_up.OTHER else made_up.NAMES[true - 1]
                key = name, made_up.NAMES[classes[label - 1] - 1]
                where[key] = where.get(key, 0) + 1
    assert found.objects == pytest.approx(100 * np.mean(objects))
    assert found.ground == pytest.approx(100 * np.mean(ground))
    for row in found.said:
        total = sum(n for (_, said), n in where.items() if said == row.name)
        assert row.pixels == total
        assert row.right == pytest.approx(100 * where.get((row.name, row.name), 0) / total)
        assert row.ground == pytest.approx(100 * where.get((GROUND, row.name), 0) / total)
        assert row.right + row.objects + row.ground == pytest.approx(100)
    wrong = sorted((n for (true, said), n in where.items() if true not in (said, GROUND)), reverse=True)
    assert [taken.pixels for taken in found.taken] == wrong[: len(found.taken)]
    assert all(where[taken.true, taken.said] == taken.pixels for taken in found.taken)


def test_episodes_go_from_the_worst_to_the_best(content: Content) -> None:
    task = made_up.task(*TASKS[0])
    iou = []
    for e in range(len(task.episodes)):
        each = []
        for way in (1, 2):
            is_, said = ((labels[e] == way) & (task.truth[e] != 255) for labels in (task.truth, task.prediction))
            each.append((is_ & said).sum() / (is_ | said).sum())
        iou.append(100 * np.mean(each))
    assert content.spread.mean == pytest.approx(np.mean(iou))
    assert content.spread.worst[0].number == int(np.argmin(iou))
    assert content.spread.best[0].iou == pytest.approx(max(iou))
    assert sum(content.spread.counts) == len(iou)
    shown_iou = [episode.iou for episode in content.gallery]
    assert shown_iou == sorted(shown_iou)
    assert (shown_iou[0], shown_iou[-1]) == (pytest.approx(min(iou)), pytest.approx(max(iou)))
    for episode in content.gallery:
        e = episode.number
        assert episode.iou == pytest.approx(iou[e])
        assert episode.support == task.episodes.support[e].tolist()
        assert [query.sample for query in episode.queries] == task.episodes.query[e].tolist()


def test_pictures_show_the_masks_that_they_are_of() -> None:
    picture, truth = np.full((160, 200, 3), 90, dtype=np.uint8), np.zeros((160, 200), dtype=np.int64)
    truth[40:100, 50:120] = 1
    scores = np.stack([np.where(truth == 0, 1.0, -1.0), np.where(truth == 1, 1.0, -1.0)])
    found = query_pictures(picture, truth, scores, 0)
    drawn = {name: np.asarray(getattr(found, name).picture) for name in ("image", "truth", "prediction", "score")}
    assert (drawn["image"] == 90).all()
    assert drawn["truth"][40, 80].tolist() == list(bytes.fromhex(WAY_COLORS[0][1:])), "the mask's border"
    assert drawn["truth"][20, 80].tolist() == [90] * 3
    assert (drawn["prediction"] == drawn["truth"]).all()
    assert drawn["score"][70, 80, 0] > drawn["score"][70, 80, 2], "orange on the way"
    assert drawn["score"][20, 20, 0] < drawn["score"][20, 20, 2], "violet elsewhere"


@pytest.mark.parametrize(("size", "expected"), [((40, 30), (160, 120)), ((160, 320), (160, 320)), ((640, 480), (320, 240))])
def test_pictures_have_the_page_s_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    found = shown(np.zeros((*size, 3), dtype=np.uint8)).picture
    assert isinstance(found, Image.Image)
    assert (found.height, found.width) == expected
    assert max(expected) <= SIDE


def test_the_page_is_self_contained_and_says_everything(content: Content, html: str) -> None:
    outline = check_page(html)
    words = " ".join(" ".join(outline.words).split())
    assert {str(section["id"]) for section in outline.named("section")} == set(TITLES)
    for said in (content.command, *content.hashes.values(), "above on", SALIENCY, "all foreground", "untrained, cosine"):
        assert said in words
    for line in content.lines:
        assert any(f"{line.mean:.2f} ({line.low:.1f} to {line.high:.1f})" in row for row in outline.cells)
    for name in made_up.NAMES:
        assert any(name in row for row in outline.cells)
    for row in content.classes:
        assert any(row.name in cells and f"{row.iou:.1f}" in cells for cells in outline.cells)
    alts = [str(image["alt"]) for image in outline.named("img")]
    queries = sum(len(episode.queries) for episode in content.gallery)
    assert sum(alt.startswith("prediction for query") for alt in alts) == queries
    assert sum(alt.startswith("score map of") for alt in alts) == queries
    assert sum(alt.startswith("support image") for alt in alts) == sum(len(way) for e in content.gallery for way in e.support)
    assert len(set(alts)) > len(alts) // 2


def test_a_page_of_one_task_and_of_nothing_found_is_a_page_too() -> None:
    task = made_up.Task(1, 1)
    nothing = task.counts(np.zeros_like(task.prediction))
    full = made_up.content([(1, 1)])
    content = replace(
        full,
        classes=classes_of(nothing, {}, made_up.NAMES),
        mistakes=mistakes_of(np.zeros_like(task.taken()), made_up.NAMES),
        spread=spread_of(nothing, made_up.NAMES),
        gallery=gallery_of(nothing, task.episodes, made_up.NAMES),
        paired=[],
        warning="training was given the labels of these classes",
    )
    assert content.mistakes.objects is None
    assert content.spread.mean == 0
    text = page(content, draw(content), made_up.pictures(full) | made_up.pictures(content))
    outline = Outline(text)
    words = " ".join(outline.words)
    assert outline.open == []
    assert "Nothing was wrongly found." in words
    assert "Training was given the labels of these classes." in words


def test_several_folds_stand_beside_their_mean() -> None:
    one = made_up.content([(1, 1)])
    moved = {"0": -2.0, "1": 2.0, "mean": 0.0}
    lines = [replace(line, fold=fold, mean=line.mean + by) for line in one.lines for fold, by in moved.items()]
    content = replace(one, lines=lines, paired=[replace(v, fold=fold) for v in one.paired for fold in moved])
    assert content.fold == "mean"
    assert [line.mean for line in content.of("miou", 1, 1)] == [line.mean for line in one.of("miou", 1, 1)]
    outline = check_page(page(content, draw(content), made_up.pictures(content)))
    cosine = [cells for cells in outline.cells if cells[:2] == ["cosine", "mIoU"]]
    assert [cells[2] for cells in cosine] == ["0", "1", "mean"]
    assert "mean over folds" in " ".join(outline.words)


def test_rows_of_an_evaluation_are_called_what_people_call_them() -> None:
    same = {"ways": 1, "shots": 1, "rule": "miou", "low": 1.0, "high": 3.0, "excluded": 0, "part_of": ""}
    who = [("pretrained", "cosine"), ("untrained", "cosine"), ("perfect_saliency", "")]
    rows = [{"model": model, "head": head, "fold": None, "mean": 2.0, **same} for model, head in who]
    found = lines_of({"rows": [*rows, {**rows[0], "mean": None}]})
    assert [(line.who, line.kind, line.fold) for line in found] == [
        ("cosine", "model", ""), ("untrained, cosine", "untrained", ""), ("perfect saliency", "rule", ""),
    ]  # fmt: skip
    several = lines_of({"rows": [{**rows[0], "model": "a", "fold": 1}, {**rows[0], "model": "b", "fold": "mean"}]})
    assert [(line.who, line.fold) for line in several] == [("a, cosine", "1"), ("b, cosine", "mean")]
    assert data_of("mask_folder/test/0", {"root": "x/crops", "fold": [0, 1]}) == "crops/test, folds 0, 1"
    assert data_of("mask_folder/test/0", {"root": "x/crops", "fold": [0]}) == "crops/test/0"


def test_contents_are_plain_values(content: Content) -> None:
    kept = json.loads(json.dumps(content.as_dict(), allow_nan=False))
    assert kept["kind"] == "kinshot report"
    assert kept["lines"][0]["figure"] == "miou"


@needs_browser
@pytest.mark.parametrize("width", [1280, 500])
def test_every_image_shows_and_nothing_sticks_out(html: str, tmp_path: Path, width: int) -> None:
    found = laid_out(html, tmp_path, width)
    assert found["images"] == len(Outline(html).named("img"))
    assert found["empty"] == 0
    assert found["wide"] <= 0
    assert found["height"] > 3000


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (500, "light")])
def test_the_page_is_seen_in_light_and_dark(html: str, tmp_path: Path, width: int, scheme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    pixels = seen(file, tmp_path, (width, 7000), *dark)
    cards, bars = {"light": ("#ffffff", "#0b6aa8"), "dark": ("#1a2028", "#5cb3ee")}[scheme]
    assert share(pixels, cards) > 0.3
    assert share(pixels, bars) > 0.0001  # the figures of this scheme
    assert share(pixels, WAY_COLORS[0]) * pixels[..., 0].size > 100, "swatches of the first way"
