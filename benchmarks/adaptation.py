"""Whether a pretrained encoder gets better by further training without labels: EfficientNet-Lite0 on photographs of Grocery Store.

`python -m benchmarks.adaptation --data GROCERY --elsewhere CROPS --runs FOLDER [--arms simclr norms] [--seeds 0] [--test] [--json FILE]`

Each arm and seed is a run of `ssl pretrain photos --init efficientnet_lite0` on the published training photographs of the 50 training
classes, in a folder of its own, which goes on where it was stopped. Every finished run is measured beside the encoder as it came, frozen:
5-way episodes of classes that it never saw, kNN over all classes, and, as what it forgot, kNN on crops of COCO. Without `--test` only
validation classes and validation photographs are looked at, by which settings are chosen.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from dataclasses import replace
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
from kinshot.core.statistics.means import crossed
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource, Source
from kinshot.datasets.grocery_store import class_lists
from kinshot.datasets.images import decode_all, load_image
from kinshot.datasets.survey import list_images
from kinshot.datasets.table_files import read_columns
from kinshot.fewshot.episodes import sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy
from kinshot.learn.knn import knn_answers
from kinshot.learn.model import Model
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.embedder import build_model, from_checkpoint, input_spec
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.studies.answers import features_of

ENCODER, FROZEN, ELSEWHERE = "efficientnet_lite0", "frozen", "COCO crops"
TRAINING = ["data=grocery_store", "data.split=train", "data.part=train", "train.threads=1", "train.batch_size=64", "train.lr=1e-3"]
TRAINING += ["train.encoder_lr=0.1", "monitor.knn_every=0", "monitor.projector_points=0", "monitor.tensorboard=false"]
SIMCLR = ["method=simclr", "method.temperature=0.2"]
ARMS = {
    "simclr": [*SIMCLR, "train.layer_decay=0.7", "train.norm_statistics=kept"],
    "interclr": ["method.warmup_epochs=1", "train.layer_decay=0.7", "train.norm_statistics=kept"],
    "norms": [*SIMCLR, "train.freeze=[all_but_norms]", "train.encoder_lr=1"],
}
"""What each arm sets beside what all have."""
WAYS, SHOTS, QUERIES, NEIGHBORS = 5, (1, 5), 15, 20
Figures = dict[str, np.ndarray]
"""Right (100) or not (0) of every query, or percent of every episode, by what was measured."""


def grocery(root: Path, size: int, part: str) -> Source:
    """All classes of a published part, which may lack some, as an encoder of this size sees them."""
    found: Source = SOURCES.build("folder", settings={"root": str(root), "split": part, "size": size})
    return found


def crops(root: Path, size: int) -> tuple[Source, np.ndarray]:
    """Crops around objects, labelled by the object in the middle, and the photograph that each was cut from."""
    table = read_columns(root / "photos.csv")
    named = {path.stem: path for path in list_images(root / "images")}
    rows = [row for row, kind in enumerate(table["kind"]) if kind == "crop"]
    files = [named[table["stem"][row]] for row in rows]
    pixels = decode_all(files, lambda path: load_image(path, size, 3), (3, size, size))
    labels = np.array([int(table["class_id"][row]) for row in rows])
    names = [str(name) for name in range(int(labels.max()) + 1)]
    return ArraySource(pixels, labels, names, ELSEWHERE, files=files), np.array([table["photo_id"][row] for row in rows])


def frozen(size: int) -> Model:
    """The encoder as it came, for images of this size."""
    run = read(Path(ENCODER), parts=("encoder",))
    input = replace(input_spec(run.checkpoint), height=size, width=size)  # type: ignore[type-var]
    encoder, _ = build_model(run.recipe, input)
    encoder.load_state_dict(run.checkpoint.encoder)
    return Model(encoder, input=input).eval()


class Examination:
    """The same episodes and queries for every encoder.

    Args:
        root: Grocery Store.
        elsewhere: crops of other photographs.
        size: side of the images.
        test: whether test classes and test photographs are measured too.
        episodes: of each task.
    """

    def __init__(self, root: Path, elsewhere: Path, size: int, *, test: bool, episodes: int) -> None:
        self.parts = {part: grocery(root, size, part) for part in ("train", "val", *["test"] * test)}
        self.roles = ("val", "test") if test else ("val",)
        self.episodes = episodes
        self.crops, photographs = crops(elsewhere, size)
        every = sorted(set(photographs))
        half = set(keyed_numpy(0, "half of the photographs").permutation(every)[: len(every) // 2].tolist())
        self.first = np.array([one in half for one in photographs])

    def figures(self, model: Model) -> Figures:
        """What an encoder reaches."""
        z = {part: self._features(model, source) for part, source in self.parts.items()}
        found: Figures = {}
        for role in self.roles:
            found |= self._few_shot(z, role)
            right = knn(z["train"], self._labels("train"), z[role], self._labels(role))
            found[f"{len(np.unique(self._labels('train')))}-way kNN, {role} photographs"] = right
        z_crops, labels = self._features(model, self.crops), np.asarray(self.crops.labels)
        first = self.first
        halves = [knn(z_crops[bank], labels[bank], z_crops[~bank], labels[~bank]) for bank in (first, ~first)]
        return found | {f"kNN, {ELSEWHERE}": np.concatenate(halves)}

    def _few_shot(self, z: dict[str, Tensor], role: str) -> Figures:
        """Episodes of the classes of a part of the split by classes, from all photographs that are looked at."""
        names = self.parts["train"].class_names
        wanted = [number for number, name in enumerate(names) if name in class_lists()[role]]
        parts = list(self.parts) if role == "test" else ["train", "val"]
        labels = np.concatenate([self._labels(part) for part in parts])
        rows = np.flatnonzero(np.isin(labels, wanted))
        features, found = torch.cat([z[part] for part in parts])[rows], {}
        for shots in SHOTS:
            drawn = sample_episodes(labels[rows], ways=WAYS, shots=shots, queries=QUERIES, episodes=self.episodes, seed=0)
            accuracy = 100 * episode_accuracy(features, drawn, build_head("prototype"), WAYS)
            found[f"{WAYS}-way {shots}-shot, {role} classes"] = np.asarray(accuracy)
        return found

    def _labels(self, part: str) -> np.ndarray:
        """Labels by the names of classes, as a part may lack some."""
        source, names = self.parts[part], self.parts["train"].class_names
        return np.array([names.index(name) for name in source.class_names])[np.asarray(source.labels)]

    @staticmethod
    def _features(model: Model, source: Source) -> Tensor:
        return features_of(model, source, torch.device("cpu"))["backbone"]


def knn(bank: Tensor, bank_labels: np.ndarray, query: Tensor, query_labels: np.ndarray) -> np.ndarray:
    """Right (100) or not (0) of every query."""
    answers = knn_answers(bank, torch.from_numpy(bank_labels), query, k=NEIGHBORS)
    return 100.0 * (answers.predictions == query_labels)


def train(arm: str, seed: int, told: argparse.Namespace) -> Path:
    """The run of an arm and a seed, from where it stands to its end."""
    out = told.runs / arm / f"seed={seed}"
    more = [f"init={ENCODER}", *TRAINING, *ARMS[arm], f"data.root={told.data}", f"data.size={told.size}", f"train.epochs={told.epochs}"]
    recipe = load_recipe("photos", [*more, f"seed={seed}", *told.set])
    train_recipe(recipe, Options(out, "auto", quiet=True), say)
    return out


def rows(found: dict[str, list[Figures]]) -> list[dict[str, Any]]:
    """A row for each arm and figure, and for what each gained over the frozen encoder on the same episodes and queries."""
    made = []
    before = found[FROZEN][0]
    for arm, runs in found.items():
        for name in before:
            values = np.stack([one[name] for one in runs])
            made.append(_row(f"{arm}: {name}", values))
            if arm != FROZEN:
                made.append(_row(f"{arm} less {FROZEN}: {name}", values - before[name]))
    return made


def _row(label: str, values: np.ndarray) -> dict[str, Any]:
    one = crossed(values)
    return {"label": label, "metric": "%", "n": len(values), "mean": round(one.mean, 2), "ci95": round(one.half_width, 2)}


def report(found: dict[str, list[Figures]], trained: dict[str, list[Path]], told: argparse.Namespace) -> dict[str, Any]:
    """The result file of what is measured so far."""
    states = {str(run): read(run, parts=()).checkpoint.state for runs in trained.values() for run in runs}
    return {
        "name": "adaptation",
        "command": shlex.join(["python", "-m", "benchmarks.adaptation", *sys.argv[1:]]),
        "data": {
            "name": "Grocery Store",
            "size": told.size,
            "trained on": "published training photographs of the 50 training classes",
            "elsewhere": ELSEWHERE,
        },
        "seeds": told.seeds,
        "cpu_minutes": {
            "training of each": {run: round(state["cpu_seconds"] / 60, 2) for run, state in states.items()},
            "the rest": math.ceil(time.process_time() / 6) / 10,
        },
        "versions": {"kinshot": kinshot.__version__, "torch": version("torch")},
        "machine": describe_machine(),
        "settings": {arm: [*TRAINING, *ARMS[arm], f"train.epochs={told.epochs}", *told.set] for arm in trained},
        "protocol": f"prototype, {told.episodes} episodes; kNN: k {NEIGHBORS}, t 0.1, cosine; features: backbone; checkpoint: last",
        "interval": "95 %, Student's t over episodes or queries of one run, crossed with runs where there are several",
        "notes": [
            f"{FROZEN}: {ENCODER} as it came, at the same size",
            f"{ELSEWHERE}: crops from half of the photographs are the neighbours of those from the other half, and the other way round",
            "val photographs and classes choose settings; test rows are there only where --test was given",
        ],
        "rows": rows(found),
    }


def main() -> int:
    """Train, measure and write, run by run; returns the exit code."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--data", type=Path, required=True, help="Grocery Store in its official layout")
    given.add_argument("--elsewhere", type=Path, required=True, help="folder with images and photos.csv: crops of COCO")
    given.add_argument("--runs", type=Path, required=True, help="a folder for each arm, in it one for each seed")
    given.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    given.add_argument("--seeds", nargs="*", type=int, default=[0])
    given.add_argument("--size", type=int, default=96, help="side that photographs are resized to (default %(default)s)")
    given.add_argument("--epochs", type=int, default=6, help="of each run (default %(default)s: six minutes of one core at 96 pixels)")
    given.add_argument("--episodes", type=int, default=600)
    given.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every run beside those of its arm")
    given.add_argument("--test", action="store_true", help="measure test classes and photographs too, once settings are chosen")
    given.add_argument("--json", type=Path, help="write a result file after every run")
    told = given.parse_args()
    exam = Examination(told.data, told.elsewhere, told.size, test=told.test, episodes=told.episodes)
    found: dict[str, list[Figures]] = {FROZEN: [exam.figures(frozen(told.size))]}
    trained: dict[str, list[Path]] = {}
    for seed in told.seeds:
        for arm in told.arms:
            run = train(arm, seed, told)
            trained.setdefault(arm, []).append(run)
            found.setdefault(arm, []).append(exam.figures(from_checkpoint(read(run))))
            result = report(found, trained, told)
            for row in result["rows"]:
                say(f"{row['label']:<60} {row['mean']:>7.2f} ± {row['ci95']:.2f}")
            if told.json:
                write_json(told.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
