"""An ONNX file, by PyTorch's current exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.exports import EXPORTS
from kinshot.exports.program import INPUT, first_line, quiet, taken, written_down
from kinshot.exports.proof import Features
from kinshot.exports.subject import Made, Subject, preprocessing
from kinshot.samples.pixels import PixelSpec

_MOST = 2**31 - 1
"""Bytes of a file in protobuf's format."""


@EXPORTS.register("onnx", suffix=".onnx", features=True)
def onnx(subject: Subject) -> Made:
    """An ONNX file: pixels in [0, 1] in, named features out, batches of any size; compared in onnxruntime before it is written."""
    runtime = _needed()
    about = {"preprocessing": preprocessing(subject.input, inside=True), "outputs": list(subject.outputs), **subject.identity}
    data = _converted(subject, about)

    def opened(place: Path) -> Features:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = runtime.InferenceSession(place, options, providers=["CPUExecutionProvider"])

        def features(values: Tensor) -> dict[str, Tensor]:
            found = session.run(list(subject.outputs), {INPUT: values.contiguous().numpy()})
            return dict(zip(subject.outputs, map(torch.from_numpy, found), strict=True))

        return features

    reading = (
        "import onnxruntime",
        "session = onnxruntime.InferenceSession({path!r})",
        f'features = session.run(["{subject.outputs[0]}"], {{{{"{INPUT}": samples}}}})[0]  # samples: {taken(subject)}',
    )
    return Made({"": data}, "the ONNX file in onnxruntime", opened, reading, _notes(subject), about)


def _needed() -> Any:
    """onnxruntime. Raises ConfigError where it, or what PyTorch writes ONNX with, is not installed."""
    try:
        import onnx  # noqa: F401 - what the exporter needs is asked for before it works for a while
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"format onnx needs the package {error.name}, which is not installed: run pip install 'kinshot[onnx]'") from error
    return onnxruntime


def _converted(subject: Subject, about: dict[str, Any]) -> bytes:
    """The program as an ONNX file with its metadata. Raises ConfigError where ONNX has no word for it."""
    program = written_down(subject)
    with quiet():
        try:
            made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=list(subject.outputs))
            proto = None if made is None else made.model_proto
        except Exception as error:  # the exporter's errors share no narrower base
            raise ConfigError(f"encoder {subject.encoder.name} has no form in ONNX: {first_line(error)}; use --format exported") from error
    if proto is None:
        raise ConfigError(f"encoder {subject.encoder.name} has no form in ONNX: PyTorch gave none; use --format exported")
    for node in proto.graph.node:  # each says how the exporter came to it
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for key, value in _metadata(subject, about).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    if proto.ByteSize() > _MOST:
        raise ConfigError(f"the ONNX file would have {proto.ByteSize()} bytes, and one file holds {_MOST}: use --format exported")
    data: bytes = proto.SerializeToString()
    return data


def _metadata(subject: Subject, about: dict[str, Any]) -> dict[str, str]:
    """`mean` and `std` of what is still to be normalised, which is nothing, the filter, and all else under `kinshot`."""
    said = {"kinshot": json.dumps(about, ensure_ascii=True)}
    if isinstance(subject.input, PixelSpec):
        mean, std = ([value] * subject.input.channels for value in (0.0, 1.0))
        said |= {"mean": json.dumps(mean), "std": json.dumps(std), "interpolation": subject.input.interpolation}
    return said


def _notes(subject: Subject) -> tuple[str, ...]:
    """Where kinshot itself does not take the file as an encoder."""
    if not isinstance(subject.input, PixelSpec):
        return (f"onnx:FILE stands for encoders of images alone: in kinshot use the run itself for {subject.input.kind}",)
    if subject.input.height != subject.input.width:
        return ("onnx:FILE stands for encoders of square images alone: in kinshot use the run itself",)
    return ()
