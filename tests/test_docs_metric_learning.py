"""docs/metric_learning.md: it names every part that trains an embedding and none that there is not, and its commands are valid."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from kinshot import recipes
from kinshot.cli import fewshot, ssl
from kinshot.core.registry import Registry
from kinshot.datasets import SOURCES
from kinshot.datasets.orders import ORDERS
from kinshot.encoders import ENCODERS
from kinshot.encoders.paths import PathProjector
from kinshot.kin import KINS
from kinshot.kin.k_center import greedy_k_center
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.metrics import METRICS
from kinshot.kin.miners import MINERS
from kinshot.kin.subclasses import agreement
from kinshot.learn import METHODS
from kinshot.learn.balance import KINDS, LearnedBalance
from kinshot.learn.place import Place
from kinshot.learn.restarts import ProximalRestarts
from kinshot.objectives import OBJECTIVES, taking
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.proxies.pairwise_surrogate import pairwise_surrogate
from kinshot.objectives.proxies.sub_center_arc_face import SubCenterArcFace
from kinshot.recipes.recipe import load_recipe
from tests.test_readme import commands

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "metric_learning.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [words for text in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for words in commands(text)]
SPANS = re.findall(r"`([^`]+)`", PROSE)
REGISTRIES: tuple[Registry, ...] = (OBJECTIVES, KINS, MINERS, AUGMENTERS, ORDERS, METHODS, ENCODERS, SOURCES, METRICS)
OTHERS = {
    "angles": SubCenterArcFace.angles,
    "greedy_k_center": greedy_k_center,
    "recall": METHODS.entry("metric"),
    "weighted": PathProjector.weighted,
    "proximal": ProximalRestarts.penalty,
    "ari_within": agreement,
    **dict.fromkeys(LearnedBalance(["NAME"])([torch.ones(())])[1]),  # balance_NAME
}
"""Words in code style that are neither parts nor settings, and what they are."""
SYSTEMS = re.findall(
    r"^\| (pairs|class rows|both|mining|augmentation|regularisers|training|graph|cross-modal|survey) \| (.*?) \|", PAGE, re.MULTILINE
)


def settings_of(name: str) -> dict[str, Any]:
    """The settings of all parts of a name, with the registry that has each."""
    return {key: registry for registry in REGISTRIES if name in registry.entries for key in registry.entry(name).parameters}


def test_every_part_that_trains_an_embedding_is_named() -> None:
    of_classes = {name for name in ORDERS.names() if ORDERS.entry(name).facts.get("takes") != "clock"}
    wanted = {*taking("relation"), *taking("proxies"), *MINERS.names(), *AUGMENTERS.names(), *of_classes}
    assert wanted - set(SPANS) == set()


def test_all_systems_have_their_row() -> None:
    assert len(SYSTEMS) == 31
    papers = [paper for _, text in SYSTEMS for paper in re.findall(r"arXiv (\d{4}\.\d{5})", text)]
    assert len(papers) == len(set(papers)) == 30  # N-pair has none
    assert [text for _, text in SYSTEMS if "arXiv" not in text] == ["N-pair: Sohn 2016, NIPS"]


def test_what_compares_raw_rows_is_said() -> None:
    said = re.search(r"unless `normalize=true` is said, .*?: ((?:`\w+`(?:, )?)+)\.", PROSE, re.DOTALL)
    assert said
    raw = {
        name
        for name in taking("relation")
        if "normalize" in (known := OBJECTIVES.entry(name).parameters) and known["normalize"].default is False
    }
    assert set(re.findall(r"`(\w+)`", said[1])) == raw


def test_what_looks_like_a_part_is_one() -> None:
    parts = set(chain.from_iterable(registry.names() for registry in REGISTRIES))
    parameters = {key for registry in REGISTRIES for name in registry.names() for key in registry.entry(name).parameters}
    places = {field.name for field in fields(Place)}
    unknown = {span for span in SPANS if re.fullmatch(r"[a-z]\w*", span)} - parts - parameters - places - set(OTHERS)
    found = {span for span in unknown if _is_metric(span) or _is_recipe(span)}
    assert unknown - found == set()
    assert f"{pairwise_surrogate.__module__}" in SPANS


def _is_metric(name: str) -> bool:
    return name.rpartition("_at_")[0] + "_at_k" in METRICS.entries and bool(wanted_metric(name))


def _is_recipe(name: str) -> bool:
    return (Path(recipes.__file__).parent / "configs" / f"{name}.yaml").is_file()


def test_settings_are_those_of_a_part_beside_them() -> None:
    checked = 0
    for line in re.split(r"\n\n|\n(?=\|)", PROSE):  # a paragraph, or a row of a table
        spans = re.findall(r"`([^`]+)`", line)
        for key, value in (span.split("=") for span in spans if re.fullmatch(r"[a-z_]+=[\w.]+", span)):
            if key == "balance":
                assert value in KINDS
                continue
            owners = [(registry, name) for name in spans for registry in REGISTRIES if name in registry.entries]
            owners += [(OBJECTIVES, name) for name in OBJECTIVES.names()] if line.startswith("| all |") else []
            assert any(_takes(registry, name, key, value) for registry, name in owners), f"{key}={value}: {line}"
            checked += 1
    assert checked > 30


def _takes(registry: Registry, name: str, key: str, value: str) -> bool:
    if key not in registry.entry(name).parameters:
        return False
    typed: Any = {"true": True, "false": False}.get(value, value)
    given = int(value) if value.isdigit() else typed
    return not any(key in problem for problem in registry.check(name, {key: given})[1])


def test_settings_of_the_recipe_are_so_called() -> None:
    for span in {span for span in SPANS if re.fullmatch(r"(projector|train|data)\.[a-z_]+(=\w+)?", span)}:
        key, _, value = span.partition("=")
        default = {"train.wrong_labels": "0.1", "projector.paths": "[a, b]"}.get(key, "")
        load_recipe("glyphs_metric", [f"{key}={value or default}"])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_are_valid(words: list[str]) -> None:
    program, command, *rest = words
    if command == "train":
        place = rest.index("--out")
        load_recipe(rest[0], rest[1:place] + rest[place + 2 :])
        return
    group = {"ssl": ssl.ssl, "fewshot": fewshot.fewshot}[program]
    found = group.get_command(click.Context(group), command)
    assert found is not None
    given = found.make_context(command, rest).params
    for metric in str(given.get("metrics") or "").split(","):
        assert not metric or wanted_metric(metric)
