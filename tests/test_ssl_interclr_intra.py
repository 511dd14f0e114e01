"""The losses between views that InterCLR stands on: NPID and BYOL in it against slow loops, and names of its state that stay."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.cli import ssl
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.learn import METHODS
from kinshot.samples.batch import Batch
from kinshot.ssl.interclr.intra import INTRA
from kinshot.ssl.interclr.step import choose
from kinshot.ssl.methods.interclr import InterCLR
from tests import reference_interclr as ref
from tests.steps import model_of
from tests.test_contract_methods import B, N, encoder_for, extractor, noise, projector_for
from tests.tiny import METHODS as TINY_METHODS
from tests.tiny import TINY

CONTEXT = RunContext(N, B, N // B, 5 * (N // B), 0)


def method_of(intra: str, **settings: object) -> InterCLR:
    torch.default_generator.manual_seed(0)
    encoder = encoder_for("image")
    method = InterCLR(model_of(encoder, projector_for("interclr", encoder)), CONTEXT, intra=intra, clusters=6, **settings).eval()
    method.prepare(extractor(method))
    method.start_epoch(0, extractor(method))
    return method


def batch_of(indices: list[int], views: int = 2, step: int = 0) -> Batch:
    return Batch(torch.tensor(indices), [noise(20 + view, len(indices), 3, 8, 8) for view in range(views)], None, {}, {}, step)


def inter_of(method: InterCLR, query: np.ndarray, batch: Batch, step: int) -> float:
    """The loss between images by loops, of the rows that the step draws."""
    generator = keyed_generator(0, "interclr/sample", step)
    drawn = choose(method.bank, torch.from_numpy(query).float(), batch.indices, generator, method.settings)
    bank, rows = method.bank.features.double().numpy(), (drawn.positives.tolist(), drawn.negatives.tolist())
    return ref.inter_loss(query, bank, *rows, method.settings.inter_temperature, "cosine", -0.5, drawn.weights.tolist())


def seen(method: InterCLR, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return method.projector(method.encoder(x)).double().numpy()


def test_npid_is_told_from_rows_of_the_bank_and_keeps_its_one_view() -> None:
    method = method_of("npid", bank_negatives=20, temperature=0.3, bank_momentum=0.5)
    indices, step = [3, 40, 3, 47, 0, 9, 10, 11], 4
    batch = batch_of(indices, views=1, step=step)
    z, bank = seen(method, batch.views[0]), method.bank.features.double().numpy().copy()
    drawn = torch.randperm(N, generator=keyed_generator(0, "npid/negatives", step))[:20].tolist()
    losses = []
    for row, index in zip(ref.unit(z), indices, strict=True):
        own, others = row @ bank[index] / 0.3, [row @ bank[other] / 0.3 for other in drawn if other != index]
        losses.append(math.log(math.exp(own) + sum(map(math.exp, others))) - own)
    found = {name: float(value.detach()) for name, value in method.loss(method.outputs(batch), batch, step).items()}
    assert found["intra"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["inter"] == pytest.approx(inter_of(method, z, batch, step), rel=1e-4)
    assert found["loss"] == pytest.approx(0.75 * found["intra"] + 0.25 * found["inter"], rel=1e-6)
    method.after_step(step)
    assert np.allclose(method.bank.features.numpy(), ref.update_features(bank, indices, z, 0.5), atol=1e-6)


def test_byol_predicts_the_slow_copies_and_keeps_their_second_view() -> None:
    method = method_of("byol", key_momentum=0.9, hidden=7, intra_weight=0.5, inter_weight=0.125)
    with torch.no_grad():
        for number, parameter in enumerate(method.key.parameters()):
            parameter.add_(0.1 * noise(number, *parameter.shape))
    batch = batch_of(list(range(B)))
    first, second = (seen(method, x) for x in batch.views)
    keys = [method.key(x, 0).double().numpy() for x in batch.views]
    losses = []
    for z, key in ((first, keys[1]), (second, keys[0])):
        with torch.no_grad():
            said = method.predictor(torch.from_numpy(z).float()).double().numpy()
        losses.append(np.mean([2 - 2 * float(a @ b) for a, b in zip(ref.unit(said), ref.unit(key), strict=True)]))
    found = {name: float(value.detach()) for name, value in method.loss(method.outputs(batch), batch, 0).items()}
    assert found["intra"] == pytest.approx(sum(losses), rel=1e-5)
    assert found["inter"] == pytest.approx(inter_of(method, first, batch, 0), rel=1e-4)
    assert found["loss"] == pytest.approx(0.5 * found["intra"] + 0.125 * found["inter"], rel=1e-6)
    before = [p.detach().clone() for p in method.key.parameters()]
    method.after_step(15)  # half-way, where half of the step is left
    assert method.key.momentum == pytest.approx(0.95)
    nets = [*method.encoder.parameters(), *method.projector.parameters()]
    for old, new, net in zip(before, method.key.parameters(), nets, strict=True):
        assert torch.allclose(new, 0.95 * old + 0.05 * net, atol=1e-6)
    assert np.allclose(method.bank.features[:B].numpy(), ref.unit(keys[1]), atol=1e-6)


def test_byol_with_a_projector_between_images_keeps_the_columns_of_each() -> None:
    method = method_of("byol", share_neck=False)
    batch = batch_of(list(range(B)))
    found = method.loss(method.outputs(batch), batch, 0)
    with torch.no_grad():
        key = method.key.heads[1](method.key.encoder(batch.views[1])).double().numpy()
        query = method.inter_projector(method.encoder(batch.views[0])).double().numpy()
    assert float(found["inter"]) == pytest.approx(inter_of(method, query, batch, 0), rel=1e-4)
    method.after_step(0)
    assert np.allclose(method.bank.features[:B].numpy(), ref.unit(key), atol=1e-6)


def test_the_bank_of_npid_has_no_rest_in_a_warm_up() -> None:
    waits = {"warmup_epochs": 2, "recluster_after_warmup": True}
    resting, method = method_of("simclr", **waits), method_of("npid", **waits)
    assert not resting.bank.filled
    assert method.bank.filled
    batch, before = batch_of(list(range(B)), views=1), method.bank.features.clone()
    assert method.loss(method.outputs(batch), batch, 0)["inter"] == 0
    method.after_step(0)
    assert not torch.equal(method.bank.features[:B], before[:B])
    assert torch.equal(method.bank.features[B:], before[B:])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"intra": "npid", "share_neck": False}, "got share_neck=false: leave share_neck out"),
        ({"intra": "npid", "bank_negatives": -1}, "bank_negatives is at least 0"),
        ({"intra": "byol", "hidden": -2}, "hidden"),
        ({"intra": "byol", "key_momentum": 1.5}, "key_momentum"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        METHODS.build("interclr", model_of(encoder_for("image")), CONTEXT, settings=settings)


def test_every_loss_between_views_can_be_named() -> None:
    annotation = METHODS.entry("interclr").parameters["intra"].annotation
    assert set(ast.literal_eval(annotation.removeprefix("Literal"))) == set(INTRA)
    assert all("Paper:" in (one.__doc__ or "") for one in INTRA.values())


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"intra": "moco"}, {"key.encoder", "key.heads", "queue.keys", "queue.pointer"}),
        ({"intra": "moco", "share_neck": False}, {"key.encoder", "key.heads", "queue.keys", "queue.pointer", "inter_projector"}),
        ({"intra": "simclr"}, set()),
        ({"intra": "npid"}, set()),
        ({"intra": "byol"}, {"key.encoder", "key.heads", "predictor"}),
    ],
)
def test_the_state_keeps_its_names(settings: dict, parts: set[str]) -> None:
    """Checkpoints of before there was a choice of losses are read by these."""
    names = {name for name in method_of(**settings).state_dict() if not name.startswith("model.")}
    bank = {"bank.features", "bank.labels", "bank.centroids", "bank.counts"}
    found = {name if name in bank else ".".join(name.split(".")[: 1 if name.startswith(("inter", "pred")) else 2]) for name in names}
    assert found == bank | parts


@pytest.mark.parametrize("intra", ["npid", "byol"])
def test_runs_by_command(intra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    views = f"views.views={1 if intra == 'npid' else 2}"
    given = [*TINY_METHODS["interclr"], f"method.intra={intra}", views, "monitor.tensorboard=false", "train.epochs=4"]
    assert ssl.main(["pretrain", str(TINY), *given, "--out", "run", "-q"]) == 0
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_two_views_for_one_are_refused_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert ssl.main(["validate", str(TINY), "method=interclr", "method.intra=npid", "views.views=2"]) == 2
    assert "interclr takes 1 views of a sample: set it to that" in capsys.readouterr().err
