"""`fewshot enroll`, `forget`, `predict`, `evaluate` and `inspect`: a classifier of the user's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kinshot.cli.common import lines, say, show
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET
from kinshot.core.errors import DataError

if TYPE_CHECKING:
    from kinshot.runs.classifier import Classifier, Prediction
    from kinshot.runs.teaching import Taught

MODEL = click.argument("model", metavar="MODEL.kin", type=click.Path(path_type=Path))
UNREADABLE = click.option(
    "--unreadable",
    type=click.Choice(["refuse", "leave_out"]),
    default="refuse",
    show_default=True,
    help="What to do about files that are no images, or damaged: stop, or name them and do without.",
)
_MOST_SHOWN = 20


def _encoder(text: str) -> Any:
    return click.option("--encoder", default="", metavar="RUN|timm:...|NAME", help=text)


@click.command(name="enroll")
@MODEL
@click.argument("name", metavar="NAME")
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_encoder("A run, or a backbone [default: the file's own, or efficientnet_lite0 for a new one].")
@click.option(
    "--head",
    default="",
    metavar="NAME[:SETTING=VALUE]",
    help="imprint, prototype, ridge or logistic [default: the file's own, or imprint].",
)
@click.option("--embed-encoder", is_flag=True, help="Carry the encoder's weights in the file.")
@click.option("--thumbnails", default=0, metavar="SIDE", help="Keep small pictures of this side in a new file; 0 keeps none.")
@click.option("--move", is_flag=True, help="Images that are taught under another class leave it.")
@UNREADABLE
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def enroll_command(
    model: Path, name: str, images: tuple[Path, ...], encoder: str, head: str, embed_encoder: bool, thumbnails: int, move: bool,
    unreadable: Literal["refuse", "leave_out"], allow_unfinished: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Teach the classifier MODEL.kin, made where it is not there, that IMAGES (files, or folders of them) show NAME.

    With the heads imprint and prototype other classes stay as they are, to the bit; ridge and logistic are fitted to all images anew.
    """
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.runs.teaching import enroll

    refuse_unfinished([Path(encoder)] if encoder else [], allow_unfinished)
    done = enroll(
        model, name, images, encoder=encoder, head=head, embed_encoder=embed_encoder, thumbnails=thumbnails, move=move,
        unreadable=unreadable, device=device,
    )  # fmt: skip
    _told(model, done, "added", quiet, as_json)


@click.command(name="forget")
@MODEL
@click.argument("what", metavar="NAME|IMAGE")
@QUIET
@JSON
def forget_command(model: Path, what: str, quiet: bool, as_json: bool) -> None:
    """Take a class out of MODEL.kin, or one image: by the name it was taught by, as a file, or by the hash of its content."""
    from kinshot.runs.teaching import forget

    _told(model, forget(model, what), "taken out", quiet, as_json)


@click.command(name="predict")
@MODEL
@click.argument("images", metavar="IMAGES|FOLDER", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", default=3, show_default=True, help="How many classes to name.")
@_encoder("Where the encoder is now, if not where it was [default: as the file knows it].")
@UNREADABLE
@DEVICE
@QUIET
@JSON
def predict_command(
    model: Path, images: tuple[Path, ...], top: int, encoder: str, unreadable: Literal["refuse", "leave_out"], device: str, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Say what each image shows: the class, how likely it is if the image shows one of the classes at all, or none of these."""
    from kinshot.datasets.survey import list_images
    from kinshot.studies.enrolled import features_of_files, sureness

    files = [found for image in images for found in (list_images(image) if image.is_dir() else [image])]
    if not files:
        raise DataError(f"no image below {', '.join(map(str, images))}: give files, or a folder that holds some")
    classifier = _opened(model, encoder, device)
    features, kept, failed = features_of_files(classifier, files, unreadable)
    found = {str(files[row]): one for row, one in zip(kept, classifier.said_of(features, top), strict=True)}
    sure = sureness(classifier.kin)
    result = {
        "model": str(model),
        "predictions": [{"image": file, **_plain(one)} for file, one in found.items()],
        "unreadable": [{"image": str(files[row]), "reason": why} for row, why in failed.items()],
        **sure,
    }
    show(result, as_json, lambda: _predictions(found, sure))
    if failed and not quiet:
        say("\n  ".join([f"left out, {len(failed)} of {len(files)} files cannot be read:", *failed.values()]))


@click.command(name="evaluate")
@MODEL
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--unknown", metavar="FOLDER", type=click.Path(path_type=Path), help="Images of none of the classes, for the open-set figures."
)
@_encoder("Where the encoder is now, if not where it was [default: as the file knows it].")
@UNREADABLE
@DEVICE
@QUIET
@JSON
def evaluate_command(
    model: Path, folder: Path, unknown: Path | None, encoder: str, unreadable: Literal["refuse", "leave_out"], device: str, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure MODEL.kin on FOLDER, which has one folder for each class: accuracy, confusions, calibration, and what is none of these."""
    from kinshot.studies.enrolled import evaluate, sureness

    classifier = _opened(model, encoder, device)
    found = evaluate(classifier, folder, unknown, unreadable)
    result = {"model": str(model), "folder": str(folder), **found, "expected": sureness(classifier.kin)}
    show(result, as_json, lambda: _evaluation(found, result["expected"]))
    if found["taught among them"] and not quiet:
        say(f"warning: {found['taught among them']} of the {found['images']} images were taught: figures of these say nothing of new ones")


@click.command(name="inspect")
@MODEL
@JSON
def inspect_command(model: Path, as_json: bool) -> None:
    """Say what is in MODEL.kin: classes, images, encoder, head, threshold. The encoder need not be there."""
    from kinshot.runs.kin_file import read_kin
    from kinshot.studies.enrolled import describe

    found = describe(read_kin(model), model)
    show(found, as_json, lambda: lines(found))


def _opened(model: Path, encoder: str, device: str) -> Classifier:
    from kinshot.core.runtime import resolve_device
    from kinshot.runs.classifier import open_classifier

    return open_classifier(model, encoder).to(resolve_device(device))


def _told(model: Path, done: Taught, what: str, quiet: bool, as_json: bool) -> None:
    """What changed, and what the file says of itself now."""
    from kinshot.studies.enrolled import sureness

    support = done.kin.support
    counts = dict(zip(support.classes, support.counts.tolist(), strict=True))
    result = {"model": str(model), "class": done.label, what: done.added, "notes": done.notes, "classes": counts, **sureness(done.kin)}
    if not quiet:
        for note in done.notes:
            say(note)
    count = f"{len(done.added)} {'image' if len(done.added) == 1 else 'images'} {what}"
    size = f"{counts.get(done.label, 0)} of {len(support.shots)} images, {len(counts)} {'class' if len(counts) == 1 else 'classes'}"
    show(result, as_json, lambda: "\n".join([f"{model}: {done.label}: {count}; {size}", *_expected(result)]))


def _expected(sure: dict[str, Any]) -> list[str]:
    """What is to be expected of answers, as lines."""
    p, none = sure["probabilities"], sure["none of these"]
    left = f"{p['recognised when left out']} of {p['left out']} recognised without having been taught them; " if p["left out"] else ""
    temperature = "none are given" if p["temperature"] is None else f"temperature {p['temperature']:.4g}"
    rows = [f"probabilities: {temperature}; {left}{p['how']}"]
    if none["below a closeness of"] is None:
        return [*rows, f"none of these: never said; {none['how']}"]
    let = none["unknown images let through"]
    through = "what is let through of unknown images is not known" if let is None else f"lets {let:.1f} % of unknown images through"
    refuses = f"refuses {none['known images refused']:.1f} % of known images"
    return [*rows, f"none of these: below a closeness of {none['below a closeness of']:.3f}; expected: {refuses}, {through}; {none['how']}"]


def _plain(one: Prediction) -> dict[str, Any]:
    return {
        "class": one.name,
        "none of these": None if one.known is None else not one.known,
        "closeness": one.closeness,
        "top": [{"class": guess.name, "probability": guess.probability, "score": guess.score} for guess in one.top],
        "nearest": [{"class": near.shot.label, "image": near.shot.name, "closeness": near.cosine} for near in one.nearest],
    }


def _predictions(found: dict[str, Prediction], sure: dict[str, Any]) -> str:
    from kinshot.cli.table import align

    rows = [["image", "answer", "closeness", "likeliest if it is one of the classes"]]
    for file, one in found.items():
        guesses = ", ".join(g.name if g.probability is None else f"{g.name} {100 * g.probability:.1f} %" for g in one.top)
        rows.append([file, one.name or "none of these", f"{one.closeness:.3f}", guesses])
    return "\n".join([*align(rows), "", *_expected(sure)])


def _evaluation(found: dict[str, Any], expected: dict[str, Any]) -> str:
    from kinshot.cli.table import align

    calibration, open_set = found["calibration"], found["open set"]
    rest = found["accuracy of what is not refused"]
    rows = [
        f"{found['images']} images of {found['classes']} of {found['of classes']} classes",
        f"accuracy: {found['accuracy']:.2f} %",
        f"none of these: said of {found['refused']:.2f} % of these images"
        + ("" if rest is None else f"; {rest:.2f} % of the others are right"),
        f"calibration error: {calibration['error']:.2f} %, mean probability {calibration['mean probability']:.2f} % ({calibration['rule']})"
        if calibration["error"] is not None
        else f"calibration error: no probabilities are given; {calibration['why']}",
    ]
    if open_set is not None:
        through = "" if open_set["let through"] is None else f"; {open_set['let through']:.2f} % are let through"
        rows.append(f"open set: AUROC {open_set['auroc']:.2f} % against {open_set['images']} images of no class{through}")
    rows += [*_expected(expected), ""]
    head = ["class", "images", "accuracy, %", "refused, %", "mostly taken for"]
    worst = sorted(found["per class"], key=lambda one: one["accuracy"])
    rows += align(
        [head, *([c["class"], str(c["images"]), f"{c['accuracy']:.1f}", f"{c['refused']:.1f}", c["mostly taken for"] or ""] for c in worst)]
    )
    if found["confusions"]:
        most = found["confusions"][:_MOST_SHOWN]
        more = len(found["confusions"]) - len(most)
        rows += ["", *align([["class", "taken for", "images"], *([c["class"], c["taken for"], str(c["images"])] for c in most)])]
        rows += [f"and {more} more pairs (--json has them all)"] if more else []
    return "\n".join(rows)


COMMANDS = (enroll_command, forget_command, predict_command, evaluate_command, inspect_command)
