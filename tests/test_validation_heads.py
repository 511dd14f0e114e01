"""Every head may be named by validation with every method: it measures, or is refused before anything is trained."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.learn import METHODS
from kinshot.recipes.check import _head_problem, checked_recipe
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.hooks import RunHooks
from kinshot.runs.job import Job, build
from tests.steps import each_method, of_images, patched
from tests.study_runs import source
from tests.tiny import TINY

COMMON = ["data.split=train", "views=clean", "train.batch_size=40", "monitor.tensorboard=false"]
VALIDATION = ["validation.split=test", "validation.ways=5", "validation.queries=2", "validation.episodes=2"]
EPISODES = {"ways": 5, "shots": 2, "queries": 6}
# methods that learn from class maps are validated by segmenters
ALONE = [name for name in METHODS.names() if not METHODS.entry(name).flags.keys() & {"by_terms", "fields"} and of_images(name)]


def job_of(method: str, *more: str) -> Job:
    """A method wired as for a run of digits."""
    known, flags = METHODS.entry(method).parameters, METHODS.entry(method).flags
    given = [*COMMON, *VALIDATION, f"method={method}", *(f"method.{key}={value}" for key, value in EPISODES.items() if key in known)]
    if not flags.get("supervised"):
        given += ["views=warp", f"views.views={METHODS.get(method).view_count}", *patched(method)]
    if method == "dual_path":
        given += ["views=warp", "views.views=2", "projector.paths=[structural, contrastive]"]
    return build(load_recipe(str(TINY), [*given, *more]), source("digits", split="train", size=16))


def outcome(job: Job, head: str, out: Path) -> str:
    """Whether a head is refused when the run is set up, or measures; `ssl validate` may refuse nothing else."""
    recipe = replace(job.recipe, validation=replace(job.recipe.validation, head=head))
    told = list(_head_problem(recipe.validation, recipe.method))
    try:
        hooks = RunHooks(replace(job, recipe=recipe), out, lambda text: None, 0.0, quiet=True)
    except ConfigError as error:
        return str(error)
    assert told == []
    assert hooks.validator is not None
    hooks._validate(hooks.validator, job.run, 0)  # whatever it raises would end a run after its first epoch
    hooks.close()
    assert math.isfinite(hooks.final["eval/validation/accuracy"])
    return "measured"


@pytest.mark.parametrize("method", each_method(ALONE))
def test_a_head_measures_or_is_refused_before_the_first_step(method: str, tmp_path: Path) -> None:
    job, trained = job_of(method), getattr(METHODS.get(method), "trains_head", "")
    refused = {head: said for head in HEADS.names() if (said := outcome(job, head, tmp_path)) != "measured"}
    assert all("validation.head" in said for said in refused.values())
    assert set(refused) == {"anil", "feat", "maml", "distribution_calibration"} - ({trained} - {"maml"})


def test_nothing_is_begun_by_a_run_whose_head_is_refused(tmp_path: Path) -> None:
    assert "validation.head" in outcome(job_of("protonet"), "feat", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("method", "head"), [("protonet", "feat"), ("maml", "maml"), ("simclr", "distribution_calibration")])
def test_validate_refuses_what_no_data_can_mend(method: str, head: str) -> None:
    with pytest.raises(ConfigError, match=rf"validation\.head: {head}"):
        checked_recipe(str(TINY), ("data.split=train", f"method={method}", "validation.split=test", f"validation.head={head}"))


def test_matching_networks_without_context_are_validated_by_their_head(tmp_path: Path) -> None:
    assert outcome(job_of("matchingnet", "method.full_context=false"), "matching", tmp_path) == "measured"


@pytest.mark.parametrize(
    ("method", "head", "more"),
    [
        ("anil", "anil", "validation.ways=4"),  # not as many as were trained
        ("anil", "anil", "validation.feature=joint"),  # of another width
        ("feat", "feat", "validation.feature=joint"),
    ],
)
def test_what_a_trained_head_cannot_take_is_refused_before_the_first_step(method: str, head: str, more: str, tmp_path: Path) -> None:
    assert "validation.head" in outcome(job_of(method, more), head, tmp_path)
