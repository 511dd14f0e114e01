"""Recordings as they come, through the commands: what is wrong is named with what to do, what is left out is said, nothing is silent."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinshot.cli.ssl import main
from tests.sensor_trees import write_recordings, write_uci_har
from tests.tiny import TINY

HEAD = ["t", "ax", "ay", "hPa", "who", "what"]
SECONDS = 12
Change = Callable[[Path], object]


def rows(count: int = 20 * SECONDS, rate: float = 20.0, who: str = "p9") -> list[list[str]]:
    """Rows of one more recording of the folder of `write_recordings`."""
    draws, found = np.random.default_rng(0), []
    for k in range(count):
        belt, air = [f"{draws.normal():.4f}" for _ in "xy"], f"{1000 + draws.normal():.2f}"
        found.append([f"{k / rate}", *belt, air if k % 5 == 0 else "", who, "walk" if k < 120 else "sit"])
    return found


def table(
    given: list[list[str]] | None = None, head: list[str] = HEAD, mark: str = ",", end: str = "\n", bom: str = "", code: str = "utf-8"
) -> Change:
    """Writes one more table into the folder."""
    lines = [head, *(rows() if given is None else given)]
    return lambda root: (root / "a.csv").write_bytes((bom + end.join(mark.join(line) for line in lines) + end).encode(code))


def cells(column: str, values: dict[int, str]) -> Change:
    """One more table, some cells of which say something else."""
    given = rows()
    for row, value in values.items():
        given[row][HEAD.index(column)] = value
    return table(given)


def without(*columns: str) -> Change:
    kept = [place for place, name in enumerate(HEAD) if name not in columns]
    return table([[row[place] for place in kept] for row in rows()], [HEAD[place] for place in kept])


def every(change: Callable[[int, list[str]], list[str]]) -> Change:
    """Every table of the folder anew."""

    def done(root: Path) -> None:
        for path in sorted(root.glob("*.csv")):
            lines = [change(k, row) for k, row in enumerate(rows(who=path.stem))]
            path.write_text("\n".join(",".join(line) for line in [HEAD, *lines] if line) + "\n")

    return done


def schema(**more: object) -> Change:
    def done(root: Path) -> None:
        path = root / "recordings.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **more}))

    return done


def arrays(**more: object) -> Change:
    good = {"t": np.arange(240) / 20, "ax": np.zeros(240), "ay": np.ones(240), "who": np.array("p9"), "what": np.array("walk")}
    return lambda root: np.savez(root / "a.npz", **{**good, **more})


def settings(**more: object) -> list[str]:
    return [word for key, value in more.items() for word in ("--set", f"{key}={value}")]


def checked(capsys, source: str, *args: str) -> tuple[int, str, dict]:
    """Exit code, what stands on stderr, and what `ssl check` found."""
    capsys.readouterr()
    code = main(["check", source, *args, "--json"])
    said = capsys.readouterr()
    return code, said.err, json.loads(said.out) if said.out.strip() else {}


def refused(capsys, source: str, *args: str) -> str:
    """The error, which is one line, names the kind of fault by its exit code and is no one's traceback."""
    code, err, found = checked(capsys, source, *args)
    assert code in (2, 3)
    assert "Traceback" not in err
    assert "data.unreadable" not in err  # which sources of sensors do not have
    return " ".join([err, *(entry["reason"] for entry in found.get("unreadable", []))])


BELT = {"columns": ["ax", "ay"], "rate": 20}
ERRORS: dict[str, tuple[Change, str]] = {
    "semicolons": (table(mark=";"), r"a\.csv: the columns seem to be separated by semicolons: expected commas"),
    "tabs": (table(mark="\t"), "seem to be separated by tabs"),
    "mixed delimiters": (table([*rows()[:7], [";".join(rows()[7])]]), r"a\.csv, line 9: 1 fields where the first line names 6"),
    "decimal commas": (cells("ax", {3: "1,5"}), "line 5: 7 fields where the first line names 6"),
    "UTF-16": (table(code="utf-16"), r"a\.csv is not UTF-8 text \(byte 0\): save it as UTF-8"),
    "header alone": (table([]), r"a\.csv is empty: it needs at least one row"),
    "no byte": (lambda root: (root / "a.csv").write_bytes(b""), r"a\.csv is empty"),
    "link to nowhere": (lambda root: (root / "a.csv").symlink_to("gone.csv"), r"there is no file .*a\.csv"),
    "pipe": (lambda root: os.mkfifo(root / "a.csv"), r"a\.csv is a pipe, expected a regular file"),
    "damaged archive": (lambda root: (root / "a.npz").write_bytes(b"PK\x03\x04..."), r"cannot read .*a\.npz"),
    "no folder": (lambda root: shutil.rmtree(root), "there is no folder .*: set root"),
    "empty folder": (lambda root: [path.unlink() for path in root.iterdir()], "write what the columns are into recordings.json"),
    "schema alone": (lambda root: [path.unlink() for path in root.glob("*.csv")], r"no recording in .*: expected files that end in .csv"),
    "no number": (cells("ax", {7: "fast"}), "'ax' is 'fast' in row 8 of its values, no number: correct it or empty the cell"),
    "underscore": (cells("ax", {7: "1_000"}), "'ax' is '1_000' in row 8"),
    "digits of another script": (cells("ax", {7: "\uff11\uff12"}), "'ax' is '\uff11\uff12' in row 8"),
    "infinity": (cells("ax", {7: "inf"}), "recording a, belt: step 7, channel 0 is infinite: write NaN, or an empty cell"),
    "beyond float32": (cells("ay", {9: "1e39"}), "recording a, belt: step 9, channel 1 is infinite"),
    "infinite time": (cells("t", {239: "inf"}), "a.csv, belt: row 239 has no time: fill it in or leave the row out"),
    "no time": (cells("t", {7: ""}), "row 7 has no time"),
    "unsorted": (cells("t", {7: "0.4", 8: "0.35"}), r"the time goes back at row 8 \(0.4 s, then 0.35 s\): sort the rows by time"),
    "repeated": (cells("t", {7: "0.3"}), r"the time occurs twice at row 7 \(0.3 s, then 0.3 s\): leave one out"),
    "a leap in time": (cells("t", {239: "1e9"}), r"leaps from 11.9 s to 1e\+09 s at row 239.*: correct the time, or make two recordings"),
    "wrong rate": (table(rows(rate=25)), r"belt: the rate is declared as 20 Hz, and the timestamps say 25 Hz, more than 2% off: correct"),
    "wrong unit": (schema(time_unit="ms"), r"the timestamps say 2e\+04 Hz, .* or the unit of the times"),
    "unequal columns": (arrays(ay=np.ones(239)), r"columns of belt need one length.*got ax \(240, 1\), ay \(239, 1\): cut or fill"),
    "unequal times": (arrays(t=np.arange(230) / 20), "'t' has 230 times for 240 rows of a sensor: name each sensor's own time"),
    "unequal labels": (arrays(what=np.array(["walk"] * 9)), "'what' has 9 rows, and the sensors have belt 240: give a label to each row"),
    "nothing measured": (arrays(ax=np.zeros(0), ay=np.zeros(0), t=np.zeros(0)), r"a\.npz measured nothing: .*belt is empty"),
    "pickled": (arrays(ax=np.array([None] * 240)), "objects are never unpickled"),
    "bytes": (arrays(who=np.array(b"p9")), "'who' holds neither numbers nor texts: save it as numbers, or as texts"),
    "half a sensor": (without("ay"), "has column 'ax' of belt and lacks 'ay': add it, or leave out all columns of belt"),
    "no time column": (without("t"), "lacks the column 't' of times: add it, or leave time out"),
    "no person column": (without("who"), "lacks the column 'who' of the subject: add it, or name the file in subjects"),
    "nobody": (table(rows(who="NaN")), "'who' names nobody: fill in who was recorded"),
    "two people": (cells("who", {5: "p8"}), r"'who' names 2 subjects \(p8, p9\): a recording is of one; split the file"),
    "two of one name": (lambda root: (arrays()(root), (root / "a.npz").rename(root / "walk0.npz")), "two recordings have one name, walk0"),
    "misspelt label column": (
        schema(label="waht"),
        "no recording says a class in the column 'waht' .*: correct the name, or leave label out",
    ),
    "misspelt class": (
        lambda root: (schema(classes=["walk", "sit"])(root), cells("what", {5: "wlak"})(root)),
        r"recording a: its label 'wlak' is none of the classes .*: did you mean 'walk'\?",
    ),
    "misspelt file": (
        schema(subjects={"walk9": "anna"}),
        r"subjects names 'walk9', and there is no such recording: did you mean 'walk4'\?",
    ),
    "misspelt key": (schema(lable="what"), r"unknown key 'lable': did you mean 'label'\?"),
    "misspelt sensor key": (schema(sensors={"belt": {**BELT, "rat": 2}}), r"sensors.belt has the unknown key 'rat': did you mean 'rate'\?"),
    "misspelt columns": (schema(sensors={"belt": {**BELT, "columns": ["x", "y"]}}), "has the columns of no sensor .*: it has t, ax, ay"),
    "one sensor twice": (
        lambda root: (root / "recordings.json").write_text('{"sensors": {"belt": {}, "belt": {}}}'),
        "the key 'belt' occurs twice in one object",
    ),
    "no JSON": (lambda root: (root / "recordings.json").write_text("{sensors: }"), "recordings.json is not valid JSON"),
    "all too short": (every(lambda k, row: row if k < 30 else []), r"no window is left: recordings shorter than 2.56 s are left out"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_used_is_named_with_what_to_do(name, tmp_path, capsys):
    root = tmp_path / "walks"
    root.mkdir()
    write_recordings(root)
    change, message = ERRORS[name]
    change(root)
    assert re.search(message, refused(capsys, f"recordings:{root}", "--split", "all"))


HANDLED: dict[str, tuple[Change, int, str]] = {
    "byte order mark, Windows line ends": (table(end="\r\n", bom="\ufeff"), 48, ""),
    "old Macintosh line ends": (table(end="\r"), 48, ""),
    "schema with a byte order mark": (
        lambda root: (root / "recordings.json").write_bytes(b"\xef\xbb\xbf" + (root / "recordings.json").read_bytes()),
        40,
        "",
    ),
    "a burst of NaN": (
        lambda root: every(lambda k, row: [row[0], "", "", "", *row[4:]] if 60 <= k < 160 else row)(root),
        20,
        "20 windows are left out, of which no sensor measured a share of 0.5",
    ),
    "gaps of the timestamps": (table(rows()[:60] + rows()[160:]), 44, "a.csv, belt: 100 steps lie in gaps of the timestamps"),
    "a sensor without a value anywhere": (
        every(lambda k, row: [*row[:3], "", *row[4:]]),
        40,
        r"walk0.csv: air is empty, and counts as missing.*|no recording has air",
    ),
    "a sensor whose column is gone": (without("hPa"), 48, "8 of 48 windows lack air"),
    "a channel without a value": (every(lambda k, row: [*row[:2], "", *row[3:]]), 40, "belt never measured channel 1"),
    "a channel that stands still": (every(lambda k, row: [*row[:2], "0.5", *row[3:]]), 40, "belt measured one value alone in channel 1"),
    "one recording too short": (table(rows(30)), 40, r"recordings shorter than 2.56 s are left out: a \(1\)"),
    "one row": (table(rows(1)), 40, r"recordings shorter than 2.56 s are left out: a \(1\)"),
    "classes unknown for a while": (cells("what", dict.fromkeys(range(60, 120), "nan")), 46, "2 windows are left out, which have no class"),
    "no column of classes": (without("what"), 40, "a.csv lacks the column 'what': nobody knows its classes"),
    "one person by two names": (table(rows(who="P 0")), 48, "subjects 'P 0' and 'p0' count as two people: correct one name"),
    "other files": (lambda root: (root / "notes.txt").write_text("hello"), 40, "1 files are left out, which end in none of .csv"),
    "persons as numbers": (arrays(who=np.array(9.0)), 48, ""),
}


@pytest.mark.parametrize("name", HANDLED)
def test_what_is_handled_is_said(name, tmp_path, capsys):
    root = tmp_path / "walks"
    root.mkdir()
    write_recordings(root)
    change, samples, message = HANDLED[name]
    change(root)
    code, _, found = checked(capsys, f"recordings:{root}", "--split", "all")
    assert (code, found["samples"]) == (0, samples)
    assert any(re.search(message, note) for note in found["notes"])
    main(["check", f"recordings:{root}", "--split", "all"])  # for people: the same notes
    out = capsys.readouterr().out
    assert all(note in out for note in found["notes"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--split", "train", *settings(split_by="window")), "puts windows of one person, .* on both sides: choose split_by=subject"),
        (("--split", "train", *settings(held_out="[p7]")), r"there is no subject 'p7' to hold out: did you mean 'p4'\?"),
        (("--split", "all", *settings(held_out="[p7]")), "there is no subject 'p7' to hold out"),
        (("--split", "test", *settings(held_out="[p0,p1,p2,p3,p4]")), "every subject is held out, and nobody is left to train on"),
        (("--split", "train", *settings(val_share=0.9, test_share=0.2)), "shares of val and test lie from 0 to below 1 together"),
        (("--split", "all", *settings(sensors="[belt,gps]")), "expected sensors of air, belt, got gps: choose of these"),
        (("--split", "all", *settings(sensors="[belt,belt]")), "one of them twice"),
        (("--split", "all", *settings(step=1e-9)), "windows 1e-09 s apart are less than a step of belt at 20 Hz apart.*: set step to 0.05"),
        (("--split", "all", *settings(seconds=0.01)), "no step of .* fits into 0.01 s: take longer windows"),
        (("--split", "all", *settings(seconds=1e12)), r"no window is left: recordings shorter than 1e\+12 s"),
        (("--split", "all", *settings(measured=1.5)), "measured is a share of steps above 0 and up to 1, got 1.5"),
        (("--split", "all", *settings(rate_tolerance=-1)), "rate_tolerance is a share of the rate, above 0 and below 1, got -1"),
        (("--split", "all", *settings(lables="none")), "unknown setting 'lables'|lables.*did you mean 'labels'"),
    ],
)
def test_settings_that_cannot_be_are_named(args, message, tmp_path, capsys):
    write_recordings(tmp_path)
    assert re.search(message, refused(capsys, f"recordings:{tmp_path}", *args))


def test_a_split_over_windows_is_made_when_forced_and_said(tmp_path, capsys):
    write_recordings(tmp_path)
    leaky = settings(split_by="window", leaky="true")
    code, _, found = checked(capsys, f"recordings:{tmp_path}", "--split", "train", *leaky)
    assert (code, found["samples"]) == (0, 24)
    assert any("split_by=window: the same people may be in train, val and test" in note for note in found["notes"])


def signal(root: Path, part: str = "train", sensor: str = "body_acc", axis: str = "x") -> Path:
    return root / part / "Inertial Signals" / f"{sensor}_{axis}_{part}.txt"


def rewritten(place: Callable[[Path], Path], change: Callable[[list[str]], list[str]]) -> Change:
    return lambda root: place(root).write_text("\n".join(change(place(root).read_text().splitlines())) + "\n")


def column(part: str, key: str) -> Callable[[Path], Path]:
    return lambda root: root / part / f"{key}_{part}.txt"


def nowhere(root: Path) -> None:
    for part in ("train", "test"):
        for axis in "xyz":
            rewritten(lambda root: signal(root, part, "body_gyro", axis), lambda lines: [" NaN" * 128] * len(lines))(root)  # noqa: B023


WRONG: dict[str, tuple[Change, str]] = {
    "ragged lines": (
        rewritten(signal, lambda lines: [lines[0].rsplit(maxsplit=1)[0], f"{lines[1]} 1.0", *lines[2:]]),
        r"body_acc_x_train\.txt, line 1: expected 128 numbers, got 127: copy the data set again",
    ),
    "commas": (rewritten(signal, lambda lines: [",".join(line.split()) for line in lines]), "line 1: expected 128 numbers, got 1"),
    "infinity": (
        rewritten(signal, lambda lines: ["inf" + " 0" * 127, *lines[1:]]),
        "body_acc: window 0, channel 0, step 0 is inf: write NaN",
    ),
    "no number": (rewritten(signal, lambda lines: ["1_0" + " 0" * 127, *lines[1:]]), "line 1: '1_0' is no number"),
    "a window too few": (rewritten(signal, lambda lines: lines[:-1]), "has 17 windows, y_train.txt has 18"),
    "a modality nowhere": (nowhere, "body_gyro is measured in no window: leave it out of the sensors"),
    "a file gone": (lambda root: signal(root).unlink(), r"cannot read .*body_acc_x_train\.txt"),
    "a person in both parts": (
        rewritten(column("test", "subject"), lambda lines: ["1" if line == "2" else line for line in lines]),
        "windows of person 1 are in train and in test: copy the data set again, or divide anew with held_out",
    ),
    "a recording of two people": (
        rewritten(column("test", "recording"), lambda lines: ["1" if line == "2" else line for line in lines]),
        "recording 1 has windows of the people 1 and 2: number the recordings of train and test in one sequence",
    ),
    "one start twice": (
        rewritten(column("train", "start"), lambda lines: ["64", *lines[1:]]),
        "recording 1 has two windows that begin at step 64",
    ),
    "unknown class": (rewritten(column("train", "y"), lambda lines: ["7", *lines[1:]]), "y runs from 1 to 7 of 6 activities"),
    "classes with a point": (rewritten(column("train", "y"), lambda lines: ["1.0", *lines[1:]]), r"y_train\.txt: invalid literal for int"),
    "too few classes": (rewritten(column("train", "y"), lambda lines: lines[1:]), r"unequal numbers of lines \(y 17, subject 18"),
    "two classes of one name": (
        rewritten(lambda root: root / "activity_labels.txt", lambda lines: [line.replace("SITTING", "LAYING") for line in lines]),
        "two activities are called LAYING",
    ),
    "empty folder": (lambda root: [shutil.rmtree(root), root.mkdir()], "no UCI HAR data in .*: looked for train and test"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_of_uci_har_that_do_not_fit_are_named(name, tmp_path, capsys):
    root = tmp_path / "har"
    write_uci_har(root)
    change, message = WRONG[name]
    change(root)
    assert re.search(message, refused(capsys, f"uci_har:{root}", "--split", "all"))


def test_people_in_both_parts_of_uci_har_may_be_divided_anew(tmp_path, capsys):
    write_uci_har(tmp_path, extra=False)
    rewritten(column("test", "subject"), lambda lines: ["1" if line == "2" else line for line in lines])(tmp_path)
    code, _, found = checked(capsys, f"uci_har:{tmp_path}", "--split", "test", *settings(held_out="[1]"))
    assert (code, found["samples"]) == (0, 12)


def test_windows_line_ends_absent_sensors_and_half_a_clock_of_uci_har(tmp_path, capsys):
    write_uci_har(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    for axis in "xyz":
        rewritten(lambda root: signal(root, axis=axis), lambda lines: [" NaN" * 128, *lines[1:]])(tmp_path)  # noqa: B023
    (tmp_path / "train" / "start_train.txt").unlink()
    code, _, found = checked(capsys, f"uci_har:{tmp_path}", "--split", "all")
    assert (code, found["samples"]) == (0, 30)
    assert found["notes"] == ["1 of 30 windows lack body_acc", "the windows have no clock: start_train.txt missing"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (settings(subjects=2), "subjects must be in 3..1000"),
        (settings(stretch=1), "stretch in 4..600 seconds"),
        (settings(missing=1), "missing from 0 to below 1"),
        (settings(subjects=3, seconds=99), "no window is left: stretches of recordings shorter than 99 s"),
        (settings(subjects=3, seconds=0), "expected seconds and step above 0, got 0"),
        (settings(subjects=3, step=0.001), "less than a step of accelerometer at 50 Hz apart, and would be the same: set step to 0.02"),
        (settings(subjects=3, held_out="[person 99]"), "there is no subject 'person 99' to hold out"),
    ],
)
def test_settings_of_motion_that_cannot_be_are_named(args, message, capsys):
    assert re.search(message, refused(capsys, "motion", *args))


RUN = ["encoder=fused", "views=clean", "views.views=2", "train.batch_size=8", "monitor.tensorboard=false", "monitor.knn_every=0"]


def dry_run(capsys, tmp_path: Path, *given: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["pretrain", str(TINY), "--dry-run", "--out", str(tmp_path / "run"), "--json", *given, *RUN])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_run_says_what_it_leaves_out_and_survives_what_is_missing(tmp_path, capsys):
    root = tmp_path / "walks"
    root.mkdir()
    write_recordings(root)
    cells("ax", dict.fromkeys(range(100, 150), ""))(root)
    arrays(ax=np.full(240, np.nan), ay=np.full(240, np.nan), hPa=np.arange(48.0), what=np.array("sit"))(root)
    shutil.move(root / "a.npz", root / "b.npz")
    given = ["data=recordings", f"data.root={root}", "data.split=all"]
    code, said = dry_run(capsys, tmp_path, *given)
    assert code == 3  # 240 times for 48 rows of air
    assert "b.npz: 't' has 240 times for 48 rows of a sensor" in said
    (root / "b.npz").unlink()
    code, said = dry_run(capsys, tmp_path, *given)
    assert code == 0
    assert np.isfinite(json.loads(said[: said.rindex("}") + 1])["loss"]["loss"])
    assert "s lie in no window" in said
    assert not (tmp_path / "run").exists()


def test_a_run_over_numbers_near_the_end_of_float32_is_finite(tmp_path, capsys):
    write_recordings(tmp_path)
    every(lambda k, row: [row[0], "3e38" if k % 2 else "-3e38", *row[2:]])(tmp_path)
    code, said = dry_run(capsys, tmp_path, "data=recordings", f"data.root={tmp_path}", "data.split=all")
    assert code == 0
    assert np.isfinite(json.loads(said[: said.rindex("}") + 1])["loss"]["loss"])
