"""`Model.embed` takes what people have: arrays, PIL images, files, folders, generators, loaders; what is ambiguous or broken is refused."""

from __future__ import annotations

import doctest
import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import kinshot
from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import build_encoder
from kinshot.learn.model import Model
from kinshot.runs.classifier import Classifier
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.tokens import TokenSpec
from tests.enrolled_tools import photo, photos, small_encoder, taught
from tests.tiny import TINY, run

GROCERIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "grocery_store48.npz"


@pytest.fixture(scope="module")
def model() -> Model:
    return small_encoder()[0]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven photographs of three classes in folders, with what else lies in people's folders."""
    folder = tmp_path_factory.mktemp("my pictures é")
    for label, count in (("cherry", 3), ("leaf", 2), ("sky", 2)):
        photos(folder, label, range(count))
    (folder / "notes.txt").write_text("bought on Monday")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def features(model: Model, samples: object, **options: object) -> torch.Tensor:
    return model.embed(samples, **options)["backbone"]  # type: ignore[call-overload, no-any-return]


def test_one_picture_is_one_row_in_every_form(model: Model, album: Path) -> None:
    path = album / "cherry" / "cherry0.png"
    image = Image.open(path)
    pixels = np.asarray(image)
    expected = features(model, path)
    assert expected.shape == (1, model.dim)
    forms = {
        "text": str(path),
        "opened": Image.open(path),
        "decoded": image,
        "height, width, channels": pixels,
        "channels first": pixels.transpose(2, 0, 1),
        "not contiguous": np.ascontiguousarray(pixels[:, ::-1])[:, ::-1],
        "read only": np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape),
        "tensor": torch.tensor(pixels).permute(2, 0, 1),
        "tensor, channels last": torch.tensor(pixels),
        "batch of one": pixels[None],
        "list of one": [path],
        "tuple of one": (image,),
        "array of paths": np.array([str(path)]),
        "array of objects": np.array([path], dtype=object),
    }
    for name, form in forms.items():
        assert torch.equal(features(model, form), expected), name
    as_floats = (pixels / 255, (pixels / 255).astype(np.float32), torch.tensor(pixels).permute(2, 0, 1) / 255)
    for floats in as_floats:  # no rounding to bytes on the way
        torch.testing.assert_close(features(model, floats), expected, rtol=0, atol=0.02)
    square = pixels[:16, :16]
    torch.testing.assert_close(features(model, square / 255), features(model, square))


def test_the_central_square_is_what_is_seen(model: Model) -> None:
    wide = np.zeros((20, 41, 3), dtype=np.uint8)
    wide[:, 10:31] = np.random.default_rng(0).integers(0, 256, (20, 21, 3))
    framed = features(model, wide)
    wide[:, :10], wide[:, 31:] = 200, 90
    assert torch.equal(features(model, wide), framed)
    torch.testing.assert_close(features(model, wide / 255), framed, rtol=0, atol=0.02)
    whole = torch.tensor(wide).permute(2, 0, 1)[None]
    assert not torch.equal(features(model, whole), framed)  # a batch is resized as `prepare` does it, all of every image
    assert torch.equal(features(model, whole), model.features(model.prepare(whole))["backbone"])


def test_grey_and_transparent_pictures_are_what_their_files_are(model: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grey, clear = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8), rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert torch.equal(features(model, grey), features(model, tmp_path / "grey.png"))
    assert torch.equal(features(model, clear), features(model, tmp_path / "clear.png"))
    of_grey = Model(build_encoder("conv4", {"width": 4}, spec := PixelSpec.square(1, 16, (0.5,), (0.5,))), input=spec).eval()
    colour = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    torch.testing.assert_close(features(of_grey, colour / 255), features(of_grey, colour), rtol=0, atol=0.02)


def test_a_folder_is_all_images_below_it_by_path(model: Model, album: Path) -> None:
    files = sorted(album.rglob("c*.png")) + sorted(album.rglob("l*.png")) + sorted(album.rglob("s*.png"))
    expected = features(model, files)
    assert expected.shape == (7, model.dim)
    assert torch.equal(features(model, album), expected)
    assert torch.equal(features(model, [album / "cherry", str(album / "leaf"), album / "sky"]), expected)
    torch.testing.assert_close(features(model, (file for file in files), batch=2), expected)
    assert torch.equal(features(model, [files[:3], iter(files[3:])]), expected)
    loader = DataLoader([torch.tensor(np.asarray(Image.open(file))) for file in files], batch_size=3)  # type: ignore[arg-type]
    torch.testing.assert_close(features(model, loader), expected)
    mixed = [files[0], Image.open(files[1]), np.asarray(Image.open(files[2])), *files[3:]]
    torch.testing.assert_close(features(model, mixed, batch=3), expected)


def test_tensors_are_taken_as_before_and_arrays_are_returned_where_asked(model: Model) -> None:
    images = torch.randint(0, 256, (70, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = model.features(model.prepare(images))
    found = model.embed(images)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected)
    given = model.embed(images, batch=7, returns="numpy")
    assert isinstance(given["backbone"], np.ndarray)
    assert given["backbone"].dtype == np.float32
    np.testing.assert_allclose(given["backbone"], expected["backbone"].numpy(), rtol=1e-5, atol=1e-6)
    assert features(model, images[:0]).shape == (0, model.dim)
    together = features(model, [images[:2], images[2:5].permute(0, 2, 3, 1).numpy(), images[5]])
    torch.testing.assert_close(together, expected["backbone"][:6])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((3, 8, 3), np.uint8), "both its first and its last axis may be the channels.*tensor \\(B, C, H, W\\)"),
        (np.zeros((5, 28, 28), np.uint8), "neither its first nor its last axis.*array\\[..., None\\]"),
        (np.zeros((2, 4, 9, 4), np.uint8), "both its first"),
        (np.zeros((28, 28), np.uint8), "three axes or a batch of four.*\\(28, 28\\).*array\\[..., None\\]"),
        (np.zeros((8, 8, 3), np.int64), "uint8 or floats in \\[0, 1\\], got an array int64"),
        (np.zeros((8, 8, 3), bool), "got an array bool"),
        (np.zeros((0, 8, 3), np.uint8), "without a pixel"),
        (np.full((8, 8, 3), 255.0), "values from 255 to 255 in row 0: divide"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.zeros((8, 8, 4)), "transparency as floats"),
        (torch.zeros(2, 3), "one of three axes, got torch.float32 \\(2, 3\\)"),
        (torch.zeros(1, 3, 8, 8) - 1, "in \\[0, 1\\]"),
        ({"a": np.zeros((8, 8, 3), np.uint8)}, "got dict: give its values alone"),
        ({"a.png"}, "a set has no order"),
        (b"\x89PNG", "got bytes"),
        (None, "got NoneType"),
        (7, "got int"),
        ([(np.zeros((8, 8, 3), np.uint8), 1)], "got int; of pairs \\(picture, label\\) give the pictures alone"),
        ([], "got no images"),
        (iter(()), "got no images"),
    ],
)
def test_what_is_ambiguous_or_no_picture_is_refused(model: Model, given: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        model.embed(given)


def test_a_text_of_no_file_is_told(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file\.png"):
        model.embed(tmp_path / "no such file.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.heic").write_bytes(b"?")
    with pytest.raises(DataError, match=r"no images below the folder .*empty.*1 .heic.*convert"):
        model.embed(tmp_path / "empty")


def test_all_unreadable_files_are_named_at_once(model: Model, album: Path, tmp_path: Path) -> None:
    (tmp_path / "rubbish.png").write_bytes(b"no picture")
    photo(tmp_path / "cut.png", "sky", 1)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:300])
    good = sorted(album.rglob("[a-z]*.png"))[1:4]
    with Image.open(tmp_path / "cut.png") as cut:  # opened, and not decoded yet
        given = [good[0], tmp_path / "rubbish.png", good[1], cut, good[2], tmp_path / "gone.png"]
        for batch in (1, 2, 32):
            with pytest.raises(DataError) as caught:
                model.embed(iter(given), batch=batch)
            for words in ("3 of 6 images cannot be read", "rubbish.png", "cut.png", "gone.png"):
                assert words in str(caught.value)
        found, failed = model.embed_readable(given, batch=2)
    torch.testing.assert_close(found["backbone"], features(model, good))
    assert list(failed) == [1, 3, 5]
    assert model.embed_readable([tmp_path / "gone.png"])[0] == {}


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": 2.0}, {"batch": True}, {"returns": "list"}])
def test_bad_options_are_refused(model: Model, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"batch|tensors or numpy"):
        model.embed(torch.zeros(1, 3, 16, 16), **options)  # type: ignore[call-overload]


def test_pictures_are_brought_to_squares_alone() -> None:
    spec = PixelSpec(3, 16, 24, (0.5,) * 3, (0.5,) * 3)
    oblong = Model(build_encoder("conv4", {"width": 4}, spec), input=spec).eval()
    assert oblong.embed(torch.zeros(2, 3, 16, 24))["backbone"].shape[0] == 2
    with pytest.raises(ConfigError, match=r"squares .* tensors"):
        oblong.embed(np.zeros((16, 24, 3), np.uint8))


def test_no_more_than_a_batch_of_pixels_is_held(model: Model) -> None:
    def drawn():
        for number in range(60):
            yield Image.fromarray(np.full((400, 400, 3), number, np.uint8))

    tracemalloc.start()
    features(model, drawn(), batch=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 400 * 400 * 3  # of 60


def test_progress_is_shown_on_stderr_where_asked(model: Model, album: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    features(model, album, batch=2)
    assert capsys.readouterr() == ("", "")
    features(model, album, batch=2, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("image 7/7  ")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Terminal())
    features(model, iter(sorted(album.rglob("[a-z]*.png"))), batch=2, progress=True)  # nobody knows how many come
    features(model, album, progress=True)


def test_a_classifier_takes_the_same(album: Path, tmp_path: Path) -> None:
    taught(tmp_path / "a.kin", tmp_path)
    model = kinshot.load(tmp_path / "a.kin")
    assert isinstance(model, Classifier)
    names = [one.name for one in model.predict(album)]
    assert len(names) == 7
    assert [one.name for one in model.predict(Image.open(file) for file in sorted(album.rglob("[a-z]*.png")))] == names
    assert model.predict(np.asarray(Image.open(album / "sky" / "sky0.png")))[0].name == names[-2]


@pytest.fixture(scope="module")
def others() -> dict[str, Model]:
    """Models of texts, rows, series and a bundle."""
    texts, rows = TokenSpec(alphabet="abcdef ", length=8), RowSpec(3, (0.0,) * 3, (1.0,) * 3)
    series = SeriesSpec(channels=2, length=16, rate=10.0, mean=(0.0,) * 2, std=(1.0,) * 2)
    bundle = BundleSpec(("acc", "air"), (series, SeriesSpec.unmeasured((1, 16), 10.0)))
    parts = {"text": ("text", texts), "rows": ("mlp", rows), "series": ("series_cnn", series), "bundle": ("fused", bundle)}
    return {key: Model(build_encoder(name, {}, spec), input=spec).eval() for key, (name, spec) in parts.items()}


def test_texts_remain_texts(others: dict[str, Model], album: Path) -> None:
    model, texts = others["text"], ["abc", "fade", "a bee", "dad"]
    expected = model.features(model.prepare(texts))["backbone"]
    for given in (texts, tuple(texts), iter(texts), np.array(texts), np.array(texts, dtype=object)):
        torch.testing.assert_close(features(model, given, batch=3), expected)
    with pytest.raises(DataError, match="give a list of strings"):
        model.embed("abc")
    with pytest.raises(DataError, match="made for texts"):
        model.embed([1, 2])
    for wrong in (album, Image.new("L", (4, 4)), 7, b"abc"):
        with pytest.raises(DataError, match="give it samples of that kind"):
            model.embed(wrong)


def test_rows_and_series_come_as_arrays_too(others: dict[str, Model]) -> None:
    rng = np.random.default_rng(0)
    for name, batch in (("rows", rng.normal(size=(5, 3))), ("series", rng.normal(size=(5, 2, 16)).astype(np.float32))):
        model = others[name]
        expected = model.features(model.prepare(torch.tensor(batch)))["backbone"]
        for given in (batch, torch.tensor(batch), batch[::-1][::-1], list(batch), (row for row in batch)):
            torch.testing.assert_close(features(model, given, batch=2), expected)
        torch.testing.assert_close(features(model, batch), expected)
    with pytest.raises(DataError, match="all alike, got \\(2,\\), \\(3,\\)"):
        others["rows"].embed([np.zeros(3), np.zeros(2)])
    with pytest.raises(DataError, match="features \\(B, 3\\), got list"):
        others["rows"].embed([[1.0, 2.0, 3.0]])


def test_bundles_come_by_name(others: dict[str, Model]) -> None:
    model, rng = others["bundle"], np.random.default_rng(0)
    arrays = {"acc": rng.normal(size=(5, 2, 16)), "air": rng.normal(size=(5, 1, 16))}
    tensors = {name: torch.tensor(values) for name, values in arrays.items()}
    expected = model.features(model.prepare(tensors))["backbone"]
    for given in (arrays, tensors):
        torch.testing.assert_close(features(model, given), expected)
        torch.testing.assert_close(features(model, given, batch=2), expected)
    with pytest.raises(DataError, match="acc 5, air 2"):
        model.embed({"acc": arrays["acc"], "air": arrays["air"][:2]}, batch=1)


def test_real_photographs_give_one_feature_however_they_come(model: Model, tmp_path: Path) -> None:
    if not GROCERIES.is_file():
        pytest.skip("the photographs of the Grocery Store data set are not here")
    with np.load(GROCERIES, allow_pickle=False) as data:
        pixels = data["x"][:40]
    for row, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{row:02}.png")
    expected = features(model, tmp_path)
    assert len(expected) == 40
    assert torch.equal(features(model, pixels), expected)
    assert torch.equal(features(model, [Image.fromarray(one) for one in pixels], batch=32), expected)


def test_the_examples_of_its_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("ssl", "pretrain", TINY, "data.size=8", "train.epochs=1", "monitor.tensorboard=false", "--out", "runs/demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (Model.embed.__doc__ or "").replace("\n        ", "\n")
    test = doctest.DocTestParser().get_doctest(text, {"kinshot": kinshot, "torch": torch, "np": np}, "embed", None, 0)
    assert len(test.examples) > 10
    said: list[str] = []
    assert doctest.DocTestRunner().run(test, out=said.append).failed == 0, "".join(said)
