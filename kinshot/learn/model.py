"""The one home of features: an encoder with what stands on it, and their outputs by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.learn.embedding import embedded, refuse
from kinshot.samples.spec import Spec

BACKBONE, PROJECTOR, LOGITS = "backbone", "projector", "logits"
EXPORTED = ("encoder", "projector", "rows", "network")
"""Parts of a model that checkpoints keep for whoever reads them, each under its own name."""


class Staged(Protocol):
    """An encoder whose stages can be looked at: `forward(x)` is `pool` of the last stage's map."""

    stages: tuple[str, ...]

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[StageMap]: ...  # noqa: D102 - the class says it

    def pool(self, last: StageMap) -> Tensor: ...  # noqa: D102 - the class says it


class StageMap(Protocol):
    """What a stage gives, see `kinshot.encoders.maps`."""

    values: Tensor


class Model(nn.Module):
    """An encoder, a projector, rows of classes and a head's network: everything that says something of a sample.

    A method has one and trains it, a checkpoint loads one, a teacher is a frozen one.

    Args:
        encoder: normalised samples to features (B, dim).
        projector: features (B, dim) to (B, D); one with several outputs has `outputs(z) -> dict` of them, and
            `joined(outputs)` makes of these what it gives as a whole. None for none.
        rows: features (B, dim or D) to scores of classes (B, C); None for none.
        rows_on: what the rows stand on.
        network: what a few-shot head was trained with; no output of its own. None for none.
        input: samples that the encoder was made for; None takes the encoder's word.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module | None = None,
        *,
        rows: nn.Module | None = None,
        rows_on: Literal["backbone", "projector"] = "backbone",
        network: nn.Module | None = None,
        input: Spec | None = None,
    ) -> None:
        super().__init__()
        self.input: Spec = getattr(encoder, "input", None) if input is None else input  # type: ignore[assignment]
        self.encoder, self.projector, self.rows, self.network = encoder, projector, rows, network
        self.rows_on = rows_on

    @property
    def dim(self) -> int:
        """Numbers in a backbone feature."""
        return int(cast(int, self.encoder.dim))

    def prepare(self, samples: Tensor | Sequence[str] | Mapping[str, Tensor]) -> Tensor:
        """Samples as the encoder expects them.

        Images, uint8 or [0, 1] float (B, C, H, W), get its channels, size and normalisation; features (B, F) its normalisation;
        texts, as strings or as ids (B, L) of its alphabet, are cut or padded to its length; modalities of a bundle come by name, and those
        that are left out are absent.

        Raises:
            DataError: samples of another kind, features of another number, images beyond [0, 1], or values that are not finite.
        """
        x = self.input.prepare(samples)  # type: ignore[arg-type]  # bundles take tensors by name, others say that they do not
        return x if isinstance(samples, Tensor) else x.to(next(self.parameters()).device)

    @overload
    def embed(
        self, samples: Any, *, batch: int | None = None, returns: Literal["tensors"] = "tensors", progress: bool = False
    ) -> dict[str, Tensor]: ...

    @overload
    def embed(
        self, samples: Any, *, batch: int | None = None, returns: Literal["numpy"], progress: bool = False
    ) -> dict[str, np.ndarray]: ...

    def embed(
        self, samples: Any, *, batch: int | None = None, returns: Literal["tensors", "numpy"] = "tensors", progress: bool = False
    ) -> dict[str, Tensor] | dict[str, np.ndarray]:
        """Features of samples: `backbone` (B, dim), `projector` (B, D) and its outputs by name; float32, a row for each sample, in order.

        An encoder of images takes paths, folders (all images below, sorted by path), PIL images, arrays (H, W, C) or (C, H, W) and batches
        of them, uint8 or floats in [0, 1], and lists, generators and loaders of any of these; one picture gives one row. Pictures become
        the encoder's size as every source of photographs does it: the central square, resized. A tensor (B, C, H, W) is taken as `prepare`
        takes it, all of every image. Encoders of texts take strings, of rows, series and frames tensors, arrays or iterables of single
        samples, of bundles these by name. Only one batch is decoded at a time.

        Args:
            samples: one, or any number.
            batch: samples that pass the encoder at once; None: 32 images, and other samples all at once.
            returns: "tensors" on the model's device, or "numpy" arrays.
            progress: show on stderr how far it is.

        Raises:
            ConfigError: a batch below 1, or an unknown kind of arrays.
            DataError: pictures that cannot be read, all of them named; what may be read in two ways; and as `prepare`.

        Tensors, and arrays as other libraries have them:

        >>> model = kinshot.load("runs/demo")  # made for grey images of 8 pixels
        >>> model.embed(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))["backbone"].shape
        torch.Size([2, 8])
        >>> photo = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
        >>> model.embed(photo, returns="numpy")["backbone"].shape
        (1, 8)

        PIL images, one or a list, and files:

        >>> from PIL import Image
        >>> image = Image.fromarray(photo)
        >>> torch.allclose(model.embed([image, image])["backbone"][1:], model.embed(photo)["backbone"], atol=1e-5)
        True
        >>> image.save("photo.png")
        >>> torch.equal(model.embed("photo.png")["backbone"], model.embed(photo)["backbone"])
        True

        A folder, and anything that gives one picture after the other:

        >>> from pathlib import Path
        >>> Path("album").mkdir()
        >>> for number in range(5):
        ...     image.rotate(number).save(f"album/{number}.png")
        >>> model.embed("album", batch=2, progress=True)["backbone"].shape
        torch.Size([5, 8])
        >>> model.embed(image.rotate(angle) for angle in range(0, 360, 90))["backbone"].shape
        torch.Size([4, 8])
        """
        if returns not in ("tensors", "numpy"):
            raise ConfigError(f"embed returns tensors or numpy, got returns={returns!r}")
        found, failed, count = self._embedded(samples, batch, progress)
        refuse(failed, count)
        return found if returns == "tensors" else {name: value.cpu().numpy() for name, value in found.items()}

    def embed_readable(self, samples: Any, *, batch: int | None = None, progress: bool = False) -> tuple[dict[str, Tensor], dict[int, str]]:
        """As `embed`, of the pictures that can be read, and what is wrong with each other one, by its place among all.

        The features are an empty mapping where none can be read.
        """
        found, failed, _ = self._embedded(samples, batch, progress)
        return found, dict(failed)

    def _embedded(self, samples: Any, batch: int | None, progress: bool) -> tuple[dict[str, Tensor], dict[int, str], int]:
        device = next(iter(self.parameters()), torch.empty(0)).device

        def run(given: Any) -> dict[str, Tensor]:
            return self.features(self.prepare(given.to(device) if isinstance(given, Tensor) else given))

        return embedded(self.input, run, samples, batch, progress)

    def forward(self, samples: Tensor | Sequence[str] | Mapping[str, Tensor]) -> Tensor:
        """Backbone features of samples as `prepare` takes them, with gradients, for fine-tuning."""
        found: Tensor = self.encoder(self.prepare(samples))
        return found

    def parts(self) -> dict[str, nn.Module]:
        """What there is of `EXPORTED`."""
        return {name: part for name in EXPORTED if (part := getattr(self, name)) is not None}

    def names(self) -> tuple[str, ...]:
        """Every output that can be asked for."""
        return (*self._heads(), *getattr(self.encoder, "stages", ()))

    def vectors(self) -> tuple[str, ...]:
        """Those of them that are one row of numbers for each sample."""
        return self._heads()

    def check(self, names: Sequence[str], whose: str) -> None:
        """Raises ConfigError, with the closest name, for an output that this model, `whose` in messages, does not have."""
        for name in names:
            if name == LOGITS and self.rows is None:
                raise ConfigError(f"{whose} has no logits, it learned no classifier: use backbone or projector")
            if name not in self.names():
                raise ConfigError(f"{whose} has no output {name!r}: {suggest(name, self.names())}")

    def outputs(self, x: Tensor, names: Sequence[str] = (BACKBONE,)) -> dict[str, Tensor]:
        """Outputs of normalised samples by name, each (B, ...), in one pass of the encoder; `backbone` is always among them.

        Args:
            x: (B, ...), as the encoder takes it.
            names: backbone, projector, an output of the projector, logits, or a stage of the encoder.
        """
        wanted = [name for name in names if name not in self._heads()]
        if not wanted:
            return self.of_features(self.encoder(x), names)
        encoder = cast(Staged, self.encoder)
        last = encoder.stages[-1]
        maps = dict(zip([*wanted, last], encoder.maps(x, [*wanted, last]), strict=True))
        return {**self.of_features(encoder.pool(maps[last]), names), **{name: maps[name].values for name in wanted}}

    def of_features(self, z: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """The same outputs, stages aside, of backbone features z (B, dim)."""
        found = {BACKBONE: z}
        named = self._named_outputs()
        on_projector = self.rows_on == PROJECTOR
        if LOGITS in names and self.rows is not None and not on_projector:
            found[LOGITS] = self.rows(z)  # before the projector: gradients of z are added up in the reverse of this order
        below_rows = LOGITS in names and on_projector
        if self.projector is not None and (below_rows or {PROJECTOR, *named} & set(names)):
            outputs: Mapping[str, Tensor] = self.projector.outputs(z) if named else {}  # type: ignore[operator]
            found |= outputs
            if not named or PROJECTOR in names or below_rows:
                found[PROJECTOR] = self.projector.joined(outputs) if named else self.projector(z)  # type: ignore[operator]
        if below_rows and self.rows is not None:
            found[LOGITS] = self.rows(found[PROJECTOR])
        return found

    @torch.no_grad()
    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Features of normalised samples as evaluation sees them, float32: `backbone`, `projector` and the projector's outputs.

        Where training learned a weight for each of a projector's paths, also these paths by their weights, `weighted`.
        """
        found = self.of_features(self.encoder(x), (BACKBONE, PROJECTOR))
        if getattr(self.projector, "weights", None) is not None:
            found["weighted"] = self.projector.weighted(found)  # type: ignore[union-attr, operator]
        return {name: value.float() for name, value in found.items()}

    def _named_outputs(self) -> tuple[str, ...]:
        """Names of the projector's outputs where it has several."""
        return tuple(getattr(self.projector, "names", ())) if hasattr(self.projector, "outputs") else ()

    def _heads(self) -> tuple[str, ...]:
        projected = () if self.projector is None else (PROJECTOR, *self._named_outputs())
        return (BACKBONE, *projected, *((LOGITS,) if self.rows is not None else ()))


class Output(nn.Module):
    """One output of a model, of backbone features (B, dim): a head for whoever extracts features by one.

    Args:
        model: whose output.
        name: backbone, projector, an output of the projector, or logits.
    """

    def __init__(self, model: Model, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, z: Tensor) -> Tensor:
        """The output (B, D), float32."""
        return self.model.of_features(z, (self.name,))[self.name].float()
