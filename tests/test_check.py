"""`ssl check`: everything that cannot be read, at once, before anything is trained on it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from kinshot.cli.ssl import main
from tests.trees import noise, write_folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for c, name in enumerate("abc"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(4 + c):
            Image.fromarray(noise(10 * c + k, 12, 12, 3)).save(tmp_path / "photos" / name / f"{k}.png")
    return tmp_path / "photos"


def checked(capsys, *args: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["check", *args, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_whole_set_is_said_to_be_whole(photos, capsys):
    (photos / "a" / "x.heic").write_bytes(b"x")
    code, found = checked(capsys, f"folder:{photos}")
    assert code == 0
    assert (found["samples"], found["classes"], found["unreadable"], found["copies"]) == (15, 3, [], [])
    assert found["smallest_class"] == {"name": "a", "samples": 4}
    assert "1 .heic" in found["notes"][0]
    assert main(["check", f"folder:{photos}"]) == 0
    assert "15 of 15 samples can be read, 3 classes" in capsys.readouterr().out


def test_every_unreadable_file_is_listed_with_its_reason(photos, capsys):
    bad = {"a/1.png": "truncated", "b/0.png": "cannot identify", "c/2.png": "a pipe", "c/3.png": "no file"}
    (photos / "a/1.png").write_bytes((photos / "a/1.png").read_bytes()[:80])
    (photos / "b/0.png").write_text("hello")
    for name in ("c/2.png", "c/3.png"):
        (photos / name).unlink()
    os.mkfifo(photos / "c/2.png")
    (photos / "c/3.png").symlink_to("nowhere")
    code, found = checked(capsys, f"folder:{photos}", "--set", "size=8")
    assert code == 3
    assert {Path(entry["file"]).relative_to(photos).as_posix(): entry["file"] for entry in found["unreadable"]}.keys() == bad.keys()
    for entry, (name, reason) in zip(found["unreadable"], bad.items(), strict=True):
        assert name in entry["reason"]
        assert reason in entry["reason"]
    assert found["smallest_class"] == {"name": "a", "samples": 3}
    assert main(["check", f"folder:{photos}"]) == 3
    told, problem = capsys.readouterr()
    assert "11 of 15 samples can be read" in told
    assert all(name in told for name in bad)
    assert "4 of 15 samples cannot be read" in problem
    assert "data.unreadable=leave_out" in problem


def test_copies_are_said(photos, capsys):
    shutil.copy(photos / "a/1.png", photos / "b/9.png")
    code, found = checked(capsys, f"folder:{photos}")
    assert code == 0
    assert found["copies"] == [[str(photos / "a/1.png"), str(photos / "b/9.png")]]


def test_sources_that_hold_everything_in_memory(tmp_path, capsys):
    assert checked(capsys, "digits")[1]["unreadable"] == []
    write_folder(tmp_path)
    code, found = checked(capsys, f"fashion_mnist:{tmp_path}")
    assert code == 3
    assert "no file" in found["unreadable"][0]["reason"]
    assert main(["check", f"folder:{tmp_path}", "--split", "train"]) == 0
    assert main(["check", "foldr"]) == 2
