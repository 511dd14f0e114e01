"""Lists of dense episodes as files: what is written is read again, and what does not fit is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.frames import Frame
from kinshot.datasets.scenes import ArrayScenes
from kinshot.segmentation.episode_files import EpisodeList, fingerprint_of, read_dense_episodes, read_episode_list, write_episode_list
from kinshot.segmentation.episodes import sample_dense_episodes


def scenes(names=("cat", "dog", "cow"), seed=0):
    random = np.random.default_rng(seed)
    masks = np.zeros((24, 8, 8), dtype=np.uint8)
    masks[:, 2:6, 2:6] = (np.arange(24) % len(names) + 1)[:, None, None]
    return ArrayScenes(random.integers(0, 255, (24, 3, 8, 8), dtype=np.uint8), masks, names)


def drawn(source, **more):
    draw = {"ways": 2, "shots": 2, "queries": 2, "episodes": 5, "seed": 0, **more}
    return EpisodeList(sample_dense_episodes(source.contains, source.photos, **draw), tuple(source.class_names), fingerprint_of(source))


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_what_was_written_is_read_again(suffix, tmp_path):
    source, path = scenes(), tmp_path / "deep" / f"list{suffix}"
    made = drawn(source)
    write_episode_list(path, made)
    found = read_episode_list(path)
    assert found.episodes.hash() == made.episodes.hash()
    assert (found.class_names, found.fingerprint) == (made.class_names, made.fingerprint)
    assert read_dense_episodes(path, source).hash() == made.episodes.hash()


def test_other_data_are_refused_by_what_differs(tmp_path):
    path = tmp_path / "list.json"
    write_episode_list(path, drawn(scenes()))
    with pytest.raises(DataError, match=r"3 classes, of which number 2 is 'dog'; scenes has 3, and there it is 'hen': use the data, split"):
        read_dense_episodes(path, scenes(("cat", "hen", "cow")))
    with pytest.raises(DataError, match=r"number 3 is 'cow'; scenes has 2, and there it is none"):
        read_dense_episodes(path, scenes(("cat", "dog")))
    fewer = scenes()
    fewer = ArrayScenes(fewer.images[:23], fewer.masks[:23], fewer.class_names)
    with pytest.raises(DataError, match="was made for data with fingerprint"):
        read_dense_episodes(path, fewer)


def test_a_list_fits_the_same_images_in_any_frame(tmp_path):
    source, path = scenes(), tmp_path / "list.npz"
    write_episode_list(path, drawn(source))
    larger = ArrayScenes(source.images, source.masks, source.class_names, frame=Frame(16))
    assert larger.fingerprint() != source.fingerprint()
    assert read_dense_episodes(path, larger).hash() == drawn(source).episodes.hash()


def test_a_picture_counts_for_no_object_that_is_lost_in_the_frame(tmp_path):
    source, path = scenes(), tmp_path / "list.npz"
    masks = source.masks.copy()
    masks[:4] = 0
    masks[:4, 0, 0] = source.masks[:4, 3, 3]
    masks[4:, 0:6, 0:6] = source.masks[4:, 3, 3, None, None]
    native = ArrayScenes(source.images, masks, source.class_names)
    small = ArrayScenes(source.images, masks, source.class_names, frame=Frame(4))
    assert native.contains.any(axis=1).all()
    assert small.contains.any(axis=1).tolist() == [False] * 4 + [True] * 20
    found = drawn(small, episodes=50).episodes
    shown = small.load(found.support.ravel(), ("mask",))["mask"].reshape(*found.support.shape, -1)
    assert (shown.numpy() == found.classes[:, :, None, None]).any(axis=-1).all()
    write_episode_list(path, drawn(native))
    with pytest.raises(DataError, match=r"fingerprint .* met in 4 x 4 \(squash\): make the list with --set size=4"):
        read_dense_episodes(path, small)


def test_a_list_made_by_hand_is_checked_against_the_images(tmp_path):
    path, source = tmp_path / "list.json", scenes()
    by_hand = {"format": "kinshot dense episodes 1", "classes": [[1]], "support": [[[0]]], "query": [[3]], "target": [[0]]}
    path.write_text(json.dumps(by_hand))
    assert read_dense_episodes(path, source).query.tolist() == [[3]]
    path.write_text(json.dumps({**by_hand, "query": [[1]]}))
    with pytest.raises(DataError, match=r"list.json: episode 0 has the query image 1, which does not hold its class 'cat'"):
        read_dense_episodes(path, source)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"format": "kinshot episodes 1"},
            "is no list of dense episodes: expected the format 'kinshot dense episodes 1', got 'kinshot epi",
        ),
        ({"query": [[0], [1, 2]]}, "query is no table of whole numbers"),
        ({"query": [0]}, r"query must be a table of whole numbers, got int64 \(1,\)"),
        ({"query": [[0.5]]}, "query must be a table of whole numbers"),
        ({"class_names": "cat"}, "class_names must be a list of texts"),
        ({"seeds": 1, "classes": [[1], [1]]}, "the content does not match|in equal number of rows|dense episodes"),
        ({"target": [[1, 1]] * 5}, "the content does not match its SHA-256"),
    ],
)
def test_damaged_files_are_refused(change, told, tmp_path):
    path = tmp_path / "list.json"
    write_episode_list(path, drawn(scenes()))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=told):
        read_episode_list(path)


def test_names_of_other_kinds_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"kept in .npz or .json files, got 'list.txt'"):
        write_episode_list(tmp_path / "list.txt", drawn(scenes()))
    with pytest.raises(DataError, match="cannot read"):
        read_episode_list(tmp_path / "none.json")
    (tmp_path / "list.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"list.npz"):
        read_episode_list(tmp_path / "list.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="is no list of dense episodes"):
        read_episode_list(tmp_path / "other.npz")
