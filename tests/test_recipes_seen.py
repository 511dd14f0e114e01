"""Evaluations say which of their classes and images training had seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli import fewshot
from kinshot.datasets.base import Source
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import Choice
from kinshot.runs.embedder import input_spec
from kinshot.samples.pixels import PixelSpec
from kinshot.studies.answers import build_source
from kinshot.studies.seen import Seen, SeenInTraining, seen_text, seen_warning
from tests.study_runs import DIGITS, call, write_run

TASK = ["--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "5", "--features", "backbone", "-q"]
GLYPHS = "glyphs,split=val,variants=4"


def pictures(place: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Folders of small pictures of noise."""
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (place / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(place / name / f"{number}.png")
    return place


def seen(run: Path, name: str, **settings) -> Seen:
    found = read(run)
    return SeenInTraining().of(found, build_source(Choice(name, settings), input_spec(found.checkpoint)))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("digits") / "run", DIGITS)


def test_a_classifier_on_its_own_classes(digits: Path) -> None:
    other = seen(digits, "digits", split="test")
    assert (other.classes, other.of_classes, other.images, other.of_images) == (10, 10, 0, 355)
    assert other.known_labels
    assert str(other) == "10 of 10 classes and 0 of 355 images were in the training data, with their labels"
    own = seen(digits, "digits", split="all")
    train = 1797 - 355
    assert (own.images, own.of_images) == (train, 1797)
    new = seen(digits, "glyphs", split="val", variants=2)
    assert (new.classes, new.images, new.labels) == (0, 0, False)
    assert seen_warning([new]) == ""
    assert "10 of these 10 classes" in seen_warning([new, other])
    assert seen_text([other, other]) == str(other)
    assert seen_text([other, new]).startswith("1 of 2 checkpoints: 10 of 10")


def test_without_labels_it_is_said_and_no_warning(tmp_path: Path) -> None:
    found = seen(write_run(tmp_path / "run", DIGITS, method="simclr"), "digits", split="train")
    assert (found.classes, found.images, found.labels) == (10, found.of_images, False)
    assert "without labels" in str(found)
    assert seen_warning([found]) == ""


@pytest.mark.parametrize("limits", [{}, {"in_memory_mib": 0}])
def test_files_are_the_same_by_content_wherever_and_however_they_are_kept(tmp_path: Path, limits: dict[str, int]) -> None:
    base = pictures(tmp_path / "base", {"ant": 4, "bee": 4})
    run = write_run(tmp_path / "run", {"name": "folder", "root": str(base), "size": 16})
    new = pictures(tmp_path / "new", {"cat": 3, "dog": 3}, seed=1)
    assert seen(run, "folder", root=str(new), **limits) == Seen(0, 2, 0, 6, False)
    shutil.copy(base / "ant/2.png", new / "dog/extra.png")
    copied = seen(run, "folder", root=str(new), **limits)
    assert (copied.classes, copied.images, copied.of_images, copied.examples) == (1, 1, 7, ("dog",))
    shutil.copytree(base, tmp_path / "copy")
    assert seen(run, "folder", root=str(tmp_path / "copy"), **limits).images == 8
    assert seen(run, "folder", root=str(base), **limits).images == 8


def test_disjoint_files_are_told_apart_by_their_sizes_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = pictures(tmp_path / "base", {"ant": 4})
    run = write_run(tmp_path / "run", {"name": "folder", "root": str(base), "size": 16})
    (tmp_path / "new/cat").mkdir(parents=True)
    Image.new("RGB", (90, 90)).save(tmp_path / "new/cat/0.bmp")
    monkeypatch.setattr("kinshot.studies.seen.content_digests", lambda paths, root: pytest.fail(f"{paths} were read"))
    assert seen(run, "folder", root=str(tmp_path / "new")).images == 0
    assert seen(run, "folder", root=str(base)).images == 4


def test_teachers_and_starting_points_count_and_what_is_gone_is_said(tmp_path: Path, digits: Path) -> None:
    glyphs = {"name": "glyphs", "split": "val", "variants": 2, "size": 16}
    student = write_run(tmp_path / "s", glyphs, method="simclr", distill={"teachers": [str(digits)], "losses": ["rkd_distance"]})
    found = seen(student, "digits", split="test")
    assert (found.classes, found.known_labels, found.unknown) == (10, True, ())
    started = write_run(tmp_path / "t", glyphs, method="simclr", init=str(student))
    assert seen(started, "digits", split="test") == found
    foreign = write_run(tmp_path / "f", glyphs, method="simclr", init="gone")
    assert str(seen(foreign, "digits", split="test")) == "unknown, because what gone was trained on is not known here"
    base = pictures(tmp_path / "base", {"ant": 4, "bee": 4})
    orphan = write_run(tmp_path / "run", {"name": "folder", "root": str(base), "size": 16})
    shutil.rmtree(base)
    lost = seen(orphan, "digits", split="test")
    assert "training data folder cannot be read now" in str(lost)
    assert seen_warning([lost]) == "training was given class labels, and it is not known whether of these classes"


def test_coarser_labels_are_labels_of_the_finer_classes_too(digits: Path) -> None:
    class Finer(Source):
        def _load(self, rows, field):
            raise NotImplementedError

        def _content(self):
            return ()

    from kinshot.studies.seen import _compared, _Training

    labels = np.array([0, 1])
    more = {"attributes": {"fine": np.array([0, -1])}, "attribute_names": {"fine": ["gala", "lime"]}}
    trained = Finer("fruit/train", PixelSpec.unmeasured((1, 2, 2)), labels, ["apple", "citrus"], 2, **more)
    trained.in_memory = False
    asked = Finer("fruit/test", PixelSpec.unmeasured((1, 2, 2)), labels, ["gala", "lime"], 2)
    found = _compared([_Training(trained, True)], asked, [])
    assert (found.classes, found.examples) == (1, ("gala",))
    assert str(found).startswith("at least 1 of 2 classes")


def test_eval_says_it_in_the_table_in_json_in_results_and_beside_the_verdict(digits: Path, tmp_path: Path, capsys) -> None:
    line = ["eval", digits, "--data", "digits", *TASK, "--results", tmp_path / "r.json"]
    found = call(capsys, *line)
    (one,) = found["seen in training"]
    assert (one["classes"], one["of_classes"], one["images"], one["of_images"], one["labels"]) == (10, 10, 0, 355, True)
    assert one["data"] == "digits/test"
    assert found["protocol"]["warning"].startswith("training was given the labels of 10 of these 10 classes (0, 1, 2, 3, 4 and 5 more)")
    assert "10 of 10 classes" in json.loads((tmp_path / "r.json").read_text())["data"]["seen in training"]
    assert fewshot.main([*map(str, line), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "seen in training: 10 of 10 classes and 0 of 355 images were in the training data, with their labels" in text
    assert "warning: training was given the labels" in text
    (verdict,) = [line for line in text.splitlines() if "both references" in line]
    assert verdict.endswith("But see the warning above.")


def test_report_says_it_too(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert fewshot.main(["report", str(digits), "--data", "digits", *TASK, "--heads", "prototype", "--device", "cpu"]) == 0
    numbers = json.loads(Path("report/report.json").read_text())
    assert numbers["warning"].startswith("training was given the labels of 10 of these 10 classes")
    assert "10 of 10 classes" in numbers["about"]["Seen in training"]
    assert "But training was given the labels of 10" in " ".join(Path("report/report.html").read_text().split())


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["crossdomain", "--data", "digits", "--data", GLYPHS, *TASK, "--no-reference"], "seen in training, digits/test"),
        (["lowshot", "--data", "digits", "--shots", "1", "--draws", "2", "--no-reference", "-q"], "seen in training"),
        (["generalized", "--novel", GLYPHS, "--shots", "1", "--draws", "2", "-q"], "seen in training, novel"),
    ],
)
def test_studies_say_it(digits: Path, capsys, args: list[str], line: str) -> None:
    protocol = call(capsys, args[0], digits, *args[1:])["protocol"]
    novel = "novel" in line
    assert ("none" if novel else "10 of 10 classes") in protocol[line]
    assert (line.replace("seen in training", "warning") in protocol) is not novel
    if args[0] == "crossdomain":
        assert "none" in protocol["seen in training, glyphs/val"]


def test_classes_that_the_checkpoint_was_chosen_on_are_no_test_classes_either(tmp_path: Path) -> None:
    glyphs = {"name": "glyphs", "split": "train", "variants": 2, "size": 16}
    run = write_run(tmp_path / "run", glyphs, method="protonet", validation={"split": "val"})
    on = seen(run, "glyphs", split="val", variants=2)
    assert (on.classes, on.chosen_on) == (0, on.of_classes)
    assert seen_warning([on]).startswith(f"the checkpoint was chosen by its accuracy on {on.of_classes} of these {on.of_classes} classes")
    other = seen(run, "glyphs", split="test", variants=2)
    assert (other.chosen_on, seen_warning([other])) == (0, "")
    own = seen(run, "glyphs", split="train", variants=2)
    assert "; the checkpoint was chosen" in seen_warning([on, own])
    assert seen_warning([on, own]).startswith("training was given the labels")


BY_LABELS = [
    {"terms": [{"objective": "info_nce", "kin": "labels"}]},
    {"terms": [{"objective": "info_nce", "kin": {"name": "graph", "of": "labels"}}]},
    {"graph": {"name": "labels"}},
]


@pytest.mark.parametrize("sections", BY_LABELS)
def test_labels_that_a_term_or_a_graph_knows_are_labels_that_training_was_given(sections, tmp_path):
    run = write_run(tmp_path / "run", DIGITS, method="simclr", **sections)
    assert seen(run, "digits", split="test", size=16).known_labels


def test_other_kin_is_no_label(tmp_path):
    terms = [{"objective": "info_nce", "kin": "views"}, {"objective": "info_nce", "kin": {"name": "graph", "of": "knn:k=3"}}]
    run = write_run(tmp_path / "run", DIGITS, method="simclr", terms=terms)
    assert not seen(run, "digits", split="test", size=16).known_labels


def test_what_the_teacher_of_a_term_was_taught_counts(digits, tmp_path):
    """A student without labels of its own, on data that its teacher never saw, knows the teacher's classes through it."""
    terms = [{"objective": "rkd_distance", "kin": {"name": "teacher", "checkpoint": str(digits)}}]
    run = write_run(tmp_path / "run", {"name": "glyphs", "split": "val", "variants": 4, "size": 16}, method="simclr", terms=terms)
    assert seen(run, "digits", split="test", size=16).known_labels
