"""A small transformer that reads texts character by character."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps, place_mean
from kinshot.samples.characters import PADDING
from kinshot.samples.tokens import TokenSpec

_INITIAL_STD = 0.02  # of BERT


class Block(nn.Module):
    """Pre-norm transformer layer: x + attention(norm(x)), then x + perceptron(norm(x)). No dropout: its masks would not be keyed.

    Paper: Vaswani et al., 2017, arXiv 1706.03762; normalisation first as in Xiong et al., 2020, arXiv 2002.04745.

    Args:
        width: features of a character.
        heads: attention heads, a divisor of `width`.
        hidden: width of the perceptron.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """(B, L, width) to the same; `visible` bool (B, 1, 1, L) is false where nobody may look."""
        batch, length, width = x.shape
        heads = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.perceptron(x)


@ENCODERS.register("text")
class TextTransformer(nn.Module):
    """Transformer over characters, averaged over the text; padding is neither attended to nor averaged.

    Paper: Devlin, Chang, Lee, Toutanova, 2018, arXiv 1810.04805 (BERT: bidirectional, learned positions); here with normalisation
    first, without dropout, and averaged in place of a class token.

    Args:
        width: features of a character, and of the text; less for a narrower version.
        layers: transformer layers; fewer for a shallower version.
        heads: attention heads of a layer, a divisor of `width`.
        expansion: the layers' perceptrons are so many times as wide.

    >>> from kinshot.samples.tokens import TokenSpec
    >>> encoder = kinshot.encoders.text(TokenSpec(4, "abc"), width=8, layers=1, heads=2)
    >>> encoder(torch.tensor([[3, 4, 5, 0]])).shape  # a text of three letters
    torch.Size([1, 8])
    """

    accepts = ("tokens",)

    def __init__(self, input: TokenSpec, *, width: int = 64, layers: int = 2, heads: int = 4, expansion: int = 4) -> None:
        super().__init__()
        if min(width, layers, heads, expansion) < 1 or width % heads:
            raise ConfigError(
                f"encoder text: width, layers, heads and expansion must be at least 1 and heads divide width, got width {width}, "
                f"layers {layers}, heads {heads}, expansion {expansion}: try width 64 and heads 4"
            )
        self.input = input
        self.dim = width
        self.characters = nn.Embedding(input.vocabulary, width)
        self.positions = nn.Parameter(torch.empty(input.length, width))
        for weight in (self.characters.weight, self.positions):
            nn.init.trunc_normal_(weight, std=_INITIAL_STD)
        self.blocks = nn.ModuleList(Block(width, heads, expansion * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.stages = (*(f"blocks.{number}" for number in range(layers)), "norm")
        self.dims, self.strides = dict.fromkeys(self.stages, width), dict.fromkeys(self.stages, 1)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What layers and the last normalisation give of every character of texts (B, L), int64: (B, dim, L), zero at padding.

        Raises ConfigError beyond the longest text.
        """
        if x.shape[1] > self.input.length:
            raise ConfigError(f"encoder text was made for {self.input.length} characters, got {x.shape[1]}: cut the texts")
        kept = x != PADDING
        # a text of padding alone looks at its first place, as attention to nothing is not a number
        visible = kept.clone()
        visible[:, :1] = True
        features = self.characters(x) + self.positions[: x.shape[1]]
        found = {}
        for stage in self.stages[: 1 + max(map(self.stages.index, stages))]:
            features = self.norm(features) if stage == "norm" else self.get_submodule(stage)(features, visible[:, None, None, :])
            if stage in stages:
                found[stage] = Maps((features * kept.unsqueeze(-1)).mT, 1, kept)
        return [found[stage] for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last normalisation: their mean over the characters; zero for a text of padding alone."""
        return place_mean(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of texts, int64 (B, L)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])
