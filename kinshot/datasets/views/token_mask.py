"""Random views of texts: some characters hidden."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.datasets.views import VIEWS
from kinshot.samples.characters import MASK, PADDING
from kinshot.samples.spec import check_kind
from kinshot.samples.tokens import TokenSpec


@VIEWS.register("token_mask")
class TokenMask:
    """Each character is hidden with some probability, and at least one in every text.

    A text's view depends on (seed, view, epoch, index) and the text, never on its batch.

    Paper: Devlin, Chang, Lee, Toutanova, 2018, arXiv 1810.04805 (BERT); there a tenth of the chosen tokens stays and a tenth
    becomes another token, here every chosen character becomes the mask.

    Args:
        views: number of views of each text.
        mask: probability of hiding a character.
    """

    accepts = ("tokens",)

    def __init__(self, input: TokenSpec, *, views: int = 2, mask: float = 0.15) -> None:
        check_kind(VIEWS, "token_mask", input)
        if views < 1 or not 0 <= mask <= 1:
            raise ConfigError(f"token_mask: views must be at least 1 and mask a probability between 0 and 1, got {views} and {mask}")
        self.input, self.views, self.mask = input, views, mask

    def __call__(self, tokens: Tensor, indices: Tensor | np.ndarray, seed: int, epoch: int) -> list[Tensor]:
        """`views` random views: ids (B, L) to int64 (B, L) on the same device, hidden characters MASK."""
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        clean = self.input.normalize(tokens)
        return [self._view(clean, keyed_uniform(seed, f"view{v}", epoch, rows, clean.shape[1])) for v in range(self.views)]

    def _view(self, clean: Tensor, draws: np.ndarray) -> Tensor:
        # padding draws 2: it is never below the probability, nor the smallest of a text that has a character
        u = torch.from_numpy(draws).to(clean.device).masked_fill(clean == PADDING, 2.0)
        smallest = u.amin(dim=1, keepdim=True)
        hidden = (u < 1) & ((u < self.mask) | (u == smallest))
        return clean.masked_fill(hidden, MASK)
