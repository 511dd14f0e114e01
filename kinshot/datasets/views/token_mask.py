"""Random views of texts: some characters hidden."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.samples.characters import MASK, PADDING
from kinshot.samples.spec import Spec, check_kind


@VIEWS.register("token_mask")
class TokenMask(Views):
    """Each character is hidden with some probability, and at least one in every text.

    A text's view depends on (seed, view, epoch, index) and the text, never on its batch.

    Paper: Devlin, Chang, Lee, Toutanova, 2018, arXiv 1810.04805 (BERT); there a tenth of the chosen tokens stays and a tenth
    becomes another token, here every chosen character becomes the mask.

    Args:
        views: number of views of each text.
        mask: probability of hiding a character.
    """

    accepts = ("tokens",)

    def __init__(self, input: Spec | Mapping[str, Spec], *, views: int = 2, mask: float = 0.15) -> None:
        super().__init__(input, views)
        for spec in self.fields.values():
            check_kind(VIEWS, "token_mask", spec)
        if views < 1 or not 0 <= mask <= 1:
            raise ConfigError(f"token_mask: views must be at least 1 and mask a probability between 0 and 1, got {views} and {mask}")
        self.mask = mask

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """A number for every place of every text."""
        return drawn({field: spec.shape[0] for field, spec in self.fields.items()}, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` random views: ids (B, L) to int64 (B, L) on the same device, hidden characters MASK.

        Raises ConfigError for texts that are longer than the views were made for.
        """
        (longest,) = self.spec_of(field).shape
        if samples.shape[1] > longest:
            raise ConfigError(f"token_mask was made for {longest} characters, got {samples.shape[1]}: cut the texts")
        clean = self.fields[field].normalize(samples)
        return [self._view(clean, u[:, : clean.shape[1]]) for u in plan.draws[field]]

    def _view(self, clean: Tensor, draws: Tensor) -> Tensor:
        # padding draws 2: it is never below the probability, nor the smallest of a text that has a character
        u = draws.to(clean.device).masked_fill(clean == PADDING, 2.0)
        smallest = u.amin(dim=1, keepdim=True)
        hidden = (u < 1) & ((u < self.mask) | (u == smallest))
        return clean.masked_fill(hidden, MASK)
