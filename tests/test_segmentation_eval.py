"""`segmentation eval` end to end: rows, intervals, references, folds, seeds, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli.segmentation import main
from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.recipes.recipe import Choice
from kinshot.samples.pixels import PixelSpec
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.counts import Counts
from kinshot.segmentation.methods.panet import PANet
from kinshot.segmentation.rules import miou
from kinshot.segmentation.segmenter import takes_network
from kinshot.studies.segmentation.evaluate import meet
from kinshot.studies.segmentation.figures import mean_of_folds, sampled
from kinshot.studies.segmentation.tasks import SceneDrawing
from tests.segmentation_runs import DATA, write_run

QUICK = ["--episodes", "12", "--shots", "1", "-q"]


def measured(capsys, *args) -> dict:
    assert main(["eval", *map(str, args), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def row(result, **wanted):
    (found,) = [one for one in result["rows"] if all(one[key] == value for key, value in wanted.items())]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return [write_run(place / f"run_seed={seed}", seed=seed) for seed in range(3)]


def test_one_run_stands_beside_its_references(runs, capsys, tmp_path):
    saved, results = tmp_path / "list.npz", tmp_path / "results.json"
    args = [runs[0], *DATA, *QUICK, "--heads", "cosine,prototype:cells=20"]
    found = measured(capsys, *args, "--save-episodes", saved, "--results", results)
    assert {(one["model"], one["head"]) for one in found["rows"]} == {
        *(("pretrained", head) for head in ("cosine", "prototype:cells=20")),
        *(("untrained", head) for head in ("cosine", "prototype:cells=20")),
        ("all_foreground", ""),
        ("perfect_saliency", ""),
    }
    assert {one["rule"] for one in found["rows"]} == {"miou", "fb_iou", "dice", "boundary_f"}
    assert all(one["low"] <= one["mean"] <= one["high"] for one in found["rows"])
    assert {(one["against"], one["head"]) for one in found["differences"] if one["model"] == "pretrained"} == {
        ("untrained", "cosine"), ("untrained", "prototype:cells=20"), ("pretrained", "prototype:cells=20"),
        ("perfect_saliency", "cosine"), ("perfect_saliency", "prototype:cells=20"),
    }  # fmt: skip
    assert found["above_saliency"] is False
    again = measured(capsys, *args, "--episode-list", saved)
    assert again["rows"] == found["rows"]
    assert again["protocol"]["episode hashes"] == found["protocol"]["episode hashes"]
    document = json.loads(results.read_text())
    assert document["rows"][0]["mean"] == round(found["rows"][0]["mean"], 3)
    assert {"1-way 1-shot mIoU, %", "1-way 1-shot FB-IoU, %"} <= {one["metric"] for one in document["rows"]}
    assert document["data"]["size"] == "native"
    tested = [one["p"] for one in document["rows"] if "p" in one]
    assert tested
    assert tested == [float(f"{p:.2g}") for p in tested]


def test_all_foreground_is_what_the_masks_say(runs, capsys, tmp_path):
    """The class-blind rule from the masks themselves: sums of the class's pixels over those of the images."""
    from kinshot.segmentation.episode_files import read_episode_list

    saved = tmp_path / "list.json"
    found = measured(capsys, runs[0], *DATA, *QUICK, "--save-episodes", saved)
    episodes = read_episode_list(saved).episodes
    source = SOURCES.build("glyph_scenes", settings={"classes": 8, "per_class": 6, "size": 32, "split": "test"})
    above, below = np.zeros(8), np.zeros(8)
    for classes, query in zip(episodes.classes[:, 0], episodes.query[:, 0], strict=True):
        above[classes - 1] += (source.masks[query] == classes).sum()
        below[classes - 1] += 32 * 32
    expected = 100 * (above[below > 0] / below[below > 0]).mean()
    assert row(found, model="all_foreground", rule="miou")["mean"] == pytest.approx(expected, abs=1e-5)


def test_seeds_make_a_mean_and_are_paired_with_others(runs, capsys, tmp_path):
    wide = [write_run(tmp_path / f"wide_seed={seed}", seed=seed, encoder={"name": "conv4", "width": 6}) for seed in range(2)]
    found = measured(capsys, *runs[:2], *wide, *DATA, *QUICK, "--no-reference", "--outlines", "0")
    means = [one for one in found["rows"] if one["model"].startswith("mean of 2") and one["rule"] == "miou"]
    assert len(means) == 2
    for mean in means:
        parts = [one for one in found["rows"] if one["part_of"] == mean["model"] and one["rule"] == "miou"]
        assert mean["mean"] == pytest.approx(np.mean([one["mean"] for one in parts]), abs=1e-5)
        assert mean["n"] == 2
    (apart,) = found["differences"]
    assert apart["mean"] == pytest.approx(means[1]["mean"] - means[0]["mean"], abs=1e-5)
    assert apart["n"] == 2
    assert found["above_saliency"] is None
    assert {one["rule"] for one in found["rows"]} == {"miou", "fb_iou", "dice"}


def test_tables_name_what_they_rest_on(runs, capsys):
    assert main(["eval", str(runs[0]), *DATA, *QUICK, "--ways", "1,2", "--interval", "classes", "--protocol", "panet", "--size", "48"]) == 0
    text = capsys.readouterr().out
    for part in ("scored at size 48, rules panet", "bootstrap over classes", "1-way 1-shot", "2-way 1-shot", "mIoU (PANet's rule)",
                 "perfect_saliency", "does NOT lie above perfect class-blind saliency", "IoU by class, pretrained"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--heads", "cosin"], 2, "did you mean 'cosine'"),
        (["--heads", "cosine:alfa=3"], 2, "did you mean 'alpha'"),
        (["--heads", "prototype:cels=3"], 2, "did you mean 'cells'"),
        (
            ["--heads", "base_suppressed:head=ridge"],
            2,
            "its head must be a segmenter that needs no trained network, got 'ridge': valid names",
        ),
        (["--heads", "base_suppressed:head=pfenet"], 2, "needs no trained network, got 'pfenet'"),
        (["--heads", "rows"], 2, "'rows' is how few-shot heads segment: name the head"),
        (["--stage", "blok3"], 2, "has no stage 'blok3'"),
        (["--size", "big"], 2, "--size: expected native, frame"),
        (["--fold", "0"], 2, "glyph_scenes has no folds"),
        (["--fold", "x"], 2, "--fold"),
        (["--episodes", "1"], 2, "--episodes"),
        (["--outlines", "2"], 2, "--outlines"),
        (["--ways", "9"], 3, "9-way episodes need 9 classes"),
        (["--shots", "6"], 3, "needs 7 photographs of a class"),
        (["--shots", "6"], 3, "leave these classes out (--short-classes leave_out"),
        (["--ways", "1,2", "--save-episodes", "list.npz"], 2, "--save-episodes keeps one task"),
        (["--episode-list", "none.npz"], 3, "none.npz"),
        (["--data", "digits"], 3, "digits has no class maps"),
    ],
)
def test_what_cannot_be_measured_is_refused(runs, args, code, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in args else DATA
    assert main(["eval", str(runs[0]), *data, *QUICK, *args]) == code
    assert told in capsys.readouterr().err


def test_outlines_within_rims_of_which_nothing_is_said_count_where_that_is_asked_for(runs, capsys, tmp_path):
    """Objects with a rim around, as PASCAL's: they have no outline, or one amid the rim, which a perfect answer has."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[6:24, 8:26], mask[8:22, 10:24] = 255, 1
        Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    args = [runs[0], "--data", f"mask_folder:{tmp_path}", *QUICK]
    wanted = {"model": "perfect_saliency", "rule": "boundary_f"}
    assert row(measured(capsys, *args), **wanted)["mean"] is None
    amid = measured(capsys, *args, "--rims", "nearest")
    assert row(amid, **wanted)["mean"] == pytest.approx(100)
    assert row(amid, model="all_foreground", rule="boundary_f")["mean"] == 0
    assert "where the truth says nothing both have the label of the nearest pixel" in amid["protocol"]["outlines"]


@pytest.mark.parametrize("head", [name for name in SEGMENTERS.names() if takes_network(name)])
def test_a_head_that_needs_training_is_refused_without_it(head, runs, capsys):
    assert main(["eval", str(runs[0]), *DATA, *QUICK, "--heads", head]) == 2
    method = {"pfenet": "pfenet", "base_suppressed": "base_classes"}[head]
    assert f"segmenter {head} needs the network that `segmentation train` with the method {method} learns" in capsys.readouterr().err


def test_inputs_of_several_sizes_that_lose_other_objects_are_refused_with_what_helps(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[8:40, 8:40] = 1
        if number < 5:
            mask[60, 60] = 2  # a single pixel, that a square of 16 pixels does not show
            mask[50:58, 20:28] = 2 if number < 3 else 0
        Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    data, drawing = Choice("mask_folder", {"root": str(tmp_path)}), SceneDrawing([1], [1], episodes=20)
    inputs = [PixelSpec.unmeasured((3, side, side)) for side in (16, 64)]
    with pytest.raises(DataError, match=r"16 x 16 \(squash\) and 64 x 64 \(squash\).*--set size=N"):
        meet(data, inputs, drawing, lambda text: None)
    one = meet(Choice("mask_folder", {"root": str(tmp_path), "size": 64}), inputs, drawing, lambda text: None)
    assert {source.frame.size for source in one.sources.values()} == {64}


def counted(seed: int, episodes: int = 30) -> Counts:
    random = np.random.default_rng(seed)
    return Counts(random.integers(1, 5, (episodes, 1)), random.integers(0, 50, (episodes, 1, 2, 2)))


def test_intervals_of_one_run_are_the_bootstraps_percentiles():
    counts = counted(0)
    one = sampled({0: counts}, miou, "episodes", 7).figure()
    assert one.mean == pytest.approx(100 * miou(counts).value)
    assert one.n == 30
    each = []
    for number in range(400):  # slowly: lists of episodes drawn again
        rows = np.random.default_rng(number).integers(30, size=30)
        each.append(100 * miou(counts[rows]).value)
    assert one.ci95 == pytest.approx((np.quantile(each, 0.975) - np.quantile(each, 0.025)) / 2, rel=0.2)


def test_a_run_minus_itself_is_nothing_and_folds_have_draws_of_their_own():
    counts = counted(1)
    same = sampled({0: counts}, miou, "episodes", 7).minus(sampled({3: counts}, miou, "episodes", 7))
    assert (same.mean, same.ci95, same.p) == (0, 0, 1)
    folds = [sampled({0: counts}, miou, "episodes", 7, fold) for fold in (0, 1)]
    assert not np.array_equal(folds[0].draws[0], folds[1].draws[0])
    mean = mean_of_folds(folds)
    assert mean.figure().mean == pytest.approx(100 * miou(counts).value)
    assert mean.figure().ci95 < folds[0].figure().ci95


def test_the_spread_of_seeds_widens_the_interval():
    a, b = counted(2), counted(3)
    b = Counts(a.classes, b.confusion)
    both = sampled({0: a, 1: b}, miou, "episodes", 7)
    alone = [sampled({seed: one}, miou, "episodes", 7).figure() for seed, one in ((0, a), (1, b))]
    assert both.figure().mean == pytest.approx(np.mean([one.mean for one in alone]))
    assert both.figure().n == 2
    assert both.figure().ci95 > 12.7 * abs(alone[0].mean - alone[1].mean) / 2 * 0.99  # Student's t of one degree of freedom


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of four classes in two folds, squares of a class's colour, six pictures of each."""
    root, random = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir()
    for number in range(24):
        value, picture, mask = number % 4 + 1, random.integers(80, 170, (24, 28, 3), dtype=np.uint8), np.zeros((24, 28), dtype=np.uint8)
        top, left = random.integers(0, 12, 2)
        picture[top : top + 9, left : left + 9] = (60 * value, 250 - 60 * value, 40)
        mask[top : top + 9, left : left + 9] = value
        Image.fromarray(picture).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    classes = {str(value): {"name": f"class {value}", "fold": (value - 1) % 2} for value in range(1, 5)}
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def test_runs_of_one_fold_each_are_measured_on_their_own_and_averaged(folder, capsys, tmp_path):
    data = [{"name": "mask_folder", "root": str(folder), "split": "train", "fold": fold, "size": 32} for fold in (0, 1)]
    runs = [write_run(tmp_path / f"fold={fold}_seed={seed}", seed=seed, data=data[fold]) for fold in (0, 1) for seed in (0, 1)]
    found = measured(capsys, *runs, *QUICK, "--outlines", "0")
    assert found["data"]["fold"] == [0, 1]
    assert found["data"]["classes"] == 4
    miou = [one for one in found["rows"] if one["rule"] == "miou"]
    (label,) = {one["model"] for one in miou if one["model"].startswith("mean of 2")}
    by_fold = {one["fold"]: one for one in miou if one["model"] == label}
    assert by_fold.keys() == {0, 1, "mean"}
    assert by_fold["mean"]["mean"] == pytest.approx((by_fold[0]["mean"] + by_fold[1]["mean"]) / 2, abs=1e-5)
    assert by_fold["mean"]["n"] == 2
    for fold in (0, 1):
        parts = [one for one in miou if one["fold"] == fold and one["part_of"] == label]
        assert sorted(Path(one["model"]).name for one in parts) == [f"fold={fold}_seed={seed}" for seed in (0, 1)]
        assert by_fold[fold]["mean"] == pytest.approx(np.mean([one["mean"] for one in parts]), abs=1e-5)
    assert {one["fold"] for one in miou if one["model"] == "perfect_saliency"} == {0, 1, "mean"}
    assert row(found, model="perfect_saliency", rule="miou", fold="mean")["mean"] == pytest.approx(100)
    named = {(one["fold"], one["name"]) for one in found["classes"]}
    assert named == {(0, "class 1"), (0, "class 3"), (1, "class 2"), (1, "class 4")}
    assert "fold 0: " in found["protocol"]["episode hashes"]


def test_folds_mean_the_classes_that_they_hold_out(folder, runs, capsys):
    assert main(["eval", str(runs[0]), "--data", f"mask_folder:{folder}", "--fold", "0,1", *QUICK, "--outlines", "0"]) == 0
    text = capsys.readouterr().out
    for part in ("mIoU, fold 0", "mIoU, fold 1", "mIoU, mean", "FB-IoU, mean", "class 3"):
        assert part in text
    one = measured(capsys, runs[0], "--data", f"mask_folder:{folder}", "--fold", "1", *QUICK, "--outlines", "0")
    assert {row["name"] for row in one["classes"]} == {"class 2", "class 4"}
    assert {row["fold"] for row in one["rows"]} == {1}


def test_a_run_that_met_a_class_in_training_is_told(folder, capsys, tmp_path):
    data = {"name": "mask_folder", "root": str(folder), "split": "train", "fold": 0, "size": 32}
    run = write_run(tmp_path / "run", data=data)
    found = measured(capsys, run, "--data", f"mask_folder:{folder}", "--fold", "1", *QUICK, "--outlines", "0")
    assert "2 of 2 classes" in found["protocol"]["seen in training, fold 1"]
    assert main(["eval", str(run), "--data", f"mask_folder:{folder}", "--fold", "1,2", *QUICK]) == 2
    assert "left out fold 0 in training, and --fold asks for others" in capsys.readouterr().err


PANET = """
data: {name: glyph_scenes, split: train, size: 32, classes: 8, per_class: 6}
views: {name: warp, views: 1, rotation: 5.0}
encoder: {name: conv4, width: 4}
projector: {layers: 0}
method: {name: panet}
train: {epochs: 1, batch_size: 2, threads: 1}
monitor: {tensorboard: false}
"""


def test_a_run_is_trained_and_measured_on_the_unseen_classes_of_its_own_data(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(PANET)
    assert main(["train", "tiny.yaml", "--out", "run", "-q"]) == 0
    capsys.readouterr()
    found = measured(capsys, "run", *QUICK, "--heads", "cosine,cosine:alpha=5")
    assert found["data"]["name"] == "glyph_scenes/test"
    assert found["pretrained_by"][0].startswith("segmentation train")
    assert "none of 8 classes and none of 16 images were in the training data" in found["protocol"]["seen in training"]
    by_head = {one["head"]: one for one in found["rows"] if one["model"] == "pretrained" and one["rule"] == "miou"}
    assert by_head["cosine"]["mean"] == pytest.approx(by_head["cosine:alpha=5"]["mean"])  # a factor changes no order of scores
    assert measured(capsys, "run", *QUICK, "--no-reference")["rows"][0]["head"] == "cosine"


def test_training_goes_on_after_an_interruption(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(PANET)
    assert main(["train", "tiny.yaml", "train.epochs=2", "--out", "whole", "-q"]) == 0
    calls = []

    def interrupted(self, *args, **more):
        calls.append(1)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return loss(self, *args, **more)

    loss = PANet.loss
    with monkeypatch.context() as patch:
        patch.setattr(PANet, "loss", interrupted)
        assert main(["train", "tiny.yaml", "train.epochs=2", "--out", "parts", "-q"]) == 130
    assert "step-00000008" in [path.name for path in Path("parts", "checkpoints").iterdir()]
    assert main(["train", "tiny.yaml", "train.epochs=2", "--out", "parts", "--resume", "auto", "-q"]) == 0
    one, other = (sorted(Path(name, "checkpoints").iterdir())[-1] / "encoder.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()
