"""`ssl export`: an encoder for programs that have no kinshot."""

from __future__ import annotations

from pathlib import Path

import click

from kinshot.cli.common import say, show
from kinshot.cli.options import ALLOW_UNFINISHED, JSON, QUIET
from kinshot.recipes.specs import parse_features


@click.command(name="export")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--format", "kind", required=True, metavar="FORMAT", help="torchvision, timm, exported, onnx or huggingface.")
@click.option("--out", required=True, metavar="PATH", type=click.Path(path_type=Path), help="A file; for huggingface a folder.")
@click.option(
    "--feature", default="backbone", show_default=True, help="What exported and onnx give: backbone, projector, or both with a comma."
)
@click.option(
    "--images",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Images that it is compared on [default: parts of two photographs that scikit-learn brings].",
)
@click.option(
    "--results",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What `fewshot eval --results` wrote, for the model card of huggingface; may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@ALLOW_UNFINISHED
@QUIET
@JSON
def export_command(
    run: Path, kind: str, out: Path, feature: str, images: Path | None, results: tuple[Path, ...], overwrite: bool,
    allow_unfinished: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write RUN's encoder in a form that other programs open: weights for torchvision or timm, a program, ONNX, a folder for the Hub.

    RUN is a run, a checkpoint or a backbone, such as efficientnet_lite0. What is written is opened again, compared with the encoder on
    images, and only then gets its name.
    """
    names = parse_features(feature)
    from kinshot.exports.export import export
    from kinshot.runs.reached import refuse_unfinished

    refuse_unfinished([run], allow_unfinished)
    done = export(run, kind, out, features=names, images=images, results=results, overwrite=overwrite)
    if not quiet:
        for note in done.notes:
            say(note)
    told = [f"wrote {done.path} ({done.bytes:,} bytes), {done.proof}", "open it with:", *(f"  {line}" for line in done.reading)]
    show(done.as_dict(), as_json, lambda: "\n".join(told))
