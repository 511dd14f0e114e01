"""`fewshot retrieve`: how well encoders find samples of one kind, query by query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.options import DEVICE, JSON, NO_REFERENCE, QUIET, WHERE, checkpoint_arguments, chosen_data, named_source
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.cli.table import align
from kinshot.core.errors import ConfigError
from kinshot.core.part_text import split_text
from kinshot.kin.metric_names import wanted_metric
from kinshot.recipes.specs import parse_features

if TYPE_CHECKING:
    from kinshot.studies.retrieval.sides import Part
    from kinshot.studies.retrieval.study import Bench, Lookup

METRICS = "recall_at_1,recall_at_2,recall_at_4,recall_at_8,map_at_r,r_precision"
SIDE = f"ATTRIBUTE=VALUE[|VALUE...] or {WHERE}"


@click.command(name="retrieve")
@checkpoint_arguments("RUNS...")
@click.option("--data", metavar="NAME[:ROOT]", help="Source of queries and gallery [default: the checkpoint's own data, split test].")
@click.option("--split", help="Split of the source [default: test where the source has one].")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of the source; may be repeated.")
@click.option("--query", metavar=SIDE, help="Only these samples of --data, or another source, are queries [default: all].")
@click.option("--gallery", metavar=SIDE, help="What they are looked up in [default: all of --data, without the query itself].")
@click.option("--kin", default="label", show_default=True, help="Attribute whose value kin share; of several, the more the more relevant.")
@click.option("--camera", default="", metavar="ATTRIBUTE", help="Leave out of the gallery what is of a query's own class and camera.")
@click.option("--metrics", default=METRICS, show_default=True, metavar="NAMES", help="See `ssl list metric`; nmi, mean_ap, ndcg_at_5, ....")
@click.option("--verify", default="", metavar="FAR,...", help="Verify pairs, too: TAR at these FARs (0.001), EER, AUC.")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector, joint, or an output of the projector.")
@click.option("--distance", type=click.Choice(["cosine", "euclidean"]), default="cosine", show_default=True, help="What is near.")
@click.option("--draws", default=1000, show_default=True, help="Lists of queries that are drawn again, for intervals.")
@click.option("--seed", default=0, show_default=True, help="Key of those.")
@NO_REFERENCE
@click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FOLDER", help="Also write a page with queries and what they found.")
@click.option("--overwrite", is_flag=True, help="Write the page into a folder that holds other things, which stay.")
@DEVICE
@QUIET
@JSON
def retrieve_command(
    checkpoints: tuple[Path, ...], data: str | None, split: str | None, options: tuple[str, ...], query: str | None, gallery: str | None,
    kin: str, camera: str, metrics: str, verify: str, feature: str, distance: Literal["cosine", "euclidean"], draws: int, seed: int,
    no_reference: bool, results: Path | None, report: Path | None, overwrite: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure how well RUNS (checkpoints, run folders, or a sweep's folder) find kin: every query ranks the gallery.

    Runs that differ by their seed alone are averaged; any two others, and every run and reference, are compared query by query.
    """
    chosen, (name, *more) = chosen_data(data, split, options), parse_features(feature)
    if more:
        raise ConfigError(f"--feature takes one, got {feature!r}: measure the others apart")
    texts = dict.fromkeys(split_text(metrics, ",", "--metrics", METRICS))
    wanted_metrics = [wanted_metric(text) for text in texts]
    far = _shares(verify)
    queries, found_in = _part(query, "--query"), _part(gallery, "--gallery")
    from kinshot.studies.retrieval.sides import Asked
    from kinshot.studies.retrieval.study import Lookup, bench_of, retrieve

    tell = (lambda text: None) if quiet else say
    wanted = Lookup(wanted_metrics, chosen, Asked(queries, found_in, kin, camera), name, distance, not no_reference, seed, draws, far)
    if report is not None:
        from kinshot.studies.report.folder import check_out

        check_out(report, overwrite, "--report")
    bench = bench_of(checkpoints, wanted, tell)
    found = {"command": command_line("fewshot"), **retrieve(bench, wanted, device, tell)}
    with printed_anyway(lambda: show(found, as_json, lambda: retrieval_table(found))):
        if results is not None:
            write_rows(results, found)
        if report is not None:
            _write_page(found, bench, wanted, report, overwrite, device)
            tell(f"wrote {report / 'report.html'}")


def _write_page(found: dict[str, Any], bench: Bench, wanted: Lookup, report: Path, overwrite: bool, device: str) -> None:
    from kinshot.core.runtime import resolve_device
    from kinshot.studies.retrieval.page import write_page
    from kinshot.studies.retrieval.shown import shown_queries

    write_page(found, shown_queries(bench, wanted, resolve_device(device)), bench, report, overwrite)


def _part(text: str | None, option: str) -> Part:
    """`ATTRIBUTE=VALUE|VALUE` or a source as one side. Raises ConfigError."""
    from kinshot.studies.retrieval.sides import Part

    if text is None:
        return Part()
    name, equals, values = text.partition("=")
    if not equals or ":" in name or "," in name:
        return Part(named_source(text, "test"))
    if not name or not all(values.split("|")):
        raise ConfigError(f"{option}: expected ATTRIBUTE=VALUE, several values with |, such as view=street|studio; got {text!r}")
    return Part(None, name, tuple(values.split("|")))


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"--verify: expected shares of strangers such as 0.001,0.01; got {text!r}") from None


def write_rows(results: Path, found: dict[str, Any]) -> None:
    """The rows of a study and its paired differences as a result file."""
    from kinshot.studies.results import rounded_p, write_document
    from kinshot.studies.study import written_rows

    paired = [
        {**written, **rounded_p(one)}
        for one in found["paired"]
        for written in written_rows([{**one, "label": f"{one['label']} minus {one['against']}"}])
    ]
    write_document(results, found, found["command"], [*written_rows(found["rows"]), *paired])


def retrieval_table(found: dict[str, Any]) -> str:
    """What was done, rows against metrics, and the differences."""
    lines = [f"{key}: {shown(value)}" for key, value in {**found["data"], **found["protocol"]}.items()]
    cells = {
        (row["label"], row["metric"]): _figure(row) + (f" ± {_number(row['metric'], row['ci95'])}" if row["ci95"] else "")
        for row in found["rows"]
        if "part_of" not in row
    }
    lines += ["", *_grid("", cells)]
    if found["paired"]:
        differences = {
            (f"{one['label']} minus {one['against']}", one["metric"]): f"{_figure(one, '+')} ± {_number(one['metric'], one['ci95'])}"
            f", p {one['p_holm']:.2g}"
            for one in found["paired"]
        }
        lines += ["", "paired on the same queries, p by Holm for all pairs of one metric:", *_grid("", differences)]
    return "\n".join(lines)


def _figure(row: dict[str, Any], sign: str = "") -> str:
    return _number(row["metric"], row["mean"], sign)


def _number(metric: str, value: float, sign: str = "") -> str:
    return format(value, f"{sign}.{2 if '%' in metric else 4}f")


def _grid(corner: str, cells: dict[tuple[str, str], str]) -> list[str]:
    columns, labels = (list(dict.fromkeys(key[place] for key in cells)) for place in (1, 0))
    return align([[corner, *columns], *([label, *(cells.get((label, column), "") for column in columns)] for label in labels)])
