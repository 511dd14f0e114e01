"""Teachers that kinshot did not train: models of libraries with weights in a file, and ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.encoders.onnx_encoder import OnnxEncoder
from kinshot.runs.teachers import load_teacher
from kinshot.samples.pixels import PixelSpec

SPEC = PixelSpec.square(1, 16, (0.3,), (0.4,))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_models_of_libraries_teach_from_a_file(library: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    if library == "timm":
        timm = pytest.importorskip("timm", reason="timm is not installed")
        name, model = "mobilenetv3_small_050", timm.create_model("mobilenetv3_small_050", num_classes=7)
    else:
        import torchvision

        name, model = "resnet18", torchvision.models.resnet18(num_classes=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    colour = PixelSpec.square(3, 32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    found = load_teacher(f"{library}:{name}:{tmp_path / 'w.safetensors'}", (), (), colour)
    pixels = torch.rand(2, 3, 64, 64)
    said = found.outputs(pixels, ["backbone", "logits"])
    torch.testing.assert_close(said["logits"], model.eval()(pixels).detach())
    assert found.input.size == 224
    with pytest.raises((ConfigError, CheckpointError)):
        load_teacher(f"{library}:resnet34:{tmp_path / 'w.safetensors'}", (), (), colour)


def onnx_model(path: Path, *, metadata: bool = True, batch: int | str = "batch") -> np.ndarray:
    """A linear map of 1 x 4 x 4 images to 3 numbers; returns its matrix (16, 3)."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 4, 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3]),
    ]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], [numpy_helper.from_array(matrix, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, {"mean": "[0.25]", "std": "[0.5]"})
    onnx.save(model, str(path))
    return matrix


@pytest.mark.parametrize("batch", ["batch", 2])
def test_onnx_file_teaches(batch: int | str, tmp_path: Path) -> None:
    matrix = onnx_model(tmp_path / "t.onnx", batch=batch)
    found = load_teacher(str(tmp_path / "t.onnx"), (), (), PixelSpec.square(1, 4, (0.1,), (0.3,)))
    assert found.input == PixelSpec.square(1, 4, (0.25,), (0.5,))
    x = torch.randn(5, 1, 4, 4)
    np.testing.assert_allclose(found.outputs(x, ["backbone"])["backbone"].numpy(), x.numpy().reshape(5, 16) @ matrix, rtol=1e-5, atol=1e-5)


def test_onnx_file_that_does_not_say_how_pixels_are_normalised(tmp_path: Path) -> None:
    onnx_model(tmp_path / "t.onnx", metadata=False)
    with pytest.raises(ConfigError, match=r"distill\.mean"):
        load_teacher(str(tmp_path / "t.onnx"), (), (), SPEC)
    found = load_teacher(str(tmp_path / "t.onnx"), (0.5,), (0.2,), SPEC)
    assert found.input.mean == (0.5,)
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="no ONNX model"):
        OnnxEncoder(None, file=str(tmp_path / "bad.onnx"))
