"""A decoder that was trained on squares of some colours finds squares of colours that it never saw, by what the support shows."""

from __future__ import annotations

import numpy as np
import torch

from kinshot.core.context import RunContext
from kinshot.encoders.build import build_encoder
from kinshot.learn import METHODS
from kinshot.learn.model import Model
from kinshot.samples.batch import Batch
from kinshot.samples.pixels import PixelSpec
from kinshot.segmentation.heads.cosine import cosine
from kinshot.segmentation.heads.pfenet import pfenet
from kinshot.segmentation.methods.pfenet import intersection_over_union
from kinshot.segmentation.training_episodes import SceneOrder, SceneShape, dense_of_batch

SIDE, STEPS = 16, 150
SPEC = PixelSpec.square(3, SIDE, (0.45,) * 3, (0.3,) * 3)
BASE = [(255, 0, 0), (0, 255, 0), (255, 255, 0), (0, 255, 255), (255, 128, 0), (128, 0, 255), (0, 0, 0), (255, 255, 255)]
NOVEL = [(0, 0, 255), (255, 0, 255), (128, 255, 0), (0, 128, 255)]


def squares(colours, count, seed):
    """Images of two squares of two colours over a gray ground, normalised, with their class maps."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 130, (count, 3, SIDE, SIDE)).astype(np.uint8)
    masks = np.zeros((count, SIDE, SIDE), np.int64)
    for image, mask in zip(images, masks, strict=True):
        for place, c in enumerate(rng.permutation(len(colours))[:2]):
            y, x = rng.integers(0, SIDE - 7), 8 * place + rng.integers(0, 2)
            shade = np.array(colours[c])[:, None, None] + rng.integers(-15, 15, (3, 6, 6))
            image[:, y : y + 6, x : x + 6], mask[y : y + 6, x : x + 6] = shade.clip(0, 255), c + 1
    contains = np.stack([(masks == c + 1).any(axis=(1, 2)) for c in range(len(colours))], axis=1)
    return SPEC.normalize(torch.from_numpy(images)), torch.from_numpy(masks), contains


def trained():
    """The method after its steps, on an encoder that nobody trained."""
    images, masks, contains = squares(BASE, 80, 0)
    encoder = build_encoder("dense_cnn", {"width": 16, "stride": 2, "depth": 2}, SPEC, seed=0).requires_grad_(False).eval()
    context = RunContext(80, 16, STEPS, STEPS, 0, contains=contains, photos=np.arange(80))
    settings = {"ways": 1, "shots": 1, "queries": 1, "tasks": 8, "width": 16, "scales": [1.0]}
    method = METHODS.build("pfenet", Model(encoder), context, settings=settings)
    optimizer = torch.optim.Adam(method.network.parameters(), lr=0.01)
    for step, rows in enumerate(method.order(0)):
        batch = Batch(rows, [images[rows]], beside={"mask": [masks[rows]]})
        optimizer.zero_grad()
        method.loss(method.outputs(batch), batch, step)["loss"].backward()
        optimizer.step()
    return method


def test_a_trained_decoder_finds_colours_that_it_never_saw():
    method = trained()
    images, masks, contains = squares(NOVEL, 60, 1)
    shape = SceneShape(ways=1, shots=1, queries=1, tasks=40)
    order = SceneOrder(contains, np.arange(60), shape, 1, 5)
    rows = order(0)[0]
    with torch.no_grad():
        maps = method.outputs(Batch(rows, [images[rows]])).values
        dense, target = dense_of_batch({s: maps[s] for s in method.stages}, masks[rows], torch.from_numpy(order.classes(0)), shape)
        found = intersection_over_union(pfenet(dense, network=method.network.state_dict()), target).item()
        prototypes = intersection_over_union(cosine(dense), target).item()
    assert prototypes < 0.35  # the same maps without what was trained
    assert found > 0.42  # 0.56 where this was written; whoever says every square is the one asked for has 0.5 at most
