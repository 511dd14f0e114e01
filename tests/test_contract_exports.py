"""Every registered encoder of images, in every format: equal features, or a refusal that names the reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import kinshot
from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.exports import EXPORTS
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import accepted_kinds
from tests.exported_runs import photographs, write_run
from tests.onnx_files import onnx_file
from tests.test_contract_encoders import SPECS

pytest.importorskip("timm", reason="needs the optional package timm")
pytest.importorskip("onnxscript", reason="needs the optional package onnxscript")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the optional package onnxruntime")

SMALL = PixelSpec.square(3, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
GREY = PixelSpec.square(1, 32, (0.4,), (0.2,))
PROGRAMS = {"exported", "onnx", "huggingface"}
CASES = {  # name and number: settings, images, formats that are not refused
    "auto": ({}, SMALL, PROGRAMS),
    "conv4": ({"width": 8}, SMALL, PROGRAMS),
    "dense_cnn": ({"width": 8}, SMALL, PROGRAMS),
    "pooled": ({"of": "conv4:width=8"}, SMALL, PROGRAMS),
    "resnet12": ({"width": 0.125}, SMALL, PROGRAMS),
    "resnet18": ({"stem": "imagenet"}, SMALL, {*PROGRAMS, "timm", "torchvision"}),
    "resnet18 of a small stem": ({"stem": "small", "width": 0.125}, SMALL, PROGRAMS),
    "resnet18 that is dilated": ({"stem": "imagenet", "output_stride": 16}, SMALL, {*PROGRAMS, "timm"}),
    "resnet18 of grey": ({"stem": "imagenet"}, GREY, {*PROGRAMS, "timm"}),
    "resnet18 that is narrow": ({"stem": "imagenet", "width": 0.25}, SMALL, PROGRAMS),
    "resnet50": ({"stem": "imagenet", "depth": 0.34, "width": 0.25}, SMALL, PROGRAMS),
    "efficientnet_lite0": ({"pretrained": False}, GREY, {*PROGRAMS, "timm"}),
    "timm": ({"model": "test_vit"}, SMALL, {*PROGRAMS, "timm"}),
    "timm of a shared name": ({"model": "resnet18"}, SMALL, {*PROGRAMS, "timm", "torchvision"}),
    "torchvision of its own": ({"model": "regnet_y_400mf"}, SMALL, {*PROGRAMS, "torchvision"}),
    "torchvision": ({"model": "resnet18"}, SMALL, {*PROGRAMS, "timm", "torchvision"}),
    "onnx": ({"file": "t.onnx"}, PixelSpec.square(3, 16, (0.5,) * 3, (0.25,) * 3), set[str]()),
}
IN_ONNX = {"conv4", "dense_cnn", "pooled", "resnet12", "resnet18", "resnet50", "timm", "torchvision", "onnx"}
"""Cases that are converted, which takes seconds: one of each encoder; efficientnet_lite0 is in tests/test_exports.py, auto is conv4."""
SUFFIX = {name: entry.facts["suffix"] for name, entry in EXPORTS.entries.items()}


def opened(kind: str, place: Path, about: dict[str, Any], images: torch.Tensor) -> torch.Tensor:
    """Features of what was written, opened again by other means than the command's own."""
    values = images.float() / 255
    if kind == "exported":
        return torch.export.load(place).module()(values)["backbone"]
    if kind == "onnx":
        return torch.from_numpy(onnxruntime.InferenceSession(place).run(None, {"samples": values.numpy()})[0])
    if kind == "huggingface":
        return kinshot.load(place).embed(images)["backbone"]
    mean, std = (torch.tensor(about["preprocessing"][key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    if kind == "timm":
        import timm

        model = timm.create_model(about["model"], num_classes=0, **about.get("options", {})).eval()
    else:
        import torchvision

        model = torchvision.models.get_model(about["model"], weights=None).eval()
        model.set_submodule(about["classifier"].split()[1], torch.nn.Identity())
    model.load_state_dict(load_file(place))
    return model((values - mean) / std)


@pytest.mark.parametrize("case", CASES)
def test_every_format_is_equal_or_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, (settings, spec, not_refused) = case.split()[0], CASES[case]
    monkeypatch.chdir(tmp_path)
    if name == "onnx":
        onnx_file(tmp_path / "t.onnx")
    write_run(tmp_path / "run", {"name": name, **settings}, spec)
    images = photographs(spec.channels, spec.size)
    wanted = kinshot.load("run").embed(images)["backbone"]
    assert float(wanted.std(0).max()) > 0
    formats = {kind: suffix for kind, suffix in SUFFIX.items() if kind != "onnx" or case in IN_ONNX}
    written, refused = set(), dict[str, str]()
    for kind, suffix in formats.items():
        place = Path(f"{kind}{suffix}")
        try:
            done = kinshot.export("run", kind, place)
        except ConfigError as error:
            refused[place.name] = str(error)
            continue
        written.add(kind)
        with torch.no_grad():
            found = opened(kind, place, dict(done.about), images)
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert written == not_refused & formats.keys()
    for place, reason in refused.items():
        assert re.search("use --format|copy that file|upload that file", reason)
        assert place not in {one.name.lstrip(".").partition(".tmp")[0] for one in tmp_path.iterdir()}


def test_every_encoder_of_images_is_here() -> None:
    assert {case.split()[0] for case in CASES} == {name for name in ENCODERS.names() if "image" in accepted_kinds(ENCODERS.get(name))}


OTHERS = {  # kind of samples: samples; which encoders of them torch.export cannot write down
    "features": (SPECS["features"], set[str]()),
    "tokens": (SPECS["tokens"], set[str]()),
    "series": (SPECS["series"], {"conv_gru"}),
    "frames": (SPECS["frames"], {"frame_encoder"}),
    "node": (SPECS["node"], {"meta_path"}),
    "bundle": (BundleSpec(("a", "b"), (SPECS["series"], SPECS["series"])), {"fused"}),
}
OF_OTHERS = [(name, kind) for name in ENCODERS.names() for kind in accepted_kinds(ENCODERS.get(name)) if kind != "image"]


@pytest.mark.parametrize(("name", "kind"), [pair for pair in OF_OTHERS if pair[0] not in ("pooled", "auto")])
def test_encoders_of_other_samples_are_programs_or_refused(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec, refused = OTHERS[kind]
    write_run(tmp_path / "run", {"name": name}, spec)
    for library in ("timm", "torchvision"):
        with pytest.raises(ConfigError, match=r"which no library of images knows|not exported"):
            kinshot.export("run", library, "x.safetensors")
    if name in refused:
        reason = "which of its parts run depends on|for one size of batch alone|nothing without its graph"
        with pytest.raises(ConfigError, match=reason):
            kinshot.export("run", "exported", "p.pt2")
    else:
        kinshot.export("run", "exported", "p.pt2")
    if kind == "node":
        return
    kinshot.export("run", "huggingface", "hub")
    run, hub = (kinshot.load(place) for place in ("run", "hub"))
    x = spec.noise(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(run.encoder(x), hub.encoder(x))
