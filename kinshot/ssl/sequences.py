"""What methods of sequences share: each modality of a window step by step, beside its features, from one pass of the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.build import Encoder
from kinshot.encoders.fused_bundle import FusedBundle
from kinshot.encoders.place_pooling import valid_places
from kinshot.encoders.present import maps_through
from kinshot.kin.relation import Relation
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.temporal.stacked import told_apart
from kinshot.samples.batch import Batch, Shown

SERIES = "series"
"""What the only modality of samples of one is called."""


def encoders_of(model: Model, method: str) -> dict[str, Encoder]:
    """The encoder of each modality of a model by name; that of samples of one modality is `SERIES`.

    Raises:
        ConfigError: a modality or an encoder that says nothing of single steps, or a projector, which these methods, learning on the
            encoder's own features, would leave as it was drawn.
    """
    single = cast(Encoder, model.encoder)  # which keeps the contract without inheriting it
    found = model.encoder.modalities if isinstance(model.encoder, FusedBundle) else {SERIES: single}
    for name, encoder in found.items():
        if not encoder.input.steps or not getattr(encoder, "stages", ()):
            what = encoder.input.describe()
            raise ConfigError(
                f"method {method} looks at single steps, of which the encoder of {name} ({what}) says nothing: leave that modality out, or "
                "take an encoder of series"
            )
    if model.projector is not None and any(True for _ in model.projector.parameters()):
        raise ConfigError(f"method {method} learns on the encoder's own features, a projector would stay untrained: set projector.layers=0")
    return found


def places_of(encoder: Encoder) -> int:
    """Places of the last stage's maps of a whole window."""
    return -(-encoder.input.shape[1] // encoder.strides[encoder.stages[-1]])


def check_places(method: str, places: Mapping[str, int]) -> None:
    """Raise ConfigError for a modality whose windows have no place to predict."""
    for name, count in places.items():
        if count < 2:
            raise ConfigError(f"{method} predicts places of a window, and {name} has {count}: take smaller strides or longer windows")


def sequences(
    model: Model,
    batch: Batch,
    views: Sequence[int],
    names: Sequence[str] = (),
    *,
    further: Mapping[str, str] | None = None,
    hidden: Mapping[str, Tensor] | None = None,
) -> Outputs:
    """A model's outputs on some views, in one pass where their sizes agree, with those of each modality.

    They are `<modality>/sequence` (R, T', D), the last stage's places, zero where they are invalid, `<modality>/valid` bool (R, T'), none
    where the modality is absent, and `<modality>/pooled` (R, dim), zero there. Only samples that have a modality pass its network.

    Args:
        model: an encoder of series or bundles, `encoders_of` of which is not refused.
        batch: of B samples.
        views: numbers of the views that are shown.
        names: further outputs wanted, see `Model.outputs`.
        further: by modality one more stage of its encoder, given as `<modality>/further` (R, T', D2).
        hidden: by modality steps bool (views B, T) that its encoder's `maps` hides.
    """
    shown = [batch.views[number] for number in views]
    if len(shown) > 1 and len({x.shape for x in shown}) == 1:
        shown = [torch.cat(shown)]
    sizes = [len(x) for x in shown]
    masks = {name: rows.split(sizes) for name, rows in (hidden or {}).items()}
    found = [
        _encoded(model, x, names, further or {}, {name: parts[number] for name, parts in masks.items()}) for number, x in enumerate(shown)
    ]
    values = {name: found[0][name] if len(found) == 1 else torch.cat([one[name] for one in found]) for name in found[0]}
    samples = batch.indices if len(views) == 1 else batch.indices.repeat(len(views))
    return Outputs(values, Shown(samples, tuple(views), tuple(shown)))


def _encoded(model: Model, x: Tensor, names: Sequence[str], further: Mapping[str, str], hidden: Mapping[str, Tensor]) -> dict[str, Tensor]:
    encoder = model.encoder
    if isinstance(encoder, FusedBundle):
        parts = encoder.input.split(x)
        there = encoder.fused.presence(parts)
        found: dict[str, Tensor] = {}
        for name, one in encoder.modalities.items():
            found |= _of_modality(one, name, parts[name], there[name], [further[name]] if name in further else [], _mask(hidden, name))
        backbone = encoder.fused.join({name: found[f"{name}/pooled"] for name in parts}, there)
        return {**model.of_features(backbone, names), **found}
    asked = [name for name in names if name not in model.vectors()]
    found = _of_modality(encoder, SERIES, x, None, [*further.values(), *asked], _mask(hidden, SERIES))  # type: ignore[arg-type]
    return {**model.of_features(found[f"{SERIES}/pooled"], names), **found}


def _of_modality(
    encoder: Encoder, name: str, x: Tensor, rows: Tensor | None, stages: Sequence[str], hidden: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Outputs of a modality, of which `rows` (all for None) have it; other stages by their own names, the first as `further`, too."""
    wanted = [*stages, encoder.stages[-1]]
    maps = encoder.maps(x, wanted, **hidden) if rows is None else maps_through(encoder, x, rows, wanted, **hidden)
    last = maps[-1]
    found = {stage: one.values for stage, one in zip(stages, maps, strict=False)} if rows is None else {}
    found |= {f"{name}/further": maps[0].values.mT} if stages else {}
    return found | {
        f"{name}/sequence": last.values.mT,
        f"{name}/valid": valid_places(last),
        f"{name}/pooled": encoder.pool(last),
    }


def _mask(hidden: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {"hidden": hidden[name]} if name in hidden else {}


def shown_by(outputs: Outputs, names: Sequence[str]) -> list[str]:
    """The modalities that at least two samples show in every view; where there are none, those that any shows."""
    rows = {name: torch.stack([valid.any(1) for valid in outputs.blocks(f"{name}/valid")]).all(0).sum() for name in names}
    counts = {name: int(count) for name, count in rows.items()}
    return [name for name, count in counts.items() if count > 1] or [name for name, count in counts.items() if count] or [*names]


def mean_terms(found: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean over modalities of each of their terms."""
    return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}


def last_known(seed: int, purpose: str, step: int, places: Mapping[str, int]) -> dict[str, int]:
    """The last place of each modality that is known to a step's predictions, drawn: all modalities' at about one instant, one place left.

    Args:
        seed: of the run.
        purpose: who asks.
        step: 0-based, of the run.
        places: of each modality, at least 2.
    """
    share = float(torch.rand((), generator=keyed_generator(seed, purpose, step), dtype=torch.float64))
    return {name: int(share * (count - 1)) for name, count in places.items()}


@torch.no_grad()
def share_found(predicted: Tensor, future: Tensor, relation: Relation, valid: Tensor) -> Tensor:
    """The share of predictions (B, K, D) that are nearer to their own future (B, K, D) than to any that they are told apart from.

    By inner product; only steps `valid`, bool (B, K), that are told apart from something count; 0 where none does.
    """
    logits = predicted.float().transpose(0, 1) @ future.float().permute(1, 2, 0)
    there = valid.T
    pairs = (told_apart("share_found", relation, len(predicted), logits.device) > 0) & there.unsqueeze(2) & there.unsqueeze(1)
    best = logits.masked_fill(~pairs, float("-inf")).amax(2)
    asked = pairs.any(2)
    return ((logits.diagonal(dim1=1, dim2=2) > best) & asked).sum() / asked.sum().clamp(min=1)
