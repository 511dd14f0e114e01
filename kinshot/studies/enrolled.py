"""A classifier of the user's own classes on images that it was not taught: how often it is right, how sure, and whether it knows others."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kinshot.core.errors import DataError, suggest
from kinshot.core.small_files import read_file
from kinshot.datasets.files import digest
from kinshot.datasets.images import told
from kinshot.datasets.survey import class_folders, list_images, shown
from kinshot.fewshot.calibration import calibration_error
from kinshot.fewshot.enrolled.fit import Answers
from kinshot.fewshot.enrolled.open_set import separation
from kinshot.learn.model import BACKBONE
from kinshot.runs.classifier import Classifier
from kinshot.runs.kin_file import KinFile

Unreadable = Literal["refuse", "leave_out"]
Say = Callable[[str], None]
_LARGEST_IMAGE = 2**32


def features_of_files(model: Classifier, files: list[Path], unreadable: Unreadable) -> tuple[torch.Tensor, list[int], dict[int, str]]:
    """Features of the files that can be read, their numbers, and what is wrong with others. Raises DataError where these are refused."""
    found, failed = model.embed_readable(files)
    if failed and (unreadable == "refuse" or len(failed) == len(files)):
        raise DataError(f"{told(failed, len(files))}\nto do without such files, add --unreadable leave_out")
    return found[BACKBONE].cpu(), [row for row in range(len(files)) if row not in failed], failed


@dataclass(frozen=True)
class _Asked:
    """Images of known classes with their answers: the class of each, int64 (N,), and what was said."""

    truth: np.ndarray
    answers: Answers
    failed: list[str]
    taught: int


def evaluate(model: Classifier, folder: Path, unknown: Path | None = None, unreadable: Unreadable = "refuse") -> dict[str, Any]:
    """Accuracy, also of each class, confusions, calibration error and, with a folder of others, how well these are told from known ones.

    Args:
        model: the classifier.
        folder: one folder for each class, of its name; classes may be missing.
        unknown: images of no class, in any folders.
        unreadable: what becomes of files that cannot be read.

    Raises:
        DataError: a folder that is no class, no images, or images that cannot be read.
    """
    asked = _ask(model, folder, unreadable)
    said = asked.answers.scores.argmax(1).numpy()
    right = said == asked.truth
    threshold = model.kin.fit.open_set.threshold
    closeness = asked.answers.closeness.numpy()
    refused = closeness < threshold if threshold is not None else np.zeros(len(right), dtype=bool)
    return {
        "images": len(right),
        "classes": len(np.unique(asked.truth)),
        "of classes": len(model.classes),
        "taught among them": asked.taught,
        "accuracy": _percent(right),
        "refused": _percent(refused),
        "accuracy of what is not refused": _percent(right[~refused]) if (~refused).any() else None,
        "calibration": _calibration(model.kin, asked, right),
        "open set": _open_set(model, closeness, unknown, unreadable),
        "per class": _per_class(model, asked.truth, said, refused),
        "confusions": _confusions(model, asked.truth, said),
        "unreadable": asked.failed,
    }


def _ask(model: Classifier, folder: Path, unreadable: Unreadable) -> _Asked:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give one that has a folder for each class")
    places = {unicodedata.normalize("NFC", shown(place.name)): place for place in class_folders(folder)}
    strange = [name for name in places if name not in model.classes]
    if strange or not places:
        got = f"the folder {strange[0]!r} is no class of it: {suggest(strange[0], model.classes)}" if strange else "it has no folder"
        raise DataError(f"{folder}: every folder is a class by its name, and {got}; images of no class are given by --unknown FOLDER")
    files, truth = [], []
    for name, place in places.items():
        found = list_images(place)
        files += found
        truth += [model.classes.index(name)] * len(found)
    if not files:
        raise DataError(f"no image below {folder}: put images of each class into its folder")
    features, kept, failed = features_of_files(model, files, unreadable)
    known = {shot.digest for shot in model.kin.support.shots}
    taught = sum(digest(read_file(files[row], most=_LARGEST_IMAGE)) in known for row in kept)
    return _Asked(np.array(truth)[kept], model.kin.fit.answer(features), list(failed.values()), taught)


def _percent(values: np.ndarray) -> float:
    return round(100 * float(values.mean()), 4)


def _calibration(kin: KinFile, asked: _Asked, right: np.ndarray) -> dict[str, Any]:
    if asked.answers.probabilities is None:
        return {"error": None, "why": kin.fit.sureness.how}
    sure = asked.answers.probabilities.amax(1).clamp(max=1).numpy()
    found = calibration_error(sure, right)
    return {"error": round(100 * found.error, 4), "mean probability": _percent(sure), "rule": found.rule}


def _open_set(model: Classifier, known: np.ndarray, unknown: Path | None, unreadable: Unreadable) -> dict[str, Any] | None:
    if unknown is None:
        return None
    files = list_images(unknown) if unknown.is_dir() else []
    if not files:
        raise DataError(f"no image below {unknown}: give a folder with images of none of the classes")
    features, _, failed = features_of_files(model, files, unreadable)
    others = model.kin.fit.answer(features).closeness.numpy()
    fitted = model.kin.fit.open_set
    through = None if fitted.threshold is None else _percent(others >= fitted.threshold)
    return {
        "images": len(others),
        "auroc": _percent(np.array([separation(known, others)])),
        "let through": through,
        "unreadable": [*failed.values()],
    }


def _per_class(model: Classifier, truth: np.ndarray, said: np.ndarray, refused: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for number in np.unique(truth).tolist():
        own = truth == number
        wrong = Counter(said[own & (said != number)].tolist()).most_common(1)
        rows.append(
            {
                "class": model.classes[number],
                "images": int(own.sum()),
                "accuracy": _percent(said[own] == number),
                "refused": _percent(refused[own]),
                "mostly taken for": model.classes[wrong[0][0]] if wrong else None,
            }
        )
    return rows


def _confusions(model: Classifier, truth: np.ndarray, said: np.ndarray) -> list[dict[str, Any]]:
    """What was taken for what and how often, most often first: a matrix of 81 classes is mostly zeros."""
    pairs = Counter(zip(truth.tolist(), said.tolist(), strict=True))
    wrong = sorted(((count, pair) for pair, count in pairs.items() if pair[0] != pair[1]), key=lambda one: (-one[0], one[1]))
    return [{"class": model.classes[a], "taken for": model.classes[b], "images": count} for count, (a, b) in wrong]


def describe(kin: KinFile, path: Path) -> dict[str, Any]:
    """What is in a file, read without its encoder."""
    counts = kin.support.counts.tolist()
    encoder = kin.encoder
    thumbnails = kin.support.thumbnails
    return {
        "file": str(path),
        "verified": True,
        "bytes": path.stat().st_size,
        "classes": dict(zip(kin.support.classes, counts, strict=True)),
        "images": len(kin.support.shots),
        "encoder": {
            "name": encoder.name,
            "weights": encoder.weights,
            "input": encoder.input.to_dict(),
            "carried along": bool(kin.weights),
            **({"origin": encoder.origin} if encoder.origin else {}),
        },
        "head": {"name": kin.head, **kin.settings},
        "features": kin.support.features.shape[1],
        "thumbnails": 0 if thumbnails is None else thumbnails.shape[-1],
        **sureness(kin),
    }


def sureness(kin: KinFile) -> dict[str, Any]:
    """What is known of how sure answers are: shares in percent, None with the reason where nothing can be estimated."""
    sure, open_set = kin.fit.sureness, kin.fit.open_set
    return {
        "probabilities": {
            "temperature": sure.temperature,
            "recognised when left out": sure.right if sure.of else None,
            "left out": sure.of,
            "how": sure.how,
        },
        "none of these": {
            "below a closeness of": open_set.threshold,
            "known images refused": _share(open_set.refused),
            "unknown images let through": _share(open_set.let_through),
            "how": open_set.how,
        },
    }


def _share(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)
