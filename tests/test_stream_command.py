"""`ssl stream` end to end: what it prints is what the encoder says of the same windows, and whatever else comes is told."""

from __future__ import annotations

import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinshot
from kinshot.cli import fewshot, ssl
from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.datasets.recording import Recording
from kinshot.datasets.stream_lines import Reader
from kinshot.encoders.build import build_encoder
from kinshot.fewshot.heads.prototype import prototype
from kinshot.learn.model import Model
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from kinshot.studies.stream import embedding, records
from kinshot.studies.stream_features import CarriedFeatures
from kinshot.studies.stream_plan import Wanted, series_of, windows_of
from tests.stream_runs import DATA, FUSED, ONE, Stream, caller, embeddings, endless, plain, someone, steps, trained, windows


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("fused"), ssl, "pretrain", FUSED)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("classifier"), fewshot, "train", ONE)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return someone()


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stream:
    return caller(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("feature", ["backbone", "projector", "barometer"])
@pytest.mark.parametrize("timed", [True, False])
def test_windows_from_lines_are_embedded_as_load_embeds_them(fused, recording, stream, feature, timed) -> None:
    code, records, err = stream(fused, steps(recording, timed=timed), "--feature", feature, file=timed)
    assert code == 0
    expected = kinshot.load(fused).embed(windows(recording))[feature]
    torch.testing.assert_close(embeddings(records), expected, rtol=0, atol=1e-5)
    starts = [record["start"] for record in records]
    assert starts == pytest.approx([1.28 * number for number in range(len(expected))])
    assert [record["end"] for record in records] == pytest.approx([start + 2.56 for start in starts])
    assert records[0]["measured"] == {"accelerometer": 1.0, "gyroscope": 1.0, "barometer": 1.0}
    assert min(record["measured"]["gyroscope"] for record in records) == pytest.approx(1 - 40 / 128, abs=1e-4)
    assert f"{len(steps(recording))} lines, {len(expected)} windows" in err


def test_chunks_with_jitter_since_1970_and_other_windows(fused, recording, stream) -> None:
    """A second to a line, with the jitter of a clock; windows of two seconds, one each second."""
    random, lines = np.random.default_rng(0), []
    for second in range(20):
        parts = {name: plain(track.values[int(second * track.rate) :][: int(track.rate)]) for name, track in recording.tracks.items()}
        lines.append({"t": 1.7e9 + second + random.uniform(-0.004, 0.004) * (second > 0), **parts})
    code, records, _ = stream(fused, lines, "--window", 2, "--step", 1, "-q")
    assert code == 0
    cut = {name: values[:19] for name, values in windows(recording, seconds=2.0, step=1.0).items()}
    torch.testing.assert_close(embeddings(records), kinshot.load(fused).embed(cut)["backbone"], rtol=0, atol=1e-5)
    assert [record["start"] for record in records] == pytest.approx([1.7e9 + second for second in range(19)])


@pytest.mark.parametrize("left", [["accelerometer", "gyroscope"], ["barometer"]])
def test_a_missing_modality_is_absent(fused, recording, stream, left) -> None:
    code, records, _ = stream(fused, steps(recording, left))
    assert code == 0
    given = windows(recording, left)
    torch.testing.assert_close(embeddings(records), kinshot.load(fused).embed(given)["backbone"], rtol=0, atol=1e-5)
    assert {name for record in records for name, share in record["measured"].items() if share == 0} == {*recording.tracks} - {*left}


def test_where_nothing_is_measured_there_is_no_embedding(fused, recording, stream) -> None:
    lines = [line if line["t"] < 3 or line["t"] > 6 else {"t": line["t"]} for line in steps(recording)]
    code, records, _ = stream(fused, lines)
    assert code == 0
    assert [record["embedding"] is None for record in records[:6]] == [False, False, True, True, False, False]
    assert records[2]["measured"]["accelerometer"] == pytest.approx(0.1719)  # less than half of it


def test_a_carried_stream_is_the_whole_so_far(fused, recording, stream) -> None:
    code, records, err = stream(fused, steps(recording, timed=False), "--every", 0.5)
    assert code == 0
    assert "barometer: counts around the mean of its window, which is not known before the window's end: left out" in err
    model = kinshot.load(fused)
    longest = max(len(track.values) / track.rate for track in recording.tracks.values())
    assert [record["end"] for record in records] == pytest.approx([min(0.5 * (number + 1), longest) for number in range(len(records))])
    for record in [*records[:3], *records[9::20], records[-1]]:
        so_far = {}
        for name in ("accelerometer", "gyroscope"):
            values = torch.from_numpy(recording.tracks[name].values[: int(np.ceil(record["end"] * 50 - 1e-6))].T.copy())[None]
            so_far[name] = model.input.modalities[name].normalize(values)
        with torch.no_grad():
            expected = model.encoder.fused(so_far)
        torch.testing.assert_close(embeddings([record]), expected, rtol=0, atol=1e-5)
        assert record["measured"]["barometer"] == 0


@pytest.mark.parametrize("every", [0.37, 0.04, 1.6])
def test_a_carried_stream_of_several_rates(every) -> None:
    """Chunks of which some hold no step of the slower modality."""
    parts = (SeriesSpec(3, 100, 50.0, (0.0, 1.0, 2.0), (1.0, 2.0, 3.0)), SeriesSpec(1, 20, 10.0, (5.0,), (2.0,)))
    spec = BundleSpec(("acc", "air"), parts)
    encoder = build_encoder("fused", {"each": "conv_gru:widths=[8]:kernels=[3]:strides=[2]:hidden=12"}, spec).eval()
    model, series = Model(encoder).eval(), series_of(spec, "this")
    random = np.random.default_rng(0)
    whole = {"acc": random.normal(size=(240, 3)).astype(np.float32), "air": random.normal(size=(48, 1)).astype(np.float32)}
    lines = [{"acc": whole["acc"][n].tolist(), **({"air": whole["air"][n // 5].tolist()} if n % 5 == 0 else {})} for n in range(240)]
    text = io.BytesIO("".join(json.dumps({"t": n / 50, **line}) + "\n" for n, line in enumerate(lines)).encode())
    cut, features = windows_of(series, Wanted(every=every)), CarriedFeatures(model, series, "fused", pytest.fail)
    found = list(records(Reader(text, cut.modalities), cut, features, embedding(model, "backbone", "this"), pytest.fail))
    assert found[-1]["end"] == pytest.approx(4.8)
    for record in found:
        came = {
            name: torch.from_numpy(rows[: int(np.ceil(record["end"] * series[name].rate - 1e-4))].T.copy()) for name, rows in whole.items()
        }
        with torch.no_grad():
            expected = encoder.fused({name: series[name].normalize(values[None]) for name, values in came.items()})
        torch.testing.assert_close(embeddings([record]), expected, rtol=0, atol=1e-5)


def test_a_series_around_its_window_s_mean_is_not_carried() -> None:
    spec = SeriesSpec.unmeasured((1, 20), 10.0, relative=True)
    model = Model(build_encoder("conv_gru", {"widths": [8], "kernels": [3], "strides": [2]}, spec))
    with pytest.raises(
        ConfigError, match=r"encoder conv_gru cannot stream series: counts around the mean of its window, .*: ask for windows"
    ):
        CarriedFeatures(model, series_of(spec, "this"), "conv_gru", pytest.fail)


def test_one_series_comes_as_a_table_a_list_or_by_any_name(classifier, recording, stream) -> None:
    track = recording.tracks["accelerometer"]
    expected = kinshot.load(classifier).embed(windows(recording, ["accelerometer"])["accelerometer"])["backbone"]
    table = "t\tx\ty\tz\n" + "".join(f"{step / 50}\t" + "\t".join(map(repr, row)) + "\n" for step, row in enumerate(track.values.tolist()))
    named = [{"wrist": row} for row in track.values.tolist()]
    for lines in (table, track.values.tolist(), named):
        code, records, err = stream(classifier, lines)
        assert code == 0, err
        torch.testing.assert_close(embeddings(records), expected, rtol=0, atol=1e-5)
        assert records[0]["measured"] == {"series": 1.0}


def test_a_carried_series_begins_anew_with_another_recording(classifier, recording, stream) -> None:
    rows = recording.tracks["accelerometer"].values[:100].tolist()
    lines = [{"a": rows[:50], "recording": "one"}, {"a": rows[50:]}, {"a": rows[:50], "recording": "two"}]
    code, records, _ = stream(classifier, lines, "--every", 1)
    assert code == 0
    assert [record.get("event", record["recording"]) for record in records] == ["one", "one", "new stream", "two"]
    assert records[2] == {"event": "new stream", "recording": "two", "start": 0.0, "why": "another recording"}
    assert records[0]["embedding"] == records[3]["embedding"] != records[1]["embedding"]
    model = kinshot.load(classifier)
    with torch.no_grad():
        whole = model.encoder(model.input.normalize(torch.tensor(rows).T[None]))
    torch.testing.assert_close(embeddings(records[1:2]), whole, rtol=0, atol=1e-5)


def test_classes_that_a_checkpoint_learned(classifier, recording, stream) -> None:
    given = windows(recording, ["accelerometer"])["accelerometer"]
    code, records, _ = stream(classifier, recording.tracks["accelerometer"].values.tolist(), "--predict")
    assert code == 0
    model = kinshot.load(classifier)
    with torch.no_grad():
        expected = model.outputs(model.prepare(given), ("logits",))["logits"].softmax(dim=1)
    torch.testing.assert_close(torch.tensor([list(record["scores"].values()) for record in records]), expected, rtol=0, atol=1e-5)
    names = SOURCES.build("motion", settings={key: value for key, value in ONE["data"].items() if key != "name"}).class_names
    assert list(records[0]["scores"]) == list(names)
    assert [record["label"] for record in records] == [names[number] for number in expected.argmax(dim=1).tolist()]


@pytest.mark.parametrize("feature", ["backbone", "projector"])
def test_classes_of_labelled_samples(fused, recording, stream, feature, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    where = "motion,subjects=3,stretch=4.0,split=train"
    code, records, _ = stream(fused, steps(recording), "--support", where, "--feature", feature)
    assert code == 0
    source = SOURCES.build("motion", settings={key: value for key, value in DATA.items() if key != "name"})
    model = kinshot.load(fused)
    rows = model.embed(source.load(np.arange(len(source)), list(source.fields)))[feature]
    query = model.embed(windows(recording))[feature]
    expected = prototype(rows[None], torch.from_numpy(source.labels)[None], query[None], len(source.class_names))[0]
    torch.testing.assert_close(torch.tensor([list(record["scores"].values()) for record in records]), expected, rtol=0, atol=1e-4)
    assert all(record["label"] == max(record["scores"], key=record["scores"].get) for record in records)


def test_gaps_and_times_that_go_back_are_said_in_the_output(fused, recording, stream) -> None:
    lines = steps(recording)[:200]
    later = [{**line, "t": line["t"] + 100} for line in lines]
    code, records, err = stream(fused, [*lines, *later, *lines])
    assert code == 0
    events = [record for record in records if "event" in record]
    assert [(event["start"], event["why"]) for event in events] == [(100.0, "nothing for 96 s"), (0.0, "the time goes back")]
    own = [record for record in records if "event" not in record]
    assert [record["start"] for record in own] == pytest.approx([0.0, 1.28, 100.0, 101.28, 0.0, 1.28])
    torch.testing.assert_close(embeddings(own[2:4]), embeddings(own[:2]), rtol=0, atol=1e-5)
    assert "600 lines, 6 windows" in err


def test_a_recording_shorter_than_a_window_is_said_or_padded(fused, recording, stream) -> None:
    lines = steps(recording)[:60]
    code, records, err = stream(fused, lines)
    assert (code, records) == (0, [])
    assert "the stream of 1.2 s from 0.0 s is shorter than a window: nothing is said of it, unless by --pad" in err
    code, records, err = stream(fused, lines, "--pad", "--measured", 0.4)
    assert code == 0
    (record,) = records
    assert record["end"] == 2.56
    padded = {name: torch.from_numpy(track.values[: int(1.2 * track.rate)].T.copy())[None] for name, track in recording.tracks.items()}
    torch.testing.assert_close(embeddings(records), kinshot.load(fused).embed(padded)["backbone"], rtol=0, atol=1e-5)
    code, records, err = stream(fused, [], "-q")
    assert (code, records, err) == (0, [], "")


def test_every_line_may_be_a_window_of_its_own(fused, classifier, recording, stream) -> None:
    given = windows(recording)
    lines: list[dict[str, Any]] = [{name: plain(values[row].T.numpy()) for name, values in given.items()} for row in range(4)]
    lines[1] = {**lines[1], "t": 3.5, "recording": "one"}
    del lines[2]["gyroscope"]
    lines[3] = {"accelerometer": lines[3]["accelerometer"][:30]}  # less than half a window
    code, records, err = stream(fused, lines, "--each-line")
    assert code == 0
    given["gyroscope"][2] = float("nan")
    expected = kinshot.load(fused).embed({name: values[:3] for name, values in given.items()})["backbone"]
    torch.testing.assert_close(embeddings(records[:3]), expected, rtol=0, atol=1e-5)
    assert records[3]["embedding"] is None
    assert [record["line"] for record in records] == [1, 2, 3, 4]
    assert [(record.get("recording"), record["start"], record["end"]) for record in records] == [
        (None, 0.0, 2.56), ("one", 3.5, 6.06), ("one", 0.0, 2.56), ("one", 0.0, 2.56)
    ]  # fmt: skip
    code, records, _ = stream(fused, [*lines[:1], {"barometer": [[1.0]] * 26}, *lines[:1]], "--each-line", "--skip-bad")
    assert (code, [record["line"] for record in records]) == (0, [1, 3])
    code, _, err = stream(fused, [{"barometer": [[1.0]] * 26}], "--each-line")
    assert code == 3
    assert "line 1, barometer: 26 steps are no window, which has 25: cut it, or stream the steps" in err
    code, records, _ = stream(classifier, [[[1.0, 2.0, 3.0]] * 5, [[1.0, 2.0, 3.0]] * 99], "--each-line", "--predict")
    assert code == 0
    assert (records[0]["label"], records[0]["scores"]) == (None, None)
    assert sum(records[1]["scores"].values()) == pytest.approx(1)


def test_memory_is_bounded_through_all_of_it(fused, recording) -> None:
    """Thousands of lines, carried: neither buffers nor state grow."""
    model = kinshot.load(fused)
    series = series_of(model.input, "this")
    wanted = Wanted(every=1.0)
    cut, carried = windows_of(series, wanted), CarriedFeatures(model, series, "fused", [].append)

    class Endless(io.RawIOBase):
        rows = islice(endless(recording), 4000)

        def readline(self, size: int | None = -1, /) -> bytes:
            return next(self.rows, b"")

    held, states = set(), set()
    for _ in records(Reader(Endless(), cut.modalities), cut, carried, embedding(model, "backbone", "this"), pytest.fail):
        held.add(tuple(cut.held.values()))
        states.add(
            sum(value.untyped_storage().nbytes() for part in carried.state.parts.values() for value in (*part.memory, part.pooled.kept))
        )
    assert carried.state.parts["accelerometer"].seen == 4000
    assert max(number for numbers in held for number in numbers) <= 8  # steps that came while the others were waited for
    assert len(states) == 1
