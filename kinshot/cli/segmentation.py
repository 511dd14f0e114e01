"""The `segmentation` command: find what belongs to a thing, pixel by pixel, from a few examples with masks."""

from __future__ import annotations

import sys
from typing import Any

import click

import kinshot
from kinshot.cli.common import Group, run, show
from kinshot.cli.dense_episodes import episodes_group
from kinshot.cli.options import JSON
from kinshot.cli.parts import settings_of, settings_text, show_command
from kinshot.cli.segment_eval import eval_command
from kinshot.cli.segment_predict import predict_command
from kinshot.cli.segment_report import report_command
from kinshot.cli.train import run_training, training_options
from kinshot.segmentation import SEGMENTERS


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kinshot.__version__, prog_name="kinshot")
def segmentation() -> None:
    """Find what belongs to a thing, pixel by pixel, from a few examples with masks."""


@segmentation.command(name="train")
@training_options
def train_command(**given: Any) -> None:
    """Train RECIPE on base classes: a shipped recipe's name or a YAML file, with settings overridden as KEY=VALUE.

    Starts from scratch or, with --init, from a checkpoint of `ssl pretrain` or `fewshot train`, or a backbone; a recipe with `validation`
    keeps the checkpoint that segments unseen validation classes best.
    """
    run_training("segmentation train", **given)


@segmentation.command(name="list")
@JSON
def list_command(as_json: bool) -> None:
    """List segmenters and their settings. Methods and encoders are under `ssl list`, few-shot heads under `fewshot list`."""
    found = settings_of(SEGMENTERS)
    show({"segmenters": found}, as_json, lambda: settings_text(found))


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(segmentation, argv)


segmentation.add_command(show_command)
segmentation.add_command(episodes_group)
segmentation.add_command(eval_command)
segmentation.add_command(report_command)
segmentation.add_command(predict_command)

if __name__ == "__main__":
    sys.exit(main())
