"""Few-shot evaluation on cached features: episodes per second of our batched heads and sampler, of easyfsl and of learn2learn.

100 classes of 600 features, 64 and 512 dimensions, 5 ways, 5 shots, 15 queries, one thread. Each side draws its episodes, gathers
features, runs the head and counts what is right; before that both answer the same episodes, and must be right equally often. A side
is timed on as many episodes as take it about a second, and both are given per second: easyfsl's loop over episodes costs the same
for each. Last, what one of our episodes costs with more episodes, classes and images. Without a library its rows are missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import CLOCKS, SEED, Clock, Measured, alternate, parser, rate, ratios, say, settle, write_result
from benchmarks.fewshot_peers import easyfsl_evaluation, learn2learn_tasks
from kinshot.core.rng import keyed_generator
from kinshot.fewshot.episodes import Episodes, sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy

CLASSES, IMAGES = 100, 600
SHAPE = WAYS, SHOTS, QUERIES = 5, 5, 15
DIMS = (64, 512)
UNIT = "episodes/s"
PEERS = ("easyfsl", "learn2learn")
EPISODES = 10_000
ALIKE = 0.005  # the largest difference of two accuracies on the same episodes; PT-MAP's come from plans that converged differently far
SIZES = ((100, 600), (1000, 600), (100, 6000))


@dataclass(frozen=True)
class Job:
    """One method on both sides.

    Args:
        head: our head.
        settings: its settings.
        theirs: class in `easyfsl.methods`.
        their_settings: its arguments.
        episodes: how many our side evaluates at a time.
        their_episodes: how many easyfsl evaluates at a time.
        bars: for each dimension, what the ratio must reach.
    """

    head: str
    settings: dict[str, Any]
    theirs: str
    their_settings: dict[str, Any]
    episodes: int
    their_episodes: int
    bars: dict[int, float] = field(default_factory=dict)


# easyfsl's settings are those of its own benchmark, with 50 steps for TIM; ours are the same methods by the same settings
JOBS = {
    "ProtoNet": Job("prototype", {"distance": "euclidean"}, "PrototypicalNetworks", {}, EPISODES, 300, {64: 25.0, 512: 5.0}),
    "LaplacianShot": Job(
        "laplacian_shot",
        {"lam": 0.1, "neighbors": 2, "steps": 10, "rectify": "within", "epsilon": 1.0},
        "LaplacianShot",
        {"inference_steps": 10, "knn": 3, "lambda_regularization": 0.1},
        1000,
        100,
        {64: 6.0, 512: 6.0},
    ),
    "TIM": Job(
        "tim",
        {"variant": "cosine", "temperature": 10.0, "cross_entropy": 1.0, "conditional": 0.5, "steps": 50, "lr": 1e-3},
        "TIM",
        {"fine_tuning_steps": 50, "fine_tuning_lr": 1e-3, "conditional_entropy_weight": 0.5, "temperature": 10.0},
        400,
        20,
        {64: 12.0, 512: 3.0},
    ),
    "PT-MAP": Job(
        "pt_map",
        {"balanced_prior": True, "centre": "none", "transform": "l2n", "steps": 30, "rate": 0.3},
        "PTMAP",
        {"fine_tuning_steps": 30, "fine_tuning_lr": 0.3, "lambda_regularization": 10.0, "power_factor": 0.5},
        400,
        4,
        {64: 10.0, 512: 10.0},
    ),
}


def features(dim: int, classes: int = CLASSES, images: int = IMAGES) -> tuple[Tensor, np.ndarray]:
    """Overlapping clusters that are never negative, as after a ReLU: (classes * images, dim) and their labels."""
    generator = keyed_generator(SEED, "benchmark/features", dim, classes, images)
    labels = np.repeat(np.arange(classes), images)
    centres = torch.randn(classes, dim, generator=generator) * 0.5
    drawn = torch.randn(len(labels), dim, generator=generator)
    return drawn.add_(centres[torch.from_numpy(labels)]).relu_(), labels


def draw(labels: np.ndarray, episodes: int) -> Episodes:
    return sample_episodes(labels, ways=WAYS, shots=SHOTS, queries=QUERIES, episodes=episodes, seed=SEED)


def ours(job: Job, bank: Tensor, labels: np.ndarray, episodes: int) -> Callable[[], object]:
    """One evaluation by kinshot, episodes included."""
    head = build_head(job.head, job.settings)
    return lambda: episode_accuracy(bank, draw(labels, episodes), head, WAYS)


def check_alike(title: str, job: Job, bank: Tensor, labels: np.ndarray) -> None:
    """Stop unless both sides are right equally often on the same episodes: else their times are of different methods."""
    episodes = draw(labels, min(20, job.their_episodes))
    mine = float(episode_accuracy(bank, episodes, build_head(job.head, job.settings), WAYS).mean())
    other = easyfsl_evaluation(job.theirs, job.their_settings, bank, labels, SHAPE, episodes)()
    if abs(mine - other) > ALIKE:
        raise SystemExit(f"{title}: on the same episodes kinshot is right in {mine:.4f} and easyfsl in {other:.4f} of the queries")


def compare(label: str, sides: dict[str, Callable[[], float]], rounds: int, bar: float | None) -> list[Measured]:
    """Rates of all sides after one round to warm up, and how many times faster the first is than the second."""
    alternate(sides, 1)
    found = alternate(sides, rounds)
    measured = [Measured(f"{label}: {name}", UNIT, values) for name, values in found.items()]
    if len(found) == 2:
        (mine, my_values), (other, other_values) = found.items()
        measured.append(Measured(f"{label}: {mine} / {other}", "ratio", ratios(my_values, other_values), bar))
    return measured


def heads(title: str, job: Job, dim: int, options: argparse.Namespace, clock: Clock) -> list[Measured]:
    """One method, one dimension."""
    bank, labels = features(dim)

    def side(work: Callable[[], object], episodes: int) -> Callable[[], float]:
        return lambda: rate(work, episodes, options.steps, clock)

    sides = {"kinshot": side(ours(job, bank, labels, job.episodes), job.episodes)}
    if "easyfsl" in options.peers:
        check_alike(title, job, bank, labels)
        work = easyfsl_evaluation(job.theirs, job.their_settings, bank, labels, SHAPE, job.their_episodes)
        sides["easyfsl"] = side(work, job.their_episodes)
    return compare(f"{title}, {dim}-d", sides, options.rounds, job.bars.get(dim))


def sampling(options: argparse.Namespace, clock: Clock) -> list[Measured]:
    """Drawing episodes: as indices alone, and with their features."""
    bank, labels = features(64)

    def gathered() -> None:
        episodes = draw(labels, EPISODES)
        for support, query in zip(episodes.support.split(100), episodes.query.split(100), strict=True):
            bank.index_select(0, support.flatten()), bank.index_select(0, query.flatten())

    indices = {"kinshot": lambda: rate(lambda: draw(labels, EPISODES), EPISODES, options.steps, clock)}
    tasks = {"kinshot": lambda: rate(gathered, EPISODES, options.steps, clock)}
    if "learn2learn" in options.peers:
        description, task = learn2learn_tasks(bank, labels, SHAPE)
        indices["learn2learn, fused"] = lambda: rate(description, 1, 2000 * options.steps, clock)
        tasks["learn2learn, fused"] = lambda: rate(task, 1, 300 * options.steps, clock)
    return [
        *compare("drawing episodes, indices", indices, options.rounds, None),
        *compare("drawing episodes, with 64-d features", tasks, options.rounds, 40.0),
    ]


def growth(options: argparse.Namespace, clock: Clock) -> list[Measured]:
    """What one more ProtoNet episode costs, for numbers of episodes, classes and images; and what the data cost once."""
    sides: dict[str, Callable[[], float]] = {}
    few, many = 2000, EPISODES

    def seconds(work: Callable[[], object]) -> float:
        return 1 / rate(work, 1, 1, clock)

    for classes, images in SIZES:
        bank, labels = features(64, classes, images)
        runs = [ours(JOBS["ProtoNet"], bank, labels, episodes) for episodes in (few, many, 2 * many)]
        draws = [lambda episodes=episodes, labels=labels: draw(labels, episodes) for episodes in (few, many)]  # type: ignore[misc]
        name = f"{classes} classes of {images}"
        sides[f"one more episode of {few} to {many}, {name}"] = lambda r=runs: (seconds(r[1]) - seconds(r[0])) / (many - few) * 1e6  # type: ignore[misc]
        sides[f"one more episode of {many} to {2 * many}, {name}"] = lambda r=runs: (seconds(r[2]) - seconds(r[1])) / many * 1e6  # type: ignore[misc]
        sides[f"one more to draw, {name}"] = lambda d=draws: (seconds(d[1]) - seconds(d[0])) / (many - few) * 1e6  # type: ignore[misc]
    return [Measured(f"ProtoNet, 64-d: {name}", "microseconds", values) for name, values in alternate(sides, options.rounds).items()]


def main() -> None:
    """Measure, print, and write a result file where asked."""
    arguments = parser(__doc__, rounds=3, steps=1)
    arguments.set_defaults(threads=1)
    arguments.add_argument("--only", choices=[*JOBS, "sampling", "growth"], help="one part")
    options = arguments.parse_args()
    allocator, clock = settle(options.threads), CLOCKS[options.clock]
    options.peers = [name for name in PEERS if find_spec(name) is not None]
    notes = [f"{name} is not installed: there are no ratios to it" for name in PEERS if name not in options.peers]
    parts: dict[str, list[Callable[[], list[Measured]]]] = {
        title: [lambda title=title, job=job, dim=dim: heads(title, job, dim, options, clock) for dim in DIMS]  # type: ignore[misc]
        for title, job in JOBS.items()
    }
    parts |= {"sampling": [lambda: sampling(options, clock)], "growth": [lambda: growth(options, clock)]}
    measured: list[Measured] = []
    for name, works in parts.items():
        for work in works if options.only in (None, name) else ():
            found = work()
            measured += found
            for one in found:
                say(one.line())
    for note in notes:
        say(note)
    if options.json:
        data = {"classes": CLASSES, "images": IMAGES, "dims": list(DIMS), "ways": WAYS, "shots": SHOTS, "queries": QUERIES}
        counts = ", ".join(f"{title} {job.episodes} and {job.their_episodes}" for title, job in JOBS.items())
        notes = [
            f"clock {options.clock}, {options.threads} thread",
            allocator,
            "features cached; drawing the episodes is counted",
            f"episodes timed in a round, kinshot and easyfsl, each given per second: {counts}",
            f"before it is timed, each method is right equally often on both sides on the same episodes, within {ALIKE}",
            *notes,
        ]
        write_result(options.json, "benchmarks.fewshot_heads", data, measured, options.peers, notes)


if __name__ == "__main__":
    main()
