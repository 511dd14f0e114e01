"""A folder of one's own recordings: tables of several rates, timestamps, labels, persons, and every way in which they can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from tests.sensor_trees import write_recordings

SENSORS = {"belt": {"columns": ["ax", "ay"], "rate": 20}, "air": {"columns": ["hPa"], "rate": 4}}


def schema(root: Path, **more: Any) -> None:
    root.mkdir(exist_ok=True)
    (root / "recordings.json").write_text(json.dumps({"sensors": SENSORS, **more}))


def table(path: Path, header: str, rows: list[str]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("\n".join([header, *rows]) + "\n")


def build(root: Path, **settings: Any):
    return SOURCES.build("recordings", settings={"root": str(root), "seconds": 2.0, "step": 1.0, "split": "all", **settings})


def mixed(seconds: int = 6, start: float = 1.7e12) -> list[str]:
    """Two sensors in one table, milliseconds since 1970, a label that changes after three seconds."""
    belt = [(k * 50, f"{start + k * 50:.0f},{k},{k / 2},,{'walk' if k < 60 else 'sit'}") for k in range(seconds * 20)]
    air = [(k * 250 + 10, f"{start + k * 250 + 10:.0f},,,{1000 + k},{'walk' if k < 12 else 'sit'}") for k in range(seconds * 4)]
    return [row for _, row in sorted(belt + air)]


def test_sensors_of_several_rates_fit_into_one_table_with_times(tmp_path):
    schema(tmp_path, time="t", time_unit="ms", label="what")
    table(tmp_path / "a.csv", "t,ax,ay,hPa,what", mixed())
    source = build(tmp_path)
    assert {name: spec.shape for name, spec in source.fields.items()} == {"belt": (2, 40), "air": (1, 8)}
    found = source.load([0, 2], source.fields)
    assert found["belt"][:, 0].tolist() == [list(range(40)), list(range(60, 100))]  # windows from 0 and from 3 s
    assert found["air"][0, 0].tolist() == [1000 + k for k in range(8)]
    assert source.clock.time.tolist() == [0, 1, 3, 4]  # from 2 to 4 s it is half and half
    assert [source.class_names[label] for label in source.labels] == ["walk", "walk", "sit", "sit"]
    assert "subject" not in source.attributes


def test_arrays_of_any_length_need_no_times(tmp_path):
    schema(tmp_path, label="what", subjects={"deep/a": "anna", "deep/b.npz": "bert"})
    (tmp_path / "deep").mkdir()
    for name in "ab":
        ax = np.arange(80.0) + (100 if name == "b" else 0)
        np.savez(tmp_path / "deep" / f"{name}.npz", ax=ax, ay=-ax, hPa=np.arange(16.0)[:, None], what=np.array("walk"))
    source = build(tmp_path, labels="pure")
    assert source.attribute_names["subject"] == ["anna", "bert"]
    assert source.attribute_names["recording"] == ["deep/a", "deep/b"]
    assert source.labels.tolist() == [0] * 6
    assert source.load([3], ("belt",))["belt"][0, 1].tolist() == (-100 - np.arange(40)).tolist()
    by_step = np.repeat(["walk", ""], 40)
    np.savez(tmp_path / "deep" / "b.npz", ax=np.zeros(80), ay=np.zeros(80), hPa=np.zeros(16), what=by_step)
    assert build(tmp_path, labels="pure").clock.recording.tolist() == [0, 0, 0, 1]


def test_without_labels_no_class_is_asked_for(tmp_path):
    schema(tmp_path, time="t", time_unit="ms")
    table(tmp_path / "a.csv", "t,ax,ay,hPa,what", mixed())
    source = build(tmp_path)
    assert (source.labels, len(source)) == (None, 5)


def test_empty_cells_and_missing_columns_are_what_was_not_measured(tmp_path):
    schema(tmp_path, subject="who")
    schema_of_one = {"sensors": {"belt": SENSORS["belt"]}, "subject": "who"}
    (tmp_path / "recordings.json").write_text(json.dumps(schema_of_one))
    rows = [f"{k},{'' if 45 <= k < 60 else 'NaN' if k == 3 else k},anna" for k in range(100)]
    table(tmp_path / "a.csv", "ax,ay,who", rows)
    found = build(tmp_path).load([0, 1], ("belt",))["belt"]
    assert found[0, 1].isnan().nonzero().flatten().tolist() == [3]
    assert found[1, 1].isnan().nonzero().flatten().tolist() == list(range(25, 40))
    assert found[1, 0].isfinite().all()
    schema(tmp_path, subject="who")
    np.savez(tmp_path / "b.npz", hPa=np.zeros(20), who=np.array(["bert"]))
    source = build(tmp_path)
    assert source.present["belt"].tolist() == [True] * 4 + [False] * 4
    assert source.present["air"].tolist() == [False] * 4 + [True] * 4
    assert "4 of 8 windows lack belt" in source.notes


def test_gaps_of_the_timestamps_stay_and_are_counted(tmp_path):
    schema(tmp_path, time="t", time_unit="ms", label="what")
    rows = mixed()
    table(tmp_path / "a.csv", "t,ax,ay,hPa,what", rows[:30] + rows[40:])
    source = build(tmp_path)
    assert any("a.csv, belt: " in note and "steps lie in gaps of the timestamps" in note for note in source.notes)
    assert source.load([1], ("belt",))["belt"].isnan().any()


def test_other_files_are_counted_and_hidden_ones_are_none(tmp_path):
    write_recordings(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.csv").write_text("broken")
    source = build(tmp_path)
    assert "1 files are left out, which end in none of .csv, .tsv, .npz" in source.notes


def test_parts_are_by_person_and_one_can_be_left_out(tmp_path):
    write_recordings(tmp_path)
    parts = {split: build(tmp_path, split=split) for split in ("train", "val", "test")}
    people = [set(part.attribute_names["subject"]) for part in parts.values()]
    assert set.union(*people) == {"p0", "p1", "p2", "p3", "p4"}
    assert sum(map(len, people)) == 5
    assert build(tmp_path, split="test", held_out=("p3",)).attribute_names["subject"] == ["p3"]
    with pytest.raises(ConfigError, match="a random split over windows puts windows of one person"):
        build(tmp_path, split="train", split_by="window")
    mixed_up = build(tmp_path, split="train", split_by="window", leaky=True)
    assert any("the same people may be in train, val and test" in note for note in mixed_up.notes)
    assert len(mixed_up.attribute_names["subject"]) == 5


@pytest.mark.parametrize(
    ("more", "header", "rows", "message"),
    [
        ({}, "ax,ay,hPa", ["1,2,3"] * 60, "sensors of several rates in one table .* need a column of times"),
        ({}, "x,y", ["1,2"], r"a\.csv has the columns of no sensor"),
        ({}, "ax,hPa", ["1,2"], "has column 'ax' of belt and lacks 'ay'"),
        ({}, "ax,ay", ["1,2", "oops,3"], "'ax' is 'oops' in row 2 of its values, no number"),
        ({}, "ax,ay", ["1,2", "inf,3"], "belt: step 1, channel 0 is infinite"),
        ({"time": "t"}, "ax,ay", ["1,2"], "lacks the column 't' of times"),
        ({"time": "t"}, "t,ax,ay", [f"{k / 20},1,2" for k in (0, 1, 3, 2)], "the time goes back at row 3"),
        ({"time": "t"}, "t,ax,ay", [f"{k / 20},1,2" for k in (0, 1, 1, 2)], "the time occurs twice at row 2"),
        ({"time": "t"}, "t,ax,ay", [f"{k / 25},1,2" for k in range(99)], "declared as 20 Hz, and the timestamps say 25 Hz"),
        ({"subject": "who"}, "ax,ay", ["1,2"], "lacks the column 'who' of the subject"),
        ({"subject": "who"}, "ax,ay,who", ["1,2,anna", "1,2,bert"], "'who' names 2 subjects"),
        ({"label": "what", "classes": ["sit"]}, "ax,ay,what", ["1,2,walk"] * 50, "label 'walk' is none of the classes"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, more, header, rows, message):
    schema(tmp_path, **more)
    table(tmp_path / "a.csv", header, rows)
    with pytest.raises(DataError, match=message):
        build(tmp_path)


def test_arrays_that_do_not_fit_are_named(tmp_path):
    schema(tmp_path, label="what")
    good = {"ax": np.zeros(80), "ay": np.zeros(80), "hPa": np.zeros(16)}
    for wrong, message in (
        ({"ay": np.zeros(79)}, "the columns of belt need one length"),
        ({"hPa": np.zeros(12)}, "by their rates they last belt 4 s, air 3 s: correct a rate, or add times"),
        ({"what": np.array(["a", "b"])}, "'what' has 2 rows, and the sensors have belt 80, air 16"),
        ({"hPa": np.zeros(16, complex)}, "'hPa' holds neither numbers nor texts"),
    ):
        np.savez(tmp_path / "a.npz", **{**good, **wrong})
        with pytest.raises(DataError, match=message):
            build(tmp_path)
    np.savez(tmp_path / "a.npz", **{**good, "ax": np.array([None] * 80, dtype=object)}, allow_pickle=True)
    with pytest.raises(DataError, match="objects are never unpickled"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "the schema must be an object"),
        ({}, "the schema lacks 'sensors': add it"),
        ({"sensors": {}}, "sensors names none"),
        ({"sensors": SENSORS, "lable": "x"}, "unknown key 'lable': did you mean 'label'"),
        ({"sensors": SENSORS, "time_unit": "min"}, "time_unit 'min' is none"),
        ({"sensors": SENSORS, "label": 3}, "label must be a text, got 3"),
        ({"sensors": SENSORS, "classes": "walk"}, "classes must be a list of different texts"),
        ({"sensors": {"belt": {"columns": ["x"]}}}, "sensors.belt lacks 'rate'"),
        ({"sensors": {"belt": {"columns": ["x"], "rate": 0}}}, "sensors.belt.rate must be a number of Hz above 0, got 0"),
        ({"sensors": {"belt": {"columns": ["x"], "rate": True}}}, "sensors.belt.rate must be a number"),
        ({"sensors": {"belt": {"columns": [], "rate": 1}}}, "sensors.belt.columns names none"),
        ({"sensors": {"left belt": {"columns": ["x"], "rate": 1}}}, "letters, digits and _ alone"),
    ],
)
def test_a_schema_that_is_none_is_named(tmp_path, given, message):
    write_recordings(tmp_path)
    (tmp_path / "recordings.json").write_text(json.dumps(given))
    with pytest.raises(DataError, match=message):
        build(tmp_path)
