"""A checkpoint in use: samples in, features out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.learn.features import named_features
from kinshot.core.misfit import misfit
from kinshot.samples.tokens import encode
from kinshot.datasets.base import Source
from kinshot.samples.spec import InputSpec, Spec, TokenSpec, fitted, input_of, normalize, spec_from_dict
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.paths import PathProjector
from kinshot.encoders.projector import mlp_projector
from kinshot.recipes.fit import made_by
from kinshot.runs.reached import reached_by
from kinshot.recipes.recipe import Recipe

_OVERSHOOT = 1e-4
"""What rounding may add to a float image's range of [0, 1]."""


class Embedder(nn.Module):
    """An encoder and its projector, in evaluation mode, with the samples they expect.

    Args:
        encoder: normalised samples, images (B, C, H, W), features (B, F) or tokens (B, L), to (B, dim).
        projector: (B, dim) to (B, D).
        input: what the encoder was made for.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, input: Spec) -> None:
        super().__init__()
        self.encoder, self.projector, self.input = encoder, projector, input
        self.eval()

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Samples as the encoder expects them.

        Images, uint8 or [0, 1] float (B, C, H, W), get its channels, size and normalisation; features (B, F) its normalisation;
        texts, as strings or as ids (B, L) of its alphabet, are cut or padded to its length.

        Raises:
            DataError: samples of another kind, features of another number, images beyond [0, 1], or values that are not finite.
        """
        spec = self.input
        if isinstance(spec, TokenSpec):
            return _prepared_tokens(samples, spec, next(self.parameters()).device)
        dimensions, what = (4, "images (B, C, H, W)") if isinstance(spec, InputSpec) else (2, f"features (B, {spec.dim})")
        if not isinstance(samples, Tensor) or samples.ndim != dimensions:
            raise DataError(f"this encoder was made for {what}, got {_described(samples)}")
        if isinstance(spec, InputSpec):
            return _prepared_images(samples, spec)
        if samples.shape[1] != spec.dim:
            raise DataError(f"this encoder was made for {what}, got {_described(samples)}")
        if not bool(torch.isfinite(samples).all()):
            raise DataError(f"this encoder was made for {what} of finite values, got NaN or infinity: fill or leave out such rows")
        return normalize(samples, spec)

    @torch.no_grad()
    def embed(self, samples: Tensor | Sequence[str]) -> dict[str, Tensor]:
        """Features of samples as `prepare` takes them: `backbone` (B, dim), `projector` (B, D) and its outputs by name."""
        return named_features(self.encoder(self.prepare(samples)), self.projector)

    def forward(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Backbone features with gradients, for fine-tuning."""
        return self.encoder(self.prepare(samples))


def _prepared_images(images: Tensor, spec: InputSpec) -> Tensor:
    x = images.float().div(255) if images.dtype == torch.uint8 else _checked_floats(images)
    return normalize(fitted(x, spec), spec).contiguous(memory_format=torch.channels_last)


def _checked_floats(images: Tensor) -> Tensor:
    """Float images in [0, 1]; raises DataError for others, which would become features of something else without a word."""
    if not images.is_floating_point():
        raise DataError(f"images must be uint8 or floats in [0, 1], got {_described(images)}: convert them with .to(torch.uint8)")
    if images.numel():
        low, high = (float(value) for value in images.aminmax())
        if not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:  # false for NaN too
            raise DataError(
                f"float images must lie in [0, 1], got values from {low:g} to {high:g}: divide pixels of 0 to 255 by 255, or give them as "
                "uint8; give images that were normalised or overshoot after resizing as they were before, or clamped"
            )
    return images.float()


def _prepared_tokens(samples: Tensor | Sequence[str], spec: TokenSpec, device: torch.device) -> Tensor:
    if not isinstance(samples, Tensor):
        texts = list(samples)
        if isinstance(samples, str) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"this encoder was made for texts: give a list of strings, or token ids (B, L); got {_described(samples)}")
        return normalize(torch.from_numpy(encode(texts, spec.alphabet, spec.length)), spec).to(device)
    if samples.ndim != 2 or samples.is_floating_point():
        raise DataError(f"this encoder was made for token ids (B, L) or a list of strings, got {_described(samples)}")
    cut = normalize(samples[:, : spec.length], spec)
    if cut.numel() and not 0 <= int(cut.min()) <= int(cut.max()) < spec.vocabulary:
        got = f"{int(cut.min())} to {int(cut.max())}"
        raise DataError(f"this encoder knows the ids 0 to {spec.vocabulary - 1}, got {got}: use its alphabet")
    return pad(cut, (0, spec.length - cut.shape[1]))


def _described(samples: object) -> str:
    return f"{samples.dtype} {tuple(samples.shape)}" if isinstance(samples, Tensor) else type(samples).__name__


def build_model(recipe: Recipe, input: Spec) -> tuple[nn.Module, nn.Module]:
    """The recipe's encoder and projector with their initial weights, a function of the recipe's seed."""
    encoder = build_encoder(recipe.encoder.name, recipe.encoder.settings, input, seed=recipe.seed)
    p = recipe.projector
    with keyed_initialisation(recipe.seed, "init projector"):
        if p.paths:
            projector: nn.Module = PathProjector(encoder.dim, p.hidden, p.dim, p.layers, p.paths, last_norm=p.last_norm)
        else:
            projector = mlp_projector(encoder.dim, p.hidden, p.dim, p.layers, last_norm=p.last_norm)
    return encoder, projector


def load(path: str | Path, device: str = "cpu") -> Embedder:
    """The model in a checkpoint or in a run folder (its best on validation classes, or its newest), verified, in evaluation mode.

    Warns where training did not get to its end. Raises CheckpointError when it is missing, damaged or not kinshot's.
    """
    checkpoint = load_checkpoint(Path(path), parts=("encoder", "projector"))
    at = reached_by(checkpoint)
    if at.finished is False:
        warnings.warn(f"{path} did not get to the end of its training: {at}", stacklevel=2)
    return from_checkpoint(checkpoint).to(device)


def from_checkpoint(checkpoint: Checkpoint) -> Embedder:
    """The model described by a loaded checkpoint's config and weights."""
    input = input_spec(checkpoint)
    encoder, projector = build_model(made_by(checkpoint), input)
    for part, module, weights in (("encoder", encoder, checkpoint.encoder), ("projector", projector, checkpoint.projector)):
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            problem = f"{checkpoint.path}: {part}.safetensors does not fit config.yaml: {misfit(module, weights) or error}"
            raise CheckpointError(f"{problem}; restore both from one run") from error
    return Embedder(encoder, projector, input)


def untrained(checkpoint: Checkpoint) -> Embedder:
    """The same architecture with the weights that the run started from: the reference row of an evaluation."""
    input = input_spec(checkpoint)
    return Embedder(*build_model(made_by(checkpoint), input), input)


def input_spec(checkpoint: Checkpoint) -> Spec:
    """The samples that the checkpoint's encoder expects. Raises CheckpointError when the state does not say."""
    try:
        return spec_from_dict(checkpoint.state["input"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{checkpoint.path}: state.json does not describe the input ({error})"
        raise CheckpointError(f"{problem}; it was not written by ssl pretrain") from error


def initial_input(checkpoint: Checkpoint, source: Source) -> Spec:
    """What the encoder of `init` was made for, which training it further keeps. Raises ConfigError where the source's samples differ."""
    made_for, found = input_spec(checkpoint), input_of(source)
    same = made_for.kind == found.kind and _shape(made_for) == _shape(found)
    if not same:
        raise ConfigError(
            f"init {checkpoint.path} was made for {made_for.kind} {_shape(made_for)}, {source.name} gives {found.kind} {_shape(found)}: "
            "set data.size, or choose other data or another init"
        )
    return made_for


def initialize(encoder: nn.Module, checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Put the weights of `init` into a freshly built encoder. Raises ConfigError naming both where the encoders differ."""
    made = made_by(checkpoint).encoder
    if made != recipe.encoder:
        raise ConfigError(
            f"init {checkpoint.path} has the encoder {made.name} {made.settings}, the recipe {recipe.encoder.name} "
            f"{recipe.encoder.settings}: set encoder to that of init"
        )
    encoder.load_state_dict(checkpoint.encoder)


def _shape(spec: Spec) -> tuple[object, ...]:
    if isinstance(spec, InputSpec):
        return spec.channels, spec.size, spec.size
    return (spec.length, spec.alphabet) if isinstance(spec, TokenSpec) else (spec.dim,)
