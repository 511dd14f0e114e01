"""Objects that are lost in the frame or in maps are named before anything is measured, and none is dropped without a word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.cli.segmentation import main
from kinshot.core.errors import DataError
from kinshot.datasets.frames import Frame
from kinshot.datasets.scenes import ArrayScenes
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import dry_run
from kinshot.segmentation.episodes import sample_dense_episodes
from kinshot.segmentation.heads.cosine import cosine
from kinshot.segmentation.lost import Convention, convention, lost_shots
from tests.segmentation_runs import write_run


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Eight pictures of 64 pixels: a class that is large in six of them and one pixel in `6` and four pixels in `7`."""
    place = tmp_path_factory.mktemp("scenes")
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (place / folder).mkdir()
    for number in range(8):
        mask = np.zeros((64, 64), dtype=np.uint8)
        if number < 6:
            mask[8:40, 16 : 40 + number] = 1
        elif number == 6:
            mask[32, 32] = 1
        else:
            mask[32:34, 32:34] = 1
        Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(place / "images" / f"{number}.png")
        Image.fromarray(mask).save(place / "masks" / f"{number}.png")
    (place / "classes.json").write_text(json.dumps({"1": "cat"}))
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory, root) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run")  # conv4 on 32 pixels: maps of 2 x 2


def test_every_command_says_which_objects_the_frame_loses(root, run, capsys, tmp_path):
    data = ["--data", f"mask_folder:{root}"]
    said = f"1 times a picture does not count for a class, as a square of 32 pixels shows nothing of it (cat in {root / 'masks' / '6.png'})"
    assert main(["episodes", "make", *data, "--set", "size=32", "--episodes", "20", "-o", str(tmp_path / "list.json")]) == 0
    assert said in capsys.readouterr().err
    assert main(["eval", str(run), *data, "--shots", "1", "--episodes", "3", "--no-reference", "--outlines", "0"]) == 0
    assert said in capsys.readouterr().err
    overrides = ["data=mask_folder", f"data.root={root}", "data.split=all", "data.size=32", "train.batch_size=3", "method.tasks=1",
                 "encoder.width=4", "encoder.depth=2", "validation=null"]  # fmt: skip
    assert any(said in note for note in dry_run(load_recipe("glyph_scenes", overrides), Options(tmp_path / "run"))["notes"])


def test_evaluation_says_which_objects_maps_lose(root, run, capsys):
    args = ["eval", str(run), "--data", f"mask_folder:{root}", "--set", "size=32", "--episodes", "40", "--shots", "1", "--no-reference",
            "--outlines", "0"]  # fmt: skip
    for head, loses in (("cosine:pooling=nearest", True), ("cosine", False), ("ridge", False)):
        assert main([*args, "--heads", head]) == 0
        lost = re.search(
            r"1 of 7 objects of the support are lost in maps of 2 x 2 cells and left out, and in \d+ of 40 episodes a way is "
            r"left without any \(cat in (.*)\): a larger size or min_area keeps to objects that are seen, or pooling=upsample",
            capsys.readouterr().err,
        )
        assert lost is not None if loses else lost is None
        if lost is not None:
            assert lost[1] == str(root / "images" / "7.png")


def test_prediction_refuses_an_object_that_maps_lose(root, run, capsys, tmp_path):
    shot = f"{root / 'images' / '7.png'}:{root / 'masks' / '7.png'}"
    args = ["predict", str(run), str(root / "images" / "0.png"), "--support", shot, "-q"]
    assert main([*args, "--head", "cosine:pooling=nearest", "-o", str(tmp_path / "lost")]) == 3
    said = capsys.readouterr().err
    assert f"mask {root / 'masks' / '7.png'}: its object is lost where cosine:pooling=nearest brings masks to maps of 2 x 2 cells" in said
    assert "give a larger --frame" in said
    assert main([*args, "-o", str(tmp_path / "kept")]) == 0


def test_what_loses_objects_is_what_segmenters_say_of_themselves():
    assert convention("cosine", {}) is None
    assert convention("ridge", {"penalty": 2.0}) is None
    assert convention("cosine", {"pooling": "nearest"}) == Convention("nearest", False)
    assert convention("cosine", {"pooling": "downsample", "align_corners": True}) == Convention("downsample", True)
    assert convention("pfenet", {}) == Convention("downsample", True)


@pytest.mark.parametrize(("pooling", "align_corners"), [("nearest", False), ("downsample", False), ("downsample", True)])
def test_lost_shots_are_those_that_cosine_leaves_out(pooling, align_corners):
    """By episodes one by one: a way whose every shot is lost has the score 0 everywhere, and no other way has."""
    random = np.random.default_rng(1)
    masks = np.zeros((30, 24, 24), dtype=np.uint8)
    for number, mask in enumerate(masks):
        for value, side in ((1, random.integers(1, 8)), (2, random.integers(1, 8))):
            top, left = random.integers(0, 24 - side, 2)
            mask[top : top + side, left : left + side] = value
        mask[0, 0], mask[1 + number % 2, 0] = 1, 2
    masks[:10, 0, 0] = 0
    scenes = ArrayScenes(random.integers(0, 255, (30, 3, 24, 24), dtype=np.uint8), masks, ["a", "b"])
    episodes = sample_dense_episodes(scenes.contains, scenes.photos, ways=2, shots=2, queries=1, episodes=40, seed=0)
    found = lost_shots(episodes, scenes, Convention(pooling, align_corners), (4, 4))
    maps = torch.rand(1, 2, 2, 5, 4, 4) + 0.1
    bare, lost = set(), set()
    for number in range(len(episodes)):
        way_of = episodes.classes[number]
        for way, shot in np.ndindex(2, 2):
            row = int(episodes.support[number, way, shot])
            mask = torch.from_numpy(masks[row] == way_of[way]).long().expand(1, 1, 1, 24, 24)
            one = cosine(dense(maps[:, :1, :1], mask), pooling=pooling, align_corners=align_corners)
            if not one[:, :, 1].any():
                lost.add((row, int(way_of[way])))
        if any(all((int(row), int(way_of[way])) in lost for row in episodes.support[number, way]) for way in range(2)):
            bare.add(number)
    assert set(zip(found.rows.tolist(), found.classes.tolist(), strict=True)) == lost
    assert found.bare == len(bare)
    assert 0 < len(lost) < found.of


def dense(maps, masks):
    from kinshot.segmentation.dense import Dense

    return Dense({"map": maps}, masks, {"map": maps[:, 0]})


def test_arrays_that_say_they_show_a_class_that_the_frame_loses_are_refused():
    masks = np.zeros((3, 8, 8), dtype=np.uint8)
    masks[:, 4:, 4:] = 1
    masks[2], masks[2, 0, 0] = 0, 1
    images, contains = np.zeros((3, 3, 8, 8), dtype=np.uint8), np.ones((3, 1), dtype=bool)
    assert ArrayScenes(images, masks, ["cat"], contains=contains).contains.all()
    with pytest.raises(DataError, match=r"of 1 images, 2 the first, .*'cat' there.*square of 4 pixels shows nothing: give a larger frame"):
        ArrayScenes(images, masks, ["cat"], frame=Frame(4), contains=contains)
    assert ArrayScenes(images, masks, ["cat"], frame=Frame(4)).contains.tolist() == [[True], [True], [False]]
