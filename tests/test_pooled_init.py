"""The head of metric learning on weights that were trained before: `encoder=pooled init=RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.core.part_text import part_text, read_settings, split_text
from kinshot.core.schema import REQUIRED
from kinshot.encoders import ENCODERS
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.load import load
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import TINY

QUICK = ["train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0", "monitor.projector_points=0"]
EXAMPLE = "conv4:width=32"


def go(out: Path, *overrides: str) -> Path:
    train_recipe(load_recipe(str(TINY), [*QUICK, *overrides]), Options(out, quiet=True), lambda text: None)
    return out


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(tmp_path_factory.mktemp("init") / "first", "encoder.width=4")


def test_the_trunk_begins_with_the_weights_of_init(first: Path, tmp_path: Path) -> None:
    run = go(tmp_path / "run", "encoder=pooled", f"init={first}", "train.freeze=[trunk]", "seed=5")
    before, after = load_checkpoint(first).encoder, load_checkpoint(run)
    assert {name.removeprefix("trunk.") for name in after.encoder if name.startswith("trunk.")} == set(before)
    assert all(torch.equal(after.encoder[f"trunk.{name}"], value) for name, value in before.items())
    assert after.config["encoder"]["of"] == "conv4:width=4"
    assert load(run).embed(torch.zeros(2, 1, 16, 16, dtype=torch.uint8))["backbone"].shape == (2, 4)


def test_its_own_runs_go_on_in_others_as_they_are(first: Path, tmp_path: Path) -> None:
    middle = go(tmp_path / "middle", "encoder=pooled", f"init={first}")
    last = go(tmp_path / "last", "encoder=auto", f"init={middle}", "train.freeze=[all]")
    one, other = load_checkpoint(middle).encoder, load_checkpoint(last).encoder
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("of", ["conv4:width=8", "resnet18"])
def test_another_trunk_than_that_of_init_is_refused(of: str, first: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has the encoder conv4 .*set encoder\.of=auto, which takes that of init"):
        go(tmp_path / "run", "encoder=pooled", f"encoder.of={of}", f"init={first}")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


WORDS = st.text("ab:,'= 1é", max_size=8)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.none() | st.booleans() | st.integers(-9, 9) | WORDS | st.lists(st.integers(0, 9), max_size=3),
    )
)
def test_the_text_of_a_part_is_read_back(settings: dict[str, Any]) -> None:
    text = part_text("conv4", settings, {})
    name, *assignments = split_text(text, ":", "encoder", EXAMPLE)
    assert (name, read_settings(text, assignments, "encoder", EXAMPLE)) == ("conv4", settings)


@pytest.mark.parametrize("name", ENCODERS.names())
def test_the_text_of_every_encoder_with_its_defaults_is_its_name(name: str) -> None:
    required = {key: "x" for key, parameter in ENCODERS.entry(name).parameters.items() if parameter.default is REQUIRED}
    settings, problems = ENCODERS.check(name, required)
    assert not problems
    assert part_text(name, settings, ENCODERS.entry(name).parameters).split(":")[0] == name
    if not required:
        assert part_text(name, settings, ENCODERS.entry(name).parameters) == name
