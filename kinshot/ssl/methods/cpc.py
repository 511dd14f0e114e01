"""CPC."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import Encoder, keyed_initialisation
from kinshot.encoders.conv_gru import HeldGRU
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import last_place
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.temporal.cpc import cpc, future_steps
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows
from kinshot.ssl.sequences import check_places, encoders_of, last_known, mean_terms, places_of, sequences, share_found, shown_by


@METHODS.register("cpc")
class CPC(Method):
    """What comes next in a window is predicted from what came so far, and told from what comes next in other windows.

    Paper: van den Oord, Li, Vinyals 2018, arXiv 1807.03748; on sensors of activity Haresamudram, Essa, Plötz 2020, arXiv 2012.05333

    One view. In each modality a GRU reads the encoder's places up to a random one, and a bilinear map for each of the next places
    predicts it. Of an encoder that is recurrent itself (`conv_gru`) the contexts are its own, and what is predicted are its convolutions'
    latents. Windows that overlap are not told apart; places of which nothing was measured are neither read nor predicted. The loss is the
    mean over the modalities that are there. An encoder that is not causal shows the places on both sides of the border a little of each
    other, which makes the first steps easy.

    Departures: the last known place is one for the batch, and any that leaves a place to predict; no dropout, whose masks would not be
        keyed.

    Args:
        steps: places ahead that are predicted, as far as windows have them.
        hidden: width of the GRU.
    """

    accepts = ("series", "bundle")
    view_count = 1
    uses = ()

    def __init__(self, model: Model, context: RunContext, *, steps: int = 12, hidden: int = 128) -> None:
        super().__init__(model)
        encoders = encoders_of(model, "cpc")
        if min(steps, hidden) < 1:
            raise ConfigError(f"cpc: steps and hidden must be at least 1, got {steps} and {hidden}: try 12 and 128")
        self.places = {name: places_of(encoder) for name, encoder in encoders.items()}
        check_places("cpc", self.places)
        self.latents: dict[str, str] = {name: encoder.latents for name, encoder in encoders.items() if hasattr(encoder, "latents")}  # type: ignore[misc]
        with keyed_initialisation(context.seed, "init cpc"):
            predictors = {name: Predictor(encoder, hidden, min(steps, self.places[name] - 1)) for name, encoder in encoders.items()}
        self.predictors = nn.ModuleDict({f"of_{name}": predictor for name, predictor in predictors.items()})
        self.seed, self.windows = context.seed, Windows(context, model.input)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Each modality's places, and the features."""
        return sequences(self.model, batch, range(1), names, further=self.latents)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """CPC's loss, and how often a prediction is nearest to what came."""
        at, relation = last_known(self.seed, "cpc", batch.step, self.places), self.windows.of(batch.indices)
        found = []
        for name in shown_by(outputs, list(self.places)):
            valid, last = outputs[f"{name}/valid"], outputs[f"{name}/sequence"]
            latents, contexts = (outputs[f"{name}/further"], last) if name in self.latents else (last, None)
            predicted, known = self.predictors[f"of_{name}"](latents, valid, at[name], contexts)
            future, there = future_steps(latents, at[name], predicted.shape[1], valid)
            there = there & known.unsqueeze(1)
            loss = cpc(predicted, future, relation, valid=there)
            found.append({"loss": loss, "accuracy": share_found(predicted, future, relation, there)})
        return mean_terms(found)


class Predictor(nn.Module):
    """A context of the places so far, and a bilinear map of it for each place ahead.

    Args:
        encoder: of the modality; one that has `latents` gives contexts itself.
        hidden: width of the GRU of any other.
        steps: K, places ahead.
    """

    def __init__(self, encoder: Encoder, hidden: int, steps: int) -> None:
        super().__init__()
        latents, own = getattr(encoder, "latents", None), encoder.dims[encoder.stages[-1]]
        width = own if latents is None else encoder.dims[latents]
        self.gru = HeldGRU(width, hidden) if latents is None else None
        self.maps = nn.Linear(hidden if latents is None else own, steps * width, bias=False)

    def forward(self, latents: Tensor, valid: Tensor, at: int, contexts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is predicted of the places after `at`, (B, K, D), and who knows anything by then, bool (B,).

        Args:
            latents: (B, T', D).
            valid: bool (B, T').
            at: the last known place.
            contexts: (B, T', D2), the encoder's own.
        """
        past = valid[:, : at + 1]
        so_far = latents[:, : at + 1] if contexts is None else contexts[:, : at + 1]
        states: Tensor = so_far.mT if self.gru is None else self.gru(so_far.mT, past)
        return self.maps(last_place(Maps(states, 1, past))).unflatten(1, (-1, latents.shape[2])), past.any(1)
