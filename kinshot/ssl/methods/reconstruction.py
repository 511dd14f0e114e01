"""Reconstruction: masked characters, denoised features, autoencoded images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import Encoder, keyed_initialisation
from kinshot.encoders.queue import embedding_dim
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch, Shown
from kinshot.samples.spec import Spec


@METHODS.register("reconstruction")
class Reconstruction(Method):
    """Predict what the view hides: the masked characters of a text, or the clean features or pixels of a sample.

    Paper: Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008
    Paper: Devlin, Chang, Lee, Toutanova, 2018, arXiv 1810.04805 (masked tokens)

    Features and images: a decoder of two layers from the projector's output to the clean, normalised sample; mean squared error over
    all its numbers. Texts: cross-entropy at the masked characters, of the sum of two linear maps, one of the character's own
    features and one of the projected text. The second is ours: the projector then sees here what it sees everywhere else,
    the whole text's embedding. It takes views that leave something out: feature_noise, token_mask, or warp for images.

    Args:
        hidden: width of the decoder of features and images.
    """

    accepts = ("image", "features", "tokens")
    view_count = 1
    needs_clean = True

    def __init__(self, model: Model, context: RunContext, *, hidden: int = 256) -> None:
        super().__init__(model)
        if hidden < 1:
            raise ConfigError(f"reconstruction: hidden must be at least 1, got {hidden}")
        self.input: Spec = model.encoder.input  # type: ignore[assignment]
        width = embedding_dim(self.encoder, self.projector)
        with keyed_initialisation(context.seed, "init reconstruction"):
            if self.input.vocabulary:
                # the bias of one of two maps that are added is enough
                self.characters = nn.Linear(model.dim, self.input.vocabulary)
                self.context = nn.Linear(width, self.input.vocabulary, bias=False)
            else:
                numbers = math.prod(self.input.shape)
                self.decoder = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, numbers))

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Of the view: features and projection; of texts also the features of each character, `characters`, in the same pass."""
        if not self.input.vocabulary:
            return super().outputs(batch, names)
        view = batch.views[0]
        encoder = cast(Encoder, self.encoder)
        last = encoder.maps(view, encoder.stages[-1:])[0]
        values = {**self.model.of_features(encoder.pool(last), [*self.uses, *names]), "characters": last.values.mT}
        return Outputs(values, Shown(batch.indices, (0,), (view,)))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Error of the prediction of the clean samples from the view; for texts, also the accuracy at masked characters."""
        clean = cast(Tensor, batch.clean)
        if self.input.vocabulary:
            return self._masked_characters(outputs, batch.views[0], clean)
        made = self.decoder(outputs["projector"])
        return {"loss": F.mse_loss(made.float(), self.input.fit_normalized(clean).flatten(1).float())}

    def _masked_characters(self, outputs: Outputs, view: Tensor, clean: Tensor) -> dict[str, Tensor]:
        rows, places = (view != clean).nonzero(as_tuple=True)
        logits = (self.characters(outputs["characters"][rows, places]) + self.context(outputs["projector"])[rows]).float()
        hidden = clean[rows, places]
        # a view that hides nothing has nothing to predict: 0, where a mean would be no number
        count = max(len(hidden), 1)
        with torch.no_grad():
            accuracy = (logits.argmax(dim=1) == hidden).sum().float() / count
        return {"loss": F.cross_entropy(logits, hidden, reduction="sum") / count, "accuracy": accuracy}
