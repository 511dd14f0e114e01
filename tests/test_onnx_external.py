"""ONNX models whose weights lie in files of their own."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.onnx_encoder import OnnxEncoder
from kinshot.samples.pixels import PixelSpec

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def write_model(folder: Path, seed: int, location: str = "w.bin") -> np.ndarray:
    """A linear map of 1 x 4 x 4 images to 300 numbers, its matrix (16, 300) in a file of its own; returns the matrix."""
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(exist_ok=True)
    matrix = np.random.default_rng(seed).normal(size=(16, 300)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 1, 4, 4]), ("y", [1, 300]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(matrix, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "t.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    content = (folder / "t.onnx").read_bytes()
    assert matrix.tobytes() not in content
    (folder / "t.onnx").write_bytes(content.replace(b"w.bin", location.encode()))
    return matrix


def test_weights_lie_beside_the_model_and_belong_to_its_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = write_model(tmp_path / "a", 0), write_model(tmp_path / "b", 1)
    assert not np.array_equal(ours, other)
    monkeypatch.chdir(tmp_path / "b")  # where a file of the same name lies
    encoder = OnnxEncoder(None, file=str(tmp_path / "a" / "t.onnx"))
    x = torch.randn(3, 1, 4, 4)
    np.testing.assert_allclose(encoder(x).numpy(), x.numpy().reshape(3, 16) @ ours, rtol=1e-5, atol=1e-5)
    assert encoder.fingerprint != OnnxEncoder(None, file=str(Path("t.onnx"))).fingerprint
    (tmp_path / "a" / "w.bin").unlink()
    with pytest.raises(CheckpointError, match="copy it beside the model"):
        OnnxEncoder(None, file=str(tmp_path / "a" / "t.onnx"))


@pytest.mark.parametrize("location", ["../wb", "/wbin", "./wb."])
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    write_model(tmp_path / "a", 0, location[:5])
    with pytest.raises(CheckpointError, match=r"no file beside it|copy it beside"):
        OnnxEncoder(None, file=str(tmp_path / "a" / "t.onnx"))


def test_a_pipe_in_the_place_of_a_model_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.onnx")
    with pytest.raises(CheckpointError, match="is a pipe"):
        OnnxEncoder(None, file=str(tmp_path / "t.onnx"))


def test_an_encoder_of_a_recipe_stands_on_its_file(tmp_path: Path) -> None:
    matrix = write_model(tmp_path / "a", 0)
    spec = PixelSpec.square(1, 4, (0.5,), (0.5,))
    encoder = build_encoder("onnx", {"file": str(tmp_path / "a" / "t.onnx")}, spec)
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(encoder(x).numpy(), x.numpy().reshape(3, 16) @ matrix, rtol=1e-5, atol=1e-5)
    assert (encoder.dim, encoder.input, list(encoder.parameters())) == (300, spec, [])
    assert torch.equal(copy.deepcopy(encoder)(x), encoder(x))
    state = encoder.state_dict()
    assert bytes(state["sha256"].tolist()).hex() == encoder.fingerprint  # type: ignore[union-attr]
    encoder.load_state_dict(state)
    write_model(tmp_path / "b", 1)
    other = build_encoder("onnx", {"file": str(tmp_path / "b" / "t.onnx")}, spec)
    with pytest.raises(CheckpointError, match="is not the file that the checkpoint stands on"):
        other.load_state_dict(state)
    with pytest.raises(ConfigError, match="takes images of 1 x 4 x 4"):
        build_encoder("onnx", {"file": str(tmp_path / "b" / "t.onnx")}, PixelSpec.square(3, 4, (0.5,) * 3, (0.5,) * 3))
