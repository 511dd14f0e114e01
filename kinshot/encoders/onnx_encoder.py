"""An ONNX file as a frozen encoder; onnxruntime is an optional dependency."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from kinshot.core.errors import CheckpointError, ConfigError


class OnnxEncoder(nn.Module):
    """Runs an ONNX model on the CPU: float32 (B, C, H, W) to its first output, flattened to (B, D). No gradient, no parameters.

    Attributes: `channels` and `size` of its images, `dim` of its output, `fingerprint` of the file, and `normalisation`, (mean, std)
    of pixels in [0, 1] where the file's metadata has `mean` and `std` as JSON lists, else None.

    Raises:
        ConfigError: onnxruntime is not installed.
        CheckpointError: no such file, no ONNX model, or one that does not take one batch of square images.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path} needs the package onnxruntime, which is not installed: run pip install onnxruntime") from error
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}; give an ONNX file") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no narrower base
            raise CheckpointError(f"{path} is no ONNX model that can run: {error}; export it anew") from error
        self._path = path
        self._batch: int | None
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self._batch, self.channels, self.size = self._image_shape()
        self.normalisation = self._read_normalisation()
        self.dim = int(self.forward(torch.zeros(self._batch or 1, self.channels, self.size, self.size)).shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, D) of normalised images, on the device of the images."""
        pieces = [x] if self._batch is None else list(x.split(self._batch))
        found = [self._run(piece) for piece in pieces]
        return torch.cat(found).flatten(1).to(x.device)

    def _run(self, x: Tensor) -> Tensor:
        name = self._session.get_inputs()[0].name
        missing = 0 if self._batch is None else self._batch - len(x)
        padded = torch.cat([x, x[:1].expand(missing, -1, -1, -1)]) if missing else x
        values = self._session.run(None, {name: padded.detach().cpu().float().contiguous().numpy()})[0]
        return torch.from_numpy(values)[: len(x)].float()

    def _image_shape(self) -> tuple[int | None, int, int]:
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[2] != shape[3] or not all(isinstance(n, int) for n in shape[1:]):
            raise CheckpointError(f"{self._path} takes {[one.shape for one in inputs]}, expected one input (batch, channels, size, size)")
        return (shape[0] if isinstance(shape[0], int) else None), shape[1], shape[2]

    def _read_normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        found = self._session.get_modelmeta().custom_metadata_map
        try:
            mean, std = (tuple(float(value) for value in json.loads(found[name])) for name in ("mean", "std"))
        except (KeyError, ValueError, TypeError):
            return None
        return mean, std
