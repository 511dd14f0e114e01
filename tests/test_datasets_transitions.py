"""Windows of rare postural transitions as a folder in UCI HAR's layout, which encoders of its activities are evaluated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.transitions import write
from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from tests.sensor_trees import write_uci_har
from tests.tiny import run

NAMES = ("STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE")


def archive(path: Path, people: int = 3, each: int = 4) -> dict[str, np.ndarray]:
    """Every person passes every transition so many times; the last person is of the test."""
    count, draws = people * each * len(NAMES), np.random.default_rng(0)
    person = np.arange(count) // (each * len(NAMES))
    found = {f"transition_{sensor}": draws.normal(size=(count, 3, 128)) for sensor in ("body_acc", "body_gyro", "total_acc")}
    found = {key: values.astype(np.float16) for key, values in found.items()}
    found |= {
        "transition_label": (np.arange(count) % len(NAMES)).astype(np.int8),
        "transition_subject": (person + 7).astype(np.int8),
        "transition_recording": (person + 20).astype(np.int8),
        "transition_start": np.arange(count) * 200,
        "transition_split": (person == people - 1).astype(np.int8),
        "transition_label_names": np.array(NAMES),
    }
    np.savez(path, **found)
    return found


def test_a_folder_of_transitions_is_read_as_uci_har_is(tmp_path):
    found = archive(tmp_path / "windows.npz")
    assert write(tmp_path / "windows.npz", tmp_path / "new") == "24 windows of 3 transitions of the people of train, 12 of those of test"
    for split, chosen in (("train", found["transition_split"] == 0), ("test", found["transition_split"] == 1), ("all", slice(None))):
        source = SOURCES.build("uci_har", settings={"root": str(tmp_path / "new"), "split": split})
        assert source.class_names == list(NAMES)
        assert source.labels.tolist() == found["transition_label"][chosen].tolist()
        for sensor, values in source.load(range(len(source)), source.fields).items():
            np.testing.assert_array_equal(values.numpy(), found[f"transition_{sensor}"][chosen].astype(np.float32))
        assert source.clock.time.tolist() == (found["transition_start"][chosen] / 50).tolist()
        people = [source.attribute_names["subject"][number] for number in source.categories["subject"]]
        assert people == [str(person) for person in found["transition_subject"][chosen].tolist()]


def test_another_archive_is_refused(tmp_path):
    np.savez(tmp_path / "windows.npz", transition_body_acc=np.zeros((1, 3, 128)))
    with pytest.raises(DataError, match="lacks transition_body_gyro"):
        write(tmp_path / "windows.npz", tmp_path / "new")


def test_an_encoder_of_activities_is_measured_on_real_transitions(shared, tmp_path):
    """Five of six transitions that it never saw, of people that it never saw."""
    real = shared / "data" / "uci_har.npz"
    if not real.is_file():
        pytest.skip("the real data set is not at hand")
    write(real, tmp_path / "transitions")
    write_uci_har(tmp_path / "few")
    (tmp_path / "short.yaml").write_text(
        "{description: two steps, data: {name: uci_har, root: few}, views: {name: clean, views: 2}, encoder: {name: auto}, "
        "projector: {layers: 2, dim: 8, hidden: 8}, method: {name: simclr}, "
        "train: {epochs: 2, batch_size: 18, lr: 1.0e-3, threads: 1}, monitor: {knn_every: 0, keep: 1, tensorboard: false}}"
    )
    done = run("ssl", "pretrain", "short.yaml", "--out", "run", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    task = ["--split", "test", "--ways", "5", "--shots", "5", "--episodes", "20", "--features", "backbone"]
    done = run("fewshot", "eval", "run", "--data", "uci_har:transitions", *task, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "uci_har/test test: 6 classes, 108 images" in done.stdout
    assert "none of 6 classes and none of 108 images were in the training data" in done.stdout
