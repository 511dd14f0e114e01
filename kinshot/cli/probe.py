"""`ssl probe`: what frozen embeddings know of labels, left out one at a time or by the field's protocols."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, NO_REFERENCE, WHERE, chosen_data, named_source
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.core.errors import ConfigError, suggest
from kinshot.recipes.recipe import Choice
from kinshot.recipes.specs import parse_data, parse_features, parse_numbers

if TYPE_CHECKING:
    from kinshot.studies.frozen.settings import Settings

PROTOCOLS = ("knn", "linear", "low_shot", "geometry")
_BY_PROTOCOL = ("temperature", "bank", "bank_split", "bank_share", "shots", "draws", "seed", "no_reference")
_LEAVING_ONE_OUT = ("labels", "metrics", "compare")


@click.command(name="probe")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--labels", default="", help="Names of labels, separated by commas [default: all that the data has].")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector or joint.")
@click.option("--k", default="", help="Neighbors that vote; several with commas for knn [default: 3; of knn 20,200].")
@click.option("--metrics", default="", metavar="NAMES", help="Metrics of retrieval, too: map_at_r,recall_at_1,nmi (`ssl list metric`).")
@click.option("--compare", default="", metavar="SETTING", help="Report the effect of this setting, paired by seed.")
@click.option("--data", help="Source to embed, NAME or NAME:FOLDER [default: each run's own training data; of --protocol split test].")
@click.option("--split", help="Split of --data.")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of --data.")
@click.option("--protocol", default="", metavar="NAMES", help="Some of knn,linear,low_shot,geometry, instead of leaving one out.")
@click.option("--bank", metavar=WHERE, help="What --protocol learns from, --data being what is asked for [default: --data].")
@click.option("--bank-split", default="", help="Split of the bank [default: train].")
@click.option("--bank-share", default=0.0, metavar="SHARE", help="Draw the bank from --data, such a share of each class.")
@click.option("--temperature", type=float, help="Of the votes of knn, exp(cosine / temperature) [default: 0.1].")
@click.option("--shots", default="", help="Labelled samples of each class, of low_shot [default: 1,2,4,8,16,32,64,96].")
@click.option("--draws", type=int, help="Draws of these [default: 5].")
@click.option("--seed", type=int, help="Key of draws and validation samples of --protocol [default: 0].")
@NO_REFERENCE
@DEVICE
@click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
@ALLOW_UNFINISHED
@JSON
def probe_command(
    runs: tuple[Path, ...], feature: str, k: str, data: str | None, split: str | None, options: tuple[str, ...], protocol: str,
    device: str, results: Path | None, allow_unfinished: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Measure frozen embeddings of RUNS; runs that differ by seed alone are averaged.

    Leave-one-out kNN for every label, or, with --protocol, the field's evaluations: a weighted kNN and a linear probe between a bank
    (split train) and queries (split test), low-shot, and the geometry of features; beside raw samples and the untrained encoder.
    """
    if data is None and (split or options):
        raise ConfigError("--split and --set need --data: say which source they belong to")
    _check_together(protocol, given)
    (wanted,) = parse_features(feature)[:1]
    measure = _by_protocol if protocol else _leaving_one_out
    measured = measure(runs, wanted, k, (data, split, options), protocol, device, allow_unfinished, given)
    result = {"command": command_line("ssl"), **measured}
    from kinshot.cli.table import protocols_table, rows_table
    from kinshot.studies.results import write_document

    with printed_anyway(lambda: show(result, as_json, lambda: (protocols_table if protocol else rows_table)(result))):
        if results is not None:
            write_document(results, result, result["command"], result["rows"])


Data = tuple[str | None, str | None, tuple[str, ...]]


def _leaving_one_out(
    runs: tuple[Path, ...], feature: str, k: str, data: Data, protocol: str, device: str, unfinished: bool, given: dict[str, Any]
) -> dict[str, Any]:
    from kinshot.kin.metric_names import wanted_metric

    neighbors = parse_numbers(k or "3", "--k")
    if len(neighbors) > 1:
        raise ConfigError(f"--k {k}: leaving one out takes one number of neighbours: give one, or add --protocol knn")
    chosen = parse_data(data[0], data[1], data[2]) if data[0] else None
    names, asked = (tuple(name.strip() for name in given[key].split(",") if name.strip()) for key in ("labels", "metrics"))
    retrieval = tuple(wanted_metric(name) for name in dict.fromkeys(asked))
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.probe import Probe, probe

    refuse_unfinished(runs, unfinished)
    return probe(list(runs), Probe(names, feature, neighbors[0], given["compare"], chosen, retrieval), device, say)


def _by_protocol(
    runs: tuple[Path, ...], feature: str, k: str, data: Data, protocol: str, device: str, unfinished: bool, given: dict[str, Any]
) -> dict[str, Any]:
    names = tuple(dict.fromkeys(name.strip() for name in protocol.split(",")))
    for name in names:
        if name not in PROTOCOLS:
            raise ConfigError(f"--protocol: no protocol {name!r}: {suggest(name, PROTOCOLS)}")
    settings, queries, bank = _settings(k, given), chosen_data(*data), _bank(data, given)
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.frozen.evaluation import Wanted, evaluate_frozen

    refuse_unfinished(runs, unfinished)
    wanted = Wanted(names, settings, feature, queries, bank, given["bank_share"], not given["no_reference"])
    return evaluate_frozen(list(runs), wanted, device, say)


def _settings(k: str, given: dict[str, Any]) -> Settings:
    from kinshot.studies.frozen.settings import Settings

    temperature, draws = given["temperature"], given["draws"]
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ConfigError(f"--temperature: expected a number above 0, got {temperature:g}")
    if draws is not None and draws < 1:
        raise ConfigError(f"--draws must be at least 1, got {draws}")
    found = {
        "ks": tuple(parse_numbers(k, "--k")) if k else None,
        "temperature": temperature,
        "shots": tuple(parse_numbers(given["shots"], "--shots")) if given["shots"] else None,
        "draws": draws,
        "seed": given["seed"],
    }
    return Settings(**{name: value for name, value in found.items() if value is not None})


def _bank(data: Data, given: dict[str, Any]) -> Choice | None:
    """The bank that was asked for, or None where the study finds it. Raises ConfigError."""
    bank, split, share = given["bank"], given["bank_split"], given["bank_share"]
    if share and (bank or split):
        raise ConfigError("--bank-share draws the bank from --data, and --bank or --bank-split name another: give one of them")
    if share and not 0 < share < 1:
        raise ConfigError(f"--bank-share: expected a share between 0 and 1, got {share:g}")
    if bank:
        return named_source(bank, split or "train")
    if split and data[0] is None:
        raise ConfigError("--bank-split needs --bank or --data: say which source it is a split of")
    return parse_data(str(data[0]), split, data[2]) if split else None


def _check_together(protocol: str, given: dict[str, Any]) -> None:
    """Raise ConfigError for options that what is asked for does not take."""
    others, needed = (_LEAVING_ONE_OUT, "leave --protocol out") if protocol else (_BY_PROTOCOL, "add --protocol knn")
    for name in others:
        if given[name]:
            problem = "belongs to leaving one out" if protocol else "belongs to a --protocol"
            raise ConfigError(f"--{name.replace('_', '-')} {problem}: {needed}, or leave it out")
