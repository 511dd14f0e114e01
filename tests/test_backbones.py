"""Backbones that were trained elsewhere stand wherever a checkpoint does: by name, with their own preparation, and nothing unsaid."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from kinshot.cli import fewshot, ssl
from kinshot.studies.results import SEEN

MODEL = "test_efficientnet"  # a third of a million weights, 160 pixels, bicubic, crop 0.95
SMALL = "mobilenet_v3_small"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")


def timm_model(seed: int = 0, **more: Any) -> nn.Module:
    import timm

    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return timm.create_model(MODEL, pretrained=False, **more).eval()


def onnx_file(path: Path, size: int = 16, metadata: bool = True) -> np.ndarray:
    """A linear map of 3 x size x size images to 5 numbers; returns its matrix."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.random.default_rng(0).normal(size=(3 * size * size, 5)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [("x", ["batch", 3, size, size]), ("y", ["batch", 5])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(matrix, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, {"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"})
    onnx.save(model, str(path))
    return matrix


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of 4 classes, and the weights of a model of timm and of one of torchvision, and an ONNX file."""
    import torchvision

    folder, rng = tmp_path_factory.mktemp("backbones"), np.random.default_rng(0)
    for kind in range(4):
        (folder / "photos" / f"kind{kind}").mkdir(parents=True)
        for number in range(6):
            pixels = (rng.uniform(0, 60, (24, 24, 3)) + 40 * kind).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / f"kind{kind}" / f"{number}.png")
    save_file(timm_model().state_dict(), folder / "w.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in timm_model().state_dict().items()}}, folder / "w.pth")
    save_file(torchvision.models.get_model(SMALL, weights=None, num_classes=3).state_dict(), folder / "tv.safetensors")
    onnx_file(folder / "t.onnx")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def call(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[Any, str]:
    """A command with --json: what it printed, and what it said."""
    main = {"ssl": ssl.main, "fewshot": fewshot.main}[words[0]]
    done = main([*words[1:], "--json"])
    printed = capsys.readouterr()
    assert done == code, printed.err[-2000:]
    return (json.loads(printed.out) if code == 0 else None), printed.err


# -- every command that takes a checkpoint

TIMM, ONNX = f"timm:{MODEL}:w.pth", "onnx:t.onnx"
EPISODES = ["--data", "folder:photos", "--ways", "2", "--shots", "1", "--queries", "2", "--episodes", "4"]
COMMANDS: dict[str, list[str]] = {
    "eval": ["fewshot", "eval", "X", *EPISODES, "--heads", "prototype"],
    "report": ["fewshot", "report", "X", *EPISODES, "--heads", "prototype", "--out", "page", "--overwrite"],
    "crossdomain": ["fewshot", "crossdomain", "X", *EPISODES],
    "lowshot": ["fewshot", "lowshot", "X", "--data", "folder:photos", "--shots", "1", "--draws", "2"],
    "probe": ["ssl", "probe", "X", "--data", "folder:photos"],
    "measure": ["ssl", "measure", "X", *EPISODES, "--repeats", "1"],
    "inspect": ["ssl", "inspect", "X"],
}


def commands_of_checkpoints() -> set[str]:
    """The commands that have an argument of checkpoints or runs."""
    found = set()
    for group in (ssl.ssl, fewshot.fewshot):
        for name, command in group.commands.items():
            if any(parameter.name in ("checkpoints", "checkpoint", "runs") for parameter in command.params):
                found.add(name)
    return found


def test_every_command_of_checkpoints_is_here() -> None:
    # these two begin with the classifier that a run learned of base classes, and say that a backbone has none
    assert commands_of_checkpoints() == {*COMMANDS, "generalized", "imprint"}


@pytest.mark.parametrize("name", [TIMM, ONNX])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_backbones(command: str, name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, said = call(capsys, *(name if word == "X" else word for word in COMMANDS[command]))
    assert result
    if command not in ("inspect", "report"):
        assert result["seeds"] == []
        assert result["pretrained_by"] == [f"# {name}: not trained here: {'weights of w.pth' if name == TIMM else 't.onnx'}"]
        assert f"what {name} was trained on is not known here" in json.dumps(result[SEEN])
    if name == TIMM and command not in ("inspect", "measure"):
        assert "names begin with 'module.'" in said
