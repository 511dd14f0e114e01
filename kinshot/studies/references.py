"""What any training must beat: the encoder as it was before training, and no encoder, each measured on data as that encoder sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from kinshot.core.errors import KinshotError
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.runs.embedder import initial, untrained
from kinshot.studies.study import Trained
from kinshot.studies.summaries import RAW, STARTED, UNTRAINED


@dataclass(frozen=True)
class Reference:
    """A reference of some runs.

    Args:
        label: what rows call it; the run's name is in it where runs have different ones.
        model: the untrained encoder; None for the samples without any.
        run: the run whose encoder or input it is.
    """

    label: str
    model: Model | None
    run: Trained


def references(runs: Sequence[Trained], say: Callable[[str], None] = lambda text: None) -> list[Reference]:
    """One untrained encoder for every architecture and input, what `Spec.raw` makes of the samples for every input.

    Of a run whose encoder came with weights of its own it is the encoder with those, and called so: `before training`. So is the encoder
    of `init`, frozen, beside an untrained one, unless it is no longer where the run found it.
    A backbone that is itself untrained, or an ONNX file, which cannot be otherwise than it is, has no untrained one.

    Each is that of the run with the lowest seed among those that share it, whatever the order in which they were given.
    """
    ordered = sorted(runs, key=lambda run: (run.recipe.seed, weights_hash(run.checkpoint.encoder)))
    came_with = [bool(run.recipe.encoder.settings.get("pretrained")) for run in ordered]
    found = []
    drawn = [run for run, own in zip(ordered, came_with, strict=True) if not own]
    begun = [run for run, own in zip(ordered, came_with, strict=True) if own or run.recipe.init]
    found += [Reference(label, model, run) for label, run in _owners(UNTRAINED, drawn, _architecture) if (model := _before(run))]
    found += [Reference(label, model, run) for label, run in _owners(STARTED, begun, _start) if (model := _started(run, say))]
    for name in RAW:
        runs_so = [run for run in ordered if run.input.raw_label == name]
        found += [Reference(label, None, run) for label, run in _owners(name, runs_so, lambda run: run.input.meets)]
    return found


def _before(run: Trained) -> Model | None:
    """The run's encoder before its training, where that is another one than the run's own."""
    model = untrained(run)
    same = run.checkpoint.origin and weights_hash(model.encoder.state_dict()) == weights_hash(run.checkpoint.encoder)
    return None if same else model


def _started(run: Trained, say: Callable[[str], None]) -> Model | None:
    """The run's encoder with the weights that it began with; None where those are gone, which is said."""
    if not run.recipe.init:
        return _before(run)
    try:
        return initial(run)
    except KinshotError as error:
        say(f"{run.label} is shown without the encoder that it started from: {error}")
        return None


def _owners(name: str, runs: Sequence[Trained], key: Callable[[Trained], Hashable]) -> list[tuple[str, Trained]]:
    first: dict[Hashable, Trained] = {}
    for run in runs:
        first.setdefault(key(run), run)
    return [(f"{name} ({run.label})" if len(first) > 1 else name, run) for run in first.values()]


def _architecture(run: Trained) -> Hashable:
    settings = run.recipe.to_dict()
    return json.dumps([settings["encoder"], settings["projector"], run.input.meets], sort_keys=True, default=str)


def _start(run: Trained) -> Hashable:
    return _architecture(run), run.recipe.init
