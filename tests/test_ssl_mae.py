"""MAE: its loss against a slow float64 reference and lightly's pieces, what its encoder sees, its draws, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.cli import ssl
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.learn.model import Model
from kinshot.objectives.masked_patches import masked_patches, patches_of
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.batch import Batch
from kinshot.samples.pixels import PixelSpec
from kinshot.ssl.methods.mae import MAE
from tests.steps import NEEDS_TIMM
from tests.tiny import TINY

pytestmark = NEEDS_TIMM
SPEC = PixelSpec.square(3, 12, (0.5,) * 3, (0.25,) * 3)
CONTEXT = RunContext(40, 6, 6, 60, 3)


def encoder_of(spec: PixelSpec = SPEC, **settings: object):
    return build_encoder("timm", {"model": "test_vit", "patch": 3, **settings}, spec)


def method_of(spec: PixelSpec = SPEC, model: str = "test_vit", **settings: object) -> MAE:
    torch.default_generator.manual_seed(0)
    small = {"width": 32, "depth": 1, **settings}
    return MAE(Model(encoder_of(spec, model=model)), CONTEXT, **small).eval()


def images(count: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(count, *SPEC.shape, generator=torch.Generator().manual_seed(seed))


def batch_of(x: Tensor, step: int = 0, first: int = 0) -> Batch:
    return Batch(torch.arange(first, first + len(x)), [x], None, {}, {}, step)


def slow_patch(image: np.ndarray, number: int, side: int) -> list[float]:
    """Numbers of one patch, pixel by pixel and channel by channel."""
    top, left = divmod(number, image.shape[2] // side)
    return [image[c, top * side + i, left * side + j] for i in range(side) for j in range(side) for c in range(len(image))]


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_that_of_slow_loops_over_hidden_patches(normalize: bool) -> None:
    method, x = method_of(normalize=normalize), images()
    batch = batch_of(x, step=4)
    outputs = method.outputs(batch)
    hidden, kept = method.split(batch)
    with torch.no_grad():
        painted = method.decoder(outputs["tokens"], hidden, kept).double().numpy()
    errors = []
    for row, image in enumerate(x.double().numpy()):
        for place, number in enumerate(hidden[row].tolist()):
            wanted = slow_patch(image, number, 3)
            if normalize:
                mean = sum(wanted) / len(wanted)
                spread = sum((value - mean) ** 2 for value in wanted) / (len(wanted) - 1)
                wanted = [(value - mean) / math.sqrt(spread + 1e-6) for value in wanted]
            errors += [(said - value) ** 2 for said, value in zip(painted[row, place], wanted, strict=True)]
    assert float(method.loss(outputs, batch, 4)["loss"].detach()) == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_loss_is_that_of_lightlys_pieces() -> None:
    from lightly.models import utils

    x, painted = images(), torch.randn(6, 16, 27, generator=torch.Generator().manual_seed(2))
    wanted = utils.patchify(x, 3)
    assert torch.equal(patches_of(x, 3), wanted)
    theirs = torch.nn.MSELoss()(painted, utils.normalize_mean_var(wanted))
    assert masked_patches(wanted, painted).item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize(("hide", "count"), [(0.75, 12), (0.5, 8), (0.01, 1), (0.99, 15)])
def test_every_image_hides_its_exact_share(hide: float, count: int) -> None:
    method = method_of(hide=hide)
    for step in range(3):
        hidden, kept = method.split(batch_of(images(), step))
        assert hidden.shape == (6, count)
        assert [sorted(row) for row in torch.cat([hidden, kept], 1).tolist()] == [list(range(16))] * 6


def test_draws_are_of_step_and_sample_whatever_the_batch() -> None:
    method = method_of()
    whole, part = method.split(batch_of(images(), 2))[0], method.split(batch_of(images(2), 2, first=3))[0]
    assert torch.equal(whole[3:5], part)
    assert len({tuple(sorted(row)) for row in whole.tolist()}) > 1
    assert not torch.equal(whole, method.split(batch_of(images(), 3))[0])
    often = torch.cat([method.split(batch_of(images(), step))[0].flatten() for step in range(400)]).bincount() / 2400
    assert (often - 0.75).abs().max() < 0.05


def test_the_encoder_sees_visible_patches_alone() -> None:
    method, x = method_of(), images()
    batch = batch_of(x)
    hidden, kept = method.split(batch)

    def tokens(numbers: Tensor) -> Tensor:
        """Tokens where one pixel of a patch of each image is another one."""
        changed = x.clone()
        for row, number in enumerate(numbers[:, 0].tolist()):
            changed[row, :, number // 4 * 3 + 1, number % 4 * 3 + 1] += 5
        return method.outputs(batch_of(changed))["tokens"]

    plain = method.outputs(batch)["tokens"]
    assert plain.shape == (6, 1 + 4, 64)
    assert torch.equal(tokens(hidden), plain)
    assert not torch.allclose(tokens(kept), plain, atol=1e-3)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2", "vit_tiny_patch16_224"])  # the second one pools a mean, normalised behind it
def test_with_all_patches_in_sight_the_feature_is_the_encoders(model: str) -> None:
    method, x = method_of(model=model), images(2)
    everything = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(n)) for n in range(2)])
    with torch.no_grad():
        assert torch.allclose(method.visible.pooled(method.visible(x, everything)), method.encoder(x), atol=1e-5)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2"])
def test_every_trainable_parameter_gets_a_gradient(model: str) -> None:
    method, batch = method_of(model=model).train(), batch_of(images())
    method.loss(method.outputs(batch), batch, 0)["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []


def test_what_has_no_patches_to_hide_is_refused() -> None:
    def refused(match: str, encoder, **settings: object) -> None:
        with pytest.raises(ConfigError, match=match):
            MAE(Model(encoder), CONTEXT, **settings)

    refused("vision transformer of timm, got the encoder Conv4: set encoder=", build_encoder("conv4", {"width": 8}, SPEC))
    refused("got timm's ResNet: set", build_encoder("timm", {"model": "test_resnet"}, PixelSpec.square(3, 64, (0.5,) * 3, (0.25,) * 3)))
    refused("got timm's VisionTransformer that pools by attention", encoder_of(model="test_vit3"))
    refused(
        "hidden patches fill square images, got patches of 3 x 3 pixels and images of 3 x 12 x 24",
        encoder_of(PixelSpec(3, 12, 24, (0.5,) * 3, (0.25,) * 3)),
    )
    refused("one patch of 12 pixels has none to hide: set a smaller encoder.patch", encoder_of(patch=12))
    refused("hide is a share above 0 and below 1, got 1.0", encoder_of(), hide=1.0)
    refused("width is a multiple of 32", encoder_of(), width=40)
    with pytest.raises(ConfigError, match="there is no model"):
        method_of().outputs(batch_of(images()), ("model.blocks.0",))
    with pytest.raises(ConfigError, match=r"whole patches of 5, got \(6, 3, 12, 12\)"):
        patches_of(images(), 5)
    with pytest.raises(ConfigError, match="alike, got"):
        masked_patches(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))


@pytest.mark.parametrize(("patch", "match"), [(13, "at most the side"), (-1, "at most the side")])
def test_patches_of_no_size(patch: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        encoder_of(patch=patch)
    with pytest.raises(ConfigError, match=r"in patches of 5 .*divisible"):
        encoder_of(patch=5)
    with pytest.raises(ConfigError, match=r"does not take .* in patches of 2"):
        build_encoder("timm", {"model": "test_resnet", "patch": 2}, SPEC)


def test_a_run_by_command_goes_down_and_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["method=mae", "views.views=1", "encoder={name: timm, model: test_vit, patch: 4}", "monitor.tensorboard=false"]
    assert ssl.main(["pretrain", str(TINY), *given, "train.epochs=4", "train.lr=2e-3", "--out", "run", "-q"]) == 0
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    assert ssl.main(["export", "run", "--format", "timm", "--out", "vit.safetensors"]) == 0, capsys.readouterr().err
    assert ssl.main(["validate", str(TINY), "method=mae", "views.views=1"]) == 2
    assert "got the encoder Conv4: set encoder={name: timm" in capsys.readouterr().err


def test_terms_of_the_recipe_look_at_the_feature_of_visible_patches(tmp_path: Path) -> None:
    given = ["method=mae", "views.views=1", "encoder={name: timm, model: test_vit, patch: 4}", "monitor.tensorboard=false"]
    more = ["train.epochs=1", "terms=[{objective: multi_similarity, kin: labels, on: backbone, weight: 0.1}]"]
    done = train_recipe(load_recipe(str(TINY), [*given, *more]), Options(tmp_path / "run", quiet=True), lambda text: None)
    assert done["steps"] > 0
