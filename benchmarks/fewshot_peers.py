"""The other side of `benchmarks.fewshot_heads`: easyfsl's evaluation and learn2learn's task sampling, as a user would write them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from benchmarks.common import SEED
from kinshot.fewshot.episodes import Episodes


def easyfsl_evaluation(
    name: str, settings: dict[str, Any], bank: Tensor, labels: np.ndarray, shape: tuple[int, int, int], episodes: int | Episodes
) -> Callable[[], float]:
    """One evaluation by easyfsl: its data set of features, task sampler, collation, head and `evaluate`; returns the accuracy.

    Args:
        name: class in `easyfsl.methods`.
        settings: its arguments.
        bank: features (N, D).
        labels: class of each (N,).
        shape: ways, shots, queries.
        episodes: how many its sampler draws, or given ones, which its sampler then has no part in.
    """
    from easyfsl import methods
    from easyfsl.datasets import FeaturesDataset
    from easyfsl.samplers import TaskSampler
    from easyfsl.utils import evaluate

    # TaskSampler passes `data_source` to torch's Sampler, which no longer takes it
    Sampler.__init__ = lambda self, *_, **__: None  # type: ignore[method-assign, assignment, misc]
    random.seed(SEED)  # easyfsl draws from Python's global generator
    ways, shots, queries = shape
    data = FeaturesDataset(labels.tolist(), bank, [str(c) for c in range(int(labels.max()) + 1)])
    count = episodes if isinstance(episodes, int) else len(episodes)
    sampler = TaskSampler(data, n_way=ways, n_shot=shots, n_query=queries, n_tasks=count)
    drawn = sampler if isinstance(episodes, int) else image_lists(episodes)
    loader: DataLoader[Any] = DataLoader(data, batch_sampler=drawn, collate_fn=sampler.episodic_collate_fn)
    model = getattr(methods, name)(nn.Identity(), feature_normalization=2, **settings)
    return lambda: float(evaluate(model, loader, device="cpu", use_tqdm=False))


def image_lists(episodes: Episodes) -> list[list[int]]:
    """Images of each episode, way by way, support before query, as easyfsl's collation takes them."""
    parts = [index.unflatten(1, (episodes.ways, -1)) for index in (episodes.support, episodes.query)]
    found: list[list[int]] = torch.cat(parts, dim=2).flatten(1).tolist()
    return found


def learn2learn_tasks(bank: Tensor, labels: np.ndarray, shape: tuple[int, int, int]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Two functions that draw one task by learn2learn's fused transform: its description alone, and with its features and ways."""
    import learn2learn

    steps, (ways, shots, queries) = learn2learn.data.transforms, shape
    random.seed(SEED)
    data = learn2learn.data.MetaDataset(TensorDataset(bank, torch.from_numpy(labels)), indices_to_labels=dict(enumerate(labels.tolist())))
    fused = steps.FusedNWaysKShots(data, n=ways, k=shots + queries)
    loaded = [fused, steps.LoadData(data), steps.RemapLabels(data), steps.ConsecutiveLabels(data)]
    return learn2learn.data.Taskset(data, [fused]).sample_task_description, learn2learn.data.Taskset(data, loaded).sample
