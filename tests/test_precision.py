"""Whole runs with bf16 forced, beside the same runs in float32: the same course, finite features, a resume bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import kinshot
from kinshot.core.checkpoint import load_checkpoint
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests import tiny

QUIET = ["monitor.tensorboard=false", "monitor.projector_points=0", "monitor.knn_every=0", "train.epochs=1"]
EPISODES = ["method=protonet", "method.ways=4", "method.shots=1", "method.queries=4"]
EPISODES += ["train.batch_size=20", "projector.layers=0", "views=clean"]
RUNS = {
    "simclr": tiny.arguments("simclr")[2:],
    "interclr": tiny.arguments("interclr")[2:],
    "protonet": EPISODES,
    "classifier": ["method=classifier", "views=clean", "projector.layers=0"],
}


def trained(name, out, precision, **how):
    recipe = load_recipe(str(tiny.TINY), [*RUNS[name], *QUIET, f"train.precision={precision}"])
    train_recipe(recipe, Options(out, quiet=True, **how), lambda text: None)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record["train/loss"] for record in records if "train/loss" in record]


@pytest.mark.parametrize("name", RUNS)
def test_bf16_takes_the_course_of_float32(name, tmp_path):
    half, single = (trained(name, tmp_path / precision, precision) for precision in ("bf16", "fp32"))
    assert half != single  # else nothing was forced
    assert half[0] == pytest.approx(single[0], rel=0.02)  # before the first step it is the same network
    assert sum(half) == pytest.approx(sum(single), rel=0.1)  # an episode's or a batch's loss is noise, their mean is not
    weights = [load_checkpoint(tmp_path / precision).encoder for precision in ("bf16", "fp32")]
    assert all(value.dtype == weights[1][key].dtype for key, value in weights[0].items())
    images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = [kinshot.load(tmp_path / precision).embed(images)["backbone"] for precision in ("bf16", "fp32")]
    assert torch.nn.functional.cosine_similarity(*features).min() > 0.9


def test_bf16_resumes_bit_for_bit(tmp_path):
    whole = trained("simclr", tmp_path / "whole", "bf16")
    trained("simclr", tmp_path / "part", "bf16")
    last = sorted((tmp_path / "part" / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    (tmp_path / "part" / "result.json").unlink()
    assert trained("simclr", tmp_path / "part", "bf16", resume="auto") == whole
    ends = [weights_hash(load_checkpoint(tmp_path / name).encoder) for name in ("whole", "part")]
    assert ends[0] == ends[1]
