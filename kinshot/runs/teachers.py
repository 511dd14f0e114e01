"""Teachers of a recipe: kinshot's checkpoints, and backbones that were trained elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.learn.features import cached_features, extract, weights_hash
from kinshot.learn.model import EXPORTED
from kinshot.learn.teacher import Taught, TaughtWord, Teacher, check_inputs
from kinshot.recipes.backbones import is_backbone, read_backbone
from kinshot.recipes.loaded import Loaded, read
from kinshot.runs.embedder import from_checkpoint, with_rows
from kinshot.samples.spec import Spec


@dataclass
class Teachers:
    """The teachers of a run, each loaded once.

    Args:
        source: the training samples.
        input: what the student's encoder takes.
        device: where networks run.
        named: teachers in the order in which the recipe names them; others follow as terms name them.
    """

    source: Source
    input: Spec
    device: torch.device
    named: Sequence[str] = ()
    at_work: dict[tuple[Any, ...], Taught] = field(default_factory=dict)

    def word(self, checkpoint: str, *, output: str, view: str, adapt: bool, mean: tuple[float, ...], std: tuple[float, ...]) -> TaughtWord:
        """What a teacher says under one name. Raises ConfigError where it cannot see the student's samples, or has no such output."""
        key = checkpoint, view, adapt, mean, std
        if key not in self.at_work:
            teacher = load_teacher(checkpoint, mean, std, self.input)
            check_inputs(teacher, self.input, adapt)
            self.at_work[key] = Taught(teacher, self.input, view, adapt)
        return self.at_work[key].wanting(output)

    def ready(self) -> None:
        """Compute, or find in the cache, what teachers say of clean samples. Raises ConfigError for a teacher that nobody asks."""
        for number, text in enumerate(self.named):
            if text not in {key[0] for key in self.at_work}:
                raise ConfigError(
                    f"distill.teachers: no loss is of teacher {number + 1} ({text}): leave it out, or set of={number + 1} in a loss"
                )
        for taught in self.at_work.values():
            self._remember(taught)

    def sample(self, settings: Mapping[str, Any]) -> tuple[str, Tensor]:
        """A teacher's name, and its output of two samples, from the settings of kin `teacher`."""
        taught = self.at_work[tuple(settings[name] for name in ("checkpoint", "view", "adapt", "mean", "std"))]
        return taught.teacher.name, taught.sample(settings["output"])

    def fingerprints(self) -> list[str]:
        """Of every teacher, in the order in which the recipe names them."""
        found = {key[0]: taught.teacher.fingerprint for key, taught in self.at_work.items()}
        return [found[text] for text in [*self.named, *(text for text in found if text not in self.named)]]

    def _remember(self, taught: Taught) -> None:
        """Outputs of the whole source where they can be kept: vectors of clean samples. Maps would outgrow the memory, views differ."""
        teacher, names = taught.teacher, list(taught.names)
        if taught.view == "same" or not set(names) <= set(teacher.model.vectors()):
            return
        parts = {
            "teacher": teacher.fingerprint,
            "outputs": json.dumps(names),
            "input": repr(teacher.input),
            "source": self.source.fingerprint(),
            "adapt": str(taught.adapt),
            "device": self.device.type,
        }

        def prepare(samples: Tensor) -> Tensor:
            return teacher.input.normalize(_fitted(samples, teacher.input, taught.adapt))

        def compute() -> dict[str, Tensor]:
            teacher.model.to(self.device)
            return extract(lambda x: teacher.outputs(x, names), self.source, prepare, device=self.device)

        taught.cached = cached_features(parts, compute)


def _fitted(samples: Tensor, spec: Spec, adapt: bool) -> Tensor:
    return spec.fit(spec.values(samples)) if adapt else samples


def load_teacher(text: str, mean: Sequence[float], std: Sequence[float], student: Spec) -> Teacher:
    """A teacher from what a recipe calls it. Raises ConfigError or CheckpointError."""
    if "," in text and not Path(text).exists():
        raise ConfigError(f"there is no teacher {text}: write several as teacher=[{text.replace(',', ', ')}]")
    if not is_backbone(text):
        return checkpoint_teacher(read(Path(text), parts=EXPORTED), text)
    if not student.side:
        raise ConfigError(f"teacher {text} takes images, and the student's samples are {student.kind}: choose a checkpoint of kinshot")
    return checkpoint_teacher(Loaded(*read_backbone(text, mean, std)), text)


def checkpoint_teacher(run: Loaded, name: str) -> Teacher:
    """The model of a checkpoint, loaded with its part `rows`; one that learned a classifier has `logits`."""
    model = from_checkpoint(run)
    networks = weights_hash(model.state_dict())
    rows = with_rows(model, run).rows
    of_rows = "" if rows is None else weights_hash(rows.state_dict())
    return Teacher(name, model, model.input, hashlib.sha256((networks + of_rows).encode()).hexdigest())
