"""A classifier of the user's own classes in use: images in, names out, with how sure it is, or none of these."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.misfit import misfit
from kinshot.encoders.build import build_encoder
from kinshot.fewshot.enrolled.fit import Answers
from kinshot.fewshot.enrolled.rows import Rows
from kinshot.fewshot.enrolled.support import Shot
from kinshot.fewshot.transforms import unit
from kinshot.learn.features import weights_hash
from kinshot.learn.model import BACKBONE, Model
from kinshot.recipes.backbones import LIBRARIES, ONNX
from kinshot.recipes.fit import made_by
from kinshot.recipes.loaded import Loaded, read
from kinshot.runs.embedder import from_checkpoint
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.runs.kin_file import KinFile, read_kin
from kinshot.samples.pixels import PixelSpec


@dataclass(frozen=True)
class Guess:
    """One class that an image may show: its name, the head's score, and its probability if the image shows one of the classes."""

    name: str
    score: float
    probability: float | None


@dataclass(frozen=True)
class Near:
    """A taught image that lies near: what it is, and the cosine."""

    shot: Shot
    cosine: float


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        name: the class, or None where it is none of these.
        known: whether it is one of the classes; None where there is no threshold, and then it is taken for one.
        closeness: cosine to the nearest class.
        top: the likeliest classes, best first; the first is the answer if the image shows any of them.
        nearest: the nearest taught images, nearest first.
    """

    name: str | None
    known: bool | None
    closeness: float
    top: tuple[Guess, ...]
    nearest: tuple[Near, ...]


class Classifier(Model):
    """A `Model` whose rows are classes that were taught by `fewshot enroll`.

    `embed` and the outputs `backbone` and `logits` are those of any model.

    Args:
        encoder: what features are made with.
        kin: what the file holds.
    """

    def __init__(self, encoder: nn.Module, kin: KinFile) -> None:
        super().__init__(encoder, rows=_Head(kin.fit.rows), input=kin.encoder.input)
        self.kin = kin
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.kin.support.classes

    def predict(self, images: Any, top: int = 3) -> list[Prediction]:
        """What each image shows: one or any number, in any form that `embed` takes.

        Raises:
            ConfigError: `top` below 1.
            DataError: images that cannot be read, all of them named, or what is no image.
        """
        return self.said_of(self.embed(images)[BACKBONE].cpu(), top)

    def said_of(self, features: Tensor, top: int = 3) -> list[Prediction]:
        """What is said of features (N, D) of images. Raises ConfigError for a `top` below 1."""
        if top < 1:
            raise ConfigError(f"top is how many classes are named for each image, at least 1, got {top}")
        answers = self.kin.fit.answer(features)
        shots = self.kin.support
        cosines = unit(features) @ unit(shots.features).T
        near = cosines.topk(min(3, len(shots.shots)), dim=1)
        return [
            self._prediction(answers, row, top, tuple(Near(shots.shots[i], round(c, 6)) for i, c in zip(places, values, strict=True)))
            for row, (places, values) in enumerate(zip(near.indices.tolist(), near.values.tolist(), strict=True))
        ]

    def _prediction(self, answers: Answers, row: int, top: int, nearest: tuple[Near, ...]) -> Prediction:
        order = answers.scores[row].argsort(descending=True, stable=True)[:top].tolist()
        p = answers.probabilities
        guesses = tuple(Guess(self.classes[c], float(answers.scores[row, c]), None if p is None else float(p[row, c])) for c in order)
        closeness, threshold = float(answers.closeness[row]), self.kin.fit.open_set.threshold
        known = None if threshold is None else closeness >= threshold
        return Prediction(None if known is False else guesses[0].name, known, closeness, guesses, nearest)


class _Head(nn.Module):
    """Rows of a fitted head as a module: features (B, D) to scores (B, C), float32."""

    weight: Tensor
    bias: Tensor

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.transform = rows.transform
        self.register_buffer("weight", rows.weight.float())
        self.register_buffer("bias", rows.bias.float())

    def forward(self, z: Tensor) -> Tensor:
        return Rows(self.weight, self.bias, self.transform).scores(z).float()


def open_classifier(path: str | Path, encoder: str = "") -> Classifier:
    """A file with its encoder: the one it carries, or the one of its name, whose weights must be those it was taught with.

    Args:
        path: MODEL.kin.
        encoder: where the encoder is now, in place of the name that the file knows it by.

    Raises:
        CheckpointError: a bad file, or an encoder that is missing or another one.
    """
    kin = read_kin(Path(path))
    return Classifier(encoder_of(kin, Path(path), encoder).encoder, kin)


def encoder_of(kin: KinFile, path: Path, encoder: str = "") -> Model:
    """The encoder of a file, as a model without anything on it. Raises as `open_classifier` does."""
    identity = kin.encoder
    if kin.weights and not encoder:
        network = build_encoder(identity.part, identity.settings, identity.input)
        try:
            network.load_state_dict(kin.weights)
        except RuntimeError as error:
            problem = misfit(network, kin.weights) or error
            raise CheckpointError(f"{path}: the encoder that it carries does not fit {identity.part}: {problem}") from error
        return Model(network, input=identity.input).eval()
    return same_encoder(identity, path, encoder, "teach anew; --embed-encoder carries it along")


def same_encoder(identity: EncoderIdentity, path: Path, encoder: str, otherwise: str) -> Model:
    """The encoder that the features of a file were made with, or an error.

    Args:
        identity: what the file says of it.
        path: the file, for messages.
        encoder: where the encoder is now; empty for where it was.
        otherwise: what to do where it is gone, for messages.

    Raises:
        ConfigError: a name that is none.
        CheckpointError: an encoder that is missing, damaged or another one.
    """
    model, found = open_encoder(encoder or identity.name)
    if found.weights != identity.weights or found.input != identity.input:
        raise CheckpointError(
            f"{path} was made with {identity.name} (weights {identity.weights[:12]}), {encoder or identity.name} is another one now "
            f"(weights {found.weights[:12]}): say where the first one is with --encoder, or {otherwise}"
        )
    return model


def open_encoder(text: str) -> tuple[Model, EncoderIdentity]:
    """An encoder of images by a name that stands where checkpoints do, without its projector, and what it is.

    Raises:
        ConfigError: a name that is none, or an encoder that takes no square images.
        CheckpointError: a checkpoint that is missing or damaged.
    """
    run = read(Path(text), parts=("encoder", "projector"))
    whole, choice = from_checkpoint(run), made_by(run).encoder
    input = whole.input
    if not isinstance(input, PixelSpec):
        raise ConfigError(f"{text} was made for {input.describe()}, and classes are taught by images: choose an encoder of images")
    _ = input.size  # raises where they are not square, as nothing else brings pictures to another shape without squeezing them
    settings = {**choice.settings, **({"pretrained": False} if "pretrained" in choice.settings else {})}
    origin = run.checkpoint.origin or ""
    identity = EncoderIdentity(_lasting(text, run), weights_hash(whole.encoder.state_dict()), input, choice.name, settings, origin)
    return Model(whole.encoder, input=input).eval(), identity


def _lasting(text: str, run: Loaded) -> str:
    """A name that means the same from another folder: the checkpoint itself, or a backbone with the full path of its file."""
    if not run.checkpoint.origin:
        return os.path.abspath(run.checkpoint.path)
    library, colon, rest = text.partition(":")
    if colon and library in LIBRARIES:
        name, _, file = rest.partition(":")
        return f"{library}:{name}:{os.path.abspath(file)}" if file else text
    if text.endswith(".onnx") or (colon and library == ONNX):
        return f"{ONNX}:{os.path.abspath(rest if colon and library == ONNX else text)}"
    return text
