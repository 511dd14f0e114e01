"""Feature extraction and the cache that must never serve stale or damaged features."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError
from kinshot.learn import features as module
from kinshot.learn.features import cache_folder, cached_features, extract, weights_hash
from kinshot.samples.pixels import PixelSpec

raw_pixels = PixelSpec.unmeasured((1, 2, 3)).raw


class Source:
    """Ten gray images of 2 x 3 pixels."""

    def __init__(self, count: int = 10) -> None:
        self.images = torch.arange(count * 6, dtype=torch.uint8).view(count, 1, 2, 3)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, indices: np.ndarray) -> Tensor:
        return self.images[torch.from_numpy(indices)]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"backbone": self.linear(self.norm(x)), "sum": x.sum(1, keepdim=True)}

    def embed(self, x: Tensor) -> dict[str, Tensor]:
        return self(x)


def test_extract_gives_every_image_in_order_whatever_the_batch():
    encoder = Encoder().train()
    whole = extract(encoder, Source(), raw_pixels, batch_size=100)
    for batch in (1, 3, 10):
        for name, value in extract(encoder, Source(), raw_pixels, batch_size=batch).items():
            torch.testing.assert_close(value, whole[name])
    torch.testing.assert_close(whole["sum"][:, 0], Source().images.flatten(1).float().div(255).sum(1))
    assert whole["backbone"].dtype == torch.float32
    assert not whole["backbone"].requires_grad


@pytest.mark.parametrize("bound", [False, True])
def test_extract_runs_in_eval_mode_and_restores_each_module(bound):
    encoder = Encoder().train()
    encoder.linear.eval()
    statistics = encoder.norm.running_mean.clone()
    extract(encoder.embed if bound else encoder, Source(), raw_pixels)
    assert torch.equal(encoder.norm.running_mean, statistics)
    assert [m.training for m in encoder.modules()] == [True, True, False]


def test_extract_restores_the_mode_after_an_error():
    encoder = Encoder().train()
    with pytest.raises(RuntimeError):
        extract(encoder, Source(), lambda x: x.flatten(1).float()[:, :5])
    assert encoder.norm.training


def test_extract_refuses_what_is_no_feature():
    with pytest.raises(DataError, match=r"\(B, D\)"):
        extract(lambda x: {"map": x}, Source(), lambda x: x.float())
    with pytest.raises(DataError, match=r"of 1 of .* samples are not finite, the first is sample 7"):
        extract(lambda x: {"f": torch.where(x == 42, torch.nan, x)}, Source(), lambda x: x.flatten(1).float(), batch_size=4)
    with pytest.raises(DataError, match="no sample"):
        extract(Encoder(), Source(0), raw_pixels)
    with pytest.raises(ConfigError, match="batch_size"):
        extract(Encoder(), Source(), raw_pixels, batch_size=0)


def test_raw_pixels():
    images = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(1, 2, 1, 2)
    torch.testing.assert_close(PixelSpec.unmeasured((2, 1, 2)).raw(images), torch.tensor([[0, 0.2, 1, 0.4]]))


def test_weights_hash_sees_every_difference_and_no_order():
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16), "e": torch.empty(0)}
    reference = weights_hash(state)
    assert reference == weights_hash(dict(reversed(state.items())))
    assert reference == weights_hash({k: v.clone() for k, v in state.items()})
    different = [
        {"a": torch.tensor([1.0, 2.0000002])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"b": torch.tensor(4)},
        {"c": torch.tensor(3)},
        {"e": torch.empty(0, 2)},
    ]
    hashes = [weights_hash(state | change) for change in different]
    assert len({reference, *hashes}) == len(different) + 1
    renamed = {"z" if k == "a" else k: v for k, v in state.items()}
    assert weights_hash(renamed) != reference


def test_weights_hash_reads_strided_tensors_by_value():
    x = torch.arange(6.0).view(2, 3)
    assert weights_hash({"x": x.t()}) == weights_hash({"x": x.t().contiguous()})


class Compute:
    """Counts its calls; other values each time, so that a recomputation shows."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        value = torch.arange(12.0).view(4, 3) + self.calls
        return {"backbone": value, "same": value}


KEY = {"weights": "abc", "source": "def", "input": "1x28"}


def _only_file(folder: Path) -> Path:
    (path,) = (folder / "features").iterdir()
    return path


def test_cache_returns_what_was_computed_once(tmp_path):
    compute = Compute()
    first = cached_features(KEY, compute, tmp_path)
    again = cached_features(dict(reversed(KEY.items())), compute, tmp_path)
    assert compute.calls == 1
    assert first.keys() == again.keys()
    for name in first:
        assert torch.equal(first[name], again[name])
    assert _only_file(tmp_path).suffix == ".safetensors"


def test_every_part_of_the_key_counts(tmp_path, monkeypatch):
    compute = Compute()
    cached_features(KEY, compute, tmp_path)
    for part in KEY:
        cached_features(KEY | {part: "other"}, compute, tmp_path)
    cached_features(KEY | {"more": ""}, compute, tmp_path)
    monkeypatch.setattr(module, "FEATURE_VERSION", "next")
    cached_features(KEY, compute, tmp_path)
    assert compute.calls == 6


def test_a_flipped_bit_anywhere_never_gives_other_features(tmp_path):
    expected = cached_features(KEY, Compute(), tmp_path)
    path = _only_file(tmp_path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        compute = Compute()
        got = cached_features(KEY, compute, tmp_path)
        for name in expected:
            assert torch.equal(got[name], expected[name])
        assert cached_features(KEY, compute, tmp_path).keys() == expected.keys()
        assert compute.calls <= 1  # the damaged file was replaced by a good one


def test_flipped_payload_is_recomputed(tmp_path):
    cached_features(KEY, Compute(), tmp_path)
    path = _only_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    compute = Compute()
    cached_features(KEY, compute, tmp_path)
    assert compute.calls == 1


@pytest.mark.parametrize("length", [0, 5, 8, 40, -1])
def test_a_truncated_file_is_recomputed(tmp_path, length):
    cached_features(KEY, Compute(), tmp_path)
    path = _only_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    compute = Compute()
    cached_features(KEY, compute, tmp_path)
    assert compute.calls == 1
    cached_features(KEY, compute, tmp_path)
    assert compute.calls == 1  # the damaged file was replaced by a good one


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"__metadata__": 3}', b"nul"])
def test_a_foreign_header_is_recomputed(tmp_path, header):
    cached_features(KEY, Compute(), tmp_path)
    _only_file(tmp_path).write_bytes(len(header).to_bytes(8, "little") + header)
    compute = Compute()
    cached_features(KEY, compute, tmp_path)
    assert compute.calls == 1


def test_a_file_under_another_name_is_not_believed(tmp_path):
    cached_features(KEY, Compute(), tmp_path)
    path = _only_file(tmp_path)
    data = path.read_bytes()
    path.unlink()
    cached_features(KEY | {"weights": "other"}, Compute(), tmp_path)
    _only_file(tmp_path).write_bytes(data)
    compute = Compute()
    cached_features(KEY | {"weights": "other"}, compute, tmp_path)
    assert compute.calls == 1


def test_an_unwritable_cache_only_costs_time(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert torch.equal(cached_features(KEY, Compute(), blocked)["backbone"], Compute()()["backbone"])

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    cached_features(KEY, Compute(), tmp_path)
    assert list((tmp_path / "features").iterdir()) == []  # no temporary file is left behind


def test_an_unreadable_entry_only_costs_time(tmp_path):
    cached_features(KEY, Compute(), tmp_path)
    path = _only_file(tmp_path)
    path.unlink()
    path.mkdir()
    compute = Compute()
    cached_features(KEY, compute, tmp_path)
    assert compute.calls == 1


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    cached_features(KEY, Compute())
    assert _only_file(tmp_path / "here").is_file()
    monkeypatch.delenv("KINSHOT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kinshot"


def test_no_pickle_in_the_cache(tmp_path):
    cached_features(KEY, Compute(), tmp_path)
    data = _only_file(tmp_path).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) == {"__metadata__", "backbone", "same"}


WORKER = """
import sys
from pathlib import Path
import torch
from kinshot.learn.features import cached_features

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
expected = torch.arange(200_000, dtype=torch.float32).view(1000, 200)
computed = 0
def compute():
    global computed
    computed += 1
    return {"f": expected.clone()}
for turn in range(60):
    if (turn + seed) % 5 == 0:  # the other process finds the entry gone, half written, or damaged
        for entry in (folder / "features").glob("*.safetensors"):
            try:
                if turn % 2:
                    entry.unlink()
                else:
                    with entry.open("r+b") as file:
                        file.truncate(1000)
            except FileNotFoundError:
                pass
    found = cached_features({"a": "1"}, compute, folder)
    if not torch.equal(found["f"], expected):
        sys.exit(f"other features in turn {turn}")
print(computed)
"""


def test_two_processes_share_a_cache_that_is_damaged_under_them(tmp_path):
    commands = [[sys.executable, "-c", WORKER, str(tmp_path), str(seed)] for seed in (0, 2)]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    ended = [(process.communicate(timeout=120), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0], ended
    assert all(1 <= int(out) < 60 for (out, _), _ in ended)  # the cache serves some and loses none
    left = [path.name for path in (tmp_path / "features").iterdir()]
    assert len(left) == 1
    assert left[0].endswith(".safetensors")
