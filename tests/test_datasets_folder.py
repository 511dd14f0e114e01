"""Folders of images as strangers have them: foreign files and folders, names, levels, depths, and files that cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.images import load_image
from tests.trees import noise


def write(place: Path, count: int = 3, ending: str = ".png", seed: int = 0) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(noise(100 * seed + k, 12, 12, 3)).save(place / f"{k}{ending}")


def build(root: Path, **chosen):
    return SOURCES.build("folder", settings={"root": str(root), "size": 8, **chosen})


# ---- what is left out


def test_what_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    write(tmp_path / "a")
    write(tmp_path / "b", seed=1)
    for name in ("a/1.HEIC", "a/2.heic", "b/3.heic", "b/notes.txt", "b/README", "readme.txt", "film.mov"):
        (tmp_path / name).write_bytes(b"x")
    for name in (".DS_Store", "a/Thumbs.db", "b/._0.png", "desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    Image.fromarray(noise(7, 8, 8, 3)).save(tmp_path / "loose.png")
    for name in ("__MACOSX/a", ".git", "a/@eaDir"):
        write(tmp_path / name)
    (tmp_path / "b" / "linked").symlink_to(tmp_path / "a")
    source = build(tmp_path)
    assert source.class_names == ["a", "b"]
    assert len(source) == 6
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"left out of {tmp_path}: 3 .heic, 1 .mov, 1 .txt, 1 without an ending, 1 picture beside the class folders, "
        "1 linked folders (linked), folders that are no classes (@eaDir, __MACOSX): convert those that are pictures to JPEG or PNG"
    )
    build(tmp_path)
    assert len(caplog.records) == 1  # once is enough


def test_a_folder_with_nothing_to_say_says_nothing(tmp_path, caplog):
    write(tmp_path / "a")
    build(tmp_path)
    build(tmp_path, labels="none")
    assert caplog.records == []


def test_a_class_without_a_readable_format_says_what_lies_there(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for k in range(4):
        (tmp_path / "b" / f"{k}.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image found in .*b, only 4 \.heic: "):
        build(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    write(tmp_path / "a" / "deeper")
    (tmp_path / "a" / "deeper").chmod(0)
    with pytest.raises(DataError, match="deeper"):
        build(tmp_path)


# ---- levels and names


def test_a_root_one_level_too_high(tmp_path, caplog):
    for split in ("train", "test"):
        write(tmp_path / "data" / split / "cat")
        write(tmp_path / "data" / split / "dog")
    with pytest.raises(
        DataError, match=r"folders test, train, whose pictures all lie in folders.*\(cat, dog\).*set split to one of test, train"
    ):
        build(tmp_path / "data")
    assert len(build(tmp_path / "data", split="train")) == 6
    assert len(build(tmp_path / "data", labels="none")) == 12
    assert caplog.records == []
    (tmp_path / "data" / "train").rename(tmp_path / "data" / "zoo")
    assert build(tmp_path / "data").class_names == ["test", "zoo"]
    assert "the former are taken for classes" in caplog.text


def test_names_that_are_no_utf8(tmp_path, caplog):
    write(tmp_path / "a")
    write(tmp_path / "b")
    os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/Mu\xf1oz")
    os.rename(tmp_path / "a" / "0.png", os.fsencode(tmp_path / "a") + b"/gr\xfc\xdfe.png")
    for chosen in ({}, {"in_memory_mib": 0}):
        source = build(tmp_path, **chosen)
        assert source.class_names == [r"Mu\xf1oz", "a"]
        json.dumps(source.class_names, ensure_ascii=False).encode("utf-8")
        assert len(source.load(np.arange(6))) == 6
        assert len(source.fingerprint()) == 64
    assert r"Mu\xf1oz" in caplog.text


@pytest.mark.parametrize("name", ["n" * 300, "no\udcf1tf8"])
def test_a_root_that_cannot_be_named_is_refused(tmp_path, name):
    with pytest.raises((ConfigError, DataError), match=r"rename|too long"):
        build(tmp_path / name)


# ---- depth


def wave(top: int, side: int = 24) -> np.ndarray:
    return np.linspace(0, top, side * side).reshape(side, side).astype(np.uint16)


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize(("bits", "top"), [(10, 1000), (12, 4095), (14, 16000)])
def test_few_bits_in_sixteen_are_refused_until_told(tmp_path, ending, bits, top):
    (tmp_path / "a").mkdir()
    for k in range(3):
        Image.fromarray(wave(top)).save(tmp_path / "a" / f"{k}{ending}")
    for chosen in ({}, {"in_memory_mib": 0}):
        with pytest.raises(DataError, match=rf"a/0{ending}.*no value above {top}.*bits={bits}"):
            build(tmp_path, channels=1, **chosen)
    found = build(tmp_path, channels=1, size=24, bits=bits).load(np.arange(1))[0, 0].numpy()
    assert (found == (wave(top) >> (bits - 8))).all()
    assert len(np.unique(found)) > 200
    assert (build(tmp_path, channels=1, size=24, bits=16).load(np.arange(1))[0, 0].numpy() == wave(top) >> 8).all()
    with pytest.raises(DataError, match=rf"0{ending}.*holds {top}, more than 9 bits"):
        build(tmp_path, bits=9)


def test_all_sixteen_bits_keep_the_upper_eight(tmp_path):
    (tmp_path / "a").mkdir()
    for k, top in enumerate((0xFFFF, 4000)):  # one dark picture among bright ones is a dark picture
        Image.fromarray(wave(top)).save(tmp_path / "a" / f"{k}.png")
    found = build(tmp_path, channels=1, size=24).load(np.arange(2))[:, 0].numpy()
    assert (found[0] == wave(0xFFFF) >> 8).all()
    assert found[1].max() == 4000 >> 8


def test_colour_of_few_bits_in_sixteen_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    write_png48(tmp_path / "a" / "0.png", 4095)
    with pytest.raises(DataError, match=r"0\.png.*come out dark"):
        build(tmp_path)
    assert int(build(tmp_path, bits=16).load(np.arange(1)).max()) == 15
    write_png48(tmp_path / "a" / "0.png", 0xFFFF)
    assert int(build(tmp_path).load(np.arange(1)).max()) == 255


def write_png48(path: Path, value: int) -> None:
    """A PNG of 16 bits a channel, which Pillow does not write: header, rows, end."""
    import struct
    import zlib

    rows = b"".join(b"\0" + struct.pack(">48H", *[value] * 48) for _ in range(16))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_sixteen_bits_turned_and_counted_from_white(tmp_path):
    pixels, exif = np.zeros((8, 8), np.uint16), Image.Exif()
    pixels[:4] = 0xFFFF
    exif[0x0112] = 6
    for ending in (".png", ".tif"):
        Image.fromarray(pixels).save(tmp_path / f"turned{ending}", exif=exif)
        shown = load_image(tmp_path / f"turned{ending}", 8, 1)[0]
        assert (shown[:, 4:] == 255).all()
        assert (shown[:, :4] == 0).all()
    Image.fromarray(pixels).save(tmp_path / "white.tif", tiffinfo={262: 0})  # WhiteIsZero
    assert (load_image(tmp_path / "white.tif", 8, 1)[0, :4] == 0).all()
    assert (load_image(tmp_path / "white.tif", 8, 1)[0, 4:] == 255).all()


def test_pages_beyond_the_first_are_said(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    pages = [Image.fromarray(noise(k, 8, 8)) for k in range(3)]
    pages[0].save(tmp_path / "a" / "stack.tif", save_all=True, append_images=pages[1:])
    source = build(tmp_path, channels=1)
    assert (source.load(np.arange(1))[0, 0].numpy() == noise(0, 8, 8)).all()
    assert "1 of 1 pictures looked at have several frames or pages" in caplog.text


@pytest.mark.parametrize("bits", [-1, 7, 17])
def test_bits_that_cannot_be(tmp_path, bits):
    with pytest.raises(ConfigError, match="from 8 to 16"):
        build(tmp_path, bits=bits)


# ---- files that cannot be read


def damaged(root: Path) -> list[Path]:
    write(root / "a", 6)
    write(root / "b", 5, seed=1)
    bad = [root / "a" / "1.png", root / "b" / "0.png", root / "b" / "3.png"]
    bad[0].write_bytes(bad[0].read_bytes()[:80])
    bad[1].write_text("hello")
    bad[2].unlink()
    os.mkfifo(bad[2])
    return bad


def test_unreadable_files_are_all_named_at_once(tmp_path):
    bad = damaged(tmp_path)
    with pytest.raises(DataError, match="3 of 11 images cannot be read") as raised:
        build(tmp_path)
    assert all(str(path) in str(raised.value) for path in bad)
    assert "unreadable=leave_out" in str(raised.value)


@pytest.mark.parametrize("in_memory", [0, 64])
def test_unreadable_files_are_left_out_by_choice(tmp_path, caplog, in_memory):
    bad = damaged(tmp_path)
    source = build(tmp_path, unreadable="leave_out", in_memory_mib=in_memory)
    assert source.labels.tolist() == [0] * 5 + [1] * 3
    kept = [path for path in sorted(tmp_path.glob("*/*.png")) if path not in bad]
    assert torch.equal(source.load(np.arange(8)), torch.from_numpy(np.stack([load_image(path, 8, 3) for path in kept])))
    assert "3 of 11 images cannot be read" in caplog.text
    for path in bad:
        path.unlink()
    assert build(tmp_path, in_memory_mib=in_memory).fingerprint() == source.fingerprint()


def test_what_could_not_be_read_is_tried_again_when_it_changes(tmp_path):
    bad = damaged(tmp_path)
    bad[2].unlink()
    assert len(build(tmp_path, unreadable="leave_out", in_memory_mib=0)) == 8
    Image.fromarray(noise(9, 12, 12, 3)).save(bad[0])
    assert len(build(tmp_path, unreadable="leave_out", in_memory_mib=0)) == 9


def test_a_class_that_cannot_be_read_at_all_is_refused(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.png").write_text("hello")
    for in_memory in (0, 64):
        with pytest.raises(DataError, match=r"no image of class 'b' can be read.*\n.*0\.png"):
            build(tmp_path, unreadable="leave_out", in_memory_mib=in_memory)
