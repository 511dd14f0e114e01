"""What a type checker knows of the names that kinshot shows; `make lint` reads this file, nothing runs it.

A line that is wrong on purpose is marked: were its name without a type, the mark would be reported as unused.
"""

# mypy: warn-unused-ignores

from __future__ import annotations

from typing import assert_type

from torch import Tensor, nn

import kinshot
from kinshot.encoders.mlp import MLP
from kinshot.heads import tim
from kinshot.learn.model import Model
from kinshot.samples.rows import RowSpec


def shown(z: Tensor, y: Tensor, spec: RowSpec) -> None:
    assert_type(kinshot.load("runs/x"), Model)
    assert_type(kinshot.kin.labels(y), kinshot.Relation)
    assert_type(kinshot.heads.prototype(z, y, z, 5), Tensor)
    assert_type(kinshot.segmenters.cosine(kinshot.Dense({"map": z}, y, {"map": z}), shots="vote"), Tensor)
    assert_type(tim(z, y, z, 5, steps=3), Tensor)
    assert_type(kinshot.encoders.mlp(spec, widths=(8,)), MLP)
    assert_type(kinshot.objectives.info_nce(z, kinshot.kin.labels(y), temperature=0.1), Tensor)
    assert_type(kinshot.few_shot_accuracy(nn.Identity(), kinshot.as_source(z), labels=y).mean, float)
    assert_type(kinshot.ClusterMemory(100, 8).labels, Tensor)
    assert_type(kinshot.EpisodeSampler(y, ways=5, shots=1, queries=1, episodes=9).unpack(z).query, Tensor)
    module: nn.Module = kinshot.methods.simclr(nn.Identity())  # type: ignore[arg-type, call-arg]
    kinshot.heads.prototype(z, y, z, 5, distance="manhattan")  # type: ignore[arg-type]
    kinshot.segmenters.cosine(z)  # type: ignore[arg-type]
    kinshot.encoders.resnet18(module)  # type: ignore[arg-type]
    kinshot.haeds  # type: ignore[attr-defined]  # noqa: B018
