"""`ssl export`: what others open without kinshot says what the encoder says, and nothing half is ever left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import kinshot
from kinshot.core.errors import ConfigError
from kinshot.exports.places import without_folders
from kinshot.exports.proof import proved
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.series import SeriesSpec
from tests.exported_runs import COLOUR, GREY, export, left, photographs, wanted, without_kinshot, write_run

pytest.importorskip("timm", reason="needs the optional package timm")
pytest.importorskip("onnxruntime", reason="needs the optional package onnxruntime")
pytest.importorskip("onnxscript", reason="needs the optional package onnxscript")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained runs: a ResNet-18 that libraries know, one that they do not, a Conv-4, a series encoder."""
    place = tmp_path_factory.mktemp("runs")
    write_run(place / "known", {"name": "resnet18"}, COLOUR)
    write_run(place / "small", {"name": "resnet18", "stem": "small", "width": 0.125}, COLOUR)
    write_run(place / "conv4", {"name": "conv4", "width": 8}, GREY)
    write_run(place / "halted", {"name": "conv4", "width": 8}, GREY, total_steps=9)
    series = SeriesSpec(3, 48, 50.0, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    sections = {"data": {"name": "motion"}, "method": {"name": "simclr"}, "views": {"name": "sensor"}}
    write_run(place / "series", {"name": "tcn", "hidden": 8}, series, **sections)
    return place


@pytest.fixture
def here(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the runs under `runs`."""
    (tmp_path / "runs").symlink_to(runs)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- what others open

NATIVE = """
import numpy, torch, timm, torchvision, json
from safetensors import safe_open
from safetensors.torch import load_file
def ready(about):
    mean, std = (torch.tensor(about[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    images = torch.from_numpy(numpy.load("images.npy"))
    assert list(images.shape[2:]) == about["size"]
    return (images.float() / 255 - mean) / std
def about(file):
    return json.loads(safe_open(file, "pt").metadata()["kinshot"])["preprocessing"]
with torch.no_grad():
    model = timm.create_model("resnet18", checkpoint_path="t.safetensors", num_classes=0).eval()
    said["timm"] = model(ready(about("t.safetensors"))).tolist()
    model = torchvision.models.resnet18(weights=None); model.fc = torch.nn.Identity()
    model.load_state_dict(load_file("v.safetensors")); model.eval()
    said["torchvision"] = model(ready(about("v.safetensors"))).tolist()
    model = timm.create_model("local-dir:hub", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    said["config"] = {key: config[key] for key in ("input_size", "interpolation", "crop_pct")}
    said["huggingface"] = model(ready({"mean": config["mean"], "std": config["std"], "size": list(config["input_size"][1:])})).tolist()
"""


def test_libraries_without_kinshot_say_what_the_encoder_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = photographs(3, 64)
    np.save(here / "images.npy", images.numpy())
    for kind, out in (("timm", "t.safetensors"), ("torchvision", "v.safetensors"), ("huggingface", "hub")):
        result, said = export(capsys, "runs/known", "--format", kind, "--out", out)
        assert result["compared"]["difference"] <= result["compared"]["bound"]
        assert kind == "huggingface" or "its classifier (fc) is left out" in said
    found = without_kinshot(NATIVE, here)
    expected = wanted("runs/known", images)["backbone"]
    assert float(expected.std(0).mean()) > 1e-3  # they differ between images
    for kind in ("timm", "torchvision", "huggingface"):
        torch.testing.assert_close(torch.tensor(found[kind]), expected, rtol=1e-4, atol=1e-5)
    assert found["config"] == {"input_size": [3, 64, 64], "interpolation": "bilinear", "crop_pct": 1.0}


PROGRAMS = """
import numpy, torch, onnxruntime, json
images = torch.from_numpy(numpy.load("images.npy")).float() / 255
program = torch.export.load("c.pt2", extra_files=(extra := {"kinshot.json": ""}))
model = program.module()
said["about"] = json.loads(extra["kinshot.json"])
for count in (1, 12, 5):
    said["exported"] = {name: value.tolist() for name, value in model(images[:count]).items()}
    session = onnxruntime.InferenceSession("c.onnx")
    given = session.run(None, {"samples": images[:count].numpy()})
    said["onnx"] = {one.name: value.tolist() for one, value in zip(session.get_outputs(), given)}
said["shape"] = session.get_inputs()[0].shape
said["metadata"] = session.get_modelmeta().custom_metadata_map
try:
    model(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
except RuntimeError as error:
    said["bytes"] = str(error)
"""


def test_programs_without_kinshot_take_any_batch_and_give_named_features(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = photographs(1, 28)
    np.save(here / "images.npy", images.numpy())
    for kind, out in (("exported", "c.pt2"), ("onnx", "c.onnx")):
        result, _ = export(capsys, "runs/conv4", "--format", kind, "--out", out, "--feature", "projector,backbone")
        assert result["about"]["outputs"] == ["projector", "backbone"]
    found = without_kinshot(PROGRAMS, here)
    expected = wanted("runs/conv4", images[:5])
    for kind in ("exported", "onnx"):
        assert list(found[kind]) == ["projector", "backbone"]
        for name, value in expected.items():
            torch.testing.assert_close(torch.tensor(found[kind][name]), value, rtol=1e-4, atol=1e-5)
    assert found["shape"] == ["batch", 1, 28, 28]
    assert "dtype mismatch" in found["bytes"]
    about = found["about"]
    assert about["preprocessing"]["normalised"].startswith("inside")
    assert about["preprocessing"]["mean"] == [0.13]
    assert (about["recipe"], about["encoder"]["name"]) == ("tiny", "conv4")
    assert json.loads(found["metadata"]["kinshot"]) == about


def test_an_onnx_file_stands_where_kinshot_takes_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = PixelSpec.square(3, 32, (0.5,) * 3, (0.2,) * 3, "bicubic")
    write_run(here / "run", {"name": "efficientnet_lite0", "pretrained": False}, spec)
    export(capsys, "run", "--format", "onnx", "--out", "e.onnx")
    images = photographs(3, 61)  # of another size: resized by the filter that the file names
    torch.testing.assert_close(wanted("onnx:e.onnx", images)["backbone"], wanted("run", images)["backbone"], rtol=1e-4, atol=1e-5)
    assert kinshot.load("onnx:e.onnx").input.interpolation == "bicubic"  # type: ignore[attr-defined]


def test_nothing_of_this_machine_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, out in (("exported", "c.pt2"), ("onnx", "c.onnx"), ("huggingface", "hub")):
        export(capsys, "runs/conv4", "--format", kind, "--out", out)
    root = Path(kinshot.__file__).resolve().parents[1]
    for file in (here / "c.pt2", here / "c.onnx", *(here / "hub").iterdir()):
        data = file.read_bytes()
        assert not [place for place in (str(root), "site-packages", "/home/ada") if place.encode() in data], file.name


def test_encoders_of_sensors_are_programs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, said = export(capsys, "runs/series", "--format", "onnx", "--out", "s.onnx")
    assert result["about"]["preprocessing"]["kind"] == "series"
    assert "drawn samples (series), two of them with gaps" in result["compared"]["samples"]
    assert "onnx:FILE stands for encoders of images alone" in said
    export(capsys, "runs/series", "--format", "exported", "--out", "s.pt2")
    values = torch.randn(5, 3, 48, generator=torch.Generator().manual_seed(0))
    found = torch.export.load(here / "s.pt2").module()(values)
    torch.testing.assert_close(found["backbone"], wanted("runs/series", values)["backbone"])


# -- what is refused, and what is left then


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/small", "--format", "torchvision", "--out", "x.safetensors"], "it has a 3x3 stem where their resnet18 has one of 7x7"),
        (["runs/small", "--format", "timm", "--out", "x.safetensors"], "it has a 3x3 stem"),
        (["runs/conv4", "--format", "torchvision", "--out", "x.safetensors"], "torchvision has no conv4; use --format exported or onnx"),
        (["runs/conv4", "--format", "timm", "--out", "x.safetensors"], "timm has no conv4; use --format exported or onnx"),
        (["runs/series", "--format", "timm", "--out", "x.safetensors"], "takes series, which no library of images knows"),
        (["runs/known", "--format", "onnx", "--out", "x.pt"], "ends with .onnx: call it x.onnx"),
        (
            ["runs/known", "--format", "timm", "--out", "x.safetensors", "--feature", "projector"],
            "holds weights, and no choice of features",
        ),
        (["runs/known", "--format", "onnx", "--out", "x.onnx", "--feature", "joint"], "has no output 'joint'"),
        (["runs/known", "--format", "onnx", "--out", "x.onnx", "--results", "r.json"], "has no model card for results"),
        (["runs/series", "--format", "exported", "--out", "x.pt2", "--images", "runs"], "shows images to an encoder that takes series"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = export(capsys, *words, code=2)
    assert message in said
    assert left(here) == set()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/nowhere", "--format", "onnx", "--out", "x.onnx"], "there is no checkpoint runs/nowhere"),
        (["runs/halted", "--format", "timm", "--out", "x.safetensors"], "training did not get to its end"),
        (["runs/conv4", "--format", "onnx", "--out", "x.onnx", "--images", "runs/conv4"], "no image below runs/conv4"),
        (["runs/conv4", "--format", "onnx", "--out", "x.onnx", "--images", "nowhere"], "nowhere is no folder"),
        (["runs/conv4", "--format", "huggingface", "--out", "x", "--results", "runs/conv4/manifest.json"], "lacks name, command, data"),
    ],
)
def test_what_cannot_be_read_is_refused(words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = export(capsys, *words, code=3)
    assert message in said
    assert left(here) == set()


def test_what_is_not_equal_is_never_written(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    export(capsys, "runs/conv4", "--format", "exported", "--out", "c.pt2")
    before = (here / "c.pt2").read_bytes()
    found = wanted("runs/conv4", photographs(1, 28))["backbone"]

    def changed(what: str, ours: Any, theirs: Any, *rest: Any) -> Any:
        return proved(what, ours, lambda batch: {name: value + 2e-4 * found.abs().max() for name, value in theirs(batch).items()}, *rest)

    monkeypatch.setattr("kinshot.exports.publish.proved", changed)
    _, said = export(capsys, "runs/conv4", "--format", "exported", "--out", "c.pt2", "--overwrite", code=2)
    assert "differs from the encoder's by" in said
    assert "nothing is written" in said
    assert (here / "c.pt2").read_bytes() == before
    assert left(here) == {"c.pt2"}


def test_an_earlier_export_is_replaced_only_when_asked_and_other_folders_never(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["runs/conv4", "--format", "huggingface", "--out"]
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years")
    for more in ([], ["--overwrite"]):
        _, said = export(capsys, *words, "mine", *more, code=2)
        assert "holds something else than an export" in said
    assert (here / "mine" / "thesis.txt").read_text() == "years"
    export(capsys, *words, "größe 1")
    _, said = export(capsys, *words, "größe 1", code=2)
    assert "is there already" in said
    (here / "größe 1" / "README.md").write_text("changed")
    export(capsys, *words, "größe 1", "--overwrite")
    assert (here / "größe 1" / "README.md").read_text().startswith("---\n")
    (here / "größe 1" / "notes.txt").write_text("mine")
    _, said = export(capsys, *words, "größe 1", "--overwrite", code=2)
    assert "holds something else" in said
    (here / "file").write_text("x")
    _, said = export(capsys, *words, "file", "--overwrite", code=2)
    assert "is a file or a link" in said


SLOW = """
import sys, time, kinshot.exports.publish as publish
def proved(*given):
    print("compared", flush=True)
    time.sleep(60)
publish.proved = proved
from kinshot.cli.ssl import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("kind", "out"), [("timm", "k.safetensors"), ("huggingface", "hub")])
def test_a_kill_in_the_middle_leaves_what_was_there(kind: str, out: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["runs/known", "--format", kind, "--out", out]
    export(capsys, *words)
    before = {path: path.read_bytes() for path in here.glob(f"{out}/**/*" if kind == "huggingface" else out) if path.is_file()}
    assert before
    line = [sys.executable, "-c", SLOW, "export", *words, "--overwrite"]
    environment = {**os.environ, "PYTHONPATH": str(Path(kinshot.__file__).resolve().parents[1])}
    with subprocess.Popen(line, cwd=here, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compared\n"
        process.send_signal(signal.SIGKILL)
    assert {path: path.read_bytes() for path in before} == before
    assert len(left(here)) == 2  # beside it what was being written, under another name
    result, _ = export(capsys, *words, "--overwrite")
    assert left(here) == {out}
    assert result["format"] == kind


def test_a_replacement_that_was_cut_between_two_renames_is_still_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "runs/conv4", "--format", "huggingface", "--out", "hub")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    (here / "hub").rename(here / f".hub.old-{int(dead.stdout)}")
    assert wanted("hub", photographs(1, 28))["backbone"].shape == (12, 32)
    export(capsys, "runs/conv4", "--format", "huggingface", "--out", "hub", "--overwrite")
    assert left(here) == {"hub"}


def test_a_place_that_cannot_be_written_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("x")
    _, said = export(capsys, "runs/conv4", "--format", "onnx", "--out", "file/x.onnx", code=2)
    assert "is a file, and no folder" in said
    (here / "link.pt2").symlink_to("elsewhere")
    _, said = export(capsys, "runs/conv4", "--format", "exported", "--out", "link.pt2", "--overwrite", code=2)
    assert "is a link" in said


def test_own_images_are_what_is_compared_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "own").mkdir()
    for number, image in enumerate(photographs(3, 50)[:3]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(here / "own" / f"{number}.png")
    result, _ = export(capsys, "runs/conv4", "--format", "exported", "--out", "c.pt2", "--images", "own")
    assert result["compared"]["samples"] == "3 images of own"
    (here / "own" / "bad.png").write_bytes(b"rubbish")
    _, said = export(capsys, "runs/conv4", "--format", "exported", "--out", "d.pt2", "--images", "own", code=3)
    assert "bad.png" in said
    assert left(here) == {"own", "c.pt2"}


def test_in_code(here: Path) -> None:
    done = kinshot.export("runs/known", "timm", "t.safetensors")
    assert "t.safetensors" in done.reading[1]
    with safe_open(here / "t.safetensors", "pt") as file:
        assert "fc.weight" not in file.keys()  # noqa: SIM118 - no mapping
    with pytest.raises(ConfigError, match="did you mean"):
        kinshot.export("runs/known", "onnxx", "x.onnx")


def test_texts_lose_the_folders_of_absolute_paths() -> None:
    for text, short in {
        "/home/ada/photos": "photos",
        "weights of /home/ada/w.pth": "weights of w.pth",
        "timm:resnet18:/srv/w.pth": "timm:resnet18:w.pth",
        "https://example.org/a": "https://example.org/a",
        "a / b, 3/4, runs/x": "a / b, 3/4, runs/x",
        "ssl pretrain photos data.root=/home/ada/p --out /tmp/run": "ssl pretrain photos data.root=p --out run",
    }.items():
        assert without_folders(text) == short
