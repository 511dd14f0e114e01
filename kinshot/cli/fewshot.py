"""The `fewshot` command: measure checkpoints on a few examples of unseen classes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

import kinshot
from kinshot.cli.common import Group, command_line, run, say, show
from kinshot.cli.enroll import COMMANDS as ENROLLED
from kinshot.cli.options import (
    DEVICE,
    INTERVAL,
    JSON,
    NO_REFERENCE,
    QUIET,
    base_data,
    candidates_of,
    check_counts,
    checkpoint_arguments,
    choosing_options,
    chosen_data,
    data_options,
    episode_options,
    head_options,
    parsed_heads,
    parsed_ways,
)
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.cli.parts import settings_of, settings_text, show_command
from kinshot.cli.report import report_command
from kinshot.cli.retrieve import retrieve_command
from kinshot.cli.studies import COMMANDS
from kinshot.cli.studio import COMMANDS as STUDIO
from kinshot.cli.train import run_training, training_options
from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.recipes.specs import parse_features, parse_sizes

SECTIONS = {
    "Train": ("train",),
    "Measure runs": ("eval", "report", "crossdomain", "generalized", "imprint", "lowshot", "retrieve"),
    "Teach your own classes": ("enroll", "predict", "evaluate", "forget", "inspect", "studio"),
    "Recipes and parts": ("list", "show"),
}


@click.group(cls=Group, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kinshot.__version__, prog_name="kinshot")
def fewshot() -> None:
    """Recognise new things from a few examples."""


@fewshot.command(name="eval")
@checkpoint_arguments("CHECKPOINTS...")
@data_options()
@episode_options(shots="1,5", ranges=True)
@click.option(
    "--unbalanced", default=0.0, metavar="ALPHA", help="Draw the classes' shares of the queries from Dirichlet(ALPHA), 2 in the literature."
)
@click.option("--episode-list", default="", metavar="lake|FILE", help="Lake's 20 published one-shot runs, or episodes that were saved.")
@click.option("--save-episodes", type=OUTPUT_FILE, metavar="FILE", help="Keep the episodes (.npz or .json).")
@click.option(
    "--duplicates",
    type=click.Choice(["refuse", "allow"]),
    default="refuse",
    show_default=True,
    help="What to do about queries that are copies of a support image.",
)
@head_options(heads="prototype", features=None)
@choosing_options()
@click.option("--per-episode", is_flag=True, help="With --json: every episode's accuracy, too, of each model, feature, head and task.")
@click.option(
    "--compare",
    default="",
    metavar="SETTING",
    help="Group checkpoints by this setting, or by several (a,b); paired by seed, of one checkpoint each by episode.",
)
@INTERVAL
@NO_REFERENCE
@DEVICE
@click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
@QUIET
@JSON
def eval_command(
    checkpoints: tuple[Path, ...], data: str | None, split: str | None, options: tuple[str, ...], base: str | None, ways: str | None,
    shots: str, queries: int | None, episodes: int, seed: int, heads: str, features: str | None, no_reference: bool, device: str,
    results: Path | None, quiet: bool, as_json: bool, compare: str, interval: str, unbalanced: float, episode_list: str,
    save_episodes: Path | None, duplicates: Literal["refuse", "allow"],
    choose: str | None, validation: str | None, per_episode: bool,
) -> None:  # fmt: skip
    """Measure CHECKPOINTS (or run folders, or a sweep's folder) on seeded episodes; runs that differ by their seed alone
    give the mean over them too, others the differences between any two."""
    check_counts(queries, episodes)
    if per_episode and not as_json:
        raise ConfigError("--per-episode adds to what --json prints: give --json, too")
    candidates = candidates_of(choose, validation, heads)
    if candidates is not None and episode_list:
        raise ConfigError("--choose draws validation episodes like those of the test, and --episode-list names them: give one of them")
    parsed = parsed_heads(heads) if candidates is None else [grid[0] for grid in candidates.heads]
    chosen, bases = chosen_data(data, split, options), base_data(base)
    if unbalanced < 0:
        raise ConfigError(f"--unbalanced: expected a number above 0, got {unbalanced}")
    way_list = parsed_ways(ways) if ways in (None, "all") else parse_sizes(ways, "--ways")
    shot_list, feature_list = parse_sizes(shots, "--shots"), [] if features is None else parse_features(features)
    from kinshot.studies.answers import Protocol
    from kinshot.studies.evaluate import evaluate
    from kinshot.studies.study import load_runs
    from kinshot.studies.tasks import Drawing

    drawing = Drawing(way_list, shot_list, queries, episodes, seed, unbalanced, episode_list, save_episodes, duplicates)
    protocol = Protocol(chosen, bases, drawing, parsed, feature_list, not no_reference, compare, interval=interval, per_episode=per_episode)
    tell = (lambda text: None) if quiet else say
    measured = evaluate(load_runs(checkpoints, say=tell), protocol, device, tell, candidates)
    result = {"command": command_line("fewshot"), **measured}
    from kinshot.cli.table import accuracy_table
    from kinshot.studies.results import write_results

    with printed_anyway(lambda: show(result, as_json, lambda: accuracy_table(result))):
        if results is not None:
            write_results(results, result, command=result["command"])


@fewshot.command(name="train")
@training_options
def train_command(**given: Any) -> None:
    """Train RECIPE on base classes: a shipped recipe's name or a YAML file, with settings overridden as KEY=VALUE.

    Starts from scratch or, with --init, from a checkpoint of `ssl pretrain`; a recipe with `validation` keeps the checkpoint that
    classifies unseen validation classes best.
    """
    run_training("fewshot train", **given)


@fewshot.command(name="list")
@JSON
def list_command(as_json: bool) -> None:
    """List heads and their settings. What `fewshot train` can train is under `ssl list method`."""
    found = settings_of(HEADS)
    show({"heads": found}, as_json, lambda: settings_text(found))


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(fewshot, argv)


fewshot.add_command(report_command)
fewshot.add_command(retrieve_command)
fewshot.add_command(show_command)
for study in (*ENROLLED, *STUDIO, *COMMANDS):
    fewshot.add_command(study)

if __name__ == "__main__":
    sys.exit(main())
