"""Sub-classes inside classes: what is found in clouds that lie apart, their names, the kin that renews them, and the command."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from kinshot.cli import ssl
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.kin import Known
from kinshot.kin.kins.subclasses import SubclassesKin
from kinshot.kin.subclasses import agreement, divided, renamed
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.batch import Batch, Shown
from tests.labelled_rows import QUIET, trained_twice, write_rows

CONTEXT = RunContext(num_samples=48, batch_size=12, steps_per_epoch=4, total_steps=40, seed=0)
COARSE = ["data.label=coarse", "data.attributes=[y]", "order.per_class=4"]


def clouds(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes of 16 in clouds that lie apart: embeddings, classes, and clouds, of which class 1 has two and class 2 three."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], 16)
    cloud = np.concatenate([np.zeros(16), np.arange(16) % 2, np.arange(16) % 3]).astype(np.int64)
    z = np.stack([np.eye(8)[2 * c + k if c < 2 else 4 + k] for c, k in zip(y, cloud, strict=True)])
    return z + 0.05 * rng.normal(size=z.shape), y, cloud


@pytest.mark.parametrize("fit", ["kmeans", "em"])
def test_clouds_that_lie_apart_are_found(fit) -> None:
    z, y, cloud = clouds()
    for count in (2, 3):
        found = divided(z, y, count, fit=fit, seed=1)
        own = y == count - 1
        assert adjusted_rand_score(cloud[own], found[own]) == 1
        assert set(found.tolist()) == set(range(count))
        assert np.array_equal(found, divided(z, y, count, fit=fit, seed=1))


def test_how_many_sub_classes_a_class_may_have() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(14, 3)), np.array([0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, -1, -1])
    z[6:12] = z[6]  # class 2 is one sample, six times
    found = divided(z, y, 4)
    assert [len(set(found[y == c].tolist())) for c in (0, 1, 2)] == [2, 1, 1]
    assert found[y < 0].tolist() == [-1, -1]
    assert divided(z, y, 1).tolist() == [0] * 12 + [-1, -1]


def test_names_stay_with_most_samples() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        now, before = rng.integers(0, 3, 15), rng.integers(-1, 4, 15)
        found = renamed(now, before, 4)
        kept = int((found == before).sum())
        best = max(int((np.array(names)[now] == before).sum()) for names in itertools.permutations(range(4)))
        assert kept == best
        assert adjusted_rand_score(now, found) == 1


def test_agreement_looks_at_all_and_inside_classes() -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, -1, 0])
    truth = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, -1])
    parts = np.array([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, -1, 1])
    found = agreement(y, parts, truth)
    groups = 10 * y[:10] + parts[:10]
    assert found["ari"] == pytest.approx(adjusted_rand_score(truth[:10], groups))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(truth[:10], groups))
    # class 0 is divided as it should be, class 1 across, and class 2 has nothing to divide
    assert found["ari_within"] == pytest.approx((1 + adjusted_rand_score([2, 2, 3, 3], [0, 1, 0, 1])) / 2)
    assert {name: found[name] for name in ("samples", "classes", "divided", "subclasses", "truth")} == {
        "samples": 10, "classes": 3, "divided": 2, "subclasses": 5, "truth": 5
    }  # fmt: skip
    assert np.isnan(agreement(y[8:10], parts[8:10], truth[8:10])["ari_within"])


def test_the_kin_divides_when_it_is_time_and_keeps_its_names() -> None:
    z, y, cloud = clouds()
    y[5] = -1
    kin = SubclassesKin(Known(CONTEXT, y), count=3, first=2, every=3)
    assert [epoch for epoch in range(10) if kin.renews(epoch)] == [2, 5, 8]
    assert kin.classes == 9
    assert kin.labels.tolist() == np.where(y < 0, -1, 3 * y).tolist()
    kin.renew(2, torch.from_numpy(z).float())
    first = kin.labels.clone()
    assert np.array_equal(np.where(first.numpy() < 0, -1, first.numpy() // 3), y)
    assert adjusted_rand_score(cloud[y == 2], first.numpy()[y == 2]) == 1
    kin.renew(5, 2.0 * torch.from_numpy(clouds(3)[0]).float())  # the same clouds by other draws: all stay where they are
    assert torch.equal(kin.labels[y == 2], first[y == 2])
    samples = torch.tensor([0, 16, 32, 33, 35, 5])
    batch = Batch(samples, [torch.ones(6, 8)])
    pairs = kin.pairs(torch.ones(6, 8), None, Shown(samples, (0,), (batch.views[0],)), batch, 0)
    assert pairs.y.tolist() == kin.labels[samples].tolist()
    related = pairs.relation.dense()[0]
    assert bool(related[2, 4]) is True  # samples of one cloud
    assert bool(related[2, 3]) is False  # of one class, and of two clouds
    assert not related[5].any()


def test_what_does_not_fit_is_refused() -> None:
    z, y, _ = clouds()
    with pytest.raises(ConfigError, match="count: expected at least 1"):
        divided(z, y, 0)
    with pytest.raises(ConfigError, match="fit: expected one of kmeans, em"):
        divided(z, y, 2, fit="mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="divided: expected embeddings"):
        divided(z, y[:3], 2)
    for settings in ({"count": 0}, {"every": 0}, {"first": -1}):
        with pytest.raises(ConfigError, match="expected"):
            SubclassesKin(Known(CONTEXT, y), **settings)  # type: ignore[arg-type]


# -- runs


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows(tmp_path_factory.mktemp("rows"))


def term(objective: str, **settings: object) -> str:
    kin = {"name": "subclasses", "count": 2, **settings}
    return f"terms=[{{objective: {objective}, on: projector, kin: {json.dumps(kin)}}}]"


@pytest.mark.parametrize("point", [1, 2, 3])
@pytest.mark.parametrize(("objective", "more"), [("multi_similarity", []), ("proxy_anchor", ["restarts.every=1"])])
def test_a_run_goes_on_bit_for_bit(objective: str, more: list[str], point: int, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, tmp_path, *COARSE, term(objective), "train.epochs=3", *more, point=point)
    found = load_checkpoint(tmp_path / "whole").tensors["training"]["terms/0.kin.assigned"]
    assert len(found.unique()) == 6
    if objective == "proxy_anchor":
        assert len(load_checkpoint(tmp_path / "whole").tensors["training"]["terms/0.objective.rows.weight"]) == 6


def test_the_command_reads_what_training_found_and_compares_it(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_recipe(recipe, [*QUIET, *COARSE, term("multi_similarity"), "train.epochs=2"])
    train_recipe(loaded, Options(tmp_path / "run", quiet=True), lambda text: None)
    given = [str(tmp_path / "run"), "--truth", "y", "--fit", "em"]
    assert ssl.main(["subclasses", *given, "--out", str(tmp_path / "parts.csv"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["way"] for row in rows] == ["found in training", "divided now"]
    with (tmp_path / "parts.csv").open() as file:
        table = list(csv.DictReader(file))
    fine, assigned = [row["y"] for row in table], load_checkpoint(tmp_path / "run").tensors["training"]["terms/0.kin.assigned"].tolist()
    assert [(int(row["class"]), int(row["found_in_training"])) for row in table] == [(one // 2, one % 2) for one in assigned]
    assert rows[0]["ari"] == pytest.approx(adjusted_rand_score(fine, assigned))
    assert rows[1]["ari"] == pytest.approx(adjusted_rand_score(fine, [row["class"] + row["divided_now"] for row in table]))
    assert ssl.main(["subclasses", *given, "--classes", "fine"]) == 2
    assert "no attribute 'fine'" in capsys.readouterr().err
    assert ssl.main(["subclasses", *given]) == 0
    assert "ari_within" in capsys.readouterr().out
