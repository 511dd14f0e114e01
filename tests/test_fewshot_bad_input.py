"""`fewshot eval` on data that cannot be measured honestly: it ends with 2 or 3, says the counts, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli import fewshot
from kinshot.core.checkpoint import load_checkpoint, save_checkpoint
from tests.tiny import TINY, result, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    result(run("ssl", "pretrain", TINY, "train.epochs=0", "monitor.tensorboard=false", "--out", "run", "--json", "-q", cwd=folder))
    return folder / "run"


def write_classes(root: Path, images: list[int], seed: int = 0) -> Path:
    """A folder for each number, with that many noisy images."""
    rng = np.random.default_rng(seed)
    for label, count in enumerate(images):
        (root / f"class{label}").mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(root / f"class{label}" / f"{i}.png")
    return root


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = fewshot.main(["eval", *map(str, arguments), "--no-reference", "-q", "--results", "r.json"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "arguments", "code", "words"),
    [
        ([4, 4, 4], ["--ways", "2", "--shots", "3", "--queries", "2"], 3, ["has 4 images", "5 (3 shots + 2 queries)"]),
        ([9], ["--ways", "2", "--shots", "1", "--queries", "2"], 3, ["2-way episodes need 2 classes, got 1"]),
        ([6, 6, 6], ["--ways", "4", "--shots", "1", "--queries", "2"], 3, ["4-way episodes need 4 classes, got 3"]),
        ([6, 6, 6], ["--ways", "1"], 2, ["ways", "at least 2"]),
        ([6, 6, 6], ["--ways", "2", "--queries", "0"], 2, ["--queries must be at least 1", "got 0"]),
        ([6, 6, 6], ["--ways", "2", "--shots", "0"], 2, ["--shots"]),
        ([6, 1, 6], ["--ways", "all", "--shots", "1", "--queries", "1"], 3, ["has 1 image"]),
    ],
)
def test_too_little_data_ends_with_the_counts(images, arguments, code, words, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_classes(tmp_path / "data", images)
    got, error = refused(capsys, trained, "--data", f"folder:{data}", *arguments)
    assert got == code, error
    assert all(word in error for word in words), error
    assert not (tmp_path / "r.json").exists()


def test_copies_of_support_images_are_refused_unless_allowed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_classes(tmp_path / "data", [5, 5, 5])
    (data / "class1" / "4.png").write_bytes((data / "class1" / "0.png").read_bytes())
    arguments = [trained, "--data", f"folder:{data}", "--ways", "3", "--shots", "2", "--queries", "3", "--episodes", "20"]
    code, error = refused(capsys, *arguments)
    assert code == 3
    assert "of 20 episodes are copies of a support image" in error
    assert "--duplicates allow" in error
    assert not (tmp_path / "r.json").exists()
    assert refused(capsys, *arguments, "--duplicates", "allow")[0] == 0
    assert (tmp_path / "r.json").exists()


def test_features_that_are_not_finite_end_with_3(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good = load_checkpoint(trained)
    encoder = {name: value.clone() for name, value in good.encoder.items()}
    encoder["blocks.0.conv.weight"][0, 0, 0, 0] = float("nan")
    parts = {"encoder": encoder, "projector": good.projector, "training": {}}
    save_checkpoint(tmp_path / "nan", parts=parts, state=good.state, config=good.config)
    data = write_classes(tmp_path / "data", [5, 5, 5])
    code, error = refused(capsys, "nan", "--data", f"folder:{data}", "--ways", "3", "--shots", "1", "--queries", "2")
    assert code == 3
    assert "of 15 of 15 samples are not finite" in error
    assert not (tmp_path / "r.json").exists()


def test_data_without_labels_ends_with_3(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_classes(tmp_path / "data", [5, 5])
    code, error = refused(capsys, trained, "--data", f"folder:{data}", "--set", "labels=none")
    assert code == 3
    assert "no labels" in error
