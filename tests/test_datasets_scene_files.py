"""Scenes in files: which classes and pictures they hold, that pictures and masks agree, and what is wrong with those that do not."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.cli.ssl import main
from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES, scene_files
from kinshot.datasets.scene_files import FileScenes
from tests.trees import mask_of, noise, write_scenes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_scenes(tmp_path)
    return tmp_path


def build(root: Path, **settings: Any) -> FileScenes:
    return SOURCES.build("mask_folder", settings={"root": str(root), "size": 8, **settings})


def save(path: Path, values: np.ndarray, **how: object) -> None:
    Image.fromarray(values).save(path, **how)


def raw(root: Path, stem: str) -> np.ndarray:
    return np.asarray(Image.open(root / "masks" / f"{stem}.png"))


@pytest.mark.parametrize("in_memory_mib", [0, 1])
def test_all_classes_with_their_pixels(root: Path, in_memory_mib: int) -> None:
    source = build(root, in_memory_mib=in_memory_mib)
    assert source.in_memory == bool(in_memory_mib)
    assert source.class_names == [f"thing{c}" for c in range(1, 6)]
    assert source.sizes.tolist() == [[10, 10], [12, 16]] * 3
    for row in range(6):
        stored = raw(root, f"p{row}")
        assert np.array_equal(source.native_mask(row), stored)
        assert source.contains[row].tolist() == [(stored == c).any() for c in range(1, 6)]
        assert np.array_equal(source.native_image(row).permute(1, 2, 0), np.asarray(Image.open(root / "images" / f"p{row}.png")))
    assert source.photos[0] == source.photos[1]
    assert len(set(source.photos.tolist())) == 5
    assert np.array_equal(source.load([3], ["mask"])["mask"][0], source.frame.mask(source.native_mask(3), 255))
    assert np.array_equal(source.load([3], ["image"])["image"][0], source.frame.image(source.native_image(3)))


def test_the_same_samples_in_memory_and_on_demand_and_unpickled(root: Path) -> None:
    kept, asked = build(root, in_memory_mib=1), build(root, in_memory_mib=0)
    again = pickle.loads(pickle.dumps(asked))
    for other in (asked, again):
        for field in ("image", "mask"):
            assert torch.equal(kept.load(range(6), [field])[field], other.load(range(6), [field])[field])
    assert kept.fingerprint() == asked.fingerprint()
    assert np.array_equal(kept.digests(range(6)), asked.digests(range(6)))


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("foldless", ["other", "base"])
def test_folds_divide_classes_and_mark_the_others(root: Path, fold: int, foldless: str) -> None:
    train, test = (build(root, split=split, fold=fold, foldless=foldless) for split in ("train", "test"))
    held = [1, 2] if fold == 0 else [3, 4]
    base = [c for c in range(1, 5) if c not in held] + ([5] if foldless == "base" else [])
    assert test.class_names == [f"thing{c}" for c in held]
    assert train.class_names == [f"thing{c}" for c in base]
    for source, own in ((train, base), (test, held)):
        for row in range(len(source)):
            stored, found = raw(root, source.files[row].stem), source.native_mask(row).numpy()
            assert (found[stored == 0] == 0).all()
            assert (found[stored == 255] == 255).all()
            for value in range(1, 6):
                assert (found[stored == value] == (own.index(value) + 1 if value in own else source.other)).all()


def test_pictures_without_the_split_s_classes_are_left_out_with_a_word(root: Path) -> None:
    source = build(root, split="thing2,4")
    assert source.class_names == ["thing2", "thing4"]
    kept = [f"p{k}" for k in range(6) if {2, 4} & set(raw(root, f"p{k}").reshape(-1).tolist())]
    assert [path.stem for path in source.files] == kept
    only = build(root, split="thing1")
    assert len(only) < 6
    assert f"{6 - len(only)} of 6 pictures hold none of the classes" in only.notes[0]


def test_other_classes_are_ignored_or_their_pictures_removed(root: Path) -> None:
    ignoring = build(root, split="test", novel="ignore")
    for row in range(len(ignoring)):
        stored = raw(root, ignoring.files[row].stem)
        assert (ignoring.native_mask(row).numpy()[np.isin(stored, [3, 4, 5])] == 255).all()
    save(root / "masks" / "p0.png", mask_of(10, 10, 1, 2))
    removing = build(root, split="test", novel="remove")
    assert [path.stem for path in removing.files] == ["p0"]
    assert "5 of 6 pictures hold other classes and are left out" in removing.notes[0]
    with pytest.raises(DataError, match=r"1 classes of the split are in no mask of those left \(thing4\).*novel=other"):
        build(root, split="4", novel="remove")


def test_small_objects_do_not_count_but_stay_in_the_mask(root: Path) -> None:
    small = raw(root, "p0").copy()
    small[small == 2] = 0
    small[3, 3] = 2
    save(root / "masks" / "p0.png", small)
    assert build(root).contains[0, 1]
    source = build(root, min_area=2)
    assert not source.contains[0, 1]
    assert (source.native_mask(0) == 2).sum() == 1
    small[3, 3], small[2, 2] = 0, 2  # which no pixel of the square is nearest to
    save(root / "masks" / "p0.png", small)
    source = build(root)
    assert not source.contains[0, 1]
    where = root / "masks" / "p0.png"
    assert (
        f"1 times a picture does not count for a class, as a square of 8 pixels shows nothing of it (thing2 in {where}): "
        "raise size if it is to count"
    ) in source.notes
    with pytest.raises(DataError, match=r"in no mask with at least 500 pixels.*lower min_area"):
        build(root, split="test", min_area=500)


def test_a_class_that_the_square_loses_everywhere_is_named_with_its_masks(root: Path) -> None:
    """A needed one is refused, any other is left out with a word: neither is in no mask."""
    for k in range(6):
        mask = raw(root, f"p{k}").copy()
        mask[mask == 4] = 0
        if mask.shape == (10, 10):
            mask[2, 2] = 4  # which no pixel of the square is nearest to
        save(root / "masks" / f"p{k}.png", mask)
    with pytest.raises(
        DataError, match=r"a square of 8 pixels shows nothing of 1 classes of the split \(thing4 in .*p0\.png, .*raise size"
    ):
        build(root, split="thing2,thing4")
    source = build(root)
    assert "thing4" not in source.class_names
    assert any("a square of 8 pixels shows nothing are left out: thing4" in note for note in source.notes)
    assert not any("in no mask" in note for note in source.notes)
    assert "thing4" in build(root, size=10).class_names
    for k in range(6):
        save(root / "masks" / f"p{k}.png", np.pad(np.full((1, 1), 1, np.uint8), ((2, 7), (2, 7))))
        save(root / "images" / f"p{k}.png", noise(k, 10, 10, 3))
    with pytest.raises(DataError, match=r"a square of 8 pixels shows nothing of any class \(thing1 in .*p0\.png, .*\): raise size"):
        build(root)


def test_a_kind_of_samples(root: Path) -> None:
    table = (root / "photos.csv").read_text().splitlines()
    (root / "photos.csv").write_text("\n".join([*table[:4], *(line.replace("scene", "crop") for line in table[4:])]))
    assert [path.stem for path in build(root, kind="crop").files] == ["p3", "p4", "p5"]
    with pytest.raises(ConfigError, match=r"of the kind 'crops': did you mean 'crop'"):
        build(root, kind="crops")
    (root / "photos.csv").unlink()
    assert len(set(build(root).photos.tolist())) == 6
    with pytest.raises(ConfigError, match="asks for a column kind"):
        build(root, kind="crop")


def test_without_a_list_classes_are_called_by_their_numbers(root: Path) -> None:
    (root / "classes.json").unlink()
    assert build(root).class_names == ["1", "2", "3", "4", "5"]
    with pytest.raises(ConfigError, match="fold 0 has no class: no class in"):
        build(root, split="test")


def test_image_and_mask_go_the_same_way_into_the_square(tmp_path: Path) -> None:
    """The class is what is bright: so it is after framing, but for pixels that the border runs through."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k, (height, width) in enumerate([(40, 40), (30, 64), (64, 30), (16, 16)]):
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2, width // 3 : -3] = 1
        save(tmp_path / "images" / f"{k}.png", np.repeat(mask[:, :, None] * 255, 3, axis=2))
        save(tmp_path / "masks" / f"{k}.png", mask)
    for fit in ("squash", "letterbox"):
        samples = build(tmp_path, size=32, fit=fit).load(range(4), ["image", "mask"])
        bright, mask = samples["image"][:, 0].int(), samples["mask"]
        assert (bright[mask == 1] > 60).all()
        assert (bright[mask == 0] < 195).all()
        assert (mask == 1).flatten(1).any(1).all()
        assert (bright[mask == 255] == 0).all()
        assert bool((mask == 255).any()) == (fit == "letterbox")


def test_pictures_that_are_marked_to_be_turned(root: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    image = noise(0, 12, 16, 3)
    save(root / "images" / "p0.png", image, exif=exif)  # shown as 16 x 12
    save(root / "masks" / "p0.png", mask_of(16, 12, 1, 2, 5))
    source = build(root)
    assert source.sizes[0].tolist() == [16, 12]
    assert np.array_equal(source.native_image(0).permute(1, 2, 0), np.rot90(image, -1))
    save(root / "masks" / "p0.png", mask_of(12, 16, 1, 2, 5))
    with pytest.raises(
        DataError, match=r"(?s)p0\.png has 12 x 16 .*p0\.png 16 x 12, and the picture is marked to be turned .*orientation 6"
    ):
        build(root)
    exif[274] = 3  # upside down: sizes do not tell
    save(root / "images" / "p0.png", image, exif=exif)
    with pytest.raises(DataError, match="orientation 3"):
        build(root)


def test_masks_are_part_of_what_a_set_is(root: Path) -> None:
    before = build(root)
    prints = {before.fingerprint()}
    digests = before.digests(range(6))
    for change in ({"fit": "letterbox"}, {"split": "train"}, {"split": "1,2"}, {"split": "1,2", "novel": "ignore"}):
        prints.add(build(root, **change).fingerprint())
    mask = raw(root, "p2").copy()
    mask[0, 0] = 4
    save(root / "masks" / "p2.png", mask)
    after = build(root)
    prints.add(after.fingerprint())
    assert len(prints) == 6
    assert (after.digests(range(6)) != digests).tolist() == [False, False, True, False, False, False]
    assert after.native_mask(2)[0, 0] == 4


def test_masks_are_looked_through_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(root, in_memory_mib=0)
    monkeypatch.setattr(scene_files, "failures", None)
    again = build(root, in_memory_mib=0)
    assert np.array_equal(first.contains, again.contains)
    assert np.array_equal(first.sizes, again.sizes)


def test_what_is_wrong_with_a_set_of_masks_is_said_with_what_to_do(root: Path) -> None:
    def refused(match: str, **settings: Any) -> None:
        with pytest.raises(DataError, match=match):
            build(root, **settings)

    keep = raw(root, "p0")
    save(root / "masks" / "p0.png", mask_of(9, 10, 1, 2))
    refused(r"p0\.png has 10 x 10 pixels and its mask .*p0\.png 10 x 9: give each picture its own mask")
    save(root / "masks" / "p0.png", np.full((10, 10), 77, np.uint8))
    refused(r"masks hold 77, which no class is called by \(.*p0\.png holds 77\): name these numbers")
    save(root / "masks" / "p0.png", np.zeros((10, 10, 3), np.uint8))
    refused(r"p0\.png is a coloured picture")
    save(root / "masks" / "p0.png", keep)
    (root / "masks" / "p1.png").rename(root / "masks" / "q1.png")
    refused(r"p1\.png: this image has no mask: .*unpaired=leave_out")
    left = build(root, unpaired="leave_out")
    assert len(left) == 5
    assert ["p1" in left.notes[0], "q1" in left.notes[1]] == [True, True]
    save(root / "images" / "q1.png", np.zeros((12, 16, 3), np.uint8))
    (root / "images" / "p1.png").unlink()
    refused("has no row for q1")
    (root / "images" / "q1.png").unlink()
    refused(r"q1\.png: this mask has no image")


def test_what_may_be_wrong_is_said(root: Path) -> None:
    assert build(root).notes == []
    save(root / "masks" / "p1.png", raw(root, "p3"))
    save(root / "masks" / "p4.png", np.where(raw(root, "p4") > 0, 255, 0).astype(np.uint8))
    notes = "\n".join(build(root).notes)
    assert "1 masks hold 0 and 255 alone" in notes
    assert "p4.png" in notes
    assert "1 masks are copies of others, though their pictures differ" in notes
    assert "p1.png" in notes
    assert "p3.png" in notes


def test_classes_that_are_nowhere(root: Path) -> None:
    table = json.loads((root / "classes.json").read_text())
    table["6"] = {"name": "rare", "fold": 1}
    table["7"] = "extra"
    (root / "classes.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=r"mask_folder/test/1: 1 classes of the split are in no mask \(rare\)"):
        build(root, split="test", fold=1)
    whole = build(root)
    assert whole.class_names == [f"thing{c}" for c in range(1, 6)]
    assert "classes that are in no mask are left out: rare, extra" in whole.notes[0]
    with pytest.raises(ConfigError, match=r"split names 'thing9'.*did you mean"):
        build(root, split="thing9")
    with pytest.raises(ConfigError, match="fold 4 has no class"):
        build(root, split="train", fold=4)


def test_black_and_white_masks(root: Path) -> None:
    for k in range(6):
        save(root / "masks" / f"p{k}.png", ((raw(root, f"p{k}") % 255 > 0) * 255).astype(np.uint8))
    with pytest.raises(DataError, match=r"no mask holds an object: all hold 0 and 255 alone, .*p0\.png.*set binary=true"):
        build(root)
    (root / "classes.json").unlink()
    source = build(root, binary=True)
    assert source.class_names == ["foreground"]
    assert source.native_mask(0).unique().tolist() == [0, 1]
    for k in range(6):
        save(root / "masks" / f"p{k}.png", np.zeros_like(raw(root, f"p{k}")))
    with pytest.raises(DataError, match="none of 6 masks holds an object"):
        build(root)


def test_coloured_masks_with_colours_in_the_list(root: Path) -> None:
    table = json.loads((root / "classes.json").read_text())
    colours = np.random.default_rng(0).integers(1, 255, (256, 3), dtype=np.uint8)
    colours[0] = 0
    given = {
        key: {**(value if isinstance(value, dict) else {"name": value}), "colour": colours[int(key)].tolist()}
        for key, value in table.items()
    }
    given["255"] = {"name": "void", "colour": colours[255].tolist()}
    before = build(root)
    for k in range(6):
        save(root / "masks" / f"p{k}.png", colours[raw(root, f"p{k}")])
    (root / "classes.json").write_text(json.dumps(given))
    after = build(root)
    assert torch.equal(before.load(range(6), ["mask"])["mask"], after.load(range(6), ["mask"])["mask"])
    assert after.class_names == before.class_names


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "no list of classes"), ("{", "is not valid JSON"), ('{"cat": 1}', "'cat' is no number"), ('{"1": 5}', "class 1 is 5"),
     ('{"1": "a", "2": "a"}', "several numbers are called 'a'"), ('{"1": {"name": "a", "colour": [1, 2]}}', "the colour of class 1"),
     ('{"300": "a"}', "'300' is no number")],
)  # fmt: skip
def test_lists_of_classes_that_are_none(root: Path, text: str, message: str) -> None:
    (root / "classes.json").write_text(text)
    with pytest.raises(DataError, match=message):
        build(root)


@pytest.mark.parametrize("settings", [{"size": 4}, {"min_area": 0}, {"in_memory_mib": -1}])
def test_settings_that_do_not_fit(root: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="size must be in"):
        build(root, **settings)


def test_it_is_checked_like_other_folders(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"mask_folder:{root}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["classes"], found["unreadable"]) == (6, 5, [])
    assert found["smallest_class"] == {"name": "thing4", "samples": 2}
    (root / "images" / "p3.png").write_bytes((root / "images" / "p3.png").read_bytes()[:100])
    assert main(["check", f"mask_folder:{root}", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert [Path(entry["file"]).name for entry in found["unreadable"]] == ["p3.png"]


def test_bad_masks_end_a_check_with_three_and_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(root / "masks" / "p1.png", np.zeros((12, 16, 3), np.uint8))
    save(root / "masks" / "p2.png", mask_of(8, 10, 1))
    assert main(["check", f"mask_folder:{root}"]) == 3
    told = "".join(capsys.readouterr())
    assert "p1.png is a coloured picture" in told
    assert "p2.png 10 x 8: give each picture its own mask" in told
    assert main(["check", "mask_folder:nowhere"]) == 3
    assert "nowhere" in "".join(capsys.readouterr())


def test_the_small_set_of_real_photographs(shared: Path, tmp_path: Path) -> None:
    """The published list of folds, and how many photographs show each class in the centre of a crop."""
    with np.load(shared / "data" / "coco_cc_crops128.npz") as file:
        data = {key: file[key] for key in ("images", "masks", "photo_id", "class_names", "fold_of_class")}
    chosen = np.flatnonzero(data["photo_id"] <= np.unique(data["photo_id"])[12])
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for row in chosen:
        save(tmp_path / "images" / f"{row:03d}.png", data["images"][row], compress_level=1)
        save(tmp_path / "masks" / f"{row:03d}.png", data["masks"][row], compress_level=1)
    table = {str(c): {"name": str(data["class_names"][c]), "fold": int(data["fold_of_class"][c])} for c in range(81)}
    (tmp_path / "classes.json").write_text(json.dumps(table))
    photos = data["photo_id"][chosen]
    (tmp_path / "photos.csv").write_text("stem,photo_id\n" + "".join(f"{r:03d},{p}\n" for r, p in zip(chosen, photos, strict=True)))
    source = build(tmp_path, split="person,chair,cup", size=128)
    assert source.class_names == ["person", "cup", "chair"]
    for row in range(len(source)):
        stored = data["masks"][int(source.files[row].stem)]
        assert source.contains[row].tolist() == [(stored == c).any() for c in (1, 42, 57)]
    assert len(set(source.photos.tolist())) == len({photos[chosen == int(path.stem)][0] for path in source.files})
