"""`ssl missing`: what encoders of several modalities reach when some of them are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.labels import DATA, RESULTS, RUNS, TEST, C, blocks, paired_tables, verdict_lines, write_rows
from kinshot.cli.measure import named_run
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, NO_REFERENCE, QUIET, named_source
from kinshot.cli.outputs import printed_anyway
from kinshot.core.errors import ConfigError
from kinshot.fewshot.specs import split_heads
from kinshot.recipes.amounts import parse_amounts

HEADS = "fused,concat,mean,mean_subsets,concat_subsets"


@click.command(name="missing")
@RUNS
@DATA
@TEST
@click.option("--labels", default="full", show_default=True, help="Labelled samples of each class, a share of them (10%), or full.")
@click.option(
    "--heads",
    default=HEADS,
    show_default=True,
    help="Ways to do with some of the modalities; those with subsets train for it; own trains one for each.",
)
@click.option("--draws", default=5, show_default=True, help="Draws of the labelled samples, where these are not all.")
@click.option("--seed", default=0, show_default=True, help="Key of the draws and of the subsets that heads are trained on.")
@C
@click.option("--subset-dropout", default=0.5, show_default=True, help="Probability of each modality to be dropped in training a head.")
@click.option("--copies", default=4, show_default=True, help="Subsets of every labelled sample in training a head.")
@NO_REFERENCE
@RESULTS
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def missing_command(
    runs: tuple[str, ...], data: str | None, test: str | None, labels: str, heads: str, draws: int, seed: int, penalty: float,
    subset_dropout: float, copies: int, no_reference: bool, results: Path | None, allow_unfinished: bool, device: str, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNs, whose encoder is fused, on every non-empty subset of their modalities, by heads that do or do not expect that.

    Beside them stand the untrained encoder, statistics made by hand, and, where windows vary in length, their lengths alone. NAME is what
    a table calls a run; runs that differ by their seed alone are averaged.
    """
    amounts = parse_amounts(labels, "--labels")
    if len(amounts) > 1:
        raise ConfigError(f"--labels takes one amount, got {labels!r}: measure the others apart")
    given, names = [named_run(text) for text in runs], tuple(dict.fromkeys(split_heads(heads)))
    chosen = [None if text is None else named_source(text, split) for text, split in ((data, "train"), (test, "test"))]
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.labels.missing import Wanted, missing_modalities
    from kinshot.studies.labels.parts import Choices

    refuse_unfinished([path for _, path in given], allow_unfinished)
    wanted = Wanted(amounts[0], Choices(*chosen), names, draws, seed, penalty, subset_dropout, copies, not no_reference)
    speaker = (lambda text: None) if quiet else say
    measured = missing_modalities([path for _, path in given], wanted, device, speaker, names=[name for name, _ in given])
    found = {"command": command_line("ssl"), **measured}
    with printed_anyway(lambda: show(found, as_json, lambda: missing_table(found))):
        if results is not None:
            write_rows(results, found)


def missing_table(found: dict[str, Any]) -> str:
    """What was done, a table for every measure with a column for every subset, and differences to the references."""
    short = shortened(found["modalities"])
    columns = {name: "+".join(short[modality] for modality in subset) for name, subset in found["subsets"].items()}

    def renamed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "column": columns.get(row["column"], row["column"])} for row in rows]

    lines = [f"{key}: {shown(value)}" for key, value in {**found["data"], **found["protocol"]}.items()]
    lines += [f"modalities: {', '.join(f'{letters} {name}' for name, letters in short.items())}", *blocks(renamed(found["rows"]))]
    lines += paired_tables(renamed(found["paired"]), "paired by seed and draw")
    return "\n".join([*lines, "", *verdict_lines(renamed(found["verdicts"]))])


def shortened(names: list[str]) -> dict[str, str]:
    """The shortest beginnings of names that tell them apart."""
    found = {}
    for name in names:
        others = [other for other in names if other != name]
        found[name] = next((name[:k] for k in range(1, len(name)) if not any(other.startswith(name[:k]) for other in others)), name)
    return found
