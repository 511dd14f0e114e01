"""An index of a folder: only what is new is embedded, what is damaged is refused, and no kill loses what was done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.core.filelock import FileLock
from kinshot.core.runlock import Busy
from kinshot.datasets.images import load_image
from kinshot.index import building, layout, shards
from kinshot.index.layout import MANIFEST, read_manifest, write_manifest
from kinshot.index.opened import open_index
from tests.enrolled_tools import small_encoder
from tests.index_tools import build, changed, contents, folder_of, opened, picture, rows_of, save
from tests.tiny import environment

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and shards of a few rows."""
    for module, name, value in ((building, "FILES", 6), (building, "BATCH", 4), (shards, "ROWS", 8)):
        monkeypatch.setattr(module, name, value)


def features(out: Path) -> dict[str, torch.Tensor]:
    """The feature of each file."""
    index = opened(out)
    rows = torch.from_numpy(rows_of(index))
    return {file.path: rows[file.row] for file in index.state.table}


def test_features_are_those_of_the_files(tmp_path, small):
    folder = folder_of(tmp_path / "in", 20)
    done = build(folder, tmp_path / "i")
    assert (done.files, done.contents, changed(done.counts)) == (20, 20, [0, 20, 0, 0, 0, 20])
    found = features(tmp_path / "i")
    expected = small_encoder()[0].embed([folder / path for path in found])["backbone"]
    assert list(found) == sorted(found)
    torch.testing.assert_close(torch.stack(list(found.values())).float(), expected, rtol=0, atol=1e-5)


def test_changes_are_counted_and_only_new_contents_are_embedded(tmp_path, small):
    folder, out = folder_of(tmp_path / "in", 30), tmp_path / "i"
    build(folder, out)
    before = features(out)
    assert changed(build(folder, out).counts) == [30, 0, 0, 0, 0, 0]
    files = sorted(folder.rglob("*.png"))
    files[0].unlink()
    files[1].rename(folder / "elsewhere.png")
    shutil.copy2(files[2], folder / "a copy.png")
    save(files[3], picture(100))
    os.utime(files[4])  # touched, with the content that it had
    save(folder / "new.png", picture(101))
    done = build(folder, out)
    assert changed(done.counts) == [27, 2, 1, 1, 1, 2]  # the copy is added, and not embedded
    assert (done.files, done.contents) == (31, 30)
    after = features(out)
    assert after.keys() == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    kept = before.keys() & after.keys() - {files[3].relative_to(folder).as_posix()}
    assert all(torch.equal(before[path], after[path]) for path in kept)
    assert torch.equal(after["elsewhere.png"], before[files[1].relative_to(folder).as_posix()])
    build(folder, tmp_path / "anew")
    anew = features(tmp_path / "anew")
    assert anew.keys() == after.keys()
    assert all(torch.allclose(anew[path], after[path], rtol=0, atol=1e-5) for path in anew)
    names = [piece.rows for piece in read_manifest(out).shards]
    assert sum(names) == 30
    assert max(names) <= 8


def test_the_same_size_and_time_with_another_content_just_after_is_seen(tmp_path):
    """A file that is written again within a clock's tick keeps its time: what was new when it was read is hashed the next time."""
    folder = tmp_path / "in"
    for number in range(3):
        save(folder / f"{number}.bmp", picture(number))
    times = os.stat(folder / "0.bmp")
    os.utime(folder / "0.bmp")
    now = os.stat(folder / "0.bmp").st_mtime_ns
    build(folder, tmp_path / "i")
    save(folder / "0.bmp", picture(9))
    os.utime(folder / "0.bmp", ns=(now, now))
    assert os.stat(folder / "0.bmp").st_size == times.st_size
    assert changed(build(folder, tmp_path / "i").counts) == [2, 0, 1, 0, 0, 1]


def test_a_folder_that_was_moved_keeps_its_features(tmp_path):
    folder = folder_of(tmp_path / "in", 6)
    build(folder, tmp_path / "i")
    folder.rename(tmp_path / "there")
    index = opened(tmp_path / "i", folder=tmp_path / "there")
    assert index.search([tmp_path / "there" / "a" / "001.png"], 1)[0][0].path == "a/001.png"
    assert changed(build(tmp_path / "there", tmp_path / "i").counts) == [6, 0, 0, 0, 0, 0]
    other = folder_of(tmp_path / "other", 3)
    (other / "a").rename(other / "c")
    (other / "b").rename(other / "d")
    with pytest.raises(ConfigError, match="none is below"):
        build(other, tmp_path / "i")


def test_names_of_all_kinds_and_links(tmp_path):
    folder = tmp_path / "in"
    for number, name in enumerate((b"caf\xe9.png", "Übung & <b>.png".encode(), b"two\nlines.png", b" .png")):
        path = folder / os.fsdecode(name)
        save(tmp_path / "x.png", picture(number))
        folder.mkdir(exist_ok=True)
        os.replace(tmp_path / "x.png", path)
    save(tmp_path / "outside" / "o.png", picture(8))
    (folder / "link.png").symlink_to(tmp_path / "outside" / "o.png")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "to nowhere.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(DataError, match="to nowhere"):
        build(folder, tmp_path / "i")
    done = build(folder, tmp_path / "i", unreadable="leave_out")
    assert done.unreadable.keys() == {"to nowhere.png"}
    assert "linked" in done.note
    paths = opened(tmp_path / "i").paths
    assert os.fsdecode(b"caf\xe9.png") in paths
    assert len(paths) == 5
    assert changed(build(folder, tmp_path / "i", unreadable="leave_out").counts) == [5, 0, 0, 0, 0, 0]


def test_unreadable_files_are_named_and_tried_again_when_they_change(tmp_path, small):
    folder, out = folder_of(tmp_path / "in", 14), tmp_path / "i"
    bad = folder / "b" / "009.png"
    bad.write_bytes(bad.read_bytes()[:60])
    (folder / "text.jpg").write_text("no picture")
    for path in (bad, folder / "text.jpg"):
        os.utime(path, ns=(1_500_000_000_000_000_000,) * 2)
    with pytest.raises(DataError, match=r"(?s)2 of 15 images cannot be read.*leave_out"):
        build(folder, out)
    assert not (out / MANIFEST).exists()
    done = build(folder, out, unreadable="leave_out")
    assert (done.counts["embedded"], done.counts["embedded before"], done.files) == (0, 13, 13)
    assert set(done.unreadable) == {"b/009.png", "text.jpg"}
    assert done.unreadable["text.jpg"].endswith("text.jpg: cannot identify image file: repair or remove the file")
    looked: list[str] = []
    real, building.look = building.look, lambda root, path, *rest: looked.append(path) or real(root, path, *rest)
    try:
        assert build(folder, out, unreadable="leave_out").unreadable.keys() == done.unreadable.keys()
        assert looked == []
        save(bad, picture(9))
        assert changed(build(folder, out, unreadable="leave_out").counts) == [13, 1, 0, 0, 0, 1]
        assert looked == ["b/009.png"]
    finally:
        building.look = real
    with pytest.raises(DataError, match=r"text\.jpg"):
        build(folder, out)


def test_what_a_stopped_call_did_is_kept(tmp_path, small, monkeypatch):
    folder, out = folder_of(tmp_path / "in", 30), tmp_path / "i"
    real, parts = building.write_part, []

    def stops(*given):
        if len(parts) == 3:
            raise KeyboardInterrupt
        parts.append(real(*given))
        return parts[-1]

    monkeypatch.setattr(building, "write_part", stops)
    with pytest.raises(KeyboardInterrupt):
        build(folder, out)
    with pytest.raises(CheckpointError, match="cannot read"):
        open_index(out)
    monkeypatch.setattr(building, "write_part", real)
    damaged = next(out.glob("part-*"))
    damaged.write_bytes(damaged.read_bytes()[:-3])  # is done again
    done = build(folder, out)
    assert (done.counts["embedded"], done.counts["embedded before"]) == (18, 12)
    build(folder, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def writers(*words: str) -> str:
    line = [sys.executable, "-m", "tests.index_writers", *words]
    return subprocess.run(line, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_kill_at_any_moment_leaves_a_whole_state_and_no_work_is_lost(tmp_path):
    folder_of(tmp_path / "in", 40)
    said = writers("killed", str(tmp_path / "in"), str(tmp_path / "i"), "8")
    assert said.startswith("True "), said


def test_two_writers_lose_nothing(tmp_path):
    folder_of(tmp_path / "in", 30)
    said = writers("two", str(tmp_path / "in"), str(tmp_path / "i"))
    assert said.strip() in ("[0, 0] 30", "[0, 7] 30")
    with FileLock(tmp_path / "i" / MANIFEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_WAIT", 0.0)
        with pytest.raises(Busy, match="in use by process"):
            build(tmp_path / "in", tmp_path / "i")


# -- what is no index, or a damaged one


@pytest.fixture
def made(tmp_path, small) -> Path:
    build(folder_of(tmp_path / "in", 12), tmp_path / "i")
    return tmp_path / "i"


def sealed(out: Path, **changes: object) -> None:
    """The manifest with entries changed, and a checksum that fits."""
    told = json.loads((out / MANIFEST).read_text())
    told.pop("checksum")
    told |= changes
    (out / MANIFEST).write_text(json.dumps({**told, "checksum": layout._checksum(told)}))


@pytest.mark.parametrize("kind", ["rows", "files"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "longer"])
def test_damaged_files_are_refused(made, kind, damage):
    path = next(made.glob(f"{kind}-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= damage == "flipped"
    path.write_bytes({"truncated": data[:-9], "longer": data + b"0"}.get(damage, bytes(data)))
    if damage == "missing":
        path.unlink()
    for work in (lambda: open_index(made), lambda: build(made.parent / "in", made)):
        with pytest.raises(CheckpointError, match=path.name):
            work()


def test_a_flipped_manifest_is_refused(made):
    text = (made / MANIFEST).read_text()
    (made / MANIFEST).write_text(text.replace('"begun_ns": ', '"begun_ns": 1', 1))
    with pytest.raises(CheckpointError, match="damaged"):
        open_index(made)
    for wrong, match in ((text[:200], "JSON"), ("[]", "not of an index"), ('{"kind": "kinshot index"}', "damaged")):
        (made / MANIFEST).write_text(wrong)
        with pytest.raises(CheckpointError, match=match):
            open_index(made)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schema_version": 2}, "newer"),
        ({"schema_version": 0}, "version"),
        ({"dim": -1}, "does not describe"),
        ({"dim": 7}, "expected"),
        ({"shards": []}, "rows"),
        ({"folder": 3}, "does not describe"),
        ({"files": {"name": "../../etc/passwd", "bytes": 1, "sha256": "0" * 64, "rows": 1}}, "no name of a file"),
        ({"shards": [{"name": "rows-0/../../x.safetensors", "bytes": 1, "sha256": "0" * 64, "rows": 1}]}, "no name of a file"),
        ({"unreadable": [{"path": "x"}]}, "does not describe"),
        ({"encoder": {"name": "x"}}, "does not describe"),
    ],
)
def test_a_manifest_that_lies_is_refused(made, changes, match):
    sealed(made, **changes)
    with pytest.raises(CheckpointError, match=match):
        open_index(made)


@pytest.mark.parametrize(("name", "value"), [("row", 99), ("of_row", -1), ("first", 99), ("ends", 10**9)])
def test_a_table_that_leads_out_of_the_index_is_refused(made, name, value):
    found = load_file(next(made.glob("files-*")))
    found[name][2] = value
    replaced(made, found)
    with pytest.raises(CheckpointError, match=name):
        open_index(made)


def replaced(made: Path, table: dict[str, torch.Tensor]) -> None:
    """Another table of files, as a forger would put it there."""
    manifest = read_manifest(made)
    piece = layout.write_piece(made, "files", table, manifest.files.rows)
    write_manifest(made, replace(manifest, files=piece))


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/passwd", "a/../../x", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(made, path):
    found = load_file(next(made.glob("files-*")))
    names = [path.encode(), *(b"x%d.png" % number for number in range(11))]
    found["paths"] = torch.from_numpy(np.frombuffer(b"".join(names), dtype=np.uint8).copy())
    found["ends"] = torch.from_numpy(np.cumsum([len(name) for name in names]))
    replaced(made, found)
    index = opened(made)
    with pytest.raises(CheckpointError, match="not below its folder"):
        list(index.state.table)


def test_foreign_tensors_are_refused(made):
    manifest = read_manifest(made)
    save_file({"features": torch.zeros(3, 2)}, made / "x")
    piece = layout.write_piece(made, "rows", {"features": torch.zeros(3, manifest.dim)}, 3)
    write_manifest(made, replace(manifest, shards=(piece,)))
    with pytest.raises(CheckpointError, match="not those of an index"):
        open_index(made)


def test_another_encoder_is_refused(made, tmp_path):
    model, identity = small_encoder()
    with pytest.raises(ConfigError, match="was made with small"):
        building.build_index(tmp_path / "in", made, opened=(model, replace(identity, weights="0" * 64)))
    with pytest.raises(ConfigError, match="thumbnails of 96"):
        build(tmp_path / "in", made, thumbnails=64)


def test_folders_without_images_and_other_folders_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        build(tmp_path / "empty", tmp_path / "i")
    with pytest.raises(DataError, match="no folder"):
        build(tmp_path / "nothing", tmp_path / "i")
    folder = folder_of(tmp_path / "in", 3)
    with pytest.raises(ConfigError, match="no index"):
        build(folder, folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="no folder"):
        build(folder, tmp_path / "file")
    assert not (tmp_path / "i").exists()
    for side in (3, 1000):
        with pytest.raises(ConfigError, match="8 to 512"):
            build(folder, tmp_path / "i", thumbnails=side)


def test_thumbnails_are_of_the_whole_picture_the_right_way_up(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    wide = Image.fromarray(picture(0, (60, 200)))
    turned = wide.getexif()
    turned[274] = 6
    wide.save(folder / "wide.png")
    wide.save(folder / "turned.jpg", exif=turned)
    save(folder / "small.png", picture(1, (10, 12)))
    build(folder, tmp_path / "i", thumbnails=50)
    index = opened(tmp_path / "i")
    sizes = {}
    for file in index.state.table:
        (tmp_path / "t.jpg").write_bytes(index.thumbnail(file.row))
        with Image.open(tmp_path / "t.jpg") as image:
            sizes[file.path] = image.size
            assert not image.getexif()  # places and names that cameras write go no further
    assert sizes == {"wide.png": (50, 15), "turned.jpg": (15, 50), "small.png": (12, 10)}
    build(folder, tmp_path / "none", thumbnails=0)
    assert opened(tmp_path / "none").thumbnail(0) == b""


def test_pixels_are_those_of_every_other_reader(tmp_path, monkeypatch):
    """One decode gives what `load_image` gives, whatever the picture."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 33), dtype=np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 255, (40, 33, 4), dtype=np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(rng.integers(0, 60000, (40, 33), dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(picture(0)).save(tmp_path / "p.gif")
    for channels in (1, 3):
        spec = replace(small_encoder()[1].input, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
        for path in sorted(tmp_path.iterdir()):
            found = building.look(tmp_path, path.name, spec, 16, lambda content: False)
            assert found.pixels is not None
            np.testing.assert_array_equal(found.pixels, load_image(path, 16, channels))
