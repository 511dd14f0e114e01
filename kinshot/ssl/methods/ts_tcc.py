"""TS-TCC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import Encoder, keyed_initialisation
from kinshot.encoders.projector import mlp_projector
from kinshot.encoders.text_transformer import Block
from kinshot.kin.constructors import across_views
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.nt_xent import nt_xent
from kinshot.objectives.temporal.cpc import future_steps
from kinshot.objectives.temporal.temporal_contrasting import temporal_contrasting
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows
from kinshot.ssl.sequences import check_places, encoders_of, last_known, mean_terms, places_of, sequences, share_found, shown_by


@METHODS.register("ts_tcc")
class TSTCC(Method):
    """What a weakly altered view shows up to a place predicts what comes next in a strongly altered one, and the other way round.

    Paper: Eldele, Ragab, Chen, Wu, Kwoh, Li, Guan 2021, arXiv 2106.14112

    Two views, the first weak, the second strong (views `weak_strong`). In each modality a transformer sums up the encoder's places as far
    as a random one in a token of its own; linear maps of it predict the other view's next places, told from those of other windows, and
    projections of both views' contexts find one another among those of other windows. Windows that overlap are not told apart. A place
    counts where both views show something, and the loss is the mean over the modalities that are there.

    Departures: the released code permutes the first channel alone and copies it over the others, alters each window once for the whole
        run, and validates on windows of the recordings that it trains on; here channels are permuted alike, every epoch draws anew, and
        what is validated on is other people. Its encoder joins all channels, here each modality has one. The last known place is one for
        both directions, and any that leaves a place to predict. No dropout, whose masks would not be keyed. As in the code the
        transformer has no code of places.

    Args:
        steps: places ahead that are predicted, as far as windows have them.
        hidden: width of the transformer.
        layers: of the transformer.
        heads: attention heads of a layer, a divisor of `hidden`.
        mlp: width of the layers' perceptrons.
        temperature: divides the cosine of contexts.
        temporal: weight of each direction of the predictions.
        contextual: weight of what contexts cost.
    """

    accepts = ("series", "bundle")
    uses = ()

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        steps: int = 6,
        hidden: int = 100,
        layers: int = 4,
        heads: int = 4,
        mlp: int = 64,
        temperature: float = 0.2,
        temporal: float = 1.0,
        contextual: float = 0.7,
    ) -> None:
        super().__init__(model)
        encoders = encoders_of(model, "ts_tcc")
        if min(steps, hidden, layers, heads, mlp) < 1 or hidden % heads:
            got = f"steps {steps}, hidden {hidden}, layers {layers}, heads {heads}, mlp {mlp}"
            raise ConfigError(f"ts_tcc: these must be at least 1 and heads divide hidden, got {got}: try hidden 100 and heads 4")
        if not (temperature > 0 and temporal >= 0 and contextual >= 0):
            got = f"{temperature}, {temporal} and {contextual}"
            raise ConfigError(f"ts_tcc: temperature must be above 0, temporal and contextual at least 0, got {got}: try 0.2, 1 and 0.7")
        self.places = {name: places_of(encoder) for name, encoder in encoders.items()}
        check_places("ts_tcc", self.places)
        with keyed_initialisation(context.seed, "init ts_tcc"):
            found = {
                f"of_{name}": Contrast(encoder, min(steps, self.places[name] - 1), hidden, layers, heads, mlp)
                for name, encoder in encoders.items()
            }
        self.contrasts = nn.ModuleDict(found)
        self.temperature, self.weights = temperature, {"weak_to_strong": temporal, "strong_to_weak": temporal, "contextual": contextual}
        self.seed, self.windows = context.seed, Windows(context, model.input)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Each modality's places in both views, in one pass, and the features."""
        return sequences(self.model, batch, range(2), names)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The weighted sum of `weak_to_strong`, `strong_to_weak` and `contextual`, and how often the strong view's place is found."""
        at = last_known(self.seed, "ts_tcc", batch.step, self.places)
        every = [self._of_modality(name, at[name], outputs, batch.indices) for name in shown_by(outputs, list(self.places))]
        return mean_terms([terms for terms in every if terms] or [self._nothing(outputs)])

    def _of_modality(self, name: str, at: int, outputs: Outputs, indices: Tensor) -> dict[str, Tensor]:
        """A modality's terms over the windows that know something in both views; empty for fewer than two of them."""
        (one, other), views = outputs.blocks(f"{name}/valid"), outputs.blocks(f"{name}/sequence")
        valid = one & other
        kept = valid[:, : at + 1].any(1).nonzero().squeeze(1)
        if len(kept) < 2:
            return {}
        valid, (weak, strong) = valid[kept], (view[kept] for view in views)
        relation, contrast = self.windows.of(indices[kept]), cast(Contrast, self.contrasts[f"of_{name}"])
        contexts = [contrast.context(view[:, : at + 1], valid[:, : at + 1]) for view in (weak, strong)]
        of_strong, of_weak = (contrast.predicted(one, weak.shape[2]) for one in contexts)
        terms = temporal_contrasting(weak, strong, of_strong, of_weak, at, relation, valid=valid)
        both = contrast.project(torch.cat(contexts))
        terms["contextual"] = nt_xent(both, across_views(relation, 2), temperature=self.temperature, reduction="valid")
        future, there = future_steps(strong, at, of_strong.shape[1], valid)
        return self._summed(terms) | {"accuracy": share_found(of_strong, future, relation, there)}

    def _nothing(self, outputs: Outputs) -> dict[str, Tensor]:
        nothing = outputs["backbone"].sum() * 0
        return self._summed(dict.fromkeys(self.weights, nothing)) | {"accuracy": nothing.detach()}

    def _summed(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        total = sum((self.weights[name] * value for name, value in terms.items()), next(iter(terms.values())).new_zeros(()))
        return {"loss": total, **terms}


class Contrast(nn.Module):
    """A modality's transformer over its places so far, what it predicts, and the projection of its contexts.

    Args:
        encoder: of the modality.
        steps: places ahead.
        hidden: width of the transformer.
        layers: of it.
        heads: of a layer.
        mlp: width of a layer's perceptron.
    """

    def __init__(self, encoder: Encoder, steps: int, hidden: int, layers: int, heads: int, mlp: int) -> None:
        super().__init__()
        width = encoder.dims[encoder.stages[-1]]
        self.embed = nn.Linear(width, hidden)
        self.token = nn.Parameter(torch.randn(hidden))
        self.blocks = nn.ModuleList(Block(hidden, heads, mlp) for _ in range(layers))
        self.maps = nn.Linear(hidden, steps * width, bias=False)
        self.project = mlp_projector(hidden, max(1, width // 2), max(1, width // 4), 2, last_norm=False)

    def context(self, places: Tensor, valid: Tensor) -> Tensor:
        """What sums up places (B, T', D), of which those count that are `valid`, bool (B, T'): (B, hidden)."""
        tokens = self.embed(places)
        first = self.token.to(tokens.dtype).expand(len(tokens), 1, -1)
        visible = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)[:, None, None, :]
        tokens = torch.cat([first, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, visible)
        return tokens[:, 0]

    def predicted(self, context: Tensor, width: int) -> Tensor:
        """What a context (B, hidden) predicts of the next places, (B, K, width)."""
        found: Tensor = self.maps(context)
        return found.unflatten(1, (-1, width))
