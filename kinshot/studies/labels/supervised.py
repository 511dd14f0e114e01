"""The reference that has nothing but the labels: the same network, trained from scratch on the labelled samples alone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DivergedError
from kinshot.core.rng import keyed_generator, keyed_seed
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.learn.features import cached_features, extract
from kinshot.learn.model import LOGITS, Model
from kinshot.recipes.fit import made_by
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice
from kinshot.runs.embedder import input_spec
from kinshot.studies.labels.parts import Parts

VERSION = "1"
"""Part of what a result is kept under; raise it when training changes."""


@dataclass(frozen=True)
class Training:
    """How a network is trained from scratch: AdamW, the learning rate falling to 0 by a cosine, cross-entropy, no augmentation.

    Args:
        steps: least steps.
        epochs: passes over the labelled samples at least, where that is more steps.
        batch: samples of a step, or all of fewer.
        lr: learning rate at the start.
        weight_decay: of all parameters.
    """

    steps: int = 300
    epochs: int = 5
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or self.epochs < 0 or not self.lr > 0 or not self.weight_decay >= 0:
            raise ConfigError(f"--supervised: steps, batch and lr must be above 0, epochs and weight_decay at least 0, got {self}")

    def length(self, samples: int) -> int:
        """Steps on so many labelled samples."""
        return max(self.steps, self.epochs * (samples // min(self.batch, samples)))

    def __str__(self) -> str:
        said = ", ".join(f"{field.name} {getattr(self, field.name):g}" for field in fields(self))
        return f"AdamW, cosine, no augmentation; {said}"


def encoder_of(run: Loaded) -> Choice:
    """The encoder of a run that was trained here, without any weights that it could come with."""
    made = made_by(run).encoder
    return Choice(made.name, {**made.settings, "pretrained": False}) if made.settings.get("pretrained") else made


def supervised_predictions(
    run: Loaded, encoder: Choice, parts: Parts, rows: np.ndarray, number: int, training: Training, seed: int, device: torch.device
) -> np.ndarray:
    """What the network says of the test samples (M,), trained on the labelled samples `rows` of draw `number`.

    It is kept in the cache of features under everything that decides it, as soon as it is there: a study that was stopped goes on.

    Raises DivergedError where the loss is not finite.
    """
    spec = input_spec(run.checkpoint)
    key = {
        "what": f"supervised from scratch {VERSION}",
        "encoder": repr((encoder.name, sorted(encoder.settings.items()))),
        "input": repr(spec),
        "learned from": parts.train.fingerprint(),
        "samples": _digest(rows, parts.train_labels[rows]),
        "tested on": parts.test.fingerprint(),
        "test samples": _digest(parts.rows),
        "classes": str(len(parts.classes)),
        "training": repr(training),
        "draw": repr((seed, number)),
        "device": device.type,
    }

    def compute() -> dict[str, Tensor]:
        key = keyed_seed(seed, "supervised from scratch", number)
        built = build_encoder(encoder.name, encoder.settings, spec, seed=key)
        with keyed_initialisation(key, "init classifier"):
            model = Model(built, rows=nn.Linear(built.dim, len(parts.classes)), input=spec)
        _train(model.to(device), parts, rows, training, key)
        model.eval()
        found = extract(lambda x: model.outputs(model.prepare(x), (LOGITS,)), parts.test, lambda x: x, rows=parts.rows, device=device)
        return {"predicted": found[LOGITS].argmax(1)}

    return cached_features(key, compute)["predicted"].numpy()


def _train(model: Model, parts: Parts, rows: np.ndarray, training: Training, seed: int) -> None:
    device = next(model.parameters()).device
    labels = torch.from_numpy(parts.train_labels[rows]).to(device)
    batch = min(training.batch, len(rows))
    per_epoch, length = len(rows) // batch, training.length(len(rows))
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    order, value = np.arange(0), torch.tensor(math.nan)
    model.train()
    for step in range(length):
        epoch, place = divmod(step, per_epoch)
        if place == 0:  # what an epoch leaves over is another part in each
            order = torch.randperm(len(rows), generator=keyed_generator(seed, "order", epoch)).numpy()
        chosen = order[place * batch : (place + 1) * batch]
        for group in optimizer.param_groups:
            group["lr"] = training.lr * (1 + math.cos(math.pi * step / length)) / 2
        samples = model.prepare(parts.train.load(rows[chosen]).to(device))
        loss = nn.functional.cross_entropy(model.outputs(samples, (LOGITS,))[LOGITS], labels[torch.from_numpy(chosen).to(device)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.detach()
    if not bool(torch.isfinite(value)):
        raise DivergedError(f"supervised from scratch: the loss is {float(value)} after {length} steps with lr={training.lr:g}: lower lr")


def _digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array, dtype=np.int64).data)
    return found.hexdigest()
