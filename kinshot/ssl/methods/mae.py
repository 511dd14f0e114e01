"""MAE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.timm_patches import VisiblePatches
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.masked_patches import masked_patches, patches_of
from kinshot.samples.batch import Batch, Shown

_TOKENS = "tokens"
_HEAD = 32  # numbers of a token that one head of the decoder attends with


@METHODS.register("mae")
class MAE(Method):
    """Most patches of an image are hidden; a vision transformer sees the others alone, and a small decoder paints what is missing.

    Paper: He, Chen, Xie, Li, Dollár, Girshick 2021, arXiv 2111.06377.

    One view of each sample (`views.views=1`), and an encoder with patches: `encoder={name: timm, model: vit_tiny_patch16_224, patch: 4}`.
    Encoding costs what the visible patches cost. There is no projector in the loss; terms of the recipe see the feature of the visible
    patches. Departures: the encoder starts as timm starts it, with learned positions, and the decoder is as small as such encoders are.

    Args:
        hide: share of the patches that are hidden, the same number in every image.
        width: numbers of a token in the decoder, a multiple of 32; each 32 of them are a head.
        depth: layers of the decoder.
        normalize: whether pixels are told apart within their patch: its mean and spread are taken out of what is to be painted.
    """

    accepts = ("image",)
    patches = True
    view_count = 1
    uses = ()

    def __init__(
        self, model: Model, context: RunContext, *, hide: float = 0.75, width: int = 128, depth: int = 2, normalize: bool = True
    ) -> None:
        super().__init__(model)
        if width < 1 or width % _HEAD or depth < 1:
            raise ConfigError(f"mae: width is a multiple of {_HEAD} and depth at least 1, got {width} and {depth}: try 128 and 2")
        if not 0 < hide < 1:
            raise ConfigError(f"mae: hide is a share above 0 and below 1, got {hide}: the paper's is 0.75")
        self.visible = VisiblePatches(model.encoder)
        if self.visible.count < 2:
            raise ConfigError(f"mae: an image of one patch of {self.visible.side} pixels has none to hide: set a smaller encoder.patch")
        self.hidden = min(self.visible.count - 1, max(1, round(hide * self.visible.count)))
        self.normalize, self.seed = normalize, context.seed
        with keyed_initialisation(context.seed, "init mae"):
            self.decoder = Decoder(self.visible, width, depth)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Tokens of the visible patches, and the feature of them. Raises ConfigError for names that only whole images have."""
        x = batch.views[0]
        tokens = self.visible(x, self.split(batch)[1].to(x.device))
        values = self.model.of_features(self.visible.pooled(tokens), names)
        if missing := [name for name in names if name not in values]:
            raise ConfigError(f"mae sees some patches alone, of which there is no {missing[0]}: let terms look at backbone or projector")
        return Outputs({**values, _TOKENS: tokens}, Shown(batch.indices, (0,), (x,)))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean squared error of the pixels of hidden patches."""
        x = batch.views[0]
        hidden, kept = (numbers.to(x.device) for numbers in self.split(batch))
        painted = self.decoder(self.visible.normed(outputs[_TOKENS]), hidden, kept)
        wanted = patches_of(x, self.visible.side)
        rows = torch.arange(len(x), device=x.device).unsqueeze(1)
        return {"loss": masked_patches(wanted[rows, hidden], painted, normalize=self.normalize)}

    def split(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Numbers of each image's hidden patches and of its visible ones, int64 on the CPU, by step and sample whatever the batch."""
        draws = keyed_uniform(self.seed, "patches hidden", batch.step, batch.indices.cpu().numpy(), self.visible.count)
        order = torch.from_numpy(np.argsort(draws, axis=1, kind="stable"))
        return order[:, : self.hidden], order[:, self.hidden :]


class Decoder(nn.Module):
    """Pixels of hidden patches from tokens of the visible ones: a small transformer with fixed positions.

    Args:
        visible: what gives the tokens.
        width: numbers of a token inside.
        depth: layers.
    """

    def __init__(self, visible: VisiblePatches, width: int, depth: int) -> None:
        super().__init__()
        from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM

        self.prefix, self.count = visible.prefix, visible.count
        self.embed = nn.Linear(visible.dim, width)
        self.layers = MaskedVisionTransformerDecoderTIMM(
            num_patches=visible.count, embed_dim=width, depth=depth, num_heads=width // _HEAD, num_prefix_tokens=visible.prefix
        )
        self.pixels = nn.Linear(width, visible.values)

    def forward(self, tokens: Tensor, hidden: Tensor, kept: Tensor) -> Tensor:
        """What is painted (B, M, side * side * C).

        Args:
            tokens: (B, prefix + K, D), class and register tokens first.
            hidden: int64 (B, M), numbers of the patches that are painted.
            kept: int64 (B, K), of those that the tokens are of.
        """
        rows = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
        seen = self.embed(tokens)
        canvas = self.layers.mask_token.to(seen.dtype).expand(len(seen), self.prefix + self.count, -1).clone()
        canvas[:, : self.prefix] = seen[:, : self.prefix]
        canvas[rows, kept + self.prefix] = seen[:, self.prefix :]
        painted: Tensor = self.pixels(self.layers(canvas)[rows, hidden + self.prefix])
        return painted
