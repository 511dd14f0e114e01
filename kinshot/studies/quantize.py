"""Post-training int8 quantisation of an encoder with PyTorch's own tools, to measure what it saves and what it costs.

Encoders with convolutions become int8 throughout (static quantisation by torch.fx: normalisations folded into the convolutions, ranges
of activations learned from calibration samples); the others get int8 linear layers (dynamic quantisation: ranges of each batch).
The result computes on a CPU and is there to be measured: it cannot be trained, and there is no checkpoint of it.

These tools, `torch.ao.quantization`, are what PyTorch itself ships, here with its default settings for the processor's int8 engine. They
are deprecated in favor of the package torchao, which is no dependency of kinshot.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.conv4 import Conv4
from kinshot.learn.model import Model
from kinshot.samples.spec import Spec

_ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
_BATCH = 64


class QuantizedEncoder(nn.Module):
    """An int8 network in an encoder's place: normalised float samples in, float features (B, dim) out.

    Its state is plain tensors, as a file would hold them: int8 weights, their scales and zero points, float biases.

    Args:
        network: what `torch.ao.quantization` made.
        dim: width of the features.
        input: samples that the encoder was made for.
    """

    def __init__(self, network: nn.Module, dim: int, input: Spec) -> None:
        super().__init__()
        self.network, self.dim, self.input = network, dim, input

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised samples."""
        return self.network(x)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The state as plain tensors by name; nothing reads it back."""
        found = {} if destination is None else destination
        for name, value in self.network.state_dict().items():
            found.update(_plain(f"{prefix}{name}", value))
        return found


def quantized(model: Model, calibration: Tensor) -> Model:
    """The model with an int8 encoder, on the CPU; the projector stays as it is.

    Args:
        model: the float model, which is left alone.
        calibration: samples (B, ...) as `Model.prepare` takes them, not those of the evaluation: the ranges of activations
            are learned from them. Not looked at where the encoder has no convolution.

    Raises:
        ConfigError: an encoder that torch cannot quantise, or a torch without these tools.
    """
    encoder: Any = copy.deepcopy(model.encoder).cpu().eval()
    projector = None if model.projector is None else copy.deepcopy(model.projector).cpu()
    with _int8_engine(), _without_deprecations():
        if any(isinstance(module, nn.Conv2d) for module in encoder.modules()):
            samples = Model(encoder, projector, input=model.input).eval().prepare(calibration.cpu())
            network = _static(_traceable(encoder), samples)
        else:
            network = _tools().quantize_dynamic(encoder, {nn.Linear}, dtype=torch.qint8)
    return Model(QuantizedEncoder(network, encoder.dim, model.input), projector).eval()


@torch.no_grad()
def _static(encoder: nn.Module, samples: Tensor) -> nn.Module:
    """The encoder in int8, with ranges from normalised samples. Raises ConfigError where torch cannot trace or run it."""
    tools = _tools()
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    mapping = tools.get_default_qconfig_mapping(torch.backends.quantized.engine)
    for mean in ("mean", torch.mean):  # averaging an int8 map over its pixels fails in torch, and is cheap as it is
        mapping.set_object_type(mean, None)
    try:
        observed = prepare_fx(encoder, mapping, (samples[:1],))
        for part in samples.split(_BATCH):
            observed(part)
        network = convert_fx(observed)
        network(samples[:1])
    except (torch.fx.proxy.TraceError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ConfigError(f"int8: torch cannot quantise {type(encoder).__name__} ({error}): measure it without --quantize") from error
    return network


def _traceable(encoder: nn.Module) -> nn.Module:
    """The encoder in a form that torch.fx can trace: Conv-4 without its check of the image size, which `prepare` makes sure of."""
    return nn.Sequential(encoder.blocks, nn.Flatten()) if isinstance(encoder, Conv4) else encoder


def _tools() -> Any:
    try:
        import torch.ao.quantization as tools
    except ImportError as error:
        raise ConfigError(f"int8: torch {torch.__version__} no longer has torch.ao.quantization: measure without --quantize") from error
    return tools


@contextmanager
def _int8_engine() -> Iterator[None]:
    """The best int8 engine of this processor inside, whatever it was before afterwards: packed weights remember theirs."""
    engine = next((name for name in _ENGINES if name in torch.backends.quantized.supported_engines), None)
    if engine is None:
        raise ConfigError("int8: this torch was built without an int8 engine: measure without --quantize")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Inside, torch does not announce the end of `torch.ao.quantization`, which the head of this file is about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.ao.quantization is deprecated", category=DeprecationWarning)
        for message in (".*reduce_range will be deprecated", "torch.quantize_per_tensor, torch.quantize_per_channel and other"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield


def _plain(name: str, value: Any) -> dict[str, Tensor]:
    """One entry of a quantised network's state as tensors that a file can hold."""
    if isinstance(value, Tensor):
        return _dense(name, value) if value.is_quantized else {name: value}
    if isinstance(value, torch.ScriptObject):
        value = value.unpack()  # type: ignore[attr-defined]
    if isinstance(value, tuple | list):
        return {key: tensor for i, part in enumerate(value) for key, tensor in _plain(f"{name}.{i}", part).items()}
    return {}  # dtypes and missing biases


def _dense(name: str, value: Tensor) -> dict[str, Tensor]:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale, zero = torch.tensor(value.q_scale()), torch.tensor(value.q_zero_point(), dtype=torch.int32)
    else:
        scale, zero = value.q_per_channel_scales().float(), value.q_per_channel_zero_points().int()
    return {name: value.int_repr(), f"{name}.scale": scale, f"{name}.zero_point": zero}
