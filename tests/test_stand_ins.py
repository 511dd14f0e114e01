"""A run goes on although a few of its samples have gone, changed or become unreadable: others of their classes stand in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import CheckpointError, DataError
from kinshot.datasets.base import ArraySource
from kinshot.datasets.stand_ins import as_begun, sample_keys
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.hooks import RunHooks
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import TINY
from tests.trees import noise

IMAGES, LABELS, NAMES = noise(0, 60, 1, 4, 4), np.repeat([0, 1, 2], 20), ["a", "b", "c"]


def part(rows, names=NAMES, labels=LABELS) -> ArraySource:
    return ArraySource(IMAGES[rows], labels[rows], names)


def begun(now: ArraySource, before: ArraySource):
    return as_begun(now, sample_keys(before), before.labels, before.fingerprint())


def test_numbers_stay_and_others_of_the_class_stand_in():
    before, rows = part(np.arange(60)), np.delete(np.arange(60), [3, 41])[::-1]
    found = begun(part(rows), before)
    assert found is not None
    assert found.gone.tolist() == [3, 41]
    assert (found.labels == LABELS).all()
    assert found.class_names == NAMES
    assert found.fingerprint() == before.fingerprint()
    loaded = found.load(np.arange(60)).numpy()
    kept = np.delete(np.arange(60), [3, 41])
    assert (loaded[kept] == IMAGES[kept]).all()
    for row in (3, 41):
        (origin,) = np.flatnonzero((loaded[row] == IMAGES).all((1, 2, 3)))
        assert origin != row
        assert LABELS[origin] == LABELS[row]
        assert found.digests([row]) == before.digests([origin])
    assert "2 of the 60 samples" in found.note()
    assert "1 of a, 1 of c" in found.note()
    assert (sample_keys(found) == sample_keys(before)).all()


def test_what_is_new_is_left_out_and_classes_keep_their_numbers():
    before = part(np.arange(20, 60), ["b", "c"], LABELS - 1)
    found = begun(part(np.delete(np.arange(60), 30)), before)  # class a is new, and comes first
    assert found is not None
    assert found.class_names == ["b", "c"]
    assert (found.labels == LABELS[20:] - 1).all()
    assert "20 that were not there are left out" in found.note()


@pytest.mark.parametrize("change", ["four gone", "class gone", "relabelled", "no labels", "other"])
def test_another_set_is_another_set(change):
    before = part(np.arange(60))
    now = {
        "four gone": lambda: part(np.arange(4, 60)),
        "class gone": lambda: part(np.arange(40)),
        "relabelled": lambda: part(np.arange(60), labels=np.roll(LABELS, 7)),
        "no labels": lambda: ArraySource(IMAGES),
        "other": lambda: ArraySource(noise(1, 60, 1, 4, 4), LABELS, NAMES),
    }[change]()
    assert begun(now, before) is None


def test_without_labels_any_other_stands_in():
    before = ArraySource(IMAGES)
    found = as_begun(ArraySource(IMAGES[1:]), sample_keys(before), np.full(60, -1), before.fingerprint())
    assert found is not None
    assert found.labels is None
    assert torch.equal(found.load(np.arange(1, 60)), torch.from_numpy(IMAGES[1:]))


# ---- runs


def photos(root: Path) -> list[Path]:
    for c in range(2):
        (root / f"kind{c}").mkdir(parents=True)
        for k in range(12):
            Image.fromarray(noise(50 * c + k, 16, 16, 3)).save(root / f"kind{c}" / f"{k:02d}.png")
    return sorted(root.glob("*/*.png"))


def recipe(root: Path, *more: str):
    settings = ["data=folder", "data.size=16", "train.batch_size=4", "monitor.keep=100", "monitor.tensorboard=false", "monitor.knn_every=0"]
    return load_recipe(str(TINY), [*settings, f"data.root={root}", *more])


def trained(recipe, out: Path, resume: str = "never") -> tuple[dict, str]:
    said: list[str] = []
    return train_recipe(recipe, Options(out, resume, quiet=True), said.append), "\n".join(said)


@pytest.mark.parametrize("in_memory", [0, 64])
@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_a_run_goes_on_without_a_picture(tmp_path, in_memory, method):
    files, more = photos(tmp_path / "photos"), [f"method={method}", f"data.in_memory_mib={in_memory}", "monitor.checkpoint_every=0.5"]
    more += ["method.queue=16"] * (method == "moco")
    trained(recipe(tmp_path / "photos", *more), tmp_path / "whole")
    point = sorted((tmp_path / "whole" / "checkpoints").iterdir())[1]
    files[5].unlink()
    result, said = trained(recipe(tmp_path / "photos", *more), tmp_path / "less", resume=str(point))
    assert result["steps"] == 12
    assert result["stand_ins"] == 1
    assert "1 of the 24 samples that the run began with are gone or changed (1 of kind0)" in said
    last = tmp_path / "less" / "checkpoints" / "step-00000012"
    assert load_checkpoint(last).state["source"] == load_checkpoint(point).state["source"]
    (tmp_path / "less" / "result.json").unlink()
    assert trained(recipe(tmp_path / "photos", *more), tmp_path / "less", resume="auto")[0]["stand_ins"] == 1
    for path in files[:2]:
        path.unlink()
    with pytest.raises(CheckpointError, match="other data"):
        trained(recipe(tmp_path / "photos", *more), tmp_path / "more", resume=str(point))


@pytest.mark.parametrize("way", ["remove", "leave out", "repair", "nothing"])
def test_a_picture_that_breaks_in_mid_run(tmp_path, monkeypatch, way):
    """It is named, with the ways on; each of them works."""
    broken = photos(tmp_path / "photos")[3]
    intact, settings, out = broken.read_bytes(), ["data.in_memory_mib=0", "monitor.checkpoint_every=0.1"], tmp_path / "run"
    whole = RunHooks.after_step

    def breaks(self, run, result, epoch):
        whole(self, run, result, epoch)
        if run.step == 6:
            broken.write_bytes(intact[:60])

    with monkeypatch.context() as patch:
        patch.setattr(RunHooks, "after_step", breaks)
        with pytest.raises(DataError, match=r"03\.png.*\n.*--resume auto.*ssl check.*unreadable=leave_out"):
            trained(recipe(tmp_path / "photos", *settings), out)
    if way == "remove":
        broken.unlink()
    elif way == "repair":
        broken.write_bytes(intact)
    more = ["data.unreadable=leave_out"] if way == "leave out" else []
    result, _ = trained(recipe(tmp_path / "photos", *settings, *more), out, resume="auto")
    assert result["steps"] == 12
    assert result.get("stand_ins", 0) == (0 if way == "repair" else 1)
