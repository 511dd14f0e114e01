"""A trained encoder to a file or folder that other programs open."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.exports import EXPORTS
from kinshot.exports.card import names_run, read_results
from kinshot.exports.proof import BOUND, Proof
from kinshot.exports.publish import check_target, publish
from kinshot.exports.samples import samples_for
from kinshot.exports.subject import Subject
from kinshot.learn.model import BACKBONE
from kinshot.recipes.loaded import read
from kinshot.runs.embedder import from_checkpoint, with_rows


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file or folder.
        format: its name.
        bytes: its size.
        proof: how it was compared with the encoder.
        reading: lines of Python that open it.
        notes: what is to be said of it.
        about: what a reader must know to use it, which stands in what was written too.
    """

    path: Path
    format: str
    bytes: int
    proof: Proof
    reading: tuple[str, ...]
    notes: tuple[str, ...]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        proof = {"samples": self.proof.samples, "batches": list(self.proof.batches), "difference": self.proof.difference, "bound": BOUND}
        return {
            "path": str(self.path),
            "format": self.format,
            "bytes": self.bytes,
            "compared": proof,
            "open it with": list(self.reading),
            "notes": list(self.notes),
            "about": self.about,
        }


def export(
    run: str | Path,
    format: str,
    path: str | Path,
    *,
    features: Sequence[str] = (BACKBONE,),
    images: str | Path | None = None,
    results: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> Exported:
    """Write a trained encoder in a form that other programs open, compared with the encoder before it gets its name.

    A kill at any moment leaves what was there before.

    Args:
        run: a run, a checkpoint, or a backbone by its name.
        format: torchvision, timm, exported, onnx or huggingface.
        path: a file with the format's ending; for huggingface a folder.
        features: what a program gives, by name, the first of them first; for exported and onnx.
        images: a folder whose images it is compared on; None for parts of two photographs that scikit-learn brings.
        results: files that `fewshot eval --results` wrote, for the model card of huggingface.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: the format does not know such an encoder, needs a package that is missing, or what was made is not equal.
        CheckpointError: no such run, or a damaged one.
        DataError: images or results that cannot be read, or a place that cannot be written to.

    >>> done = kinshot.export("runs/demo", "exported", "demo.pt2")
    >>> program = torch.export.load("demo.pt2").module()
    >>> images = torch.zeros(5, *kinshot.load("runs/demo").input.shape)  # in [0, 1], of the encoder's own size
    >>> len(program(images)["backbone"]), done.proof.batches
    (5, (1, 3, 8))
    """
    path, facts = Path(path), EXPORTS.entry(format).facts
    if tuple(features) != (BACKBONE,) and not facts.get("features"):
        raise ConfigError(f"format {format} holds weights, and no choice of features: leave features out, or take {_with('features')}")
    if results and not facts.get("card"):
        raise ConfigError(f"format {format} has no model card for results: leave them out, or take {_with('card')}")
    check_target(path, facts["suffix"], overwrite)
    documents = tuple(read_results(Path(file)) for file in results)
    read_run = read(Path(run), parts=("encoder", "projector", "rows"))
    model = with_rows(from_checkpoint(read_run), read_run)
    outputs = tuple(dict.fromkeys(features))
    _check_outputs(model.vectors(), outputs, str(run))
    values, shown = samples_for(model.input, None if images is None else Path(images))
    subject = Subject(read_run, model, values, shown, outputs, documents)
    made = EXPORTS.get(format)(subject)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # those of other libraries among themselves, while they open what was made
        proof = publish(path, made, subject)
    size = sum(map(len, made.files.values()))
    where = {"path": str(path), "local": f"local-dir:{path}"}
    reading = tuple(line.format(**where) for line in made.reading)
    strange = [
        f"the commands behind {file} do not name {run}: whether its figures are those of this encoder is not known"
        for file, document in zip(results, documents, strict=True)
        if not names_run(document, Path(run))
    ]
    return Exported(path, format, size, proof, reading, (*read_run.checkpoint.notes, *made.notes, *strange), dict(made.about))


def _with(fact: str) -> str:
    return " or ".join(name for name, entry in EXPORTS.entries.items() if entry.facts.get(fact))


def _check_outputs(known: Sequence[str], wanted: Sequence[str], run: str) -> None:
    if not wanted:
        raise ConfigError(f"name at least one feature of {', '.join(known)}")
    for name in wanted:
        if name not in known:
            raise ConfigError(f"{run} has no output {name!r} that a program could give: choose among {', '.join(known)}")
