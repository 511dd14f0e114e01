"""Teachers of a recipe: kinshot's checkpoints, torchvision's and timm's models with weights in a file, ONNX files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kinshot.core.checkpoint import Checkpoint
from kinshot.core.errors import CheckpointError, ConfigError, suggest
from kinshot.learn.features import cached_features, extract, weights_hash
from kinshot.learn.model import EXPORTED, Model
from kinshot.learn.teacher import Taught, TaughtWord, Teacher, check_inputs
from kinshot.core.misfit import misfit
from kinshot.core.small_files import check_regular
from kinshot.datasets.base import Source
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec
from kinshot.encoders.onnx_encoder import OnnxEncoder
from kinshot.encoders.cosine_rows import CosineRows
from kinshot.recipes.loaded import Loaded, read
from kinshot.runs.embedder import from_checkpoint
from kinshot.recipes.recipe import parse

_LIBRARIES = ("torchvision", "timm")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that torchvision's weights were trained with."""


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

    def word(
        self, checkpoint: str, *, output: str, view: str, adapt: bool, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> TaughtWord:
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
    library, _, rest = text.partition(":")
    if library in _LIBRARIES and rest:
        return _library_teacher(text, library, rest, student)
    if "," in text and not Path(text).exists():
        raise ConfigError(f"there is no teacher {text}: write several as teacher=[{text.replace(',', ', ')}]")
    if text.endswith(".onnx"):
        return _onnx_teacher(Path(text), mean, std)
    return checkpoint_teacher(read(Path(text), parts=EXPORTED), text)


def checkpoint_teacher(run: Loaded, name: str) -> Teacher:
    """The model of a checkpoint, loaded with its part `rows`; one that learned a classifier has `logits`."""
    loaded = from_checkpoint(run)
    rows = _classifier(run.checkpoint)
    on: Literal["backbone", "projector"] = "projector" if run.recipe.method.settings.get("feature") == "projector" else "backbone"
    model = Model(loaded.encoder, loaded.projector, rows=rows, rows_on=on)
    return Teacher(name, model, loaded.input, _hash(loaded.state_dict(), rows))


def _classifier(checkpoint: Checkpoint) -> nn.Module | None:
    """The classifier that the checkpoint's method learned, cosine or linear."""
    found = {name: value.float() for name, value in (checkpoint.optional("rows") or {}).items()}
    if not found:
        return None
    classes, dim = found["weight"].shape
    rows: nn.Module = CosineRows(dim, classes) if "scale" in found else nn.Linear(dim, classes, bias="bias" in found)
    rows.load_state_dict(found)
    return rows


def _library_teacher(text: str, library: str, rest: str, student: Spec) -> Teacher:
    """`torchvision:MODEL:FILE.safetensors` or `timm:MODEL:FILE.safetensors`; weights are never downloaded."""
    name, _, file = rest.partition(":")
    if not isinstance(student, PixelSpec):
        raise ConfigError(f"teacher {text} takes images, and the student's samples are {student.kind}: choose a checkpoint of kinshot")
    if not file.endswith(".safetensors"):
        raise ConfigError(
            f"teacher {text}: expected {library}:{name}:FILE.safetensors with the model's weights, which are never downloaded; "
            "pickled weights (.pth) are not read: convert them with safetensors.torch.save_file"
        )
    weights = _read_weights(Path(file))
    model, logits, size, mean, std = (_torchvision if library == "torchvision" else _timm)(name, weights, text)
    spec = PixelSpec.square(3, size, tuple(mean), tuple(std))
    return Teacher(text, Model(model, rows=logits), spec, _hash(weights))


def _torchvision(name: str, weights: Mapping[str, Tensor], text: str) -> tuple[nn.Module, nn.Module | None, int, Any, Any]:
    import torchvision

    if name not in torchvision.models.list_models(torchvision.models):
        known = torchvision.models.list_models(torchvision.models)
        raise ConfigError(f"teacher {text}: torchvision has no classifier {name!r}: {suggest(name, known)}")
    model = torchvision.models.get_model(name, weights=None, num_classes=_classes(weights, text))
    _load(model, weights, text)
    last = "fc" if isinstance(getattr(model, "fc", None), nn.Linear) else "classifier"
    head = getattr(model, last, None)
    logits = head[-1] if isinstance(head, nn.Sequential) else head
    if not isinstance(logits, nn.Linear):
        raise ConfigError(f"teacher {text}: {name} does not end in a linear classifier: choose another model")
    if isinstance(head, nn.Sequential):
        head[-1] = nn.Identity()
    else:
        setattr(model, last, nn.Identity())
    return model, logits, 224, *IMAGENET


def _timm(name: str, weights: Mapping[str, Tensor], text: str) -> tuple[nn.Module, nn.Module | None, int, Any, Any]:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ConfigError(f"teacher {text} needs the package timm, which is not installed: run pip install timm") from error
    if not timm.is_model(name):
        raise ConfigError(f"teacher {text}: timm has no model {name!r}: {suggest(name, timm.list_models())}")
    model: Any = timm.create_model(name, pretrained=False, num_classes=_classes(weights, text))
    _load(model, weights, text)
    config = model.pretrained_cfg
    logits = model.get_classifier()
    model.reset_classifier(0)
    return model, logits if isinstance(logits, nn.Linear) else None, config["input_size"][1], config["mean"], config["std"]


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(path, error=CheckpointError, remedy="give a complete safetensors file")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the teacher's weights {path}: {error}; give a complete safetensors file") from error


def _classes(weights: Mapping[str, Tensor], text: str) -> int:
    """Rows of the classifier: the last matrix of the file."""
    matrices = [value for name, value in weights.items() if name.endswith("weight") and value.dim() == 2 and _last_layer(name)]
    if not matrices:
        raise CheckpointError(f"teacher {text}: the file has no classifier (fc, head or classifier): give the complete model")
    return len(matrices[-1])


def _last_layer(name: str) -> bool:
    return any(part in ("fc", "head", "classifier", "heads") for part in name.split("."))


def _load(model: nn.Module, weights: Mapping[str, Tensor], text: str) -> None:
    problem = misfit(model, weights)
    if problem:
        raise CheckpointError(f"teacher {text}: the file's weights do not fit the model: {problem}")
    model.load_state_dict(weights)


def _onnx_teacher(path: Path, given_mean: Sequence[float], given_std: Sequence[float]) -> Teacher:
    encoder = OnnxEncoder(path)
    mean, std = encoder.normalisation or (given_mean, given_std)
    if len(mean) != encoder.channels:
        raise ConfigError(
            f"teacher {path}: it takes {encoder.channels} channels and does not say how pixels are normalised: "
            f"set distill.mean and distill.std to {encoder.channels} numbers each"
        )
    spec = PixelSpec.square(encoder.channels, encoder.size, tuple(mean), tuple(std))
    return Teacher(str(path), Model(encoder), spec, encoder.fingerprint)


def _hash(state: Mapping[str, Tensor], rows: nn.Module | None = None) -> str:
    extra = weights_hash(rows.state_dict()) if rows is not None else ""
    return hashlib.sha256((weights_hash(state) + extra).encode()).hexdigest()
