"""Pseudo-classes: a slow float64 reference of both losses, whose batches they make, and a run through the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import kinshot
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.views import VIEWS
from kinshot.kin.markov import markov_clusters
from kinshot.learn import METHODS
from kinshot.learn.learner import Learner
from kinshot.runs.inputs import BatchMaker
from kinshot.samples.batch import Batch
from kinshot.samples.pixels import PixelSpec
from tests import tiny
from tests.steps import model_of
from tests.test_contract_methods import B, N, encoder_for, noise

CONTEXT = RunContext(N, B, N // B, 5 * (N // B), 0)


def method_of(**settings):
    torch.default_generator.manual_seed(0)
    return METHODS.build("pseudo_classes", model_of(encoder_for("image", "simclr")), CONTEXT, settings=settings).eval()


def clustered(head=None, rows=None, quarters=0):
    """Embeddings of N samples in pairs that lie close together."""
    centers = torch.randn(N // 2, 8, generator=keyed_generator(5, "centers"))
    return centers.repeat_interleave(2, 0) + 0.01 * torch.randn(N, 8, generator=keyed_generator(6, "noise"))


def sup_con_reference(z, y, temperature):
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        below = np.log(sum(np.exp(z[i] @ z[j] / temperature) for j in others))
        kin = [j for j in others if y[j] == y[i]]
        total += np.mean([below - z[i] @ z[j] / temperature for j in kin]) / len(z)
    return total


@pytest.mark.parametrize("epoch", [0, 1])
def test_loss_is_nt_xent_and_then_sup_con_over_pseudo_classes(epoch):
    method = method_of(warmup_epochs=1, neighbors=1)
    method.start_epoch(epoch, clustered)
    batch = Batch(torch.arange(B), (noise(1, B, 3, 8, 8), noise(2, B, 3, 8, 8)))
    outputs = method.outputs(batch)
    found = method.loss(outputs, batch, epoch * CONTEXT.steps_per_epoch)["loss"]
    y = np.arange(B) if epoch == 0 else np.arange(B) // 2
    z = outputs["projector"].detach().double().numpy()
    assert float(found.detach()) == pytest.approx(sup_con_reference(z, np.tile(y, 2), 0.1), rel=1e-5)


def test_pseudo_classes_are_found_when_they_are_due():
    method, asked = method_of(warmup_epochs=2, every=3, neighbors=1), []

    def extract(head=None, rows=None):
        asked.append(epoch)
        return clustered()

    for epoch in range(9):
        method.start_epoch(epoch, extract)
    assert asked == [2, 5, 8]
    assert method.assigned.tolist() == [i // 2 for i in range(N)]
    assert method.after_step(0) == {}
    assert {name: float(value) for name, value in method.after_step(N).items()} == {"count": N // 2, "covered": 1.0}


def test_members_come_together_once_there_are_pseudo_classes():
    method = method_of(warmup_epochs=1, neighbors=1, per_class=2)
    before = method.order(0)
    method.start_epoch(1, clustered)
    after = method.order(1)
    assert before.shape == after.shape == (N // B, B)
    assert (after.view(-1, 2)[:, 0] // 2 == after.view(-1, 2)[:, 1] // 2).all()
    assert not (before.view(-1, 2)[:, 0] // 2 == before.view(-1, 2)[:, 1] // 2).all()


def test_turned_images_are_clustered_by_what_is_said_of_all_four():
    method, asked = method_of(warmup_epochs=0, neighbors=1, turned=True), []

    def extract(head=None, rows=None, quarters=0):
        asked.append(quarters)
        # upright everything is alike but for the parity, turned by a quarter alone pairs are told apart
        return clustered() if quarters == 1 else torch.eye(8)[torch.arange(N) % 2]

    method.start_epoch(0, extract)
    assert asked == [0, 1, 2, 3]
    z = torch.cat([torch.nn.functional.normalize(extract(quarters=q), dim=1) for q in range(4)], dim=1)
    assert torch.equal(method.assigned, markov_clusters(z, neighbors=1))


def test_a_run_embeds_turned_images(tmp_path):
    settings = ["train.epochs=2", "method.warmup_epochs=0", "method.neighbors=5", "method.turned=true", "views.turns=true"]
    done = tiny.run("ssl", "pretrain", tiny.TINY, "method=pseudo_classes", *settings, "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_only_square_images_are_turned():
    encoder = encoder_for("image", "simclr")
    encoder.input = replace(encoder.input, height=6)
    with pytest.raises(ConfigError, match="only square images can be turned"):
        METHODS.build("pseudo_classes", model_of(encoder), CONTEXT, settings={"turned": True})


def test_doubtful_pairs_are_neither_kin_nor_told_apart():
    method = method_of(warmup_epochs=0, doubt=1.5)
    batch = Batch(torch.arange(B), (noise(1, B, 3, 8, 8), noise(2, B, 3, 8, 8)))
    method.assigned.copy_(torch.arange(N) // 2)
    method.coarse.copy_(torch.arange(N) // 4)
    outputs = method.outputs(batch)
    found = method.loss(outputs, batch, 0)["loss"].detach()
    z = outputs["projector"].detach().double().numpy()
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(2 * B):
        fine, wide = [[j % B // size == i % B // size for j in range(2 * B)] for size in (2, 4)]
        kin = [j for j in range(2 * B) if j != i and fine[j]]
        counted = kin + [j for j in range(2 * B) if not wide[j]]
        losses.append(np.mean([np.log(np.exp(z[counted] @ z[i] / 0.1).sum()) - z[i] @ z[j] / 0.1 for j in kin]))
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)


def test_coarser_clusters_hold_whole_pseudo_classes_of_one_graph():
    method = method_of(warmup_epochs=0, neighbors=8, inflation=4.0, doubt=1.2)
    method.start_epoch(0, lambda head=None, rows=None, quarters=0: torch.randn(N, 8, generator=keyed_generator(7, "scattered")))
    assert int(method.coarse.max()) < int(method.assigned.max())


def test_clean_epochs_show_every_image_once_and_as_it_is():
    method = method_of(warmup_epochs=1, neighbors=1, clean_from=2)
    assert [method.shows_clean(epoch) for epoch in range(4)] == [False, False, True, True]
    spec = PixelSpec.square(3, 8, (0.5,) * 3, (0.25,) * 3)
    make = BatchMaker(VIEWS.build("warp", spec, settings={"rotation": 40.0}), spec, Learner(method), B, "image")
    images, ids = torch.randint(0, 256, (B, 3, 8, 8), dtype=torch.uint8, generator=keyed_generator(8, "images")), torch.arange(B)
    warped, clean = (make(images, ids, seed=0, epoch=epoch, step=epoch * CONTEXT.steps_per_epoch) for epoch in (1, 2))
    assert len(warped.views) == 2
    assert not torch.equal(warped.views[0], warped.views[1])
    assert len(clean.views) == 1
    assert torch.equal(clean.views[0], spec.normalize(images))

    method.start_epoch(1, clustered)
    outputs = method.outputs(clean)
    assert outputs["projector"].shape[0] == B
    found = method.loss(outputs, clean, clean.step)["loss"].detach()
    z = outputs["projector"].detach().double().numpy()
    assert float(found) == pytest.approx(sup_con_reference(z, np.arange(B) // 2, 0.1), rel=1e-5)


def test_a_run_that_stopped_among_its_clean_epochs_goes_on_to_the_same_weights(tmp_path):
    settings = ["train.epochs=4", "method.warmup_epochs=1", "method.neighbors=5", "method.clean_from=2", "monitor.checkpoint_every=1"]
    line = ("ssl", "pretrain", tiny.TINY, "method=pseudo_classes", *settings)
    for out in ("whole", "stopped"):
        done = tiny.run(*line, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    newest = sorted((tmp_path / "stopped/checkpoints").iterdir())
    shutil.rmtree(newest[-1])
    done = tiny.run(*line, "--out", "stopped", "--resume", "auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole, stopped = (kinshot.load(tmp_path / out).state_dict() for out in ("whole", "stopped"))
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())


WRONG = [{"warmup_epochs": -1}, {"every": 0}, {"per_class": 0}, {"temperature": 0.0}, {"inflation": 1.0}, {"views": 1}]
WRONG += [{"clean_from": 3, "warmup_epochs": 4}, {"clean_from": -1}]
WRONG += [{"doubt": 1.0}, {"doubt": 2.0, "inflation": 1.8}]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        method_of(**wrong)


def test_a_run_finds_classes_and_says_how_many(tmp_path):
    settings = ["train.epochs=3", "method.warmup_epochs=1", "method.every=1", "method.neighbors=5", "views.turns=true"]
    done = tiny.run("ssl", "pretrain", tiny.TINY, "method=pseudo_classes", *settings, "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    found = [(record["pseudo_classes/count"], record["pseudo_classes/covered"]) for record in records if "pseudo_classes/count" in record]
    assert found
    assert all(count > 1 and 0 < share <= 1 for count, share in found)
