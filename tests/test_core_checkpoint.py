"""Checkpoints: what goes in comes out, and an error while saving leaves what was there."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core import atomic
from kinshot.core.checkpoint import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
)
from kinshot.core.checkpoint_files import MANIFEST
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from tests.saved import FILES, file_size_limit, save


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(checkpoint_path(tmp_path / "run", 3))


# -- round trip


def test_round_trip(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert loaded.path == checkpoint
    assert torch.equal(loaded.encoder["conv.weight"], torch.full((2, 3), 1.0))
    assert list(loaded.encoder) != []
    assert torch.equal(loaded.training["method/queue"], torch.arange(4))
    assert loaded.training["optimizer/state.0.step"].shape == ()
    assert loaded.state == {"step": 3, "epoch": 1, "best": {"top1": 0.1 + 0.2, "history": [1, None, True]}}
    assert (loaded.step, loaded.epoch) == (3, 1)
    assert loaded.config == {"train": {"lr": 1e-05, "betas": [0.9, 0.999]}, "name": "tést", "text": "1e-4"}
    assert list(loaded.config) == ["train", "name", "text"]
    assert loaded.versions["torch_version"] == str(torch.__version__)
    assert sorted(p.name for p in checkpoint.iterdir()) == sorted([*FILES, MANIFEST])
    assert [p.name for p in checkpoint.parent.iterdir()] == [checkpoint.name]


DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)


@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)), max_size=5), st.integers(0, 99))
def test_any_tensors_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, kinds: list[Any], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"t{i}.x": torch.randint(0, 2**15, shape, generator=generator).to(dtype) for i, (dtype, shape) in enumerate(kinds)}
    folder = save(tmp_path_factory.mktemp("any") / "c", training=tensors)
    loaded = load_checkpoint(folder).training
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_shared_and_strided_tensors_are_written_out(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(1, 2, 3, 4)
    tensors = {"a": base, "alias": base, "row": base[0, 1, 2], "last": base.to(memory_format=torch.channels_last), "t": base[0, 0].t()}
    loaded = load_checkpoint(save(tmp_path / "c", training=tensors)).training
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    loaded["a"].zero_()
    assert torch.equal(loaded["alias"], base)
    assert (tmp_path / "c" / "training.safetensors").stat().st_size < 4 * (24 * 3 + 4 + 12) + 800


def test_parts(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, parts=("encoder",))
    assert "conv.weight" in loaded.encoder
    with pytest.raises(CheckpointError, match="training was not loaded"):
        _ = loaded.training
    with pytest.raises(ConfigError, match="'enc'"):
        load_checkpoint(checkpoint, parts=("enc",))
    (checkpoint / "training.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"training\.safetensors is damaged"):
        load_checkpoint(checkpoint, parts=("encoder",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": {"step": 1}}, "epoch"),
        ({"state": {"step": -1, "epoch": 0}}, "-1"),
        ({"state": {"step": 1, "epoch": 0, "schema_version": 9}}, "schema_version"),
        ({"state": {"step": 1, "epoch": 0, "deep": {"er": [torch.zeros(1)]}}}, r"state\.deep\.er\[0\] is a Tensor"),
        ({"state": {"step": 1, "epoch": 0, "k": {3: 1}}}, "key 3"),
        ({"config": {"path": Path("x")}}, r"config\.path is a "),
        ({"config": [1]}, "list"),
        ({"training": {"x": 3}}, "'x' is a int"),
        ({"training": {"x": torch.zeros(2, 2).to_sparse()}}, "'x' has no plain dense data"),
        ({"training": {"x": torch.zeros(2, device="meta")}}, "'x' has no plain dense data"),
        ({"training": {"x": torch.zeros(2, dtype=torch.complex128)}}, "training.safetensors"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_written(checkpoint: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        save(checkpoint, value=2.0, **change)
    assert torch.equal(load_checkpoint(checkpoint).projector["0.bias"], torch.ones(1))
    assert [p.name for p in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_not_finite_state_survives(tmp_path: Path) -> None:
    folder = save(tmp_path / "c", state={"step": 1, "epoch": 0, "best": float("nan"), "worst": float("inf")})
    state = load_checkpoint(folder).state
    assert state["best"] != state["best"]
    assert state["worst"] == float("inf")


def test_a_checkpoint_is_frozen(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert isinstance(loaded, Checkpoint)
    with pytest.raises(AttributeError):
        loaded.state = {}  # type: ignore[misc]


# -- F1: errors while saving


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), RuntimeError("boom")])
def test_an_error_in_any_file_leaves_the_old_checkpoint(
    checkpoint: Path, name: str, problem: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write_file

    def failing(path: Path, data: bytes, *, fsync: bool = True) -> None:
        write(path, data[: len(data) // 2] if path.name == name else data, fsync=fsync)
        if path.name == name:
            raise problem

    monkeypatch.setattr("kinshot.core.checkpoint.write_file", failing)
    expected = CheckpointError if isinstance(problem, OSError) else type(problem)
    with pytest.raises(expected) as caught:
        save(checkpoint, value=2.0)
    if expected is CheckpointError:
        assert str(checkpoint) in str(caught.value)
        assert "No space left" in str(caught.value)
        assert "bytes" in str(caught.value)
    assert [p.name for p in checkpoint.parent.iterdir()] == [checkpoint.name]
    assert torch.equal(load_checkpoint(checkpoint).projector["0.bias"], torch.ones(1))


def test_a_failed_rename_puts_the_old_checkpoint_back(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(checkpoint, value=2.0)
    assert torch.equal(load_checkpoint(checkpoint).projector["0.bias"], torch.ones(1))
    assert [p.name for p in checkpoint.parent.iterdir()] == [checkpoint.name]


# -- F3: full disk


@pytest.mark.parametrize("limit", [0, 100, 300])
def test_full_disk(checkpoint: Path, limit: int) -> None:
    with file_size_limit(limit), pytest.raises(CheckpointError) as caught:
        save(checkpoint, value=2.0)
    assert str(checkpoint) in str(caught.value)
    assert "File too large" in str(caught.value)
    assert torch.equal(load_checkpoint(checkpoint).projector["0.bias"], torch.ones(1))
    assert [p.name for p in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_full_disk_for_plain_files(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    atomic.write_json(path, {"a": 1})
    with file_size_limit(10), pytest.raises(DataError, match=r"result\.json.*File too large"):
        atomic.write_json(path, {"a": "x" * 100})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_missing_folder_and_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="create the folder first"):
        atomic.write_text(tmp_path / "no" / "file", "x")
    (tmp_path / "c").write_text("mine")
    with pytest.raises(CheckpointError, match="in the way"):
        save(tmp_path / "c")
    with pytest.raises(CheckpointError, match="cannot write"):
        save(tmp_path / "c" / "below")
    assert (tmp_path / "c").read_text() == "mine"


def test_atomic_write_keeps_the_mode_and_takes_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "f"
    before = os.umask(0o027)
    try:
        atomic.write_bytes(path, b"1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)
    path.chmod(0o604)
    atomic.write_bytes(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.read_bytes() == b"2"
