"""Which cosine tells a copy: altered copies of photographs beside the nearest other photographs, by the default encoder.

`python -m benchmarks.near_copies --data FOLDER [--photos FILE.csv] [--json FILE]`. Photographs are saved again in five ways; the cosine of
an altered copy to its original is one that should be found, that of a photograph to the nearest other one should not. With `--photos`, a
CSV with the columns stem and photo_id, pictures of one photograph are never compared; without, photographs of one scene count as others.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import shlex
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

import kinshot
from benchmarks.common import say
from kinshot.core.atomic import write_json
from kinshot.core.rng import keyed_numpy
from kinshot.core.runtime import describe_machine
from kinshot.core.statistics.means import mean_of
from kinshot.datasets.survey import list_images
from kinshot.index.copies import THRESHOLD
from kinshot.runs.classifier import open_encoder

ENCODER, MOST = "efficientnet_lite0", 300
THRESHOLDS = (0.75, 0.8, 0.85, 0.9, 0.95)


def _packed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def _cut(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 75": lambda image: _packed(image, 75),
    "JPEG of quality 40": lambda image: _packed(image, 40),
    "three quarters of the size": lambda image: _scaled(image, 0.75),
    "a twentieth cut off each side": lambda image: _cut(image, 0.05),
    "a fifth brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
}


def measure(files: list[Path], photo_of: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Cosines of each way's copies to their originals, and of every photograph to the nearest other one."""
    model, _ = open_encoder(ENCODER)
    images = [Image.open(file).convert("RGB") for file in files]

    def embedded(found: list[Image.Image]) -> torch.Tensor:
        return torch.nn.functional.normalize(model.embed(found, batch=16)["backbone"].double(), dim=1)

    z = embedded(images)
    near = {name: (embedded([way(image) for image in images]) * z).sum(1).numpy() for name, way in WAYS.items()}
    cosine = (z @ z.T).numpy()
    own = np.array(photo_of)
    cosine[own[:, None] == own[None]] = -1
    return near, cosine.max(1)


def main() -> int:
    """Measure and write; returns the exit code."""
    given = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    given.add_argument("--data", type=Path, required=True)
    given.add_argument("--photos", type=Path, help="CSV file that says which pictures are of one photograph")
    given.add_argument("--most", type=int, default=MOST, help="photographs, drawn where there are more (default %(default)s)")
    given.add_argument("--json", type=Path, help="write a result file")
    told = given.parse_args()
    files = list_images(told.data)
    chosen = np.sort(keyed_numpy(0, "near copies").permutation(len(files))[: told.most])
    files = [files[row] for row in chosen]
    photo_of = [file.as_posix() for file in files]
    if told.photos:
        with open(told.photos, newline="", encoding="utf-8") as file:
            known = {row["stem"]: row["photo_id"] for row in csv.DictReader(file)}
        photo_of = [known[file.stem] for file in files]
    near, others = measure(files, photo_of)
    rows: list[dict[str, Any]] = []
    for threshold in THRESHOLDS:
        for name, cosines in {**near, "another photograph": others}.items():
            share = mean_of(100.0 * (cosines >= threshold))
            metric = f"at {threshold:g} and above, %"
            found = {"mean": round(share.mean, 2), "ci95": round(share.half_width, 2)}
            rows.append({"label": name, "metric": metric, **found, "n": len(files)})
        say(", ".join(f"{row['label']} {row['mean']}" for row in rows[-len(near) - 1 :]) + f" at {threshold:g}")
    if told.json:
        write_json(
            told.json,
            {
                "name": told.json.stem,
                "command": shlex.join(["python", "-m", "benchmarks.near_copies", *sys.argv[1:]]),
                "data": {"pictures": len(files), "photographs": len(set(photo_of)), "encoder": ENCODER, "default": THRESHOLD},
                "seeds": [0],
                "cpu_minutes": math.ceil(time.process_time() / 6) / 10,
                "versions": {"kinshot": kinshot.__version__, "torch": version("torch")},
                "machine": describe_machine(),
                "rows": rows,
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
