"""Weights from anywhere: what is found in a file, what fits a model, and what is never run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinshot.core.errors import CheckpointError
from kinshot.core.weight_files import WeightFile, matched, read_weights


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def weights(seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return {name: torch.rand_like(value.float()).to(value.dtype) for name, value in network().state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_plain_state_dict_is_read_from_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(weights(), path) if suffix == ".safetensors" else torch.save(weights(), path)
    found = matched(network().state_dict(), read_weights(path))
    assert same(found.own, weights())
    assert (found.head, found.notes) == ({}, ())


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_of_torch_are_read(legacy: bool, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert same(read_weights(tmp_path / "w.pth").tensors, weights())


@pytest.mark.parametrize(
    "wrapper", [lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model": w}, lambda w: {"epoch": 1, "model": {"state_dict": w}}]
)
def test_wrappers_are_opened_and_said(wrapper: Any, tmp_path: Path) -> None:
    torch.save(wrapper(weights()), tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert same(found.tensors, weights())
    assert "under" in " ".join(found.notes)
    assert ("epoch" in " ".join(found.notes)) == ("epoch" in wrapper({}))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "encoder.", "module.encoder_q.", "_orig_mod.model."])
def test_prefixes_are_dropped_and_what_lies_beside_them_is_named(prefix: str, tmp_path: Path) -> None:
    outside = prefix.split(".")[0] + ".projector.weight" if prefix.count(".") > 1 else "projector.weight"
    save_file({**{prefix + name: value for name, value in weights().items()}, outside: torch.zeros(2)}, tmp_path / "w.safetensors")
    found = matched(network().state_dict(), read_weights(tmp_path / "w.safetensors"))
    assert same(found.own, weights())
    for word in prefix.strip(".").split("."):
        assert repr(f"{word}.") in " ".join(found.notes)
    assert "projector.weight" in " ".join(found.notes)


def test_a_name_that_the_model_itself_begins_with_is_no_prefix() -> None:
    model = nn.ModuleDict({"encoder": network(), "stem": nn.Linear(2, 2)})
    found = matched(model.state_dict(), WeightFile(Path("w.pth"), {name: value.clone() for name, value in model.state_dict().items()}))
    assert same(found.own, dict(model.state_dict()))
    assert found.notes == ()


def test_a_classifier_that_the_model_lacks_is_kept_apart_and_said() -> None:
    given = {**weights(), "fc.weight": torch.ones(7, 2), "fc.bias": torch.ones(7)}
    found = matched(network().state_dict(), WeightFile(Path("w.pth"), given), ["fc"])
    assert same(found.own, weights())
    assert set(found.head) == {"fc.weight", "fc.bias"}
    assert "classifier fc is no part" in found.notes[0]
    with pytest.raises(CheckpointError, match=r"2 left over: fc\.weight, fc\.bias"):
        matched(network().state_dict(), WeightFile(Path("w.pth"), given))


def test_every_leftover_is_named() -> None:
    given = weights()
    given["0.weight"] = torch.zeros(4, 3, 5, 5)
    del given["3.bias"], given["1.weight"]
    given |= {f"extra.{i}.w": torch.zeros(1) for i in range(20)}
    with pytest.raises(CheckpointError) as error:
        matched(network().state_dict(), WeightFile(Path("w.pth"), given))
    told = str(error.value)
    assert "2 missing: 1.weight, 3.bias" in told
    assert "20 left over: extra.* (20)" in told
    assert "1 of another shape: 0.weight (4, 3, 5, 5) in place of (4, 3, 3, 3)" in told


def test_counters_of_batch_norm_may_be_missing_and_that_is_said() -> None:
    given = {name: value for name, value in weights().items() if not name.endswith("num_batches_tracked")}
    found = matched(network().state_dict(), WeightFile(Path("w.pth"), given))
    assert int(found.own["1.num_batches_tracked"]) == 0
    assert "1 counters num_batches_tracked" in found.notes[0]


class Malicious:
    """A pickle that runs a command as soon as anything unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_something_is_refused_and_does_not_run(legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    torch.save({**weights(), "x": Malicious(marker)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_weights(tmp_path / "w.pth")
    assert not marker.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*save_file"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.bin", b"x", "expected weights in a file with the ending"),
        ("w.pth", b"no weights", "holds more than tensors by name, or is damaged"),
        ("w.pth", b"", "or is damaged"),
        ("w.safetensors", b"no weights", "cannot read the weights"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, {"lr": torch.zeros(1), "name": "x"}, torch.zeros(3)])
def test_what_holds_no_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="expected tensors by name"):
        read_weights(tmp_path / "w.pth")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CheckpointError, match="never downloaded"):
        read_weights(Path("nowhere/w.pth"))
