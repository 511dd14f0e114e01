"""Studies of trained checkpoints: `fewshot generalized`, `crossdomain`, `lowshot` and `imprint`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.options import (
    DEVICE,
    JSON,
    NO_REFERENCE,
    QUIET,
    WHERE,
    check_counts,
    checkpoint_arguments,
    episode_options,
    head_options,
    named_source,
    parsed_heads,
    parsed_ways,
)
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.cli.table import align
from kinshot.core.errors import ConfigError
from kinshot.fewshot.specs import split_heads
from kinshot.recipes.specs import parse_features, parse_numbers

if TYPE_CHECKING:
    from kinshot.recipes.recipe import Choice
    from kinshot.studies.joint_data import JointChoices

Command = TypeVar("Command", bound=Callable[..., Any])
STARTS, TUNINGS = "random,imprinted,views", "none,rows,network"


def _common(seed: str = "") -> Callable[[Command], Command]:
    """The argument and the options of every study; `seed` says what the seed is the key of, where it is not given elsewhere."""
    options = [
        checkpoint_arguments("RUNS..."),
        *[click.option("--seed", default=0, show_default=True, help=f"Key of {seed}.")] * bool(seed),
        DEVICE,
        click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file."),
        QUIET,
        JSON,
    ]

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _joint(command: Command) -> Command:
    """The options that say which images play which part."""
    where = "the checkpoint's own data, split"
    for name, default in (("novel", f"{where} test"), ("validation", f"{where} val, where it has one")):
        command = click.option(f"--{name}", metavar=WHERE, help=f"{name.capitalize()} classes [default: {default}].")(command)
    text = "Test images of base classes [default: unseen ones where the checkpoint's data has them, else a share of the base images]."
    return click.option("--base-test", metavar=WHERE, help=text)(command)


@click.command(name="generalized")
@click.option("--base", metavar=WHERE, help="Base classes [default: the checkpoint's training data].")
@_joint
@click.option("--heads", default="", metavar="LIST", help="Some of prototype, imprinted, rows [default: all that the run can have].")
@click.option("--features", default="backbone", show_default=True, help="Some of backbone, projector, joint.")
@click.option("--shots", default="1,5", show_default=True, help="Images of each novel class; several with commas.")
@click.option("--ways", default="all", show_default=True, help="Novel classes in a draw.")
@click.option("--draws", default=20, show_default=True, help="Draws of the novel images.")
@_common("the draws and of what is held out")
def generalized_command(
    checkpoints: tuple[Path, ...], base: str | None, novel: str | None, validation: str | None, base_test: str | None, heads: str,
    features: str, shots: str, ways: str, draws: int, seed: int, device: str, results: Path | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNS on base and novel classes jointly: accuracies, harmonic mean, AUSUC, and an offset chosen on validation classes."""
    choices = _choices(base, novel, validation, base_test)
    count = 0 if ways == "all" else parse_numbers(ways, "--ways")[0]
    names, shot_list = split_heads(heads) if heads else [], parse_numbers(shots, "--shots")
    from kinshot.studies import generalized

    wanted = generalized.Wanted(choices, names, parse_features(features), shot_list, count, _at_least(draws, 1, "--draws"), seed)
    _finish(generalized.generalized(list(checkpoints), wanted, device, _speaker(quiet)), results, as_json)


@click.command(name="crossdomain")
@click.option("--data", "sources", multiple=True, metavar=WHERE, help="Source to evaluate on [split test where it has one]; repeat it.")
@episode_options(shots="1,5")
@head_options(heads="prototype", features="backbone")
@NO_REFERENCE
@_common()
def crossdomain_command(
    checkpoints: tuple[Path, ...], sources: tuple[str, ...], ways: str | None, shots: str, queries: int | None, episodes: int, heads: str,
    features: str, no_reference: bool, seed: int, device: str, results: Path | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNS, each trained on its own data, on episodes of every source: a matrix. Runs that differ by their seed are averaged."""
    choices = [named_source(text, "test") for text in sources]
    check_counts(queries, episodes)
    parsed, way_list = parsed_heads(heads), parsed_ways(ways)
    shot_list, feature_list = parse_numbers(shots, "--shots"), parse_features(features)
    from kinshot.studies import cross_domain
    from kinshot.studies.answers import Protocol
    from kinshot.studies.tasks import Drawing

    drawing = Drawing(way_list, shot_list, queries, episodes, seed)
    wanted = cross_domain.Domains(choices, Protocol(None, None, drawing, parsed, feature_list, not no_reference))
    _finish(cross_domain.crossdomain(list(checkpoints), wanted, device, _speaker(quiet)), results, as_json)


@click.command(name="lowshot")
@click.option("--data", metavar=WHERE, help="Source of the labelled images [default: the checkpoint's own data, split test].")
@click.option("--test", metavar=WHERE, help="Images to test on [default: those that each draw leaves out].")
@click.option("--shots", default="1,2,5,10,20", show_default=True, help="Labelled images of each class.")
@click.option("--draws", default=5, show_default=True, help="Draws of the labelled images.")
@head_options(heads="logistic", features="backbone")
@NO_REFERENCE
@_common("the draws")
def lowshot_command(
    checkpoints: tuple[Path, ...], data: str | None, test: str | None, shots: str, draws: int, heads: str, features: str,
    no_reference: bool, seed: int, device: str, results: Path | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNS by a linear probe over all classes of a source, trained on a few labelled images of each."""
    source, asked = _source(data, "test"), _source(test, "test")
    shot_list, feature_list, parsed = parse_numbers(shots, "--shots"), parse_features(features), parsed_heads(heads)
    from kinshot.studies import low_shot

    wanted = low_shot.Probe(source, asked, shot_list, _at_least(draws, 1, "--draws"), seed, parsed, feature_list, not no_reference)
    _finish(low_shot.low_shot(list(checkpoints), wanted, device, _speaker(quiet)), results, as_json)


@click.command(name="imprint")
@_joint
@click.option("--shots", default="1,2,5,10,20", show_default=True, help="Exemplars of each novel class.")
@click.option(
    "--starts", default=STARTS, show_default=True, help="How novel rows begin; views averages augmented views, and tunes on such."
)
@click.option("--tunings", default=TUNINGS, show_default=True, help="What is fine-tuned: nothing, rows and scale, the whole network.")
@click.option("--steps", default="", metavar="N,...", help="Steps of fine-tuning; of several, chosen on validation classes [default: 100].")
@click.option("--lr", default="", metavar="X,...", help="Learning rates; of several, chosen on validation classes [default: 0.01,0.001].")
@click.option("--batch", default=64, show_default=True, help="Images in a step of fine-tuning.")
@click.option(
    "--batch-norm", type=click.Choice(["batch", "frozen"]), default="batch", show_default=True, help="Of the whole network's tuning."
)
@click.option("--views", default=10, show_default=True, help="Augmented views of an exemplar, of the recipe's own kind.")
@click.option("--draws", default=5, show_default=True, help="Draws of the exemplars.")
@click.option("--jointly", default="", metavar="STEPS:LR", help="Also train the untrained network on all classes at once.")
@_common("the draws and of what is held out")
def imprint_command(
    checkpoints: tuple[Path, ...], novel: str | None, validation: str | None, base_test: str | None, shots: str, starts: str, tunings: str,
    steps: str, lr: str, batch: int, batch_norm: Any, views: int, draws: int, jointly: str, seed: int, device: str, results: Path | None,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Imprint new classes into RUNS (method classifier, cosine): random or imprinted rows, with and without views and fine-tuning."""
    choices = _choices(None, novel, validation, base_test)
    step_list, lr_list = parse_numbers(steps, "--steps") if steps else [], _rates(lr, "--lr") if lr else []
    at_once = _steps_and_rate(jointly) if jointly else None
    shot_list, seeds = parse_numbers(shots, "--shots"), seed
    from kinshot.studies import imprint_study as study
    from kinshot.studies.imprint_arms import Fixed, Tuning

    fixed = Fixed(_at_least(views, 1, "--views"), _at_least(batch, 2, "--batch"), batch_norm, seeds)
    wanted = study.Study(
        choices,
        shot_list,
        split_heads(starts),
        split_heads(tunings),
        step_list,
        lr_list,
        _at_least(draws, 1, "--draws"),
        jointly=None if at_once is None else Tuning(*at_once),
        fixed=fixed,
    )
    _finish(study.imprint_study(list(checkpoints), wanted, device, _speaker(quiet)), results, as_json)


def study_table(result: dict[str, Any]) -> str:
    """What was done, then one table for every block of rows: labels against columns."""
    rows = result["rows"]
    lines = [f"{key}: {shown(value)}" for key, value in {**result["data"], **result["protocol"]}.items()]
    for block in dict.fromkeys(row["block"] for row in rows):
        own = [row for row in rows if row["block"] == block]
        columns = list(dict.fromkeys(row["column"] for row in own))
        cells = {(row["label"], row["column"]): _cell(row) for row in own}
        labels = dict.fromkeys(row["label"] for row in own)
        lines += ["", *align([[block, *columns], *([label, *(cells.get((label, column), "") for column in columns)] for label in labels)])]
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    digits = 4 if row["column"] == "offset" else 2
    return f"{row['mean']:.{digits}f}" + (f" ± {row['ci95']:.2f}" if row["n"] > 1 else "")


def _finish(found: dict[str, Any], results: Path | None, as_json: bool) -> None:
    result = {"command": command_line("fewshot"), **found}
    from kinshot.studies.results import write_document
    from kinshot.studies.study import written_rows

    with printed_anyway(lambda: show(result, as_json, lambda: study_table(result))):
        if results is not None:
            write_document(results, result, result["command"], written_rows(result["rows"]))


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else say


def _choices(base: str | None, novel: str | None, validation: str | None, base_test: str | None) -> JointChoices:
    found = [_source(text, split) for text, split in ((base, "train"), (novel, "test"), (validation, "val"), (base_test, "test"))]
    from kinshot.studies.joint_data import JointChoices

    return JointChoices(*found)


def _source(text: str | None, split: str) -> Choice | None:
    return None if text is None else named_source(text, split)


def _at_least(value: int, least: int, option: str) -> int:
    if value < least:
        raise ConfigError(f"{option} must be at least {least}, got {value}")
    return value


def _rates(text: str, option: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < rate < float("inf") for rate in found):
        raise ConfigError(f"{option}: expected numbers above 0 separated by commas, such as 0.01,0.001; got {text!r}")
    return found


def _steps_and_rate(text: str) -> tuple[int, float]:
    steps, colon, rate = text.partition(":")
    if not colon:
        raise ConfigError(f"--jointly: expected STEPS:LR, such as 300:0.05; got {text!r}")
    return parse_numbers(steps, "--jointly")[0], _rates(rate, "--jointly")[0]


COMMANDS = (generalized_command, crossdomain_command, lowshot_command, imprint_command)
