"""learn2learn beside kinshot: our sources as its data sets, its tasks as our episodes, its MAML as a head.

learn2learn is optional and imported when one of these is called. Its MAML and ANIL are here to compare with; to train, use the
methods `maml` and `anil`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.datasets.torch_dataset import as_dataset
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.episodes import Episodes
from kinshot.fewshot.transforms import one_hot

_INSTALL = (
    "on Python 3.11, in an environment of its own: pip install 'learn2learn==0.2.0' --config-settings=\"--build-option=build_ext\" "
    "(see requirements-l2l.txt; in a clone of the repository, `make learn2learn`)"
)


def meta_dataset(source: Source) -> Any:
    """A source as learn2learn's `MetaDataset`, ready for its task transforms; no sample is decoded for that.

    Raises:
        ConfigError: learn2learn is not installed.
        DataError: a source without labels.
    """
    if source.labels is None:
        raise DataError(f"{source.name} has no labels, and a task is made of classes: use a source with labels")
    data = as_dataset(source, source.spec.values)  # images as float32 in [0, 1], ids as int64
    return _learn2learn().data.MetaDataset(data, indices_to_labels=dict(enumerate(data.targets)))


def task_episodes(tasks: Any, *, shots: int, episodes: int | None = None) -> Episodes:
    """Tasks that learn2learn draws as our episodes: of each class the first `shots` images are support, the others are asked.

    Only the tasks' descriptions are drawn; no sample is loaded. With a fixed number of tasks, episode i is the task `tasks[i]`. Ways
    are numbered as their classes come in the task, whatever `RemapLabels` says. Image numbers are those of `tasks.dataset`.
    learn2learn draws from Python's global generator: for the same tasks again, seed that (`random.seed`), or save the episodes.

    Args:
        tasks: a `learn2learn.data.Taskset` over classes with integer labels; `KShots` draws shots and queries together.
        shots: K support images of each class.
        episodes: how many; None takes every task of a Taskset that has a fixed number of them.

    Raises:
        ConfigError: shots or episodes below 1, more episodes than tasks, or no number where tasks never end.
        DataError: tasks of different sizes, classes without an image to ask, or an image drawn twice.
    """
    endless = tasks.num_tasks == -1
    if episodes is None and endless:
        raise ConfigError("this Taskset never ends (num_tasks=-1): say how many episodes to draw from it")
    count = tasks.num_tasks if episodes is None else episodes
    if shots < 1 or count < 1 or (not endless and count > tasks.num_tasks):
        held = "any number of" if endless else str(tasks.num_tasks)
        raise ConfigError(f"shots and episodes must be at least 1, got {shots} and {count}; the Taskset has {held} tasks")
    class_of = tasks.dataset.indices_to_labels
    rows = []
    for number in range(count):
        # a Taskset with a fixed number remembers its descriptions: `tasks[number]` is then this same task
        known = {} if endless else tasks.sampled_descriptions
        description = known[number] if number in known else tasks.sample_task_description()
        known[number] = description
        rows.append(_episode([d.index for d in description], class_of, shots))
    sizes = {tuple(map(len, row)) for row in rows}
    if len(sizes) > 1:
        raise DataError("the tasks differ in their number of classes or images: draw every task with the same ways and shots")
    return Episodes(*(torch.tensor(part) for part in zip(*rows, strict=True)))


def learn2learn_scores(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    network: nn.Module | Mapping[str, Tensor] | None = None,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
) -> Tensor:
    """Scores of a network that learn2learn's MAML adapts to the support set of each episode; a head, inductive in evaluation mode.

    What is adapted decides the method. A linear layer over features is ANIL. A module from samples to scores is MAML: `support` and
    `query` are then what it takes, (E, S, C, H, W) say. Bind the settings with `functools.partial` to evaluate it as any head; it is
    not registered, as heads in the registry work on every installation. Episodes run one after another.

    Paper: Finn, Abbeel, Levine, 2017, arXiv 1703.03400; Raghu, Raghu, Bengio, Vinyals, 2019, arXiv 1909.09157

    Args:
        support: (E, S, ...) support features or samples.
        labels: int64 (E, S), ways 0..W-1.
        query: (E, Q, ...) query features or samples.
        ways: W.
        network: what is adapted: a module (N, ...) -> (N, W), left as it is; `weight` (W, D) and `bias` (W,) of a linear layer; or
            None for a linear layer of zeros.
        inner_steps: steps of gradient descent on the mean cross-entropy of the support set; 0 scores with the start.
        inner_lr: their size.

    Returns:
        Logits (E, Q, W).

    Raises:
        ConfigError: learn2learn is not installed, or a setting out of range.
        DataError: a way without support, or a network with another number of ways.
    """
    not_negative("learn2learn_scores", inner_steps=inner_steps)
    positive("learn2learn_scores", inner_lr=inner_lr)
    one_hot(labels, ways, torch.empty(0))  # every way needs a support image
    module = network if isinstance(network, nn.Module) else _linear(network, support, ways)
    # the steps' gradients are taken for constants: only training differentiates through them
    start = _learn2learn().algorithms.MAML(module, lr=inner_lr, first_order=True)
    scores = []
    for episode in range(len(support)):
        with torch.enable_grad():
            learner = start.clone()
            for _ in range(inner_steps):
                learner.adapt(F.cross_entropy(learner(support[episode]), labels[episode]))
        with torch.no_grad():
            scores.append(learner(query[episode]))
    found = torch.stack(scores)
    if found.shape[-1] != ways:
        raise DataError(f"the network has {found.shape[-1]} ways, the episodes have {ways}: it belongs to one number of ways")
    return found


def _learn2learn() -> ModuleType:
    """The package. Raises ConfigError, with how to install it, where it is missing."""
    try:
        import learn2learn
    except ImportError as error:
        raise ConfigError(f"this needs learn2learn, which cannot be imported ({error}): install it {_INSTALL}") from error
    return learn2learn


def _episode(images: list[int], class_of: Mapping[int, int], shots: int) -> tuple[list[int], ...]:
    """One task's images, in its order, as the rows of `Episodes`."""
    by_class: dict[int, list[int]] = {}
    for image in images:
        by_class.setdefault(class_of[image], []).append(image)
    rows: tuple[list[int], ...] = ([], [], [], [], list(by_class))
    for way, members in enumerate(by_class.values()):
        if len(members) <= shots:
            raise DataError(
                f"a task has {len(members)} images of class {list(by_class)[way]}, {shots} of them are support: "
                "draw shots and queries together, with KShots(k=shots + queries)"
            )
        for part, chosen in ((0, members[:shots]), (2, members[shots:])):
            rows[part].extend(chosen)
            rows[part + 1].extend([way] * len(chosen))
    return rows


def _linear(weights: Mapping[str, Tensor] | None, like: Tensor, ways: int) -> nn.Linear:
    """A linear layer with these weights, or with zeros."""
    if weights is None:
        weights = {"weight": like.new_zeros(ways, like.shape[-1]), "bias": like.new_zeros(ways)}
    if {*weights} != {"weight", "bias"} or weights["weight"].shape[1:] != like.shape[-1:]:
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        raise DataError(f"expected weight (W, {like.shape[-1]}) and bias (W,) of a linear layer over these features, got {shapes}")
    layer = nn.utils.skip_init(nn.Linear, like.shape[-1], len(weights["weight"]), dtype=like.dtype, device=like.device)
    layer.load_state_dict({name: value.detach().to(like) for name, value in weights.items()})
    return layer
