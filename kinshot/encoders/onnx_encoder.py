"""An ONNX file as a frozen encoder; onnxruntime is an optional dependency."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.small_files import read_file
from kinshot.encoders import ENCODERS
from kinshot.samples.pixels import INTERPOLATIONS, PixelSpec

_MOST = 64 * 2**30
_LOCATION = b"\x0a\x08location"
"""How a file of weights is named in the model: in protobuf, a pair of the key `location` and the name."""


@ENCODERS.register("onnx")
class OnnxEncoder(nn.Module):
    """An ONNX file, run on the CPU as it is: its first output, flattened, without gradient and without weights to train.

    Weights in files of their own are taken from beside the model, wherever the program runs, and belong to its fingerprint. That is all
    that the encoder's state holds (`sha256`): a checkpoint stands on the file, and one of other content is refused.

    Attributes: `channels` and `size` of its images, `dim` of its output, `fingerprint` of the content, `normalisation`, (mean, std)
    of pixels in [0, 1] where the file's metadata has `mean` and `std` as JSON lists, else None, and `interpolation`, the filter by which
    images are resized where the metadata names one, else bilinear.

    Args:
        file: the ONNX file.

    Raises:
        ConfigError: onnxruntime is not installed, or samples of another form than the file takes.
        CheckpointError: no such file, no ONNX model, or one that does not take one batch of square images.
    """

    accepts = ("image",)
    sha256: Tensor

    def __init__(self, input: PixelSpec | None, *, file: str) -> None:
        super().__init__()
        path = Path(file)
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path} needs the package onnxruntime, which is not installed: run pip install onnxruntime") from error
        data = read_file(path, most=_MOST, error=CheckpointError, remedy="give an ONNX file")
        digest = hashlib.sha256(data)
        for beside in _files_beside(path, data):
            digest.update(hashlib.sha256(read_file(beside, most=_MOST, error=CheckpointError, remedy="copy it beside the model")).digest())
        options = onnxruntime.SessionOptions()
        # for a model given as bytes onnxruntime would look in the working directory
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent.resolve()))
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no narrower base
            raise CheckpointError(f"{path} is no ONNX model that can run: {error}; export it anew") from error
        self._path = path
        self._batch: int | None
        self.fingerprint = digest.hexdigest()
        self._batch, self.channels, self.size = self._image_shape()
        self.normalisation = self._read_normalisation()
        self.interpolation = self._read_interpolation()
        self.register_buffer("sha256", torch.tensor(list(digest.digest()), dtype=torch.uint8))
        self.register_load_state_dict_pre_hook(_check_file)
        self.input: PixelSpec = self._own_input() if input is None else input
        if self.input.shape != (self.channels, self.size, self.size):
            takes = f"{self.channels} x {self.size} x {self.size}"
            raise ConfigError(f"{path} takes images of {takes}, got {self.input.describe()}: set data.size and data.channels")
        self.dim = int(self.forward(torch.zeros(self._batch or 1, self.channels, self.size, self.size)).shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, D) of normalised images, on the device of the images."""
        pieces = [x] if self._batch is None else list(x.split(self._batch))
        found = [self._run(piece) for piece in pieces]
        return torch.cat(found).flatten(1).to(x.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxEncoder:
        """Itself: nothing of it ever changes."""
        return self

    def _own_input(self) -> PixelSpec:
        """Images as the file says; one that does not say how pixels are normalised is taken to mean pixels in [0, 1]."""
        mean, std = self.normalisation or ((0.0,) * self.channels, (1.0,) * self.channels)
        return PixelSpec.square(self.channels, self.size, mean, std, self.interpolation)

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

    def _read_interpolation(self) -> str:
        found = self._session.get_modelmeta().custom_metadata_map.get("interpolation", "")
        return found if found in INTERPOLATIONS else INTERPOLATIONS[0]


def _check_file(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Raise CheckpointError where a state is that of a file of other content."""
    given, own = state.get(f"{prefix}sha256"), module.get_buffer("sha256")
    if given is not None and not torch.equal(given.cpu(), own.cpu()):
        raise CheckpointError(f"{module._path} is not the file that the checkpoint stands on, its content differs: put the former one back")


def _files_beside(path: Path, data: bytes) -> list[Path]:
    """The files beside a model that hold weights of it. Raises CheckpointError for a name that leads elsewhere."""
    names = []
    place = data.find(_LOCATION)
    while place >= 0:
        start = place + len(_LOCATION) + 2
        length = data[start - 1] if len(data) > start and data[start - 2] == 0x12 else 0  # a name of up to 127 bytes
        name = data[start : start + length].decode("utf-8", "replace")
        if not 0 < length < 128 or Path(name).name != name or name in (".", ".."):
            raise CheckpointError(f"{path} keeps weights in {name!r}, which is no file beside it: save the model in one file")
        names.append(name)
        place = data.find(_LOCATION, place + 1)
    return [path.parent / name for name in dict.fromkeys(names)]
