"""What the page is told, as plain data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from kinshot.runs.classifier import Prediction
from kinshot.studies.enrolled import sureness
from kinshot.studio.state import Seen, Studio
from kinshot.studio.uploads import Sent


def state_of(studio: Studio, seen: Seen) -> dict[str, Any]:
    """Everything but pictures and answers."""
    undo, redo = studio.steps.next_names
    kin, limits = seen.kin, studio.limits
    return {
        "file": studio.path.name,
        "exists": kin is not None,
        "revision": seen.revision,
        "elsewhere": seen.elsewhere,
        "problem": seen.problem,
        "undo": undo,
        "redo": redo,
        "classes": [] if seen.support is None else _classes(seen),
        "images": 0 if seen.support is None else len(seen.support.shots),
        "head": "" if kin is None else kin.head,
        "encoder": "" if kin is None else kin.encoder.name,
        "sure": None if kin is None else sureness(kin),
        "limits": {"file": limits.file, "files": limits.files, "request": limits.request},
    }


def answer_of(image: Sent, said: Prediction, seen: Seen) -> dict[str, Any]:
    """What is said of one image."""
    support = seen.support
    taught = [] if support is None else [shot.label for shot in support.shots if shot.digest == image.digest]
    return {
        "row": image.row,
        "file": image.name,
        "image": image.digest,
        "class": said.name,
        "known": said.known,
        "closeness": said.closeness,
        "threshold": None if seen.kin is None else seen.kin.fit.open_set.threshold,
        "top": [{"class": guess.name, "probability": guess.probability, "score": guess.score} for guess in said.top],
        "nearest": [
            {"class": near.shot.label, "file": near.shot.name, "image": near.shot.digest, "closeness": near.cosine} for near in said.nearest
        ],
        "taught as": taught[0] if taught else None,
    }


def png(picture: np.ndarray) -> bytes:
    """A picture, uint8 (3, S, S), as a file."""
    file = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _classes(seen: Seen) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, str]]] = {}
    for shot in seen.support.shots if seen.support is not None else ():
        found.setdefault(shot.label, []).append({"image": shot.digest, "file": shot.name})
    return [{"class": label, "images": images} for label, images in found.items()]


def listed(texts: Sequence[str], most: int = 8) -> list[str]:
    """The first few texts, and how many more there are."""
    return [*texts[:most], *([f"and {len(texts) - most} more"] if len(texts) > most else [])]
