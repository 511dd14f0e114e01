"""The bridge to learn2learn, an optional package: `make learn2learn` runs these in an environment that has it."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.base import ArraySource
from kinshot.fewshot.adaptation import Adaptation, maml_scores
from kinshot.fewshot.episodes import check_labels, sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy
from kinshot.fewshot.learn2learn_bridge import learn2learn_scores, meta_dataset, task_episodes

CLASSES, PER_CLASS, DIM, WAYS = 6, 8, 5, 3
WHY = "learn2learn is optional: `make learn2learn` makes an environment with it"


@pytest.fixture
def l2l() -> ModuleType:
    return pytest.importorskip("learn2learn", reason=WHY, exc_type=ImportError)


def source() -> ArraySource:
    """Image i is of colour i, and the classes are interleaved."""
    images = torch.arange(CLASSES * PER_CLASS, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return ArraySource(images, np.arange(CLASSES * PER_CLASS) % CLASSES, [f"c{i}" for i in range(CLASSES)], "small")


def tasks(l2l: ModuleType, *, count: int, images: int = 5, **fused: object):
    data = meta_dataset(source())
    steps = l2l.data.transforms
    pipeline = [steps.FusedNWaysKShots(data, n=WAYS, k=images, **fused), steps.LoadData(data), steps.RemapLabels(data)]
    return l2l.data.Taskset(data, pipeline, num_tasks=count)


def features(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = keyed_generator(0, "features")
    labels = torch.tensor([[0, 1, 2, 0, 1, 0], [2, 2, 1, 0, 1, 1]])
    shift = 2 * torch.eye(WAYS, DIM, dtype=dtype)
    support = torch.randn(2, 6, DIM, generator=generator, dtype=dtype) + shift[labels]
    return support, labels, torch.randn(2, 7, DIM, generator=generator, dtype=dtype)


def start() -> dict[str, Tensor]:
    generator = keyed_generator(0, "start")
    weight, bias = torch.randn(WAYS, DIM + 1, generator=generator, dtype=torch.float64).split([DIM, 1], dim=1)
    return {"weight": weight.clone(), "bias": bias[:, 0].clone()}


def test_without_learn2learn_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    for call in (lambda: meta_dataset(source()), lambda: learn2learn_scores(*features(), WAYS)):
        with pytest.raises(ConfigError, match=r"learn2learn==0\.2\.0.*build_ext"):
            call()


def test_a_task_needs_classes() -> None:
    with pytest.raises(DataError, match="no labels"):
        meta_dataset(ArraySource(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)))


def test_a_source_as_meta_dataset(l2l: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArraySource, "load", None)  # decoding a whole set to learn its labels would take hours
    data = meta_dataset(source())
    assert isinstance(data, l2l.data.MetaDataset)
    assert sorted(data.labels) == list(range(CLASSES))
    assert all(data.labels_to_indices[c] == list(range(c, CLASSES * PER_CLASS, CLASSES)) for c in range(CLASSES))


def test_episodes_are_the_tasks(l2l: ModuleType) -> None:
    taskset = tasks(l2l, count=4)
    episodes = task_episodes(taskset, shots=2)
    check_labels(episodes, source().labels)
    assert (len(episodes), episodes.ways, episodes.support.shape[1], episodes.query.shape[1]) == (4, WAYS, 6, 9)
    for number in range(4):
        samples, ways = taskset[number]
        images = torch.cat([episodes.support[number], episodes.query[number]])
        assert torch.equal((samples[:, 0, 0, 0] * 255).round().long().sort().values, images.sort().values)
        assert len(ways.unique()) == WAYS
    assert torch.equal(task_episodes(taskset, shots=2).query, episodes.query)
    assert len(task_episodes(taskset, shots=2, episodes=3)) == 3


def test_endless_tasks(l2l: ModuleType) -> None:
    taskset = tasks(l2l, count=-1)
    assert len(task_episodes(taskset, shots=1, episodes=5)) == 5
    with pytest.raises(ConfigError, match="how many episodes"):
        task_episodes(taskset, shots=1)


def test_tasks_that_are_no_episodes(l2l: ModuleType) -> None:
    with pytest.raises(ConfigError, match="the Taskset has 2 tasks"):
        task_episodes(tasks(l2l, count=2), shots=1, episodes=3)
    with pytest.raises(DataError, match=r"5 images of class .*k=shots \+ queries"):
        task_episodes(tasks(l2l, count=2), shots=5)
    with pytest.raises(DataError, match="uses an image twice"):
        task_episodes(tasks(l2l, count=3, images=20, replacement=True), shots=1)


def test_a_linear_layer_is_anil(l2l: ModuleType) -> None:
    support, labels, query = features()
    network, how = start(), {"inner_steps": 4, "inner_lr": 0.3}
    ours = build_head("anil", how, network=network)(support, labels, query, WAYS)
    theirs = learn2learn_scores(support, labels, query, WAYS, network=network, **how)
    torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network, start(), rtol=0, atol=0)
    moved = (theirs - query @ network["weight"].mT - network["bias"]).abs().max()
    assert moved > 0.1


def test_a_module_is_maml(l2l: ModuleType) -> None:
    support, labels, query = features()
    generator = keyed_generator(0, "body")
    body, head = nn.Linear(DIM, 4).double(), nn.Linear(4, WAYS).double()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    before = [p.clone() for p in body.parameters()]
    theirs = learn2learn_scores(support, labels, query, WAYS, network=nn.Sequential(body, nn.Tanh(), head), inner_steps=3, inner_lr=0.2)
    encoder = nn.Sequential(body, nn.Tanh())
    ours = maml_scores(encoder, dict(head.named_parameters()), support, labels, query, WAYS, Adaptation(3, 0.2))
    torch.testing.assert_close(theirs, ours.detach(), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(before, body.parameters(), strict=True))


def test_our_gradient_through_the_steps_is_learn2learns(l2l: ModuleType) -> None:
    """The outer gradient of one task, second order, in body and head."""
    support, labels, query = features()
    target = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    encoder, head = nn.Sequential(nn.Linear(DIM, 4), nn.Tanh()).double(), nn.Linear(4, WAYS).double()
    found = []
    for side in ("ours", "theirs"):
        encoder.zero_grad()
        head.zero_grad()
        if side == "ours":
            scores = maml_scores(encoder, dict(head.named_parameters()), support[:1], labels[:1], query[:1], WAYS, Adaptation(3, 0.2))[0]
        else:
            learner = l2l.algorithms.MAML(nn.Sequential(encoder, head), lr=0.2).clone()
            for _ in range(3):
                learner.adapt(nn.functional.cross_entropy(learner(support[0]), labels[0]))
            scores = learner(query[0])
        nn.functional.cross_entropy(scores, target).backward()
        found.append([p.grad.clone() for p in [*encoder.parameters(), *head.parameters()]])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


def test_it_is_evaluated_as_a_head(l2l: ModuleType) -> None:
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    rows = 3 * torch.eye(CLASSES)[torch.from_numpy(labels)] + 0.1 * torch.randn(len(labels), CLASSES, generator=keyed_generator(0, "rows"))
    episodes = sample_episodes(labels, ways=WAYS, shots=2, queries=3, episodes=4, seed=0)
    accuracy = episode_accuracy(rows, episodes, partial(learn2learn_scores, inner_steps=10, inner_lr=0.5), WAYS)
    assert accuracy.tolist() == [1.0] * 4


def test_what_a_head_refuses(l2l: ModuleType) -> None:
    support, labels, query = features()
    with pytest.raises(DataError, match="has no support image"):
        learn2learn_scores(support, labels.clamp_max(1), query, WAYS)
    with pytest.raises(DataError, match="expected weight"):
        learn2learn_scores(support, labels, query, WAYS, network={"weight": torch.zeros(WAYS, DIM + 1), "bias": torch.zeros(WAYS)})
    with pytest.raises(DataError, match="has 4 ways"):
        learn2learn_scores(support, labels, query, WAYS, network=nn.Linear(DIM, 4).double())
    with pytest.raises(ConfigError, match="inner_lr must be positive"):
        learn2learn_scores(support, labels, query, WAYS, inner_lr=0)
