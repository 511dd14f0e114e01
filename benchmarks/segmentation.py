"""Evaluation of few-shot segmentation: episodes per second of kinshot's engine, and of a loop over episodes as PANet's public one goes.

Made-up scenes of 128 pixels, one way, as many images to an episode as PASCAL-5i's fold 0 has (346 for 1000), one or several shots. Both
sides have the same encoder in the same process and take the same episodes to the same predictions, which is looked at before anything is
timed: the same cosine prototypes, scores upsampled before argmax. The loop encodes support and query of each episode, upsamples
features to the mask's size, pools, compares, upsamples and counts with NumPy, image by image. A third side is that loop on maps that
were encoded once: what of the ratio is the encoder's share.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import CLOCKS, SEED, Measured, alternate, parser, rate, ratios, say, settle, write_result
from kinshot.core.rng import keyed_generator, keyed_numpy
from kinshot.datasets.scenes import ArrayScenes
from kinshot.encoders.build import build_encoder
from kinshot.encoders.efficientnet_lite0 import PACKAGE
from kinshot.learn.model import Model
from kinshot.samples.pixels import PixelSpec
from kinshot.segmentation.episodes import DenseEpisodes, sample_dense_episodes
from kinshot.segmentation.evaluate import encoder_maps, evaluate_episodes
from kinshot.segmentation.rules import miou
from kinshot.segmentation.segmenter import build_segmenter

SIDE, CLASSES = 128, 5
PER_EPISODE = 346 / 1000  # images of PASCAL-5i's fold 0 in lists of public code, and its episodes
STAGES = {"efficientnet_lite0": "blocks.4", "resnet18": "layer3"}
"""Encoders, and the stage at stride 16 that is compared."""
ALPHA, EPS = 20.0, 1e-5
UNIT = "episodes/s"
BAR = 4.0
ALIKE = 1e-3  # the largest difference of two figures on the same episodes: rounding decides pixels that are as near to both
Loop = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Task:
    """What both sides evaluate."""

    scenes: ArrayScenes
    episodes: DenseEpisodes
    model: Model
    stage: str


def scenes_of(images: int) -> ArrayScenes:
    """Smooth random ground with an ellipse of the image's class and one of another: what is in them does not change how long they take."""
    generator, rng = keyed_generator(SEED, "benchmark/scenes"), keyed_numpy(SEED, "benchmark/scenes")
    coarse = torch.rand(images, 3, 9, 9, generator=generator)
    pictures = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=True).clamp(0, 1)
    y, x = np.mgrid[:SIDE, :SIDE]
    masks = np.zeros((images, SIDE, SIDE), dtype=np.uint8)
    for number, mask in enumerate(masks):
        for value in (rng.integers(CLASSES) + 1, number % CLASSES + 1):
            (top, left), (tall, wide) = rng.integers(30, SIDE - 30, 2), rng.integers(12, 40, 2)
            mask[((y - top) / tall) ** 2 + ((x - left) / wide) ** 2 <= 1] = value
    shaded = pictures * (1 - torch.from_numpy(masks)[:, None] / (2 * CLASSES))
    return ArrayScenes((shaded * 255).to(torch.uint8).numpy(), masks, [str(c) for c in range(CLASSES)])


def task_of(encoder: str, shots: int, episodes: int) -> Task:
    scenes = scenes_of(round(PER_EPISODE * episodes))
    contains = scenes.contains if scenes.contains is not None else np.zeros((0, CLASSES), dtype=bool)
    drawn = sample_dense_episodes(contains, scenes.photos, ways=1, shots=shots, queries=1, episodes=episodes, seed=SEED)
    spec = PixelSpec.square(3, SIDE, (0.5,) * 3, (0.5,) * 3)
    settings = {"pretrained": find_spec(PACKAGE) is not None} if encoder == "efficientnet_lite0" else {"stem": "imagenet"}
    return Task(scenes, drawn, Model(build_encoder(encoder, settings, spec, seed=SEED)).eval(), STAGES[encoder])


def ours(task: Task) -> np.ndarray:
    """Intersection and union of every class by kinshot's engine, (2, K)."""
    segmenter = build_segmenter("cosine", {"alpha": ALPHA, "eps": EPS, "other_ways": "background"})
    encode = encoder_maps(task.model, task.scenes, (task.stage,))
    found = miou(evaluate_episodes(task.episodes, task.scenes, encode, {"cosine": segmenter})["cosine"])
    return np.stack([found.above.sum(axis=0), found.below.sum(axis=0)])


@torch.no_grad()
def by_loop(task: Task, encode: Callable[[np.ndarray], Tensor]) -> np.ndarray:
    """The same, episode by episode."""
    sums = np.zeros((2, CLASSES))
    for number in range(len(task.episodes)):
        value = int(task.episodes.classes[number, 0])
        support, query = task.episodes.support[number, 0], task.episodes.query[number]
        maps = encode(np.concatenate([support, query]))
        masks = task.scenes.load(support, ("mask",))["mask"]
        prototypes = []
        for inside in (masks != value, masks == value):
            wide = F.interpolate(maps[: len(support)], size=masks.shape[-2:], mode="bilinear", align_corners=False)
            weights = inside[:, None].float()
            prototypes.append(((wide * weights).sum(dim=(2, 3)) / (weights.sum(dim=(2, 3)) + EPS)).mean(dim=0))
        felt = maps[len(support) :]
        scores = torch.stack([ALPHA * F.cosine_similarity(felt, p[None, :, None, None], dim=1) for p in prototypes], dim=1)
        truth = task.scenes.native_mask(int(query[0])).numpy() == value
        said = F.interpolate(scores, size=truth.shape, mode="bilinear", align_corners=False).argmax(dim=1)[0].numpy() == 1
        sums[:, value - 1] += np.logical_and(said, truth).sum(), np.logical_or(said, truth).sum()
    return sums


def sides_of(task: Task) -> dict[str, Callable[[], np.ndarray]]:
    kept: dict[int, Tensor] = {}

    def each(rows: np.ndarray) -> Tensor:
        images = task.model.prepare(task.scenes.load(rows, ("image",))["image"])
        found: Tensor = task.model.encoder.maps(images, (task.stage,))[0].values  # type: ignore[operator]
        return found

    def once(rows: np.ndarray) -> Tensor:
        for row in rows.tolist():
            if row not in kept:
                kept[row] = each(np.array([row]))[0]
        return torch.stack([kept[row] for row in rows.tolist()])

    def on_kept() -> np.ndarray:
        kept.clear()
        return by_loop(task, once)

    return {"kinshot": lambda: ours(task), "loop": lambda: by_loop(task, each), "loop, maps kept": on_kept}


def compare(encoder: str, shots: int, options: argparse.Namespace) -> list[Measured]:
    """Rates of all sides after they were found alike, and how many times faster ours is than the loops, round by round."""
    task = task_of(encoder, shots, options.episodes)
    sides = sides_of(task)
    answers = {name: work() for name, work in sides.items()}
    title = f"{encoder}, {shots}-shot"
    figures = {name: float((above / below).mean()) for name, (above, below) in answers.items()}
    if max(figures.values()) - min(figures.values()) > ALIKE:
        raise SystemExit(f"{title}: the same episodes have the mIoU {figures}")
    clock = CLOCKS[options.clock]

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: rate(work, options.episodes, options.steps, clock)

    found = alternate({name: timed(work) for name, work in sides.items()}, options.rounds)
    measured = [Measured(f"{title}: {name}", UNIT, values) for name, values in found.items()]
    mine = found["kinshot"]
    return [
        *measured,
        Measured(f"{title}: kinshot / loop", "ratio", ratios(mine, found["loop"]), BAR),
        Measured(f"{title}: kinshot / loop, maps kept", "ratio", ratios(mine, found["loop, maps kept"])),
    ]


def main() -> None:
    """Measure, print, and write a result file where asked."""
    arguments = parser(__doc__, rounds=3, steps=1)
    arguments.set_defaults(threads=1)
    arguments.add_argument("--encoder", choices=list(STAGES), default="efficientnet_lite0", help="default %(default)s")
    arguments.add_argument("--shots", type=int, nargs="+", default=[1, 5], help="default 1 and 5")
    arguments.add_argument("--episodes", type=int, default=150, help="evaluated in a step (default %(default)s)")
    options = arguments.parse_args()
    allocator = settle(options.threads)
    measured: list[Measured] = []
    for shots in options.shots:
        found = compare(options.encoder, shots, options)
        measured += found
        for one in found:
            say(one.line())
    if options.json:
        data = {"images": round(PER_EPISODE * options.episodes), "side": SIDE, "classes": CLASSES, "ways": 1, "queries": 1}
        data |= {"encoder": options.encoder, "stage": STAGES[options.encoder], "shots": options.shots, "episodes": options.episodes}
        notes = [
            f"clock {options.clock}, {options.threads} thread",
            allocator,
            "images are encoded anew in every step on every side, on ours and in the loop with kept maps once for each image",
            f"before they are timed, all sides have the same mIoU on the same episodes, within {ALIKE}",
            "PANet's own code counts in sets of coordinates, which takes far longer than the NumPy sums of this loop",
        ]
        write_result(options.json, "benchmarks.segmentation", data, measured, ("numpy", "torchvision", "timm"), notes)


if __name__ == "__main__":
    main()
