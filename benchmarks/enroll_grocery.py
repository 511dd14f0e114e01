"""Classes of Grocery Store taught by five photographs each, asked with its published test photographs: accuracy, sureness, none of these.

`python -m benchmarks.enroll_grocery --data FOLDER [--runs RUN...] [--json FILE]`, FOLDER holding the published folders train and test.
Exemplars are drawn from train. Three draws of exemplars; features are made once and cached. Raw pixels (48 by 48) stand beside the packaged
encoder, and encoders of your own runs, one for each draw in turn, beside the networks that they started from.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import kinshot
from benchmarks.common import say
from kinshot.core.atomic import write_json
from kinshot.core.rng import keyed_numpy
from kinshot.core.runtime import describe_machine
from kinshot.core.statistics.means import mean_of
from kinshot.datasets.files import content_digests
from kinshot.datasets.images import decode_all, load_image
from kinshot.datasets.survey import list_images
from kinshot.fewshot.calibration import calibration_error
from kinshot.fewshot.enrolled.fit import Fit, fit
from kinshot.fewshot.enrolled.open_set import separation
from kinshot.fewshot.enrolled.support import Shot, Support
from kinshot.fewshot.specs import parse_head
from kinshot.learn.features import cached_features, weights_hash
from kinshot.learn.model import Model
from kinshot.recipes.loaded import read
from kinshot.runs.classifier import open_encoder
from kinshot.runs.embedder import untrained
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind

ENCODER, HEADS = "efficientnet_lite0", ("imprint", "ridge", "logistic")
SHOTS, SIDE, HELD_OUT = 5, 48, 3
"""Photographs a class, side of the pixels that are the reference, and one in how many classes is left untaught for open-set figures."""
OWN, START = "label-free Conv-4", "Conv-4, untrained"
NOTES = [
    "accuracy and ece: all 81 classes taught, every test photograph asked, none refused; ece of 15 bins of equal width",
    "auroc, refused, let through: two thirds of the classes taught, by closeness, the same for every head; expected: from exemplars",
    "pixels: all of a photograph's values as its feature, under the same rules",
    "efficientnet_lite0 was trained on ImageNet with its labels, which has classes of fruit and vegetables among its thousand",
    f"{OWN}: trained on all photographs of train without their labels, one run a draw; {START}: before its first step",
]


def photographs(place: Path) -> tuple[list[Path], list[str]]:
    """Files below a folder and the class of each, the folder that it lies in."""
    files = list_images(place)
    return files, [file.parent.name for file in files]


def drawn(labels: list[str], draw: int) -> list[int]:
    """SHOTS photographs of every class, of which each has them."""
    rng = keyed_numpy(0, "exemplars", draw)
    names = np.array(labels)
    return [int(row) for name in sorted(set(labels)) for row in rng.choice(np.flatnonzero(names == name), SHOTS, replace=False)]


def networks(runs: list[Path]) -> dict[str, list[Model]]:
    """Encoders by what rows call them; of several the first is that of the first draw, and so on in turn."""
    found = {ENCODER: [open_encoder(ENCODER)[0]]}
    if runs:
        found[OWN] = [open_encoder(str(run))[0] for run in runs]
        found[START] = [untrained(read(run)) for run in runs]
    return found


def features(files: list[Path], root: Path, models: dict[str, list[Model]]) -> dict[str, list[Tensor]]:
    """Every feature of photographs, from the cache where it is there: one of each network, and pixels."""
    contents = b"".join(content_digests(files, root).tolist()).decode()

    def one(model: Model) -> Tensor:
        parts = {"weights": weights_hash(model.encoder.state_dict()), "input": repr(model.input), "files": contents}
        return cached_features(parts, lambda: {"backbone": model.embed(files)["backbone"]})["backbone"]

    pixels = decode_all(files, lambda path: load_image(path, SIDE, 3), (3, SIDE, SIDE))
    return {name: [one(model) for model in several] for name, several in models.items()} | {
        "pixels": [torch.from_numpy(pixels).flatten(1).float() / 255]
    }


def support_of(z: Tensor, rows: list[int], files: list[Path], labels: list[str], left: set[str]) -> Support:
    """The exemplars but for classes that are left out."""
    shots = {Shot(labels[row], str(files[row]), files[row].name): row for row in rows if labels[row] not in left}
    order = sorted(shots)
    return Support(tuple(order), z[[shots[shot] for shot in order]])


def closed(fitted: Fit, classes: tuple[str, ...], z: Tensor, truth: list[str]) -> dict[str, float]:
    """Accuracy and calibration error, in percent, on photographs of taught classes."""
    answers = fitted.answer(z)
    right = np.array([classes[c] for c in answers.scores.argmax(1).tolist()]) == np.array(truth)
    if answers.probabilities is None:
        raise RuntimeError("five photographs a class give a temperature")
    sure = answers.probabilities.amax(1).clamp(max=1).numpy()
    return {
        "accuracy": 100 * float(right.mean()),
        "ece": 100 * calibration_error(sure, right).error,
        "mean probability": 100 * float(sure.mean()),
    }


def opened(fitted: Fit, known: Tensor, unknown: Tensor) -> dict[str, float]:
    """How well photographs of taught classes are told from others, and the shares of errors beside those that were expected, in percent."""
    near, far = (fitted.answer(z).closeness.numpy() for z in (known, unknown))
    said = fitted.open_set
    if said.threshold is None or said.refused is None or said.let_through is None:
        raise RuntimeError("five photographs of many classes give a threshold")
    return {
        "auroc": 100 * separation(near, far),
        "refused": 100 * float((near < said.threshold).mean()),
        "refused, expected": 100 * said.refused,
        "let through": 100 * float((far >= said.threshold).mean()),
        "let through, expected": 100 * said.let_through,
    }


def measure(root: Path, draws: int, models: dict[str, list[Model]]) -> list[dict[str, Any]]:
    """Every figure of every draw, feature and head."""
    (train, train_labels), (test, test_labels) = photographs(root / "train"), photographs(root / "test")
    chosen = [drawn(train_labels, draw) for draw in range(draws)]
    used = sorted({row for rows in chosen for row in rows})
    place = {row: number for number, row in enumerate(used)}
    taught = features([train[row] for row in used], root, models)
    asked = features(test, root, models)
    rows = []
    for draw, exemplars in enumerate(chosen):
        names = sorted(set(train_labels))
        left = {names[n] for n in keyed_numpy(0, "held out classes", draw).choice(len(names), len(names) // HELD_OUT, replace=False)}
        is_left = torch.tensor([label in left for label in test_labels])
        for feature, several in taught.items():
            own, queries = several[draw % len(several)], asked[feature][draw % len(several)]
            z = torch.zeros(len(train), own.shape[1])
            z[used] = own[[place[row] for row in used]]
            for head in HEADS if feature == ENCODER else HEADS[:1]:
                whole = support_of(z, exemplars, train, train_labels, set())
                part = support_of(z, exemplars, train, train_labels, left)
                found = closed(fit(whole, *parse_head(head)), whole.classes, queries, test_labels)
                if head == HEADS[0]:  # the threshold is the same for every head
                    found |= opened(fit(part, *parse_head(head)), queries[~is_left], queries[is_left])
                rows.append({"feature": feature, "head": head, "draw": draw, **found})
                say(f"{feature}, {head}, draw {draw}: {found['accuracy']:.2f} %, ECE {found['ece']:.2f} %")
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and half-width of the 95 % interval over draws of each figure."""
    found = []
    for feature, head in dict.fromkeys((row["feature"], row["head"]) for row in rows):
        own = [row for row in rows if (row["feature"], row["head"]) == (feature, head)]
        for key in (key for key in own[0] if key not in ("feature", "head", "draw")):
            one = mean_of([row[key] for row in own])
            label = f"{feature}, {head}: {key}"
            found.append({"label": label, "metric": "%", "n": len(own), "mean": round(one.mean, 2), "ci95": round(one.half_width, 2)})
    return found


def main() -> int:
    """Measure and write; returns the exit code."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--data", type=Path, required=True)
    given.add_argument("--runs", type=Path, nargs="*", default=[], help="runs of one recipe by seed, trained on train without labels")
    given.add_argument("--json", type=Path, help="write a result file")
    given.add_argument("--draws", type=int, default=3)
    told = given.parse_args()
    rows = measure(told.data, told.draws, networks(told.runs))
    behind = [(run, read(run)) for run in told.runs]
    training = [round(run.checkpoint.state["cpu_seconds"] / 60, 2) for _, run in behind]
    own = shlex.join(["python", "-m", "benchmarks.enroll_grocery", *sys.argv[1:]])
    data = {
        "name": "Grocery Store",
        "classes": 81,
        "asked": "the published test split",
        "taught": "exemplars drawn from the published train split",
    }
    result = {
        "name": "enroll_grocery",
        "command": "\n".join([*commands_behind(behind, Lineage(behind)), own]),
        "data": data,
        "seeds": [0],
        "cpu_minutes": {"training of each": training, "the rest": math.ceil(time.process_time() / 6) / 10},
        "versions": {"kinshot": kinshot.__version__, "torch": version("torch")},
        "machine": describe_machine(),
        "photographs a class": SHOTS,
        "classes held out for the open set": f"one in {HELD_OUT}",
        "interval": "95 %, Student's t over draws of exemplars and of the classes held out",
        "notes": NOTES,
        "rows": summary(rows),
        "draws": rows,
    }
    if told.json:
        write_json(told.json, result)
    else:
        say(str(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
