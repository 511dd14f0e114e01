"""Small ONNX files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


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
