"""Frozen parts of an encoder: what training leaves as it is, to the bit, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.checkpoint import checkpoint_path, load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.freezing import freeze, keep_still
from kinshot.encoders.momentum import follow_, momentum_copy
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.load import load
from kinshot.runs.start import Options
from kinshot.runs.train import dry_run, train_recipe
from kinshot.samples.pixels import PixelSpec
from tests.tiny import TINY

GRAY = PixelSpec.square(1, 16, (0.5,), (0.5,))
FAST = ["data.split=test", "train.epochs=2", "train.batch_size=90", "monitor.knn_every=0", "monitor.projector_points=0", "monitor.keep=100"]
FAST += ["encoder.width=4"]
EPISODES = ["views=clean", "method.ways=5", "method.queries=3", "train.batch_size=20"]


def go(out: Path, *more: str, resume: str = "never") -> Path:
    train_recipe(load_recipe(str(TINY), [*FAST, *more]), Options(out, resume, quiet=True), lambda text: None)
    return out


def encoder_of(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path, parts=("encoder",)).encoder


def began(run: Path) -> Path:
    return checkpoint_path(run, 0)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_frozen_parts_stay_as_they_are_and_the_others_learn(method: str, tmp_path: Path) -> None:
    out = go(tmp_path / "run", f"method={method}", *["method.queue=90"] * (method == "moco"), "train.freeze=[blocks.0, blocks.1.norm]")
    before, after = encoder_of(began(out)), encoder_of(out)
    frozen = {name for name in before if name.startswith(("blocks.0.", "blocks.1.norm."))}
    assert len(frozen) == 11
    assert changed(before, after) == set(before) - frozen


def test_everything_frozen_is_a_probe_of_the_whole_encoder(tmp_path: Path) -> None:
    options = ["method=classifier", "views=clean", "validation.split=", "train.freeze=[all]"]
    out = go(tmp_path / "run", *options)
    first, last = (load_checkpoint(path) for path in (began(out), out))
    assert changed(first.encoder, last.encoder) == set()
    rows = {name for name in first.training if ".rows." in name and name.startswith("method/")}
    assert rows
    assert changed({name: first.training[name] for name in rows}, last.training) == rows


def test_a_stopped_run_with_frozen_parts_goes_on_bit_for_bit(tmp_path: Path) -> None:
    options = ["method=moco", "method.queue=90", "train.freeze=[blocks.0]"]
    whole, part = go(tmp_path / "whole", *options), tmp_path / "part"
    middle = max(path for path in (whole / "checkpoints").iterdir() if load_checkpoint(path, parts=()).epoch == 1)
    go(part, *options, resume=str(middle))
    again, expected = load_checkpoint(part), load_checkpoint(whole)
    assert changed(expected.training, again.training) == changed(expected.encoder, again.encoder) == set()
    with pytest.raises(ConfigError, match=r"train\.freeze"):
        go(part, *options[:2], resume="auto")


def test_a_frozen_start_from_another_run_keeps_its_features(tmp_path: Path) -> None:
    first = go(tmp_path / "first")
    second = go(tmp_path / "second", f"init={first}", "train.freeze=[all]", "seed=5")
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load(first).embed(images)["backbone"], load(second).embed(images)["backbone"])
    assert not torch.equal(load(first).embed(images)["projector"], load(second).embed(images)["projector"])


def test_key_networks_follow_but_for_what_is_frozen() -> None:
    encoder = build_encoder("conv4", {"width": 4}, GRAY)
    freeze(encoder, ["blocks.0"])
    key = momentum_copy(encoder)
    before = copy.deepcopy(key.state_dict())
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(1.0 if weight.requires_grad else 0.0)
    for _ in range(3):
        follow_(key, encoder, 0.9)
    moved = changed(before, key.state_dict())
    assert moved
    assert not [name for name in moved if name.startswith("blocks.0")]
    keep_still(key.train())
    assert [block.norm.training for block in key.blocks] == [False, True, True, True]  # type: ignore[union-attr]


def test_names_are_those_of_the_state_also_behind_an_adapter() -> None:
    pytest.importorskip("timm")
    encoder = build_encoder("timm", {"model": "resnet10t"}, PixelSpec.square(3, 32, (0.5,) * 3, (0.5,) * 3))
    freeze(encoder, ["conv1", "layer1", "layer2.0.bn1.weight"])
    frozen = {name.removeprefix("model.") for name, weight in encoder.named_parameters() if not weight.requires_grad}
    every = [name for name, _ in encoder.model.named_parameters()]
    expected = {name for name in every if name.startswith(("conv1.", "layer1.")) or name == "layer2.0.bn1.weight"}
    assert frozen == expected
    keep_still(encoder.train())
    still = [name for name, module in encoder.model.named_modules() if isinstance(module, nn.BatchNorm2d) and not module.training]
    assert still
    assert all(name.startswith(("conv1.", "layer1.")) for name in still)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blocks.9"], r"no part 'blocks\.9': did you mean 'blocks\."),
        (["blok"], "no part 'blok'"),
        (["blocks.0.norm.running_mean"], "statistic"),
    ],
)
def test_unknown_parts_are_refused_with_the_closest(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        freeze(build_encoder("conv4", {"width": 4}, GRAY), names)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["train.freeze=[all]", "projector.layers=0"], "nothing is left to train"),
        (["method=protonet", *EPISODES, "train.freeze=[all]"], "take parts out"),
        (["method=maml", *EPISODES, "train.freeze=[blocks.0]"], "adapts the whole encoder"),
        (["train.freeze=[blocks.0, stem]"], "no part 'stem'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_begins(more: list[str], message: str, tmp_path: Path) -> None:
    recipe: Any = load_recipe(str(TINY), [*FAST, *more])
    with pytest.raises(ConfigError, match=message):
        dry_run(recipe, Options(tmp_path / "run"))
    with pytest.raises(ConfigError, match=message):
        train_recipe(recipe, Options(tmp_path / "run", quiet=True), lambda text: None)


def test_an_encoder_that_strided_starts_one_that_dilates(tmp_path: Path) -> None:
    """What was pretrained on whole images gives its weights to dense features."""
    plain = [text for text in FAST if not text.startswith(("encoder", "train.epochs"))]
    small = [*plain, "encoder=resnet18", "encoder.width=0.125", "encoder.stem=small", "views.elastic=0", "monitor.tensorboard=false"]
    train_recipe(load_recipe(str(TINY), [*small, "train.epochs=0"]), Options(tmp_path / "a", quiet=True), lambda text: None)
    dilated = [*small, "encoder.output_stride=8", f"init={tmp_path / 'a'}", "train.epochs=0"]
    train_recipe(load_recipe(str(TINY), dilated), Options(tmp_path / "b", quiet=True), lambda text: None)
    before, after = load_checkpoint(tmp_path / "a").encoder, load_checkpoint(tmp_path / "b").encoder
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
