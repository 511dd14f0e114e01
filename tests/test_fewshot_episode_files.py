"""Episodes as content: their hash, their files, copies of images among them, and whether they fit the data."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import ArraySource, FileSource
from kinshot.fewshot.dirichlet import dirichlet_episodes
from kinshot.fewshot.duplicates import check_duplicates, duplicate_queries
from kinshot.fewshot.episode_files import read_episodes, read_groups, write_episodes
from kinshot.fewshot.episodes import Episodes, check_labels, sample_episodes
from kinshot.fewshot.groups import EpisodeGroups
from kinshot.fewshot.protocols import variable_episodes

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 12))
PARTS = ("support", "support_labels", "query", "query_labels", "classes")
suffixes = pytest.mark.parametrize("suffix", [".npz", ".json"])


@pytest.fixture
def drawn() -> Episodes:
    return sample_episodes(LABELS, ways=3, shots=2, queries=3, episodes=7, seed=0)


def _equal(a: Episodes, b: Episodes) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in PARTS)


def test_hash_is_that_of_the_content(drawn):
    again = sample_episodes(LABELS, ways=3, shots=2, queries=3, episodes=7, seed=0)
    assert drawn.hash() == again.hash()
    assert len(drawn.hash()) == 64
    others = [sample_episodes(LABELS, ways=3, shots=2, queries=3, episodes=n, seed=s) for n, s in ((6, 0), (7, 1))]
    turned = dataclasses.replace(drawn, query=drawn.query.flip(1), query_labels=drawn.query_labels.flip(1))
    assert len({e.hash() for e in (drawn, *others, turned)}) == 4


def test_hash_does_not_change_between_versions():
    way = torch.tensor([[0, 1]])
    fixed = Episodes(torch.tensor([[3, 1]]), way, torch.tensor([[2, 0]]), way, torch.tensor([[5, 9]]))
    assert fixed.hash() == "c8da731c3d710fac54485d79aa6e20f16f462bc0600812553fc9edb6e25c07f1"


@suffixes
def test_files_give_back_what_was_written(drawn, tmp_path, suffix):
    uneven = dirichlet_episodes(LABELS, ways=3, shots=2, total=5, episodes=4, seed=0)
    for episodes in (drawn, uneven):
        path = tmp_path / f"list{suffix}"
        write_episodes(path, episodes, fingerprint="abc")
        found = read_episodes(path, labels=LABELS, fingerprint="abc")
        assert _equal(found, episodes)
        assert found.hash() == episodes.hash()
    first = path.read_bytes()
    write_episodes(path, uneven, fingerprint="abc")
    assert path.read_bytes() == first


@suffixes
def test_files_of_several_shapes(tmp_path, suffix):
    path = tmp_path / f"list{suffix}"
    groups = variable_episodes(LABELS, ways=(2, 4), shots=(1, 2), queries=2, episodes=9, seed=0)
    write_episodes(path, groups)
    found = read_groups(path, labels=LABELS)
    assert found.hash() == groups.hash()
    assert all(map(_equal, found.groups, groups.groups))
    with pytest.raises(DataError, match=rf"holds episodes of {len(groups.groups)} shapes: read it with read_groups"):
        read_episodes(path)


def test_a_list_made_by_hand(tmp_path):
    path = tmp_path / "hand.json"
    content = {"format": "kinshot episodes 1", "groups": 1, "numbers_0": [0], "classes_0": [[0, 1]]}
    for part, first in (("support", 0), ("query", 1)):
        content[f"{part}_0"] = [[int(np.flatnonzero(np.equal(LABELS, c))[first]) for c in (0, 1)]]
        content[f"{part}_labels_0"] = [[0, 1]]
    path.write_text(json.dumps(content))
    assert read_episodes(path, labels=LABELS).ways == 2


@suffixes
def test_episodes_of_other_data_are_refused(drawn, tmp_path, suffix):
    path = tmp_path / f"list{suffix}"
    write_episodes(path, drawn, fingerprint="f" * 64)
    with pytest.raises(DataError, match="was made for data with fingerprint ffffffffffff, this data has aaaaaaaaaaaa"):
        read_episodes(path, fingerprint="a" * 64)
    high = int(torch.cat([drawn.support, drawn.query], 1).max())
    with pytest.raises(DataError, match=rf"list.*episode \d+ has the (support|query) image {high}, the data has images 0\.\.{high - 1}"):
        read_episodes(path, labels=LABELS[:high])
    other = LABELS.copy()
    image = int(drawn.query[4, 5])
    other[image] = 77
    e = int((torch.cat([drawn.support, drawn.query], 1) == image).any(1).nonzero()[0])
    with pytest.raises(DataError, match=rf"episode {e} takes the (support|query) image {image} for class {LABELS[image]}, .* class 77"):
        read_episodes(path, labels=other)


def test_labels_that_do_not_fit_name_the_episode(drawn):
    check_labels(drawn, LABELS)
    wrong = dataclasses.replace(drawn, classes=torch.cat([drawn.classes[:3], drawn.classes[3:].flip(1)]))
    with pytest.raises(DataError, match="episode 3 takes the support image"):
        check_labels(wrong, LABELS)


@suffixes
def test_files_that_were_changed_are_refused(drawn, tmp_path, suffix):
    path = tmp_path / f"list{suffix}"
    write_episodes(path, drawn)
    if suffix == ".json":
        content = json.loads(path.read_text())
        content["query_0"][0][0], content["query_0"][0][1] = content["query_0"][0][1], content["query_0"][0][0]
        path.write_text(json.dumps(content))
    else:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = dict(loaded)
        arrays["query_0"] = arrays["query_0"][:, ::-1]
        np.savez(path, **arrays)
    with pytest.raises(DataError, match="does not match its SHA-256"):
        read_episodes(path)


def test_files_of_another_kind_are_refused(drawn, tmp_path):
    cases = {
        "text.json": b"no json",
        "list.json": b"[1, 2]",
        "other.json": b'{"format": "other"}',
        "text.npz": b"no archive",
        "empty.npz": b"",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read_episodes(tmp_path / name)
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    np.savez(tmp_path / "objects.npz", head=np.array([{}], dtype=object))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("foreign.npz", "objects.npz", "array.npz"):
        with pytest.raises(DataError, match=name):
            read_episodes(tmp_path / name)
    write_episodes(tmp_path / "whole.npz", drawn)
    whole = (tmp_path / "whole.npz").read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"cut\.npz"):
            read_episodes(tmp_path / "cut.npz")
    for position in range(40, len(whole), 97):
        (tmp_path / "bit.npz").write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        with suppress(DataError):  # or a bit that no one reads
            assert read_episodes(tmp_path / "bit.npz").hash() == drawn.hash()
    with pytest.raises(DataError, match="there is no file"):
        read_episodes(tmp_path / "missing.npz")
    for function in (lambda p: write_episodes(p, drawn), read_episodes):
        with pytest.raises(ConfigError, match=r"\.npz or \.json files, got 'list\.pkl'"):
            function(tmp_path / "list.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support_0": None}, "support_0 is missing"),
        ({"support_0": [[0, 1], [2]]}, "support_0 is no table"),
        ({"support_0": [[0.5, 1.0]]}, "support_0 must be a table of whole numbers, got float64"),
        ({"numbers_0": [[0]]}, "numbers_0 must be a table"),
        ({"numbers_0": [1]}, r"must be 0\.\.0, each once"),
        ({"groups": 0}, "at least one group"),
        ({"support_0": [[5, 1]], "query_0": [[5, 3]]}, "episode 0 uses an image twice"),
        ({"query_0": [[]], "query_labels_0": [[]]}, "query_0 must be a table of whole numbers|0 query images"),
        ({"support_labels_0": [[0, 0]]}, "episode 0 has no support image of way 1"),
        ({"query_labels_0": [[0, 2]]}, r"episode 0 has ways 0\.\.2, its 2 classes are 0\.\.1"),
    ],
)
def test_lists_that_make_no_sense_are_refused(tmp_path, change, message):
    content = {"format": "kinshot episodes 1", "groups": 1, "numbers_0": [0], "classes_0": [[0, 1]]}
    content |= {"support_0": [[0, 1]], "support_labels_0": [[0, 1]], "query_0": [[2, 3]], "query_labels_0": [[0, 1]]} | change
    path = tmp_path / "list.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(DataError, match=message) as found:
        read_episodes(path)
    assert str(path) in str(found.value)


def test_episodes_without_queries_or_of_other_types_are_refused(drawn):
    with pytest.raises(DataError, match="7 episodes with 6 support and 0 query images of 3 classes"):
        dataclasses.replace(drawn, query=drawn.query[:, :0], query_labels=drawn.query_labels[:, :0])
    with pytest.raises(DataError, match="expected int64 matrices"):
        dataclasses.replace(drawn, support=drawn.support.int())
    with pytest.raises(DataError, match="expected int64 matrices"):
        dataclasses.replace(drawn, classes=drawn.classes[:, 0])
    with pytest.raises(DataError, match="give at least one group"):
        EpisodeGroups((drawn,), ())


# ------------------------------------------------------------------------------------------------------------ copies of images


def test_copies_among_the_queries_are_found(drawn):
    names = np.array([f"image {i}" for i in range(len(LABELS))])
    assert not duplicate_queries(drawn, names).any()
    check_duplicates(drawn, names)
    s, q = int(drawn.support[2, 1]), int(drawn.query[2, 4])
    names[q] = names[s]
    slowly = np.array([[any(names[i] == names[j] for j in drawn.support[e]) for i in drawn.query[e]] for e in range(len(drawn))])
    assert slowly[2, 4]
    assert np.array_equal(duplicate_queries(drawn, names), slowly)
    with pytest.raises(DataError, match=rf"{slowly.sum()} queries in {slowly.any(1).sum()} of 7 episodes are copies of a support image"):
        check_duplicates(drawn, names)
    with pytest.raises(DataError, match="one hash for each image"):
        duplicate_queries(drawn, names[:10])


def test_copies_in_episodes_of_several_shapes_are_named_by_episode():
    groups = variable_episodes(LABELS, ways=(2, 4), shots=(1, 2), queries=2, episodes=9, seed=0)
    names = np.arange(len(LABELS))
    check_duplicates(groups, names)
    last, numbers = groups.groups[-1], groups.numbers[-1]
    shown, asked = int(last.support[0, 0]), int(last.query[0, 1])
    names[asked] = names[shown]
    every = {
        int(number): [(q, s) for q in group.query[row].tolist() for s in group.support[row].tolist() if names[q] == names[s]]
        for group, found in zip(groups.groups, groups.numbers, strict=True)
        for row, number in enumerate(found)
    }
    wrong = {number: pairs for number, pairs in every.items() if pairs}
    assert int(numbers[0]) in wrong
    (query, twin), *_ = wrong[min(wrong)]
    count = sum(map(len, wrong.values()))
    said = rf"{count} queries in {len(wrong)} of 9 episodes .*image {query} in episode {min(wrong)}, equal to image {twin}:"
    with pytest.raises(DataError, match=said):
        check_duplicates(groups, names)


def test_hashes_tell_samples_and_files_apart(tmp_path):
    images = np.zeros((4, 1, 2, 3), dtype=np.uint8)
    images[1, 0, 0, 0] = 1
    source = ArraySource(images, np.array([0, 0, 1, 1]))
    found = source.digests(np.arange(4))
    assert found[0] == found[2] == found[3] != found[1]
    assert source.subset([1]).digests([0])[0] == found[2]
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, (b"x", b"y", b"x"), strict=True):
        path.write_bytes(content)
    files = FileSource(paths, tmp_path, lambda path: images[0], (1, 2, 3))
    found = files.digests(np.arange(3))
    assert found[0] == found[2] != found[1]
    paths[1].unlink()
    with pytest.raises(DataError, match="there is no file"):
        files.digests([1])
