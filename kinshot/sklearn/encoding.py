"""An encoder as a scikit-learn transformer: pictures, texts, rows in, features out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import validate_data
from torch import Tensor

from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.core.runtime import resolve_device
from kinshot.learn.embedding import embedded, refuse
from kinshot.learn.features import weights_hash
from kinshot.learn.model import BACKBONE, Model
from kinshot.runs.load import load
from kinshot.runs.trained_heads import INPUT
from kinshot.samples.rows import RowSpec
from kinshot.sklearn.files import Part, write_parts

_KEPT = 2


class EncoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of an encoder: what `Model.embed` takes goes in, float32 (N, D) comes out.

    Nothing is learned from the data: `fit` only sees to it that the encoder is there. It is loaded when it is first needed and kept in the
    process, so that clones share it; every process of `n_jobs` loads its own.

    Args:
        encoder: a run, a checkpoint, a backbone by its name (`timm:NAME`, `onnx:FILE`, `efficientnet_lite0`), or a model in your hands.
        feature: `backbone`, `projector` or another output of the model; `input` for the samples themselves, as the encoder takes them.
        batch: samples that pass at once; None: 32 images, and other samples all at once.
        device: cpu, cuda, or auto.
        progress: show on stderr how far it is.

    >>> import kinshot.sklearn
    >>> encoder = kinshot.sklearn.EncoderTransformer("runs/demo")
    >>> images = np.zeros((3, 16, 16, 1), dtype=np.uint8)
    >>> encoder.fit_transform(images).shape, encoder.get_feature_names_out()[0]
    ((3, 8), 'encodertransformer0')
    """

    def __init__(
        self,
        encoder: str | Path | Model = "efficientnet_lite0",
        feature: str = BACKBONE,
        *,
        batch: int | None = None,
        device: str = "cpu",
        progress: bool = False,
    ) -> None:
        self.encoder = encoder
        self.feature = feature
        self.batch = batch
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the encoder; nothing is learned. Raises what `kinshot.load` does, and ConfigError for a feature that there is not."""
        model = self.model
        if self.feature not in _features(model):
            model.check([self.feature], str(self.encoder) if not isinstance(self.encoder, Model) else "the model")
        if isinstance(model.input, RowSpec):
            validate_data(self, X, dtype=[np.float64, np.float32])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of the samples, a row for each.

        Raises:
            DataError: as `Model.embed`; or not one feature for each sample, as where a folder stands among files.
        """
        model, feature = self.model, self.feature
        if isinstance(model.input, RowSpec):
            X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)

        def run(given: Any) -> dict[str, Tensor]:
            return {feature: _output(model, given, feature)}

        found, failed, count = embedded(model.input, run, X, self.batch, self.progress)
        refuse(failed, count)
        rows = found[feature].float().cpu().numpy()
        listed = isinstance(X, list | tuple) or getattr(X, "ndim", 0) in (1, 2, 4)
        if listed and len(X) != len(rows):
            raise DataError(f"{len(X)} samples gave {len(rows)} features: name files, not folders, as every label belongs to one sample")
        return np.asarray(rows)

    @property
    def model(self) -> Model:
        """The encoder as `kinshot.load` gives it, the same object for all transformers of this process that name it."""
        if isinstance(self.encoder, Model):
            return self.encoder
        device = str(resolve_device(self.device))
        return _loaded(str(self.encoder), device, _stamp(Path(self.encoder)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        model = self.model
        return int(_output(model, None, self.feature).shape[1])

    def save(self, path: str | Path) -> None:
        """Write or replace a file that `kinshot.sklearn.load` reads. Raises as `kinshot.sklearn.save`."""
        write_parts(Path(path), {"": self.as_part()})

    def as_part(self) -> Part:
        """What a file keeps of it: by which name the encoder is found again, and that it is the same. Raises ConfigError."""
        if isinstance(self.encoder, Model):
            raise ConfigError("the encoder of this EncoderTransformer has no name: save a checkpoint of it, and give its path as encoder")
        parameters = {"feature": self.feature, "batch": self.batch, "device": self.device, "progress": self.progress}
        name = str(self.encoder)
        if Path(name).exists():
            name = str(Path(name).absolute())
        return Part("encoder", name, parameters, {"weights": weights_hash(self.model.encoder.state_dict())}, {})

    @classmethod
    def from_part(cls, part: Part) -> EncoderTransformer:
        """What `as_part` gave, if the encoder is still the same. Raises TypeError, KeyError or CheckpointError."""
        found = cls(part.name, **part.parameters)
        if (weights := weights_hash(found.model.encoder.state_dict())) != part.facts["weights"]:
            raise CheckpointError(
                f"the encoder {part.name} is another one now (weights {weights[:12]}, then {str(part.facts['weights'])[:12]}): "
                "put the first one back, or fit anew"
            )
        return found


@lru_cache(_KEPT)
def _loaded(encoder: str, device: str, stamp: tuple[int, ...]) -> Model:
    """A model, kept with what its files were; a run that was trained on is another one."""
    return load(encoder, device)


def _stamp(path: Path) -> tuple[int, ...]:
    """When a file, or what names the checkpoints of a run, changed last."""
    return tuple(one.stat().st_mtime_ns for one in (path, path / "best.json", path / "checkpoints") if one.exists())


def _features(model: Model) -> tuple[str, ...]:
    weighted = ("weighted",) if getattr(model.projector, "weights", None) is not None else ()
    return (*model.vectors(), *weighted, INPUT)


def _output(model: Model, given: Any, feature: str) -> Tensor:
    """One output of a batch, (B, D); of a blank sample where nothing is given. Raises ConfigError for tokens, which are no numbers."""
    device = next(model.parameters()).device
    x = model.input.blank(1).to(device) if given is None else model.prepare(given.to(device) if isinstance(given, Tensor) else given)
    if feature == INPUT:
        if model.input.vocabulary:
            raise ConfigError(f"feature={INPUT} are the samples themselves, and ids of {model.input.describe()} are no features")
        return x.flatten(1)
    found = model.features(x)
    return found[feature] if feature in found else model.of_features(found[BACKBONE], (feature,))[feature].detach()
