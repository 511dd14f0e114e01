"""UCI HAR as windows and HAPT as recordings, in their official layouts, on made-up trees and, where it is there, on the shared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.hapt import TEST
from kinshot.datasets.uci_har import SENSORS
from tests.sensor_trees import ACTIVITIES, TRANSITIONS, write_hapt, write_uci_har

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "uci_har.npz"


def build(name: str, root: Path, **settings: Any) -> Source:
    return SOURCES.build(name, settings={"root": str(root), **settings})


def people(source: Source) -> list[str]:
    return [source.attribute_names["subject"][number] for number in np.unique(source.attributes["subject"])]


def test_windows_are_read_as_they_stand_in_the_files(tmp_path):
    write_uci_har(tmp_path / "UCI HAR Dataset")
    source = build("uci_har", tmp_path)
    assert {name: (spec.shape, spec.rate) for name, spec in source.fields.items()} == dict.fromkeys(SENSORS, ((3, 128), 50.0))
    assert source.class_names == list(ACTIVITIES)
    assert source.labels.tolist() == list(range(6)) * 3
    text = (tmp_path / "UCI HAR Dataset/train/Inertial Signals/body_gyro_y_train.txt").read_text().splitlines()[4]
    assert source.load([4], ("body_gyro",))["body_gyro"][0, 1].tolist() == [float(np.float32(value)) for value in text.split()]
    assert source.clock.time[:3].tolist() == [0.0, 1.28, 2.56]
    assert list(build("uci_har", tmp_path, sensors=("total_acc", "body_gyro")).fields) == ["total_acc", "body_gyro"]


def test_published_parts_are_by_person_and_validation_is_taken_from_train(tmp_path):
    write_uci_har(tmp_path, extra=False)
    source = build("uci_har", tmp_path)
    assert source.clock is None
    assert people(source) == ["1", "3", "5"]
    assert people(build("uci_har", tmp_path, split="test")) == ["2", "4"]
    whole = build("uci_har", tmp_path, split="all")
    assert people(whole) == ["1", "2", "3", "4", "5"]
    assert len(whole) == 30
    train, val = (build("uci_har", tmp_path, split=split, val_share=0.3) for split in ("train", "val"))
    assert (len(train), len(val)) == (12, 6)
    assert sorted(people(train) + people(val)) == ["1", "3", "5"]
    with pytest.raises(DataError, match="no subject is left for val"):
        build("uci_har", tmp_path, split="val")


def test_one_person_of_all_may_be_left_out(tmp_path):
    write_uci_har(tmp_path)
    assert people(build("uci_har", tmp_path, split="test", held_out=("3",))) == ["3"]
    assert people(build("uci_har", tmp_path, split="train", held_out=("3",))) == ["1", "2", "4", "5"]
    with pytest.raises(ConfigError, match="there is no subject '9' to hold out"):
        build("uci_har", tmp_path, held_out=("9",))


def test_files_that_do_not_fit_are_named(tmp_path):
    write_uci_har(tmp_path)
    signal, labels = tmp_path / "train/Inertial Signals/total_acc_x_train.txt", tmp_path / "train/y_train.txt"
    for path, text, message in (
        (signal, signal.read_text().replace("\n", " 1\n", 1), "line 1: expected 128 numbers, got 129"),
        (signal, "\n".join(signal.read_text().splitlines()[:-1]), "has 17 windows, y_train.txt has 18"),
        (signal, signal.read_text().replace("e-0", "f-0", 1), r"total_acc_x_train\.txt: could not convert"),
        (labels, labels.read_text().replace("6", "7"), "y runs from 1 to 7 of 6 activities"),
        (labels, "1\n", r"unequal numbers of lines \(y 1, subject 18, recording 18, start 18\)"),
        (tmp_path / "activity_labels.txt", "1 WALKING\n3 SITTING\n", "expected a number and a name in each line"),
    ):
        before = path.read_text()
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            build("uci_har", tmp_path)
        path.write_text(before)
    for wrong in (("wrist",), (), ("total_acc", "total_acc")):
        with pytest.raises(ConfigError, match="expected sensors of body_acc, body_gyro, total_acc, each once"):
            build("uci_har", tmp_path, sensors=wrong)


def test_raw_recordings_are_cut_inside_their_labels(tmp_path):
    write_hapt(tmp_path / "HAPT Data Set")
    train = build("hapt", tmp_path, step=1.0)
    assert people(train) == ["1", "3", "5", "6"]
    assert train.class_names == list(ACTIVITIES)
    assert train.attribute_names["recording"] == ["exp01", "exp03", "exp05", "exp06"]
    assert train.clock.time[:4].tolist() == [0.0, 1.0, 6.0, 7.0]  # four seconds of a class in every six
    assert train.labels[:4].tolist() == [0, 0, 1, 1]
    lines = (tmp_path / "HAPT Data Set/RawData/gyro_exp03_user03.txt").read_text().splitlines()[350:478]
    first = int(np.flatnonzero((train.attributes["recording"] == 1) & (train.clock.time == 7.0))[0])
    expected = np.array([line.split() for line in lines], dtype=np.float32).T
    assert np.array_equal(train.load([first], ("body_gyro",))["body_gyro"][0].numpy(), expected)


def test_transitions_are_classes_of_their_own(tmp_path):
    write_hapt(tmp_path)
    test = build("hapt", tmp_path, split="test")
    assert people(test) == ["2", "4"]
    assert set(map(int, people(test))) <= set(TEST)
    assert test.class_names == list(TRANSITIONS)
    assert build("hapt", tmp_path, split="test", classes="all").class_names == [*ACTIVITIES, *TRANSITIONS]
    assert build("hapt", tmp_path, split="train", classes="transitions").class_names == list(TRANSITIONS)
    assert len(people(build("hapt", tmp_path, split="all"))) == 6
    assert people(build("hapt", tmp_path, split="test", held_out=("5",))) == ["5"]
    padded = build("hapt", tmp_path, split="test", seconds=5.0, short="pad")
    assert padded.load([0], ("total_acc",))["total_acc"][0, 0].isnan().tolist() == [False] * 200 + [True] * 50
    with pytest.raises(DataError, match="no window is left: stretches of recordings shorter than 5 s are left out"):
        build("hapt", tmp_path, seconds=5.0)


def test_a_label_or_a_file_that_is_missing_is_named(tmp_path):
    write_hapt(tmp_path)
    (tmp_path / "RawData" / "gyro_exp01_user01.txt").unlink()
    with pytest.raises(DataError, match=r"gyro_exp01_user01\.txt"):
        build("hapt", tmp_path)
    labels = tmp_path / "RawData" / "labels.txt"
    labels.write_text(labels.read_text() + "2 2 1\n")
    with pytest.raises(DataError, match="line 73: expected 5 numbers, got 3"):
        build("hapt", tmp_path)


@pytest.mark.skipif(not SHARED.is_file(), reason="no uci_har.npz beside the repository")
def test_real_windows_pass_through_the_official_layout(tmp_path):
    with np.load(SHARED, allow_pickle=False) as arrays:
        chosen = [np.flatnonzero((arrays["split"] == code) & (arrays["subject"] == person)) for code, person in ((0, 1), (0, 3), (1, 2))]
        rows = np.sort(np.concatenate([part[::12] for part in chosen]))
        real = {key: arrays[key][rows] for key in (*SENSORS, "label", "subject", "split", "recording", "start")}
    write_uci_har(tmp_path)
    for code, part in enumerate(("train", "test")):
        own = real["split"] == code
        for sensor in SENSORS:
            for axis, letter in enumerate("xyz"):
                path = tmp_path / part / "Inertial Signals" / f"{sensor}_{letter}_{part}.txt"
                np.savetxt(path, real[sensor][own, axis].astype(np.float32), fmt="%15.7e")
        for key, values in (("y", real["label"] + 1), *((key, real[key]) for key in ("subject", "recording", "start"))):
            np.savetxt(tmp_path / part / f"{key}_{part}.txt", values[own], fmt="%d")
    source = build("uci_har", tmp_path, split="all")
    assert len(source) == len(rows)
    order = np.argsort(real["split"], kind="stable")
    for sensor, found in source.load(range(len(source)), SENSORS).items():
        np.testing.assert_allclose(found.numpy(), real[sensor][order].astype(np.float32), rtol=1e-6)
    assert source.labels.tolist() == real["label"][order].tolist()
    assert source.inputs()["total_acc"].std[0] < 1  # in g


def test_hapt_reads_the_sensors_that_are_wanted(tmp_path):
    write_hapt(tmp_path)
    whole, some = (build("hapt", tmp_path, seconds=2.0, step=1.0, **more) for more in ({}, {"sensors": ("body_gyro",)}))
    assert list(whole.fields) == ["total_acc", "body_gyro"]
    assert list(some.fields) == ["body_gyro"]
    assert torch.equal(some.load(range(len(some))), whole.load(range(len(whole)), ("body_gyro",))["body_gyro"])
    for wrong in (("body_acc",), (), ("body_gyro", "body_gyro")):
        with pytest.raises(ConfigError, match="hapt: expected sensors of total_acc, body_gyro, each once"):
            build("hapt", tmp_path, sensors=wrong)
