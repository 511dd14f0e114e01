"""Training of the PFENet-style decoder and of BAM's base learner: losses against loops, what learns, runs from beginning to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import load_recipe
from kinshot.recipes.segmenters import parse_segmenter
from kinshot.runs.embedder import from_checkpoint, untrained
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.runs.trained_segmenters import model_segmenter
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.dense import Dense, way_maps
from kinshot.segmentation.episodes import sample_dense_episodes
from kinshot.segmentation.evaluate import encoder_maps
from kinshot.segmentation.methods.pfenet import decoder_loss, intersection_over_union
from kinshot.segmentation.pfenet import PFENet
from tests import reference_segmentation_decoder as reference
from tests.test_segmentation_pfenet import DIMS, HIGH, PIXELS, C, E, Q, decoder, draw, episodes

CLASSES = torch.tensor([[1, 3], [4, 2]])


def class_maps():
    """Of the queries: background, all classes, another class's objects, and pixels of which nothing is said."""
    masks = torch.randint(0, C + 3, (E, Q, PIXELS, PIXELS), generator=torch.Generator().manual_seed(5))
    return masks.masked_fill(masks == C + 2, 255)


def targets(masks, others):
    found = np.where(masks == 255, 255, np.where((masks != 0) & (others == "ignore"), 255, 0))
    for e in range(E):
        for w in range(2):
            found[e][masks[e] == CLASSES[e, w].item()] = w + 1
    return found


def cost(network, masks, aux=1.0, others="background"):
    return decoder_loss(network, episodes(), way_maps(masks, CLASSES, others), masks, CLASSES, aux=aux, others=others)


def mean_cost(scores, target):
    """Over all pixels of all queries that say something."""
    each = [reference.cross_entropy(scores[e, q], target[e, q]) for e, q in np.ndindex(E, Q)]
    counts = [(target[e, q] != 255).sum() for e, q in np.ndindex(E, Q)]
    return np.average(each, weights=counts)


@pytest.mark.parametrize("others", ["background", "ignore"])
def test_the_loss_of_the_decoder_equals_loops(others):
    network, dense, masks = decoder(), episodes(), class_maps()
    got = cost(network, masks, 0.5, others)
    target = targets(masks.numpy(), others)
    main, *auxiliary = [mean_cost(one.detach().numpy(), target) for one in network(dense)]
    assert got["main"].item() == pytest.approx(main, rel=1e-9)
    assert got["auxiliary"].item() == pytest.approx(np.mean(auxiliary), rel=1e-9)
    assert got["loss"].item() == pytest.approx(main + 0.5 * np.mean(auxiliary), rel=1e-9)
    assert sorted(got) == ["auxiliary", "iou", "loss", "main"]


@pytest.mark.parametrize("others", ["background", "ignore"])
def test_the_loss_with_a_base_learner_equals_loops(others):
    network, dense, masks = decoder(base=(DIMS[HIGH], C)), episodes(), class_maps()
    with torch.no_grad():
        network.merge.copy_(torch.tensor([0.9, 0.7]))
        scores, logits = network(dense)[0].numpy(), network.base(dense.query[HIGH]).numpy()
    got = cost(network, masks, 1.0, others)
    final = scores.copy()
    for e, q in np.ndindex(E, Q):
        p = np.apply_along_axis(reference.softmax, 0, logits[e, q])
        claimed = sum(p[c] for c in range(1, C + 1) if c not in CLASSES[e])
        mixed = np.apply_along_axis(reference.softmax, 0, scores[e, q])
        mixed[0] = 0.9 * mixed[0] + 0.7 * reference.bilinear(claimed[None], scores.shape[-2:])[0]
        final[e, q] = np.log(mixed)
    suppressed = mean_cost(final, targets(masks.numpy(), others))
    known = np.where(masks.numpy() == C + 1, 255 if others == "ignore" else 0, masks.numpy())
    base = mean_cost(logits, known)
    assert got["suppressed"].item() == pytest.approx(suppressed, rel=1e-6)  # the merge weights are those of float32
    assert got["base"].item() == pytest.approx(base, rel=1e-9)
    assert got["loss"].item() == pytest.approx((got["main"] + got["auxiliary"]).item() + suppressed + base, rel=1e-6)


def test_every_weight_of_the_decoder_learns():
    network = decoder(base=(DIMS[HIGH], C), width=16)
    cost(network, class_maps())["loss"].backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pixels_of_which_nothing_is_said_cost_nothing():
    network, masks = decoder(base=(DIMS[HIGH], C)), torch.full((E, Q, PIXELS, PIXELS), 255)
    got = cost(network, masks)
    got["loss"].backward()
    assert got["loss"].item() == got["iou"].item() == 0
    assert not any(p.grad is not None and p.grad.any() for p in network.parameters())


def test_intersection_over_union_counts_ways_where_something_is_said():
    scores, target = draw(E, Q, 3, PIXELS, PIXELS), class_maps() % 3
    target[0, 0, :4] = 255
    found, kept = scores.argmax(2).numpy(), target.numpy() != 255
    hit = ((found == target.numpy()) & (found > 0) & kept).sum()
    union = (((found > 0) | (target.numpy() > 0)) & kept).sum()
    assert intersection_over_union(scores, target).item() == pytest.approx(hit / union)


RECIPE = {
    "description": "small enough for end-to-end tests",
    "data": {"name": "glyph_scenes", "split": "train", "size": 32, "classes": 8, "per_class": 6},
    "views": {"name": "clean"},
    "encoder": {"name": "conv4", "width": 8},
    "projector": {"layers": 0},
    "train": {"epochs": 2, "batch_size": 6, "threads": 1, "lr": 0.01},
    "monitor": {"log_every": 1, "knn_every": 0, "projector_points": 0, "tensorboard": False},
}


def trained(folder, method, **train):
    """A run, and its losses."""
    recipe = {**RECIPE, "method": method, "train": {**RECIPE["train"], **train}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    train_recipe(load_recipe(str(folder / "recipe.yaml"), []), Options(folder / "run", quiet=True), lambda text: None)
    run = read(folder / "run", parts=("encoder", "projector", "network"))
    records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return run, [one["train/loss"] for one in records if "train/loss" in one]


def validation_episodes(model, stages):
    """Two episodes of classes that were not trained on."""
    scenes = SOURCES.build("glyph_scenes", settings={**{k: v for k, v in RECIPE["data"].items() if k != "name"}, "split": "val"})
    drawn = sample_dense_episodes(scenes.contains, scenes.photos, ways=2, shots=1, queries=2, episodes=2, seed=0)
    encode = encoder_maps(model, scenes, stages)
    masks = scenes.load(drawn.support.reshape(-1), ["mask"])["mask"].view(*drawn.support.shape, 32, 32)

    def maps(rows):
        return {stage: values.unflatten(0, rows.shape) for stage, values in encode(rows.reshape(-1)).items()}

    return Dense(maps(drawn.support), way_maps(masks, torch.from_numpy(drawn.classes)), maps(drawn.query))


def test_a_run_trains_the_decoder_on_a_frozen_encoder_and_its_checkpoint_segments(tmp_path):
    method = {"name": "pfenet", "shots": 2, "tasks": 2, "width": 16, "base": True}
    run, losses = trained(tmp_path, method, freeze=["all"])
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    started = untrained(run).encoder.state_dict()
    assert all(torch.equal(value, started[name]) for name, value in run.checkpoint.encoder.items())
    network = PFENet.of(run.checkpoint.optional("network"), torch.zeros(1))
    assert network.stages == ("blocks.3", "blocks.1", "blocks.2")
    assert network.base.classes == 8
    assert not torch.equal(network.merge, torch.tensor([1.0, 0.0]))
    model = from_checkpoint(run)
    made = model_segmenter(parse_segmenter("pfenet"), model, run)
    assert made.stages == network.stages
    dense = validation_episodes(model, made.stages)
    scores = made.segmenter(dense)
    assert scores.shape == (2, 2, 3, 8, 8)
    assert torch.equal(scores, network.final(network(dense)[0], dense.query))
    assert not torch.equal(scores, network(dense)[0])


def test_a_run_trains_a_base_learner_that_suppresses_cosine(tmp_path):
    run, losses = trained(tmp_path, {"name": "base_classes"})
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    model = from_checkpoint(run)
    found = {}
    for weight in (0.0, 1.0):
        made = model_segmenter(parse_segmenter(f"base_suppressed:base_weight={weight}"), model, run)
        found[weight] = made.segmenter(validation_episodes(model, made.stages))
    dense = validation_episodes(model, ("blocks.3",))
    assert torch.equal(found[0.0], SEGMENTERS.get("cosine")(dense))
    assert torch.equal(found[1.0][:, :, 1:], found[0.0][:, :, 1:])
    assert bool((found[1.0][:, :, 0] > found[0.0][:, :, 0]).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aux": -1.0}, "aux must be at least 0"),
        ({"middle": ["blocks.9"]}, "middle: the encoder has no stage 'blocks.9'"),
        ({"high": "block"}, "high: the encoder has no stage 'block'"),
        ({"width": 0}, "width of at least 1"),
        ({"scales": [2.0]}, "scales are shares"),
        ({"tasks": 5}, r"set train.batch_size=10"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        trained(tmp_path, {"name": "pfenet", "tasks": 3, **settings})
