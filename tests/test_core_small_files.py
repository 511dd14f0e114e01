"""Small files are read only if they are regular, of bounded size and not nested without end."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinshot.core.errors import CheckpointError, DataError, KinshotError
from kinshot.core.small_files import is_numeral, parse_json, read_arrays, read_file, read_json, read_text
from kinshot.core.weight_files import read_weights
from kinshot.datasets.table_files import read_columns
from kinshot.fewshot.episode_files import read_episodes
from kinshot.runs.reached import _json
from kinshot.runs.sweep_folder import sweep_command

READERS: dict[str, Callable[[Path], Any]] = {
    "a.bin": read_file,
    "a.txt": read_text,
    "a.json": read_json,
    "a.npy": read_arrays,
    "a.npz": read_arrays,
    "t.csv": read_columns,
    "t.npz": read_columns,
    "e.json": read_episodes,
    "e.npz": read_episodes,
    "w.safetensors": read_weights,
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    for kind, make in (("pipe", os.mkfifo), ("folder", os.mkdir), ("device", lambda path: os.symlink("/dev/zero", path))):
        path = tmp_path / kind / name
        path.parent.mkdir()
        make(path)
        with pytest.raises(KinshotError, match=rf"{name} is a {kind}, expected a regular file"):
            READERS[name](path)
    with pytest.raises(KinshotError, match=name):
        READERS[name](tmp_path / name)
    with pytest.raises(KinshotError, match=r"(?i)name too long"):
        READERS[name](tmp_path / ("x" * 300 + name))


def test_sizes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(CheckpointError, match="has 5 bytes, more than the 4"):
        read_file(tmp_path / "a", most=4, error=CheckpointError)
    os.truncate(tmp_path / "a", 10**12)  # sparse
    with pytest.raises(DataError, match="has 1000000000000 bytes"):
        read_file(tmp_path / "a")


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "9" * 5000, "{", "\ud800", ""])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(DataError, match="where is not valid JSON"):
        parse_json(text, "where")


def test_text_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffa\r\n".encode())
    assert read_text(tmp_path / "a") == "a\r\n"
    (tmp_path / "a").write_bytes("ab".encode("utf-16"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_text(tmp_path / "a")


def test_archives_that_unpack_to_what_nothing_packs_into_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"1234")
    data = stream.getvalue()
    at = data.index(b"PK\x01\x02") + 24  # the size that the directory says
    (tmp_path / "a.npz").write_bytes(data[:at] + (2**31).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(DataError, match="is said to unpack from 4 to 2147483648 bytes"):
        read_arrays(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(10**6))  # real arrays of one value are packed a thousand times
    assert read_arrays(tmp_path / "b.npz")["x"].shape == (10**6,)


def test_notes_of_a_run_that_cannot_be_read_are_as_if_missing(tmp_path: Path) -> None:
    for name, content in (("result.json", "[" * 100_000), ("sweep.json", "[1]")):
        (tmp_path / name).write_text(content)
    assert sweep_command(tmp_path / "run") == ""
    assert _json(tmp_path / "result.json") == {}


@pytest.mark.parametrize("text", ["1", "-1.5", "+.5", "2.", "1e-3", " 7 ", "inf", "-Infinity", "nan"])
def test_numerals(text: str) -> None:
    assert is_numeral(text)


@pytest.mark.parametrize("text", ["", "1_0", "\u0661", "0x1", "1,5", "e5", ".", "1 2", "--5", "True"])
def test_what_is_no_numeral(text: str) -> None:
    assert not is_numeral(text)
