"""Sound beside recordings: WAV files of every encoding, their bands against a slow reference, and every way in which they are wrong."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.log_mel import FLOOR, log_mel, mel_filters
from kinshot.datasets.sound_files import read_wav

RATE = 16000


def tone(seconds: float = 4.0, frequency: float = 1000.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def slow_log_mel(sound, rate, mels, window, hop, low, high):
    """As the docstring of `log_mel` says it, one window, frequency and band at a time, with a transform of as many points as needed."""
    size = max(2, round(window * rate))
    points = 1
    while points < size:
        points *= 2
    mel = [2595 * np.log10(1 + f / 700) for f in (low, high)]
    edges = [700 * (10 ** ((mel[0] + k * (mel[1] - mel[0]) / (mels + 1)) / 2595) - 1) for k in range(mels + 2)]
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * n / size) for n in range(size)]
    rows = []
    for k in range(int(len(sound) / (hop * rate) + 1e-6)):
        begin = round((k + 0.5) * hop * rate - size / 2)
        frame = [sound[begin + n] * hann[n] if 0 <= begin + n < len(sound) else 0.0 for n in range(size)]
        power = []
        for j in range(points // 2 + 1):
            turn = np.exp(-2j * np.pi * j * np.arange(size) / points)
            power.append(abs((np.array(frame) * turn).sum()) ** 2 * 2 / (points * sum(h * h for h in hann)))
        bands = []
        for m in range(mels):
            total = 0.0
            for j, p in enumerate(power):
                f = j * rate / points
                if edges[m] < f <= edges[m + 1]:
                    total += p * (f - edges[m]) / (edges[m + 1] - edges[m])
                elif edges[m + 1] < f < edges[m + 2]:
                    total += p * (edges[m + 2] - f) / (edges[m + 2] - edges[m + 1])
            bands.append(np.log(total + FLOOR))
        rows.append(bands)
    return np.array(rows)


@pytest.mark.parametrize(("rate", "hop"), [(2000, 0.01), (2205, 0.01), (1800, 0.0125)])
def test_log_mel_against_a_slow_reference(rate, hop):
    sound = np.random.default_rng(rate).normal(size=rate // 5)
    found = log_mel(sound, rate, mels=8, window=0.025, hop=hop, low=50, high=900)
    expected = slow_log_mel(sound, rate, 8, 0.025, hop, 50, 900)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_sine_has_half_of_full_power_whatever_the_sampling_rate():
    for rate in (16000, 22050, 44100):
        bands = np.exp(log_mel(2 * tone(1.0, 1000, rate), rate))[10:-10]
        np.testing.assert_allclose(bands.sum(1), 0.5, rtol=1e-3)
        assert set(bands.argmax(1).tolist()) == {19}  # 125 to 7500 Hz are 185 to 2773 mel, and 1000 Hz are 1000


def test_long_sound_is_what_its_parts_are_and_silence_is_the_floor():
    sound = np.random.default_rng(0).normal(size=RATE * 45) / 9  # more frames than are transformed at once
    whole = log_mel(sound, RATE, mels=16)
    assert whole.shape == (4500, 16)
    np.testing.assert_allclose(whole[4090:4110], log_mel(sound[4080 * 160 :], RATE, mels=16)[10:30], rtol=1e-5)
    np.testing.assert_allclose(log_mel(np.zeros(RATE), RATE), np.log(FLOOR), rtol=1e-6)
    assert log_mel(np.zeros(100), RATE).shape == (0, 64)


def test_bands_lie_side_by_side_and_those_that_cannot_are_refused():
    filters = mel_filters(RATE, 512, 64, 125, 7500)
    inside = (np.arange(257) * RATE / 512 > 200) & (np.arange(257) * RATE / 512 < 7000)
    np.testing.assert_allclose(filters[:, inside].sum(0), 1)
    with pytest.raises(ConfigError, match="64 mel bands are too many: none of 65 frequencies lies between"):
        mel_filters(RATE, 128, 64, 125, 7500)
    with pytest.raises(ConfigError, match="need a sampling rate of at least 15000 Hz, got 8000 Hz"):
        mel_filters(8000, 256, 64, 125, 7500)


def write_pcm24(path: Path, samples: np.ndarray) -> None:
    whole = np.round(samples * 2**23).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(RATE)
        file.writeframes(whole.tobytes())


@pytest.mark.parametrize(
    ("kind", "step"), [("uint8", 2**-7), ("int16", 2**-15), ("pcm24", 2**-23), ("int32", 2**-24), ("float32", 2**-24), ("float64", 2**-24)]
)
def test_every_encoding_gives_the_same_sound(tmp_path, kind, step):
    samples, path = tone(0.1), tmp_path / "a.wav"
    if kind == "pcm24":
        write_pcm24(path, samples)
    elif kind == "uint8":
        wavfile.write(path, RATE, np.round(samples * 127 + 128).astype(np.uint8))
        samples = np.round(samples * 127) / 128
    elif kind.startswith("int"):
        wavfile.write(path, RATE, np.round(samples * -float(np.iinfo(kind).min)).astype(kind))
    else:
        wavfile.write(path, RATE, samples.astype(kind))
    sound = read_wav(path)
    assert (sound.rate, sound.channels, sound.samples.dtype) == (RATE, 1, np.float32)
    np.testing.assert_allclose(sound.samples, samples, atol=step)


def test_channels_are_averaged(tmp_path):
    left = tone(0.1).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([left, -left, 3 * left], axis=1))
    sound = read_wav(tmp_path / "a.wav")
    assert sound.channels == 3
    np.testing.assert_allclose(sound.samples, left, atol=1e-6)


def test_files_that_are_no_whole_sound_are_named(tmp_path):
    path = tmp_path / "a.wav"
    wavfile.write(path, RATE, (tone(0.1) * 2**14).astype(np.int16))
    whole = path.read_bytes()
    wrong = {
        whole[:-1001]: r"a\.wav ends early: its header says 3200 bytes of sound, and 2199 are there",
        whole[:30]: "it holds no sound",
        b"": "it is no WAV file",
        b"ID3" + whole: "it is no WAV file",
        whole[:20] + b"\x55" + whole[21:]: "a.wav: Unknown wave file format",  # MP3 in a WAV file
        whole[:24] + bytes(8) + whole[32:]: "its sampling rate is 0 Hz",
    }
    for data, message in wrong.items():
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_wav(path)
    samples = tone(0.1).astype(np.float32)
    samples[7] = np.nan
    wavfile.write(path, RATE, samples)
    with pytest.raises(DataError, match="sample 7 is not finite"):
        read_wav(path)
    with pytest.raises(DataError, match="cannot read"):
        read_wav(tmp_path / "b.wav")


def folder(root: Path, mic: dict[str, Any] | None = None, **more: Any) -> None:
    """Two recordings of four seconds with times, one of them without sound, and a file that is nobody's."""
    sensors = {"belt": {"columns": ["x"], "rate": 20}, "mic": mic or {"wav": "{name}.wav", "mels": 16}}
    (root / "recordings.json").write_text(json.dumps({"sensors": sensors, "time": "t", "label": "what", **more}))
    for name in "ab":
        rows = [f"{k / 20},{k},{'walk' if k < 40 else 'sit'}" for k in range(80)]
        (root / f"{name}.csv").write_text("\n".join(["t,x,what", *rows]) + "\n")
    wavfile.write(root / "a.wav", RATE, np.stack([tone().astype(np.float32)] * 2, axis=1))
    wavfile.write(root / "stray.wav", RATE, tone().astype(np.float32))


def build(root: Path, **settings: Any):
    return SOURCES.build("recordings", settings={"root": str(root), "seconds": 1.0, "step": 1.0, "split": "all", **settings})


def test_sound_is_a_series_of_bands_beside_the_other_sensors(tmp_path):
    folder(tmp_path)
    source = build(tmp_path)
    assert {name: (spec.kind, spec.shape, spec.rate) for name, spec in source.fields.items()} == {
        "belt": ("series", (1, 20), 20.0),
        "mic": ("series", (16, 100), 100.0),
    }
    found = source.load([1, 5], source.fields)
    assert found["belt"][:, 0, 0].tolist() == [20, 20]
    np.testing.assert_array_equal(found["mic"][0].numpy(), log_mel(tone().astype(np.float32), RATE, mels=16)[100:200].T)
    assert found["mic"][1].isnan().all()
    assert source.present["mic"].tolist() == [True] * 4 + [False] * 4
    assert {
        "a.csv: mic has 2 channels, which are averaged",
        "1 files are left out, which end in none of .csv, .tsv, .npz",
        "4 of 8 windows lack mic",
    } <= set(source.notes)


def test_what_lies_beside_a_table_is_looked_for_by_its_pattern(tmp_path):
    folder(tmp_path, {"wav": "sound/mic {name}.WAV", "mels": 8, "hop": 0.02, "low": 0, "high": 4000})
    assert "no recording has mic" in build(tmp_path).notes
    (tmp_path / "sound").mkdir()
    wavfile.write(tmp_path / "sound" / "mic b.WAV", 8000, np.zeros(4 * 8000, np.int16))
    source = build(tmp_path)
    assert source.fields["mic"].shape == (8, 50)
    assert source.present["mic"].tolist() == [False] * 4 + [True] * 4
    assert "b.csv: mic is silent throughout" in source.notes


def test_a_table_may_say_classes_alone(tmp_path):
    folder(tmp_path)
    (tmp_path / "a.csv").write_text("t,what\n0,walk\n1.5,sit\n3,walk\n")
    source = build(tmp_path, sensors=("mic",), labels="pure")
    assert source.clock.time.tolist() == [0, 2, 3]
    assert [source.class_names[label] for label in source.labels] == ["walk", "sit", "walk"]


def test_empty_sound_counts_as_missing(tmp_path):
    folder(tmp_path)
    wavfile.write(tmp_path / "b.wav", RATE, np.zeros(10, np.int16))
    source = build(tmp_path)
    assert "b.csv: mic is empty, and counts as missing" in source.notes
    assert not source.present["mic"][4:].any()


def test_sound_that_does_not_fit_is_named(tmp_path):
    folder(tmp_path)
    wavfile.write(tmp_path / "b.wav", 8000, np.zeros(4 * 8000, np.int16))
    with pytest.raises(DataError, match=r"b\.wav: mel bands from 125 to 7500 Hz need a sampling rate of at least 15000 Hz, got 8000 Hz"):
        build(tmp_path)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"b\.wav ends early"):
        build(tmp_path)
    (tmp_path / "b.wav").unlink()
    schema = json.loads((tmp_path / "recordings.json").read_text())
    del schema["time"]
    (tmp_path / "recordings.json").write_text(json.dumps(schema))
    wavfile.write(tmp_path / "a.wav", RATE, tone(3.0).astype(np.float32))
    with pytest.raises(DataError, match="by their rates they last belt 4 s, mic 3 s"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("mic", "message"),
    [
        ({"wav": "a.wav"}, r"sensors.mic.wav must be a name relative to a table's folder, with \{name\} .* write for example \{name\}.wav"),
        ({"wav": "../{name}.wav"}, "must be a name relative to a table's folder"),
        ({"wav": "/{name}.wav"}, "must be a name relative to a table's folder"),
        ({"wav": 3}, "sensors.mic.wav must be a text"),
        ({"wav": "{name}.wav", "rate": 16000}, "unknown key 'rate'"),
        ({"wav": "{name}.wav", "mels": 0}, "mels must be a whole number of bands from 1 to 1024, got 0"),
        ({"wav": "{name}.wav", "mels": True}, "mels must be a whole number"),
        ({"wav": "{name}.wav", "hop": 0}, "hop must be a number of seconds above 0, got 0"),
        ({"wav": "{name}.wav", "low": -1}, "low must be a number of Hz above 0, got -1"),
        ({"wav": "{name}.wav", "low": 8000}, "low must lie below high, got 8000 and 7500 Hz"),
    ],
)
def test_a_schema_of_sound_that_is_none_is_named(tmp_path, mic, message):
    folder(tmp_path, mic)
    with pytest.raises(DataError, match=message):
        build(tmp_path)
