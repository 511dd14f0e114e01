"""A vision transformer of timm that is shown some patches of an image and none of the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.timm_adapter import TimmEncoder

EXAMPLE = "encoder={name: timm, model: vit_tiny_patch16_224, patch: 4}"


class VisiblePatches:
    """Tokens of chosen patches; the others are neither seen nor computed. Not a module: the weights stay the encoder's.

    It has `count` patches of `side` pixels, each of `values` numbers; tokens have `dim` numbers, and `prefix` of them stand for no patch.

    Args:
        encoder: whose weights are used.

    Raises:
        ConfigError: an encoder that has no patches to hide, or whose patches do not fill square images.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.vit = _vision_transformer(encoder)
        side, grid, spec = self.vit.patch_embed.patch_size, self.vit.patch_embed.grid_size, encoder.input
        if spec.height != spec.width or side[0] != side[1] or side[0] * grid[0] != spec.height:  # type: ignore[union-attr]
            got = f"patches of {side[0]} x {side[1]} pixels and {spec.describe()}"  # type: ignore[union-attr, operator]
            raise ConfigError(f"hidden patches fill square images, got {got}: take square images, and a patch that divides their side")
        self.side, self.count = int(side[0]), int(grid[0] * grid[1])
        self.values = self.side**2 * int(spec.channels)  # type: ignore[union-attr, arg-type]
        self.dim, self.prefix = int(self.vit.embed_dim), int(self.vit.num_prefix_tokens)
        from lightly.models.modules.masked_vision_transformer_timm import MaskedVisionTransformerTIMM

        self._masked: Any = MaskedVisionTransformerTIMM(self.vit, weight_initialization="skip", pos_embed_initialization="skip")

    def __call__(self, x: Tensor, kept: Tensor) -> Tensor:
        """Tokens (B, prefix + K, D) of normalised images (B, C, H, W), class and register tokens first.

        Args:
            x: the images.
            kept: int64 (B, K), numbers of the patches that are seen, counted along the rows of the image.
        """
        first = torch.arange(self.prefix, device=kept.device).expand(len(kept), -1)
        tokens: Tensor = self._masked.encode(x, idx_keep=torch.cat([first, kept + self.prefix], dim=1))
        return tokens

    def pooled(self, tokens: Tensor) -> Tensor:
        """The feature (B, dim) that the model makes of such tokens."""
        feature: Tensor = self.vit.forward_head(tokens)
        return feature

    def normed(self, tokens: Tensor) -> Tensor:
        """The tokens under the last norm that the feature passes: some models have it before they pool, and some behind."""
        found: Tensor = self.vit.fc_norm(tokens)
        return found


def _vision_transformer(encoder: nn.Module) -> Any:
    """timm's model in an encoder. Raises ConfigError where it is not a plain vision transformer."""
    if not isinstance(encoder, TimmEncoder):
        got = f"the encoder {type(encoder).__name__}"
        raise ConfigError(f"patches are hidden from a vision transformer of timm, got {got}: set {EXAMPLE}")
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    model = encoder.model
    plain = type(model) is VisionTransformer and isinstance(model.patch_embed, PatchEmbed) and model.pos_embed is not None
    if not plain or model.attn_pool is not None:
        got = f"timm's {type(model).__name__}" + (" that pools by attention" if plain else "")
        raise ConfigError(f"patches are hidden from a plain vision transformer of timm, got {got}: set {EXAMPLE}")
    return model
