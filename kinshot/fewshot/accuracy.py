"""The few-shot accuracy of a model that somebody holds in memory: any network, any labelled data, one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.rng import keyed_generator
from kinshot.core.statistics.means import crossed
from kinshot.datasets.base import Source
from kinshot.datasets.known_labels import known_labels, whole_numbers
from kinshot.datasets.torch_dataset import as_dataset
from kinshot.encoders.timm_adapter import input_of_model, transform_of_model
from kinshot.fewshot.episodes import Episodes, sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy
from kinshot.fewshot.records import Head
from kinshot.learn.features import eval_mode
from kinshot.learn.model import Model
from kinshot.samples.spec import Spec

Function = Callable[[Any], Tensor]


@dataclass(frozen=True)
class FewShotAccuracy:
    """Accuracy over episodes, in [0, 1]; printed, it is a line in percent.

    Args:
        mean: over all episodes.
        ci95: half-width of its 95 % interval, Student's over episodes: for other episodes of these classes, not for other classes.
        ways: classes of an episode.
        shots: support samples of each.
        queries: samples of each that were asked about.
        per_episode: float64 (E,).
        episodes: the episodes themselves, as numbers of samples.
    """

    mean: float
    ci95: float
    ways: int
    shots: int
    queries: int
    per_episode: np.ndarray = field(repr=False)
    episodes: Episodes = field(repr=False)

    def __str__(self) -> str:
        task = f"{self.ways}-way {self.shots}-shot"
        return f"{task}: {100 * self.mean:.2f} ± {100 * self.ci95:.2f} % (mean and 95 % interval, {len(self.per_episode)} episodes)"


def few_shot_accuracy(
    model: nn.Module | Function,
    data: Any,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    episodes: int = 600,
    seed: int = 0,
    head: str | Head = "prototype",
    labels: Any = None,
    feature: str = "backbone",
    prepare: Function | None = None,
    batch_size: int = 128,
    workers: int = 0,
    device: str | torch.device | None = None,
) -> FewShotAccuracy:
    """How well a head classifies new classes by a model's features: mean and 95 % interval over episodes, which `seed` alone decides.

    Every sample is embedded once, in evaluation mode, and all episodes are made of these features. A model of timm gives what stands
    before its classifier, a model of `kinshot.load` its `feature`, any other what it returns, (B, D): leave its classifier out first.

    What the model is given of a data set are its items, as the data set's own transform made them. Pictures without a transform, and images
    of a source, are prepared as timm says for its models (of a source all of an image, without the cut margin) and as a model of
    `kinshot.load` does; for others images of a source are numbers in [0, 1] of their own size.

    Args:
        model: a network, or a function, from a batch to features (B, D).
        data: a source, or a map-style `torch.utils.data.Dataset` of (sample, class).
        ways: classes of an episode, at least 2.
        shots: support samples of each.
        queries: samples of each that are asked about.
        episodes: how many.
        seed: key of the episodes.
        head: a name of `kinshot.heads`, or what `build_head` gives.
        labels: one integer for each sample, where neither the data set nor its items are to say them.
        feature: of a model of `kinshot.load`: backbone, projector, or another output of the projector.
        prepare: what is done to each batch before the model sees it, in place of the above.
        batch_size: samples embedded at once.
        workers: loader processes.
        device: where the model runs; None leaves it where it is. A model that was moved stays there.

    Raises:
        ConfigError: a number below its minimum, an unknown head, or an output that the model does not have.
        DataError: no labels, too few classes or samples for the episodes, or a model that does not give features (B, D).

    >>> digits = kinshot.sources.digits(split="test")
    >>> found = kinshot.few_shot_accuracy(torch.nn.Flatten(), digits, ways=5, shots=5, episodes=200)
    >>> round(100 * found.mean)  # print(found) says it with its interval
    90
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(f"batch_size must be at least 1 and workers at least 0, got {batch_size} and {workers}")
    function = build_head(head) if isinstance(head, str) else head
    if device is not None and isinstance(model, nn.Module):
        model = model.to(device)
    place = torch.device(device) if device is not None else _device_of(model)
    prepared = _prepare(model, data) if prepare is None else prepare
    features, said = _embedded(model, _features_of(model, feature), prepared, _loader(model, data, batch_size, workers), place)
    y = whole_numbers(labels) if labels is not None else known_labels(data)
    y = said if y is None and labels is None else y
    if y is None or len(y) != len(features):
        raise DataError(f"few_shot_accuracy needs one whole number as the class of each of {len(features)} samples: give labels=")
    drawn = sample_episodes(y, ways=ways, shots=shots, queries=queries, episodes=episodes, seed=seed)
    accuracy = episode_accuracy(features, drawn, function, ways)
    found = crossed(accuracy)
    return FewShotAccuracy(found.mean, found.half_width, ways, shots, queries, accuracy, drawn)


def _features_of(model: Any, feature: str) -> Function:
    """What gives features of a prepared batch."""
    if isinstance(model, Model):
        if feature not in model.names() or feature == "logits":
            raise ConfigError(f"feature: the model has no {feature!r}: {suggest(feature, model.vectors())}")
        return lambda x: model.features(x)[feature]
    if hasattr(model, "forward_features") and hasattr(model, "forward_head"):  # timm's, with or without its classifier
        return lambda x: model.forward_head(model.forward_features(x), pre_logits=True)
    return model


def _prepare(model: Any, data: Any) -> Function:
    """What is done to a batch of the loader before the model sees it."""
    if isinstance(model, Model):
        return model.prepare
    if not isinstance(data, Source):
        return lambda x: x
    spec = getattr(model, "input", None)
    if not isinstance(spec, Spec):
        spec = input_of_model(model) if data.kind == "image" else None
    return data.spec.values if spec is None else spec.prepare


class _Pictures(Dataset[Any]):
    """A data set of pictures, each made a tensor of."""

    def __init__(self, data: Any, transform: Function) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        item = self.data[index]
        return (self.transform(item[0]), *item[1:]) if isinstance(item, tuple | list) else self.transform(item)


def _loader(model: Any, data: Any, batch_size: int, workers: int) -> DataLoader[Any]:
    """Batches of all samples in order; pictures that no transform has made a tensor of are prepared as timm says for its model."""
    if not len(data):
        raise DataError("few_shot_accuracy: the data set has no sample: check its folder and split")
    held = as_dataset(data) if isinstance(data, Source) else data
    first = held[0]
    if isinstance(first[0] if isinstance(first, tuple | list) else first, Image):
        transform = transform_of_model(model)
        if transform is None:
            raise DataError("the data set gives pictures, which no network takes: give it a transform that makes tensors of them")
        held = _Pictures(held, transform)
    # torch seeds its workers from a draw; this one leaves the global generator as it was
    return DataLoader(held, batch_size, num_workers=workers, generator=keyed_generator(0, "workers"))


@torch.no_grad()
def _embedded(
    model: Any, embed: Function, prepare: Function, loader: DataLoader[Any], device: torch.device
) -> tuple[Tensor, np.ndarray | None]:
    """Features of all samples, float32 (N, D) on the CPU, and the classes that the items said."""
    rows: list[Tensor] = []
    said: list[Any] = []
    with eval_mode(model):
        for batch in loader:
            several = isinstance(batch, tuple | list)
            z = embed(prepare(_moved(batch[0] if several else batch, device)))
            if not isinstance(z, Tensor) or z.ndim != 2:
                got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
                raise DataError(f"the model gives {got}: expected features (B, D); pool or flatten what it gives")
            rows.append(z.float().cpu())
            said.append(batch[1] if several and len(batch) > 1 else None)
    labels = [one for one in said if isinstance(one, Tensor)]
    return torch.cat(rows), whole_numbers(torch.cat(labels)) if len(labels) == len(rows) else None


def _moved(samples: Any, device: torch.device) -> Any:
    if isinstance(samples, Mapping):
        return {name: values.to(device) for name, values in samples.items()}
    return samples.to(device) if isinstance(samples, Tensor) else samples


def _device_of(model: Any) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
