"""A mistyped name of a backbone, where a checkpoint is expected, is answered with the backbone that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinshot.cli import fewshot, segmentation, ssl
from kinshot.core.errors import CheckpointError
from kinshot.recipes.backbones import backbone_meant
from kinshot.recipes.loaded import read


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("efficientnet_lite00", "efficientnet_lite0"),
        ("efficient_lite0", "efficientnet_lite0"),
        ("efficientnet_lite0:weights.safetensors", "efficientnet_lite0"),
        ("tim:resnet18", "timm:resnet18"),
        ("torchvison:resnet18:w.pth", "torchvision:resnet18:w.pth"),
        ("runs", None),
        ("", None),
        ("x" * 300, None),
    ],
)
def test_the_closest_backbone(text: str, meant: str | None) -> None:
    assert backbone_meant(text) == meant


def test_a_folder_that_is_closer_is_meant() -> None:
    assert backbone_meant("efficientnet_lite0_a", ["efficientnet_lite0_b"]) is None


def test_a_checkpoint_that_is_not_there_is_taken_for_no_backbone_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*efficientnet_lite00: check the path"):
        read(tmp_path / "efficientnet_lite00")


@pytest.mark.parametrize(
    ("main", "args"),
    [
        (segmentation.main, ["eval", "--data", "glyph_scenes"]),
        (fewshot.main, ["eval", "--data", "digits"]),
        (ssl.main, ["probe", "--data", "digits"]),
        (ssl.main, ["inspect"]),
    ],
)
def test_commands_name_the_backbone_that_was_meant(main, args, tmp_path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert main([*args[:1], "efficientnet_lite00", *args[1:]]) == 3
    assert "there is no checkpoint efficientnet_lite00: did you mean the backbone 'efficientnet_lite0'?" in capsys.readouterr().err
