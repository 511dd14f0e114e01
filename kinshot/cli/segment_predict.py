"""`segmentation predict`: the user's own images segmented by a few examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kinshot.cli.common import lines, say, show
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET
from kinshot.cli.segment_options import STAGE
from kinshot.core.errors import ConfigError, DataError
from kinshot.recipes.segmenters import parse_segmenter
from kinshot.studies.segmentation.shots import FORM, parse_shots

if TYPE_CHECKING:
    from kinshot.studies.segmentation.predict import Predictor


@click.command(name="predict")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--support", "supports", multiple=True, required=True, metavar=FORM, help="Images of one way, with masks; repeat for more ways."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of what is found.")
@click.option(
    "--head", metavar="NAME[:SETTING=VALUE]", help="Segmenter, or few-shot head [default: the one that the run trained, or cosine]."
)
@STAGE
@click.option("--frame", default=0, metavar="N", help="Side of the square that images are brought into [default: the encoder's].")
@click.option("--fit", type=click.Choice(["squash", "letterbox"]), default="squash", show_default=True, help="How they are brought there.")
@click.option("--binary", is_flag=True, help="Masks are 0 and 1, or 0 and 255: 255 is the object, not a pixel to be ignored.")
@click.option(
    "--scores",
    type=click.Choice(["npz", "png", "none"]),
    default="npz",
    show_default=True,
    help="Score maps, as numbers or 16-bit pictures.",
)
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def predict_command(
    checkpoint: Path, queries: tuple[Path, ...], supports: tuple[str, ...], out: Path, head: str | None, stage: str, frame: int,
    fit: Literal["squash", "letterbox"], binary: bool, scores: str, allow_unfinished: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Segment each QUERY, of any size, by what the masks of a few images show, with the encoder of CHECKPOINT (or a run, or a backbone).

    A mask is a PNG of numbers: 0 background, 255 nothing, another number the object; of several numbers name the one that is meant.
    For each query the folder gets NAME_mask.png, whose indices are the ways (0 background), NAME_overlay.png and NAME_scores.npz.
    """
    if frame and not 8 <= frame <= 2048:
        raise ConfigError(f"--frame: expected a side from 8 to 2048 pixels, or 0 for the encoder's, got {frame}")
    shots, choice = [parse_shots(text) for text in supports], parse_segmenter(head) if head else None
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.segmentation.prediction_files import begin, check_folder, finish, planned, write_prediction

    names = planned(queries, len(shots), scores)
    every = [name for of in names.values() for name in of.values()]
    check_folder(out, every)
    refuse_unfinished([checkpoint], allow_unfinished)
    from kinshot.studies.segmentation.support import read_support

    marked = read_support(shots, binary=binary)
    from kinshot.core.runtime import resolve_device
    from kinshot.recipes.loaded import read
    from kinshot.runs.embedder import from_checkpoint
    from kinshot.runs.trained_segmenters import own_segmenter
    from kinshot.studies.segmentation.predict import Predictor

    run = read(checkpoint, parts=("encoder", "projector", "network"))
    wanted = choice or own_segmenter(run)
    predictor = Predictor(run, from_checkpoint(run), wanted, marked, stage=stage, side=frame, fit=fit, device=resolve_device(device))
    about: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "head": wanted.text,
        "stages": list(predictor.bound.stages),
        "frame": str(predictor.frame),
    }
    begin(out, every, about)
    found: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for query, files in names.items():
        try:
            one = predictor.segment(query)
        except DataError as error:
            failed[str(query)] = str(error)
            continue
        write_prediction(out, files, one, predictor.bound.segmenter.scores)
        found.append({"query": str(query), "files": files, **_shares(one.labels, predictor)})
        if not quiet:
            say(f"{query}: {out / files['mask']}")
    result = {**about, "found": found, "failed": failed}
    finish(out, result)
    if found or as_json:
        show(result, as_json, lambda: "\n".join(lines(one) for one in found))
    if failed:
        raise DataError("\n  ".join([f"{len(failed)} of {len(names)} queries could not be segmented:", *failed.values()]))


def _shares(labels: Any, predictor: Predictor) -> dict[str, float]:
    """The share of an image's pixels that each way has, in percent."""
    return {f"way {way}, %": round(100 * float((labels == way).mean()), 2) for way in range(1, predictor.ways + 1)}
