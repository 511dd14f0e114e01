"""`ssl index`, `search`, `duplicates` and `outliers`: a folder of images by what they look like."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kinshot.cli import index_text
from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kinshot.index.opened import Hit, Index

INDEX = click.argument("index", metavar="INDEX", type=click.Path(path_type=Path))
REPORT = click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE",
    help="Also write a page: a folder, or one .html file.",
)
FOLDER = click.option("--folder", type=click.Path(path_type=Path), help="Where the images are now [default: where they were].")
ENGINE = click.option(
    "--engine", type=click.Choice(["auto", "products", "faiss"]), default="auto", show_default=True,
    help="What proposes candidates; it changes speed alone, never what is found.",
)  # fmt: skip
VERIFY = click.option("--verify", is_flag=True, help="Compare every byte with its checksum, also in an index of more than a gigabyte.")
UNREADABLE = click.option(
    "--unreadable", type=click.Choice(["refuse", "leave_out"]), default="refuse", show_default=True,
    help="What to do about files that are no images, or damaged: stop, or name them and do without.",
)  # fmt: skip
_EVERY = 10.0


@click.command(name="index")
@click.argument("given", metavar="[MODEL] FOLDER", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="INDEX", help="Folder of the index, new or not.")
@click.option("--thumbnails", type=int, metavar="SIDE", help="Side of the pictures that pages show, 0 for none [default: 96].")
@UNREADABLE
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def index_command(
    given: tuple[str, ...], out: Path, thumbnails: int | None, unreadable: Literal["refuse", "leave_out"], allow_unfinished: bool,
    device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make an index of the images below FOLDER, or bring it up to date: only new and changed files are embedded.

    MODEL is a run, a checkpoint or a backbone [default: that of the index, or efficientnet_lite0 for a new one]. A call that was stopped
    goes on where it was. Files that were moved keep their features, removed ones leave.
    """
    if len(given) > 2:
        raise click.UsageError(f"expected [MODEL] FOLDER, got {len(given)} words: put names with spaces into quotes")
    encoder, folder = (given[0], given[1]) if len(given) == 2 else ("", given[0])
    from kinshot.index.building import build_index
    from kinshot.runs.reached import refuse_unfinished

    refuse_unfinished([Path(encoder)] if encoder else [], allow_unfinished)
    done = build_index(
        folder, out, encoder, thumbnails=thumbnails, unreadable=unreadable, device=device, progress=None if quiet else _progress()
    )
    if not quiet:
        for text in filter(None, [done.note, *(f"left out: {reason}" for reason in done.unreadable.values())]):
            say(text)
    result = {
        "index": str(out), "files": done.files, "contents": done.contents, **done.counts,
        "unreadable": [{"image": path, "reason": reason} for path, reason in done.unreadable.items()],
    }  # fmt: skip
    counts = ", ".join(f"{count:,} {name}" for name, count in done.counts.items() if count or name in ("unchanged", "embedded"))
    show(result, as_json, lambda: f"{out}: {done.files:,} files of {done.contents:,} contents; {counts}")


@click.command(name="search")
@INDEX
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", default=10, show_default=True, help="How many images to name for each.")
@click.option("--encoder", default="", metavar="RUN|timm:...|NAME", help="Where the encoder is now, if not where it was.")
@REPORT
@FOLDER
@ENGINE
@UNREADABLE
@VERIFY
@DEVICE
@QUIET
@JSON
def search_command(
    index: Path, images: tuple[Path, ...], top: int, encoder: str, report: Path | None, folder: Path | None,
    engine: Literal["auto", "products", "faiss"], unreadable: Literal["refuse", "leave_out"], verify: bool, device: str, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Name the images of INDEX that look most like each of IMAGES (files, or folders of them), with the cosine. Exact."""
    if top < 1:
        raise ConfigError(f"--top is how many images are named for each, at least 1, got {top}")
    from kinshot.datasets.images import told
    from kinshot.datasets.survey import list_images

    opened = _opened(index, report, folder, encoder, device, engine, verify)
    files = [found for image in images for found in (list_images(image) if image.is_dir() else [image])]
    if not files:
        raise DataError(f"no image below {', '.join(map(str, images))}: give files, or a folder that holds some")
    features, failed = opened.features_of(files)
    if failed and (unreadable == "refuse" or len(failed) == len(files)):
        raise DataError(f"{told(failed, len(files))}\nto do without such files, add --unreadable leave_out")
    good = [file for row, file in enumerate(files) if row not in failed]
    found = list(zip(good, opened.nearest(features, top), strict=True))
    result = {
        **_head(opened, len(good)),
        "queries": [{"image": str(file), "found": [_hit(opened, hit) for hit in hits]} for file, hits in found],
        "unreadable": [{"image": str(files[row]), "reason": why} for row, why in failed.items()],
    }
    with printed_anyway(lambda: show(result, as_json, lambda: index_text.search_text(found, result))):
        if failed and not quiet:
            say("\n  ".join([f"left out, {len(failed)} of {len(files)} files cannot be read:", *failed.values()]))
        if report is not None:
            from kinshot.studies.search.pages import search_page
            from kinshot.studies.search.queries import thumbnails

            asked = [(str(file), picture, hits) for (file, hits), picture in zip(found, thumbnails(good), strict=True)]
            _report(opened, report, result, {}, lambda told_of, footer: search_page(opened, asked, told_of, footer), quiet)


@click.command(name="duplicates")
@INDEX
@click.option("--threshold", type=float, help="Cosine from which images are near duplicates; above 1: equal files alone [default: 0.9].")
@REPORT
@FOLDER
@ENGINE
@VERIFY
@QUIET
@JSON
def duplicates_command(
    index: Path, threshold: float | None, report: Path | None, folder: Path | None, engine: Literal["auto", "products", "faiss"],
    verify: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Name the files of INDEX that are copies: equal ones by the hash of their content, near ones by cosine, in clusters.

    Every pair is compared, exactly. Nothing is removed.
    """
    from kinshot.index.copies import THRESHOLD

    opened = _opened(index, report, folder, "", "cpu", engine, verify)
    found = opened.duplicates(THRESHOLD if threshold is None else threshold)
    result = {
        **_head(opened, len(opened)),
        "threshold": found.threshold,
        "pairs": found.pairs,
        "copies": found.copies,
        "cosine of the nearest": dict(zip(("median", "90 %", "99 %"), found.nearest, strict=False)),
        "clusters": [
            {"exact": one.exact, "lowest cosine": one.lowest, "files": [
                {"image": path, "content": row, "bytes": size} for path, row, size in zip(one.paths, one.rows, one.sizes, strict=True)
            ]} for one in found.clusters
        ],
    }  # fmt: skip
    with printed_anyway(lambda: show(result, as_json, lambda: index_text.duplicates_text(opened, found))):
        if report is not None:
            from kinshot.studies.search.pages import duplicates_page

            more = {"Near duplicates": f"cosine of at least {found.threshold:g}; every pair was compared"}
            _report(opened, report, result, more, lambda told, footer: duplicates_page(opened, found, told, footer), quiet)


@click.command(name="outliers")
@INDEX
@click.option("--k", default=10, show_default=True, help="A score is the distance to the k-th nearest other image.")
@click.option("--top", default=24, show_default=True, help="How many images to name.")
@click.option("--scores", type=OUTPUT_FILE, metavar="FILE", help="Also write every file's score to this CSV file.")
@REPORT
@FOLDER
@ENGINE
@VERIFY
@QUIET
@JSON
def outliers_command(
    index: Path, k: int, top: int, scores: Path | None, report: Path | None, folder: Path | None,
    engine: Literal["auto", "products", "faiss"], verify: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Name the images of INDEX that are like no other: by 1 minus the cosine to the k-th nearest other image (Ramaswamy et al. 2000)."""
    if top < 1:
        raise ConfigError(f"--top is how many images are named, at least 1, got {top}")
    opened = _opened(index, report, folder, "", "cpu", engine, verify)
    found, used = opened.outliers(k), min(k, len(opened) - 1)
    result = {
        **_head(opened, len(opened)),
        "score": f"1 - cosine to the nearest other image number {used}",
        "k": used,
        "median": sorted(one.score for one in found)[len(found) // 2],
        "outliers": [{"image": one.path, "copies": list(one.copies), "score": one.score} for one in found[:top]],
    }
    with printed_anyway(lambda: show(result, as_json, lambda: index_text.outliers_text(opened, result))):
        if scores is not None:
            from kinshot.studies.search.scores import write_scores

            write_scores(scores, found)
        if report is not None:
            from kinshot.studies.search.pages import outliers_page

            more = {"Score": str(result["score"])}
            _report(opened, report, result, more, lambda told, footer: outliers_page(opened, found, top, used, told, footer), quiet)


def _opened(
    index: Path,
    report: Path | None,
    folder: Path | None,
    encoder: str,
    device: str,
    engine: Literal["auto", "products", "faiss"],
    verify: bool,
) -> Index:
    """The index, once it is clear that a page could be written and that the engine is there."""
    from kinshot.index.opened import open_index
    from kinshot.kin.neighbors.proposals import faiss_is_installed

    if report is not None:
        from kinshot.studies.search.writing import check_report

        check_report(report)
    if engine == "faiss" and not faiss_is_installed():
        raise ConfigError("--engine faiss needs the package faiss-cpu: pip install 'kinshot[faiss]', or leave it out")
    return open_index(index, folder=folder, encoder=encoder, device=device, engine=engine, verify=verify or None)


def _head(index: Index, queries: int) -> dict[str, Any]:
    return {
        "index": str(index.place), "folder": str(index.folder), "files": len(index.state.table), "contents": len(index),
        "encoder": index.manifest.encoder.name, "engine": index.shelves.engine_for(queries),
    }  # fmt: skip


def _hit(index: Index, hit: Hit) -> dict[str, Any]:
    return {"image": hit.path, "cosine": hit.cosine, "copies": list(hit.copies), "file": str(index.folder / hit.path)}


def _report(
    index: Index, report: Path, result: dict[str, Any], more: dict[str, str], page: Callable[[dict[str, str], str], str], quiet: bool
) -> None:
    from kinshot.studies.search.writing import about, write_report

    command = command_line("ssl")
    told = about(index, str(result["engine"]), more, command)
    written = write_report(report, lambda footer: page(told, footer), {"command": command, **result})
    if not quiet:
        say(f"wrote {written}")


def _progress() -> Callable[[int, int], None]:
    """Says now and then how many files are done."""
    said = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal said
        if done < total and time.monotonic() - said >= _EVERY:
            said = time.monotonic()
            say(f"{done:,} of {total:,} files")

    return told


COMMANDS = (index_command, search_command, duplicates_command, outliers_command)
