"""Checkpoints under fire: cut and flipped bytes, foreign and hostile files."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from kinshot.core.checkpoint import (
    checkpoint_path,
    is_complete,
    load_checkpoint,
)
from kinshot.core.checkpoint_files import MANIFEST
from kinshot.core.errors import CheckpointError
from tests.saved import FILES, resign, save


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(checkpoint_path(tmp_path / "run", 3))


# -- F4, F5: damage


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_truncated_files_are_refused(checkpoint: Path, name: str) -> None:
    whole = (checkpoint / name).read_bytes()
    for percent in (0, 10, 50, 99):
        (checkpoint / name).write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as caught:
            load_checkpoint(checkpoint)
        assert not is_complete(checkpoint)
        if name != MANIFEST:
            assert f"expected {len(whole)} bytes, got {len(whole) * percent // 100}" in str(caught.value)
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(checkpoint)
    (checkpoint / name).write_bytes(whole)
    assert load_checkpoint(checkpoint).step == 3


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    os.mkfifo(checkpoint / name)
    with pytest.raises(CheckpointError, match="pipe"):
        load_checkpoint(checkpoint)
    assert not is_complete(checkpoint)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_bit_is_noticed(checkpoint: Path, name: str) -> None:
    whole = (checkpoint / name).read_bytes()
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position // 5 % 8)
        (checkpoint / name).write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(checkpoint)


def test_without_verification_a_flipped_bit_passes_with_a_warning(checkpoint: Path) -> None:
    path = checkpoint / "encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(checkpoint)
    with pytest.warns(UserWarning, match="SHA-256"):
        assert load_checkpoint(checkpoint, verify=False).step == 3
    path.write_bytes(data[:-9])
    with pytest.warns(UserWarning, match="SHA-256"), pytest.raises(CheckpointError, match="not a valid safetensors file"):
        load_checkpoint(checkpoint, verify=False)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("[]", "expected an object"),
        ("{}", "schema_version"),
        ('{"schema_version": 3, "files": {}}', "upgrade kinshot"),
        ('{"schema_version": true, "files": {}}', "True"),
        ('{"schema_version": 1, "files": {"encoder.safetensors": {}}}', "expected the files"),
        ('{"schema_version": 1, "files": ["a"]}', "expected the files"),
        ("[" * 100_000, "not valid JSON"),
        ("\xff", "not valid JSON"),
    ],
)
def test_odd_manifests_are_refused(checkpoint: Path, manifest: str, message: str) -> None:
    (checkpoint / MANIFEST).write_bytes(manifest.encode("latin-1"))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


def test_a_manifest_cannot_name_other_files(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    for name in ("../../secret", "/etc/passwd", "extra.bin"):
        changed = {**manifest, "files": {**manifest["files"], name: manifest["files"]["state.json"]}}
        (checkpoint / MANIFEST).write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match="expected the files"):
            load_checkpoint(checkpoint)
    manifest["files"]["state.json"]["bytes"] = "many"
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"the entry of state\.json is damaged"):
        load_checkpoint(checkpoint)


# -- F6, F7: hostile files


def bomb(canary: Path) -> bytes:
    """A pickle that runs a command when it is loaded."""
    return b"\x80\x02cposix\nsystem\nU" + bytes([len(f"touch {canary}")]) + f"touch {canary}".encode() + b"\x85R."


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "last.ckpt", "model.pkl", "model.bin"])
def test_pickle_is_never_opened(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "ran"
    (tmp_path / name).write_bytes(bomb(canary))
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(tmp_path / name)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", bomb(canary))
    (tmp_path / name).write_bytes(archive.getvalue())
    with pytest.raises(CheckpointError, match="never opened"):
        load_checkpoint(tmp_path / name)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["encoder.safetensors", "training.safetensors", "state.json", "config.yaml"])
def test_pickle_inside_a_well_signed_checkpoint_is_refused(checkpoint: Path, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "ran"
    (checkpoint / name).write_bytes(bomb(canary))
    resign(checkpoint)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(checkpoint)
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch CANARY']",
        "!!python/object/new:os.system ['touch CANARY']",
        "a: !!python/name:os.system",
        "a: &x [1]\nb: *x",
        "a: 1\nb: {c: 1, c: 2}",
        "a: 1\na: 2",
        "- a\n- b",
        "",
        "just text",
        "? [1]\n: 2",
        "a: 2024-01-01",
        "1: 2",
        "a: !!binary aGVsbG8=",
        "a: [" * 2000,
        "a: \x00",
        "a: 1\n---\nb: 2",
    ],
)
def test_hostile_yaml_is_refused(checkpoint: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (checkpoint / "config.yaml").write_text(text)
    resign(checkpoint)
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        load_checkpoint(checkpoint)
    assert not (tmp_path / "CANARY").exists()


def test_states_of_other_makes_are_refused(checkpoint: Path) -> None:
    for text, message in (('{"schema_version": 7}', "upgrade"), ('{"schema_version": 1, "epoch": 1}', "step"), ("3", "object")):
        (checkpoint / "state.json").write_text(text)
        resign(checkpoint)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(checkpoint)


def test_foreign_paths_are_named(tmp_path: Path, checkpoint: Path) -> None:
    hugging = tmp_path / "hf"
    hugging.mkdir()
    (hugging / "config.json").write_text("{}")
    (tmp_path / "random").mkdir()
    (tmp_path / "random" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").write_text("text")
    for path, message in (
        (hugging, "Hugging Face"),
        (tmp_path / "random", r"found notes\.txt"),
        (tmp_path / "empty", "found nothing"),
        (tmp_path / "plain", "is a file, not"),
        (tmp_path / "ruN", "did you mean 'run'"),
        (tmp_path / "no" / "where", "check the path"),
        (checkpoint / MANIFEST, "name the folder"),
        (checkpoint / "encoder.safetensors", r"single \.safetensors file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)
