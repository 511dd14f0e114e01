"""Evaluation on features, the statistics of its result, and the text form of heads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.statistics.means import crossed
from kinshot.fewshot import HEADS
from kinshot.fewshot.episodes import sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy, make_row
from kinshot.fewshot.specs import parse_head, parse_heads, split_heads


@pytest.fixture
def setting():
    generator = torch.Generator().manual_seed(0)
    labels = np.repeat(np.arange(6), 10)
    centres = torch.randn(6, 4, generator=generator)
    features = centres[torch.from_numpy(labels)] + torch.randn(60, 4, generator=generator)
    return features, labels, sample_episodes(labels, ways=3, shots=2, queries=4, episodes=25, seed=0)


def test_accuracy_equals_a_naive_loop(setting):
    features, labels, episodes = setting
    expected = []
    for e in range(len(episodes)):
        means = []
        for c in episodes.classes[e].tolist():
            rows = [features[i].double().numpy() for i in episodes.support[e].tolist() if labels[i] == c]
            means.append(np.mean([r / np.linalg.norm(r) for r in rows], axis=0))
        hits = 0
        for i in episodes.query[e].tolist():
            q = features[i].double().numpy()
            best = int(np.argmax([q @ m / np.linalg.norm(m) for m in means]))
            hits += episodes.classes[e].tolist()[best] == labels[i]
        expected.append(hits / episodes.query.shape[1])
    got = episode_accuracy(features, episodes, build_head("prototype"), 3)
    assert got.dtype == np.float64
    assert np.array_equal(got, expected)
    assert 1 / 3 < got.mean() < 1  # neither chance nor trivial, so that the comparison means something


def test_chunks_do_not_matter(setting):
    features, _, episodes = setting
    whole = episode_accuracy(features, episodes, build_head("nearest"), 3)
    for batch in (1, 7, 1000):
        assert np.array_equal(whole, episode_accuracy(features, episodes, build_head("nearest"), 3, batch=batch))


def test_threads_are_given_back_also_after_an_error(setting):
    features, _, episodes = setting
    before, seen = torch.get_num_threads(), []

    def head(support, labels, query, ways):
        seen.append(torch.get_num_threads())
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        episode_accuracy(features, episodes, head, 3, threads=before + 1)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_what_does_not_fit_is_refused(setting):
    features, _, episodes = setting
    head = build_head("prototype")
    broken = features.clone()
    broken[17, 2] = torch.nan
    for bad, message in ((features[:30], "rows 0..29"), (features.long(), "float"), (features[0], r"\(4,\)"), (broken, "image 17")):
        with pytest.raises(DataError, match=message):
            episode_accuracy(bad, episodes, head, 3)
    with pytest.raises(ConfigError, match="3-way"):
        episode_accuracy(features, episodes, head, 5)
    for name in ("batch", "threads"):
        with pytest.raises(ConfigError, match=name):
            episode_accuracy(features, episodes, head, 3, **{name: 0})
    with pytest.raises(DataError, match="NaN scores"):
        episode_accuracy(features, episodes, lambda s, y, q, ways: torch.full((*q.shape[:2], ways), torch.nan), 3)


def test_build_head_binds_settings_and_base_mean(setting):
    features, _, episodes = setting
    mean = features.mean(0)
    support, query = features[episodes.support], features[episodes.query]
    got = build_head("prototype", {"transform": "cl2n", "distance": "squared"}, base_mean=mean)(support, episodes.support_labels, query, 3)
    direct = HEADS.get("prototype")(support, episodes.support_labels, query, 3, transform="cl2n", distance="squared", base_mean=mean)
    assert torch.equal(got, direct)
    with pytest.raises(ConfigError, match="neighbors"):
        build_head("nearest", {"neighbours": 3})


def test_row_is_json_ready():
    accuracy = np.array([0.5, 0.75, 1.0])
    name, settings = parse_head("nearest:neighbors=2")
    row = make_row(accuracy, features="pixels", head="nearest:neighbors=2", ways=5, shots=1, queries=4, seed=3, settings=settings)
    data = json.loads(json.dumps(row.as_dict(), allow_nan=False))
    assert name == "nearest"
    assert data["mean"] == 0.75
    assert data["episodes"] == 3
    assert data["settings"]["neighbors"] == 2
    assert "Student t" in data["rule"]
    assert data["ci95"] == pytest.approx(crossed(accuracy).half_width)


def test_parse_head_completes_and_converts():
    name, settings = parse_head(" prototype : distance=euclidean:transform=cl2n ")
    assert (name, settings) == ("prototype", {"distance": "euclidean", "transform": "cl2n"})
    assert parse_head("logistic:C=1e-1")[1]["C"] == 0.1
    assert parse_head("nearest")[1] == {"neighbors": 1, "distance": "cosine", "transform": "l2n"}


def test_parse_heads_splits_at_commas_outside_brackets():
    assert [name for name, _ in parse_heads("prototype, imprint:scale=2,nearest")] == ["prototype", "imprint", "nearest"]
    assert split_heads("a:x=[1, 2],b") == ["a:x=[1, 2]", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prototpye", "did you mean 'prototype'"),
        ("prototype:distanse=cosine", "did you mean 'distance'"),
        ("prototype:distance=cosin", "did you mean 'cosine'"),
        ("nearest:neighbors=two", "expected int, got 'two'"),
        ("nearest:neighbors", "not setting=value"),
        ("nearest:neighbors=1:neighbors=2", "given twice"),
        ("nearest:neighbors=[1", "not valid YAML"),
        ("prototype,,nearest", "missing"),
        ("", "missing"),
        ("prototype:", "missing"),
    ],
)
def test_bad_head_texts(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_heads(text)


def test_head_texts_are_checked_without_torch():
    code = "import sys, kinshot.fewshot.specs as s; s.parse_heads('prototype,logistic:C=2'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[1], check=False).returncode == 0
