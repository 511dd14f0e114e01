"""Files of fitted estimators: what is saved is loaded, in later versions too, and other files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import kinshot.sklearn
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from tests.enrolled_tools import small_encoder
from tests.sealed_files import edited

FIXTURES = Path(__file__).parent / "fixtures"
X, Y = np.random.default_rng(0).normal(size=(24, 6)) + np.repeat(np.eye(6)[:3] * 4, 8, 0), np.repeat(["jar", "lid", "mug"], 8)


@pytest.mark.parametrize("labels", [Y, np.unique(Y, return_inverse=True)[1] - 1, Y == "jar", np.where(Y == "jar", 1.0, 2.0)])
def test_what_is_saved_is_loaded(labels: np.ndarray, tmp_path: Path) -> None:
    base = (np.abs(X), np.arange(24) % 2)
    models = [kinshot.sklearn.LogisticClassifier(C=3.0), kinshot.sklearn.DistributionCalibrationClassifier(base=base, samples=5)]
    for model in models:
        model.fit(np.abs(X).astype(np.float32), labels).save(tmp_path / "a.few")
        again = kinshot.sklearn.load(tmp_path / "a.few")
        assert type(again) is type(model)
        assert again.classes_.dtype == model.classes_.dtype
        assert np.array_equal(again.decision_function(np.abs(X)), model.decision_function(np.abs(X)))
        again.partial_fit(np.abs(X), labels)
    assert again.get_params()["samples"] == 5
    with pytest.raises(NotFittedError):
        clone(models[0]).save(tmp_path / "b.few")
    with pytest.raises(ConfigError, match="step 'pca' of the pipeline is PCA"):
        kinshot.sklearn.save(make_pipeline(PCA(), models[0]), tmp_path / "b.few")
    with pytest.raises(ConfigError, match="has no name"):
        kinshot.sklearn.EncoderTransformer(small_encoder()[0]).save(tmp_path / "b.few")
    with pytest.raises(DataError, match="create the folder first"):
        models[0].save(tmp_path / "no" / "b.few")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.few"]


def test_version_1_is_loaded() -> None:
    """Written by the first version: examples of three classes, centred on a base, by a head with a setting of its own."""
    model = kinshot.sklearn.load(FIXTURES / "sklearn_v1.few")
    assert repr(model).startswith("PrototypeClassifier(base=")
    assert model.get_params()["distance"] == "squared"
    assert model.classes_.tolist() == ["jar", "lid", "mug"]
    assert model.predict(np.eye(4)[:3]).tolist() == ["jar", "lid", "mug"]
    assert model.partial_fit([[0, 0, 0, 5.0]], ["pan"]).predict([[0, 0, 0, 1.0]]) == ["pan"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "cannot read"),
        (lambda path: path.write_bytes(b""), "no safetensors file"),
        (lambda path: path.write_bytes(b"\x80\x04K\x01."), "no safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "not a valid safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"), "damaged: its checksum"),
        (lambda path: save_file({"weight": torch.ones(2)}, path), "something else"),
        (lambda path: save_file({"weight": torch.ones(2)}, path, {"kinshot": "[1]"}), "something else"),
        (lambda path: save_file({"weight": torch.ones(2)}, path, {"kinshot": "{"}), "not valid JSON"),
        (lambda path: edited(path, [0, 3, "C"], 2.0, seal=False), "damaged"),
        (lambda path: edited(path, [0, 1], "os.system"), "KeyError: 'os.system'"),
        (lambda path: edited(path, [0, 2], "os.system"), "unknown head"),
        (lambda path: edited(path, [0, 3], {"C": "rm"}), "expected float"),
        (lambda path: edited(path, [0, 3], {"colour": 1}), "KeyError"),
        (lambda path: edited(path, [0], [1, 2]), "step 0 does not describe"),
        (lambda path: edited(path, [0, 4, "classes"], ["jar", "lid", "lid"]), "twice"),
        (lambda path: edited(path, [0, 4, "classes"], ["jar", "lid"]), "no places in its classes"),
        (lambda path: edited(path, [0, 4, "labels"], "|O"), "no labels of the type"),
        (lambda path: edited(path, [0, 4, "labels"], "<U1"), "no labels of the type"),
        (lambda path: edited(path, [0, 4, "columns"], ["a"]), "1 names of columns"),
        (lambda path: edited(path, [], 0, **{"0.support": torch.full((24, 6), torch.nan)}), "its examples are"),
        (lambda path: edited(path, [], 0, **{"0.support": torch.ones(2, 6)}), "its examples are"),
        (lambda path: edited(path, [], 0, **{"0.labels": torch.full((24,), -1)}), "no places in its classes"),
        (lambda path: edited(path, [], 0, **{"0.labels": torch.zeros(24)}), "no places in its classes"),
        (lambda path: edited(path, [], 0, **{"0.base_features": torch.ones(2, 5)}), "base"),
    ],
)
def test_other_files_are_refused(change: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.few"
    kinshot.sklearn.LogisticClassifier().fit(X, Y).save(path)
    change(path)
    with pytest.raises(CheckpointError, match=words) as caught:
        kinshot.sklearn.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3
