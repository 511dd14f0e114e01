"""A checkpoint in use: images in, features out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.core.errors import CheckpointError
from kinshot.encoders.base import InputSpec, normalize
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.projector import mlp_projector
from kinshot.recipes.recipe import Recipe, parse


class Embedder(nn.Module):
    """An encoder and its projector, in evaluation mode, with the pixels they expect.

    Args:
        encoder: images (B, C, H, W), normalised, to (B, dim).
        projector: (B, dim) to (B, D).
        input: what the encoder was made for.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, input: InputSpec) -> None:
        super().__init__()
        self.encoder, self.projector, self.input = encoder, projector, input
        self.eval()

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 or [0, 1] float images (B, C, H, W) as the encoder expects them: channels, size, normalisation."""
        spec = self.input
        x = images.float().div(255) if images.dtype == torch.uint8 else images.float()
        if x.shape[1] != spec.channels:
            x = x.mean(1, keepdim=True) if spec.channels == 1 else x.expand(-1, spec.channels, -1, -1)
        if x.shape[-2:] != (spec.size, spec.size):
            x = interpolate(x, size=(spec.size, spec.size), mode="bilinear", antialias=True, align_corners=False)
        return normalize(x, spec).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def embed(self, images: Tensor) -> dict[str, Tensor]:
        """Features of uint8 or [0, 1] float images (B, C, H, W): `backbone` (B, dim) and `projector` (B, D)."""
        backbone = self.encoder(self.prepare(images))
        return {"backbone": backbone.float(), "projector": self.projector(backbone).float()}

    def forward(self, images: Tensor) -> Tensor:
        """Backbone features with gradients, for fine-tuning."""
        return self.encoder(self.prepare(images))


def build_model(recipe: Recipe, input: InputSpec) -> tuple[nn.Module, nn.Module]:
    """The recipe's encoder and projector with their initial weights, a function of the recipe's seed."""
    encoder = build_encoder(recipe.encoder.name, recipe.encoder.settings, input, seed=recipe.seed)
    p = recipe.projector
    with keyed_initialisation(recipe.seed, "init projector"):
        projector = mlp_projector(encoder.dim, p.hidden, p.dim, p.layers, last_norm=p.last_norm)
    return encoder, projector


def load(path: str | Path, device: str = "cpu") -> Embedder:
    """The model in a checkpoint or in a run folder (its newest checkpoint), verified, in evaluation mode.

    Raises CheckpointError when it is missing, damaged or not kinshot's.
    """
    return from_checkpoint(load_checkpoint(Path(path), parts=("encoder", "projector"))).to(device)


def from_checkpoint(checkpoint: Checkpoint) -> Embedder:
    """The model described by a loaded checkpoint's config and weights."""
    recipe = parse(checkpoint.config, checkpoint.path.name)
    input = input_spec(checkpoint)
    encoder, projector = build_model(recipe, input)
    for part, module, weights in (("encoder", encoder, checkpoint.encoder), ("projector", projector, checkpoint.projector)):
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            problem = f"{checkpoint.path}: {part}.safetensors does not fit config.yaml: {error}"
            raise CheckpointError(f"{problem}; restore both from one run") from error
    return Embedder(encoder, projector, input)


def untrained(checkpoint: Checkpoint) -> Embedder:
    """The same architecture with the weights that the run started from: the reference row of an evaluation."""
    recipe = parse(checkpoint.config, checkpoint.path.name)
    input = input_spec(checkpoint)
    return Embedder(*build_model(recipe, input), input)


def input_spec(checkpoint: Checkpoint) -> InputSpec:
    """The pixels that the checkpoint's encoder expects. Raises CheckpointError when the state does not say."""
    try:
        given = checkpoint.state["input"]
        return InputSpec(int(given["channels"]), int(given["size"]), tuple(given["mean"]), tuple(given["std"]))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{checkpoint.path}: state.json does not describe the input ({error})"
        raise CheckpointError(f"{problem}; it was not written by ssl pretrain") from error
