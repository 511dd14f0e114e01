"""What an encoder weighs, against formulas by hand and files on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kinshot.encoders.build import build_encoder
from kinshot.learn.model import Model
from kinshot.runs.load import load
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.tokens import TokenSpec
from kinshot.studies.footprint import file_bytes_of, footprint, macs_of, parameters_of
from tests.study_runs import DIGITS, write_run

GRAY = PixelSpec.square(1, 28, (0.5,), (0.25,))
COLOUR = PixelSpec.square(3, 33, (0.5,) * 3, (0.25,) * 3)
ROWS = RowSpec(10, (0.0,) * 10, (1.0,) * 10)
TEXTS = TokenSpec(12, "abcdef")


def conv4_macs(spec: PixelSpec, width: int, depth: int = 4) -> int:
    side, before, total = spec.size, spec.channels, 0
    for _ in range(depth):
        total += 9 * before * width * side * side  # padding counts, as everywhere
        side, before = -(-side // 2), width
    return total


@pytest.mark.parametrize("spec", [GRAY, COLOUR])
@pytest.mark.parametrize(("width", "depth"), [(64, 4), (8, 2)])
def test_conv4_by_hand(spec: PixelSpec, width: int, depth: int) -> None:
    encoder = build_encoder("conv4", {"width": width, "depth": depth}, spec).eval()
    assert macs_of(encoder, spec) == conv4_macs(spec, width, depth)
    assert parameters_of(encoder) == 9 * width * (spec.channels + (depth - 1) * width) + 2 * width * depth


def test_mlp_and_text_by_hand() -> None:
    mlp = build_encoder("mlp", {"widths": [40, 20]}, ROWS).eval()
    assert macs_of(mlp, ROWS) == 10 * 40 + 40 * 20
    text = build_encoder("text", {"width": 8, "layers": 2, "heads": 2}, TEXTS).eval()
    linear, attention = 12 * (3 + 1 + 4 + 4) * 8 * 8, 2 * 12 * 12 * 8
    assert macs_of(text, TEXTS) == 2 * (linear + attention)


def test_resnet18_is_as_published() -> None:
    """1.82 G multiply-accumulates at 224 pixels (torchvision says 1.81 with its own counting of the classifier)."""
    spec = PixelSpec.square(3, 224, (0.5,) * 3, (0.25,) * 3)
    assert macs_of(build_encoder("resnet18", {}, spec).eval(), spec) == pytest.approx(1.814e9, rel=0.005)


def test_file_bytes_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", DIGITS)
    model = load(run)
    (file,) = tmp_path.rglob("encoder.safetensors")
    assert file_bytes_of(model.encoder) == file.stat().st_size


def test_footprint_leaves_the_projector_out_and_the_model_as_it_was() -> None:
    encoder = build_encoder("conv4", {"width": 4}, GRAY)
    model = Model(encoder, nn.Linear(16, 99), input=GRAY).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = footprint(model)
    assert (found.parameters, found.macs) == (9 * 4 * (1 + 3 * 4) + 2 * 4 * 4, conv4_macs(GRAY, 4))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
