"""Class maps from files: numbers and never colours, and every way in which a mask is none."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.core.errors import DataError
from kinshot.datasets.mask_files import MaskFiles, read_mask, write_mask

VALUES = np.array([[0, 1, 2], [7, 255, 3]], np.uint8)


def saved(path: Path, image: Image.Image, **how: object) -> Path:
    image.save(path, **how)
    return path


def grey_png(path: Path, bits: int, rows: list[bytes], width: int) -> Path:
    """A grey PNG of fewer than 8 bits, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "pgm"])
def test_a_grey_picture_gives_its_values(tmp_path: Path, ending: str) -> None:
    found = read_mask(saved(tmp_path / f"m.{ending}", Image.fromarray(VALUES)))
    assert found.dtype == np.uint8
    assert np.array_equal(found, VALUES)


def test_a_palette_gives_its_indices_whatever_its_colours(tmp_path: Path) -> None:
    palette = np.random.default_rng(0).integers(0, 256, 768).tolist()
    palette[3:6] = palette[6:9]  # two classes of one colour
    write_mask(tmp_path / "m.png", VALUES, palette)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        assert not np.array_equal(np.asarray(image.convert("L")), VALUES)
    assert np.array_equal(read_mask(tmp_path / "m.png"), VALUES)


def test_few_bits_are_not_spread(tmp_path: Path) -> None:
    four = grey_png(tmp_path / "4.png", 4, [bytes([0x01, 0x2F])], 4)
    assert read_mask(four).tolist() == [[0, 1, 2, 15]]
    two = grey_png(tmp_path / "2.png", 2, [bytes([0b00011011])], 4)
    assert read_mask(two).tolist() == [[0, 1, 2, 3]]
    one = saved(tmp_path / "1.png", Image.fromarray(np.array([[False, True]])))
    assert read_mask(one).tolist() == [[0, 1]]
    small = Image.fromarray(np.array([[0, 1, 3]], np.uint8))
    small.putpalette([9, 9, 9] * 4)
    assert read_mask(saved(tmp_path / "p.png", small, bits=2)).tolist() == [[0, 1, 3]]


def test_sixteen_bits_are_read_as_far_as_eight_hold_them(tmp_path: Path) -> None:
    fine = saved(tmp_path / "fine.png", Image.fromarray(VALUES.astype(np.uint16)))
    assert np.array_equal(read_mask(fine), VALUES)
    wide = saved(tmp_path / "wide.png", Image.fromarray(np.array([[0, 1000]], np.uint16)))
    with pytest.raises(DataError, match=r"wide\.png holds 1000, more than 8 bits can: number the classes from 1 to 253"):
        read_mask(wide)


def test_binary_masks_take_255_for_the_foreground_where_asked_to(tmp_path: Path) -> None:
    mask = saved(tmp_path / "m.png", Image.fromarray(np.array([[0, 255]], np.uint8)))
    assert read_mask(mask).tolist() == [[0, 255]]
    assert read_mask(mask, binary=True).tolist() == [[0, 1]]
    assert read_mask(saved(tmp_path / "one.png", Image.fromarray(np.array([[0, 1]], np.uint8))), binary=True).tolist() == [[0, 1]]
    for wrong in ([0, 1, 255], [0, 128]):
        bad = saved(tmp_path / "bad.png", Image.fromarray(np.array([wrong], np.uint8)))
        with pytest.raises(DataError, match=r"bad\.png holds 0, .*binary masks 0 and either 1 or 255: set binary=false"):
            read_mask(bad, binary=True)


@pytest.mark.parametrize(("name", "form"), [("m.jpg", "JPEG"), ("m.webp", "WEBP"), ("called.png", "JPEG")])
def test_lossy_masks_are_refused_whatever_they_are_called(tmp_path: Path, name: str, form: str) -> None:
    path = saved(tmp_path / name, Image.fromarray(np.zeros((8, 8), np.uint8)), format=form)
    with pytest.raises(DataError, match=rf"{name} is (JPG|JPEG|WEBP), which changes numbers.*save masks as PNG"):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_coloured_masks_are_refused_without_a_table(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "m.png", Image.new(mode, (4, 4)))
    with pytest.raises(DataError, match=r"m\.png (is a coloured picture|has pixels of the kind LA), expected numbers.*indexed PNG"):
        read_mask(path)


def test_coloured_masks_are_read_by_a_table(tmp_path: Path) -> None:
    colours = {(0, 0, 0): 0, (128, 0, 0): 3, (0, 128, 0): 1, (224, 224, 192): 255}
    pixels = np.array([[[0, 128, 0], [128, 0, 0]], [[0, 0, 0], [224, 224, 192]]], np.uint8)
    path = saved(tmp_path / "m.png", Image.fromarray(pixels))
    assert read_mask(path, colours=colours).tolist() == [[1, 3], [0, 255]]
    pixels[0, 0] = (1, 2, 3)
    with pytest.raises(DataError, match=r"m\.png holds the colour \(1, 2, 3\), which no class has"):
        read_mask(saved(path, Image.fromarray(pixels)), colours=colours)


def test_a_mask_that_says_how_it_lies_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = saved(tmp_path / "m.png", Image.fromarray(VALUES), exif=exif)
    assert np.array_equal(read_mask(path), np.rot90(VALUES, -1))


def test_files_that_are_no_masks_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    for path in (tmp_path / "text.png", tmp_path / "gone.png"):
        with pytest.raises(DataError, match=path.name):
            read_mask(path)
    with pytest.raises(DataError, match=r"float\.tif has pixels of the kind F"):
        read_mask(saved(tmp_path / "float.tif", Image.fromarray(np.zeros((2, 2), np.float32))))


def test_binary_masks_of_several_classes_hold_each_its_own(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{k}.png", Image.fromarray(np.array([[0, 255]], np.uint8))) for k in range(2)]
    masks = MaskFiles(paths, tmp_path, binary=True, values=[4, 9])
    assert masks.take(np.array([1])).read(0).tolist() == [[0, 9]]
    assert masks.read(0).tolist() == [[0, 4]]
    assert masks.digests(np.array([0]))[0] == masks.digests(np.array([1]))[0]
    assert masks.settings() != MaskFiles(paths, tmp_path, binary=True, values=[9, 4]).settings()


def test_pictures_with_shades_between_are_divided_where_asked_to(tmp_path: Path) -> None:
    shades = np.array([[0, 127, 128, 255]], np.uint8)
    for name, pixels in (("grey", shades), ("colour", np.repeat(shades[..., None], 3, axis=2))):
        path = saved(tmp_path / f"{name}.png", Image.fromarray(pixels))
        assert read_mask(path, threshold=128).tolist() == [[0, 0, 1, 1]]
