"""The few-shot accuracy of networks held in memory: that of the composition, of timm's models, of kinshot's, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.datasets import ImageFolder

import kinshot
from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import ArraySource
from tests.loops_data import Pictures, tiny_source, write_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled_photos, five classes of twenty real images."""
    return write_photos(tmp_path_factory.mktemp("loops"))


def by_hand(features: torch.Tensor, episodes: kinshot.Episodes) -> list[float]:
    """Nearest class mean by cosine, an episode at a time."""
    found = []
    z = nn.functional.normalize(features.double(), dim=1)
    for support, labels, query, truth in zip(episodes.support, episodes.support_labels, episodes.query, episodes.query_labels, strict=True):
        means = nn.functional.normalize(torch.stack([z[support[labels == way]].mean(0) for way in range(episodes.ways)]), dim=1)
        found.append(float(((z[query] @ means.T).argmax(1) == truth).double().mean()))
    return found


def test_accuracy_is_that_of_the_composition() -> None:
    digits = kinshot.sources.digits(split="test", size=8)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(64)).train()
    found = kinshot.few_shot_accuracy(model, digits, ways=5, shots=2, queries=4, episodes=50, seed=3)
    assert model[1].training
    assert model[2].running_mean.abs().sum() == 0  # it was embedded in evaluation mode
    with torch.no_grad():
        features = model.eval()(digits.load(range(len(digits))).float() / 255)
    episodes = kinshot.sample_episodes(digits.labels, ways=5, shots=2, queries=4, episodes=50, seed=3)
    assert found.episodes.hash() == episodes.hash()
    accuracy = kinshot.episode_accuracy(features, episodes, kinshot.build_head("prototype"), ways=5)
    assert np.array_equal(found.per_episode, accuracy)
    assert found.mean == pytest.approx(accuracy.mean())
    from scipy.stats import t

    assert found.ci95 == pytest.approx(t.ppf(0.975, 49) * accuracy.std(ddof=1) / 50**0.5)
    slow = by_hand(features, episodes)
    assert abs(np.mean(slow) - found.mean) < 0.2
    assert re.fullmatch(r"5-way 2-shot: \d\d\.\d\d ± \d\.\d\d % \(mean and 95 % interval, 50 episodes\)", str(found))


@pytest.mark.parametrize("classifier", [{}, {"num_classes": 0}, {"num_classes": 7}])
def test_a_model_of_timm_is_measured_before_its_classifier_on_its_own_images(classifier: dict[str, int], place: Path) -> None:
    timm = pytest.importorskip("timm")
    with kinshot.keyed_initialisation(0, "timm"):
        model = timm.create_model("test_efficientnet", **classifier)
    data = ImageFolder(str(place / "labelled_photos"))
    how = {"ways": 5, "shots": 1, "queries": 3, "episodes": 20}
    found = kinshot.few_shot_accuracy(model, data, **how)
    config = timm.data.resolve_model_data_config(model)
    theirs = ImageFolder(str(place / "labelled_photos"), timm.data.create_transform(**config))
    bare = model.eval()
    bare.reset_classifier(0)
    again = kinshot.few_shot_accuracy(bare, theirs, **how, workers=1)
    assert np.array_equal(found.per_episode, again.per_episode)
    seen: list[torch.Tensor] = []
    hook = bare.conv_stem.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    kinshot.few_shot_accuracy(bare, kinshot.sources.folder(root=str(place / "labelled_photos"), size=80), **how)
    hook.remove()
    assert seen[0].shape[1:] == config["input_size"]
    assert 0.1 < seen[0].std() < 3


def test_models_of_kinshot_and_functions_are_measured_too(place: Path) -> None:
    from kinshot.encoders.projector import mlp_projector
    from kinshot.learn.model import Model

    digits = kinshot.sources.digits(split="test")
    spec = digits.inputs()["image"]
    encoder = kinshot.build_encoder("conv4", {"width": 8}, spec)
    model = Model(encoder, mlp_projector(encoder.dim, 16, 8, 2, last_norm=False)).eval()
    how = {"ways": 5, "shots": 1, "queries": 3, "episodes": 20}
    backbone, projector = (kinshot.few_shot_accuracy(model, digits, feature=name, **how) for name in ("backbone", "projector"))
    assert not np.array_equal(backbone.per_episode, projector.per_episode)
    assert np.array_equal(kinshot.few_shot_accuracy(encoder, digits, **how).per_episode, backbone.per_episode)
    by_function = kinshot.few_shot_accuracy(lambda x: model.embed(x)["projector"], digits, prepare=lambda x: x, **how)
    assert np.array_equal(by_function.per_episode, projector.per_episode)
    with pytest.raises(ConfigError, match="no 'projektor': did you mean 'projector'"):
        kinshot.few_shot_accuracy(model, digits, feature="projektor", **how)


def test_sensors_are_measured_by_a_model_of_bundles() -> None:
    from kinshot.learn.model import Model

    motion = kinshot.sources.motion(split="test", subjects=4)
    from kinshot.datasets.bundle import Bundle
    from kinshot.samples.spec import input_of

    spec = input_of(Bundle(motion))
    model = Model(kinshot.build_encoder("fused", {"each": "series_cnn:width=0.25"}, spec)).eval()
    found = kinshot.few_shot_accuracy(model, motion, ways=2, shots=1, queries=3, episodes=20)
    bundled = kinshot.few_shot_accuracy(model, Bundle(motion), ways=2, shots=1, queries=3, episodes=20)
    assert np.array_equal(found.per_episode, bundled.per_episode)
    assert found.mean > 0.5


@pytest.mark.parametrize(
    ("model", "data", "more", "words"),
    [
        (nn.Identity(), tiny_source(), {}, r"the model gives \(30, 1, 4, 4\): expected features"),
        (nn.Flatten(), ArraySource(torch.zeros(9, 1, 4, 4, dtype=torch.uint8)), {}, "one whole number as the class of each of 9 samples"),
        (nn.Flatten(), tiny_source(), {"queries": 15}, "class 0 has 10 images, an episode needs 16"),
        (nn.Flatten(), Pictures(), {}, "gives pictures, which no network takes"),
        (nn.Flatten(), tiny_source(), {"labels": [1, 2]}, "one whole number as the class of each of 30"),
    ],
)
def test_what_has_no_accuracy_is_refused(model: nn.Module, data: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        kinshot.few_shot_accuracy(model, data, **{"ways": 2, "queries": 3, "episodes": 5, **more})
