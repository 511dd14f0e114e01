"""Teaching a classifier: images of a class in, one file out; what others wrote in the meantime stays."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kinshot.core.atomic import sweep_orphans
from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.filelock import FileLock
from kinshot.core.runtime import resolve_device
from kinshot.core.small_files import read_file
from kinshot.datasets.files import digest
from kinshot.datasets.images import failures, load_image, told
from kinshot.datasets.survey import list_images, shown
from kinshot.fewshot.enrolled.fit import fit
from kinshot.fewshot.enrolled.rows import check_head
from kinshot.fewshot.enrolled.support import Shot, Support, joined, renamed
from kinshot.fewshot.specs import parse_head
from kinshot.learn.model import BACKBONE, Model
from kinshot.runs.classifier import encoder_of, open_encoder
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.runs.kin_file import SUFFIX, KinFile, read_kin, write_kin

DEFAULT_ENCODER, DEFAULT_HEAD = "efficientnet_lite0", "imprint"
_LONGEST, _LARGEST_IMAGE = 200, 2**32


class TaughtElsewhere(DataError):
    """Images are taught under another class, and are not to be moved.

    Args:
        images: name of each, and its class.
    """

    def __init__(self, images: Sequence[tuple[str, str]]) -> None:
        told_of = "\n  ".join(f"{name} is taught as {label}" for name, label in images)
        advice = "move them with --move, or leave them out"
        super().__init__(f"nothing was taught, as no image is of two classes: {advice}\n  {told_of}")
        self.images = list(images)


@dataclass(frozen=True)
class Taught:
    """What a change did.

    Attributes:
        kin: the file as it is now.
        label: the class.
        added: names of images that are new.
        notes: what is to be said of others.
        changed: whether the file was written.
        before: what the file held when it was changed, while nobody else wrote to it; None where there was none.
    """

    kin: KinFile
    label: str
    added: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: bool = True
    before: Support | None = None


def enroll(
    path: str | Path,
    label: str,
    images: Sequence[str | Path],
    *,
    encoder: str = "",
    head: str = "",
    embed_encoder: bool = False,
    thumbnails: int = 0,
    move: bool = False,
    unreadable: Literal["refuse", "leave_out"] = "refuse",
    device: str = "cpu",
    opened: tuple[Model, EncoderIdentity] | None = None,
    names: Mapping[Path, str] | None = None,
) -> Taught:
    """Teach a classifier a class, or more images of one; other classes stay as they are, to the bit.

    An image is known by its content: one that is there already is counted once, one that is there under another class is refused, or
    moved. Features are made before the file is locked, one image at a time, so that they do not depend on what is taught with them; then
    the file is read, changed and replaced as a whole, while other writers wait.

    Args:
        path: MODEL.kin, made where it is not there.
        label: name of the class.
        images: files, and folders whose images are all taken.
        encoder: where the encoder is; empty for the file's own, or for a new one efficientnet_lite0.
        head: imprint, prototype, ridge or logistic, with settings (`ridge:penalty=10`); empty for the file's own, or imprint.
        embed_encoder: carry the encoder's weights in the file from now on.
        thumbnails: side of the thumbnails of a new file, 0 for none; an older one has them as it has them.
        move: images that are taught under another class leave it.
        unreadable: refuse stops at files that cannot be read; leave_out does without them, and says so.
        device: where features are made.
        opened: the encoder where it is loaded already, as `open_encoder` gives it; in place of `encoder`.
        names: what images are to be called, by their files, where that is not the name of the file.

    Raises:
        ConfigError: a bad name, head or option, an encoder that is not the file's, or a file that somebody keeps locked.
        DataError: images that cannot be read, or are taught under another class.
        CheckpointError: a bad file, or an encoder that is missing or another one.

    >>> from PIL import Image
    >>> for name, colour in (("apple", "red"), ("lime", "lime")):
    ...     Image.new("RGB", (48, 48), colour).save(f"{name}.png")
    ...     taught = kinshot.enroll("fruit.kin", name, [f"{name}.png"], encoder="runs/demo")
    >>> taught.kin.support.classes
    ('apple', 'lime')
    >>> kinshot.load("fruit.kin").predict(["lime.png"])[0].name
    'lime'
    """
    path, label = Path(path), _checked_label(label)
    if path.suffix != SUFFIX:
        raise ConfigError(f"a classifier is a file that ends with {SUFFIX}, got {path.name!r}: call it {path.name}{SUFFIX}")
    chosen = parse_head(head or DEFAULT_HEAD)
    check_head(*chosen)
    before = read_kin(path) if path.exists() else None
    side = _side(before, thumbnails)
    files, notes = _files(images, unreadable)
    known = set() if before is None else {shot.digest for shot in before.support.shots}
    new = {content: file for content, file in files.items() if content not in known}
    model, identity = opened or _encoder(before, path, encoder)
    called = {content: (names or {}).get(file, file.name) for content, file in files.items()}
    more = _embedded(model.to(resolve_device(device)), label, new, called, side)
    wish = _Wish(label, called, chosen if head else None, embed_encoder, move)
    with writing(path):
        done = _changed(path, wish, more, model, identity)
        if done.changed:
            write_kin(path, done.kin)
    return replace(done, notes=notes + done.notes)


def forget(path: str | Path, what: str) -> Taught:
    """Take a class out of a file, or an image: by its name, its content's hash (or the beginning of it), or as a file.

    Raises:
        ConfigError: what is neither, means several images, or would leave nothing.
        CheckpointError: a bad file.

    >>> from PIL import Image
    >>> for name, colour in (("sky", "blue"), ("sand", "yellow")):
    ...     Image.new("RGB", (48, 48), colour).save(f"{name}.png")
    ...     taught = kinshot.enroll("beach.kin", name, [f"{name}.png"], encoder="runs/demo")
    >>> kinshot.forget("beach.kin", "sky").kin.support.classes
    ('sand',)
    """
    path = Path(path)
    with writing(path):
        kin = read_kin(path)
        return _without(path, kin, _meant(kin.support, what, path))


def forget_images(path: str | Path, digests: Collection[str]) -> Taught:
    """Take images out of a file by the whole hashes of their content; those that are not there any more are passed over.

    Raises:
        ConfigError: none of them is there, or nothing would be left.
        CheckpointError: a bad file.
    """
    path = Path(path)
    with writing(path):
        kin = read_kin(path)
        gone = [shot for shot in kin.support.shots if shot.digest in digests]
        if not gone:
            raise ConfigError(f"{path} has none of these images any more: somebody else took them out")
        return _without(path, kin, gone)


def _without(path: Path, kin: KinFile, gone: list[Shot]) -> Taught:
    """The file written without some of its images. Raises ConfigError where nothing would be left."""
    keep = [row for row, shot in enumerate(kin.support.shots) if shot not in gone]
    if not keep:
        raise ConfigError(f"{path} would have no class left: delete the file instead")
    support = kin.support.taken(keep)
    labels = sorted({shot.label for shot in gone})
    lost = [f"class {label} has no image left and is gone" for label in labels if label not in support.classes]
    done = replace(kin, support=support, fit=fit(support, kin.head, kin.settings))
    write_kin(path, done)
    return Taught(done, labels[0], [shot.name for shot in gone], lost, before=kin.support)


@dataclass(frozen=True)
class _Wish:
    """What is to be taught: the class, names of files by their content, a head where another one is wanted, and the options."""

    label: str
    files: dict[str, str]
    head: tuple[str, dict[str, Any]] | None
    embed_encoder: bool
    move: bool


def _changed(path: Path, wish: _Wish, more: Support, model: Model, identity: EncoderIdentity) -> Taught:
    """What the file is to hold, by what it holds now that nobody else writes to it. Raises as `enroll` does."""
    now = read_kin(path) if path.exists() else None
    if now is None:
        before, head, weights = more.taken([]), wish.head or parse_head(DEFAULT_HEAD), dict[str, Tensor]()
    else:
        before, head, weights, known = now.support, wish.head or (now.head, now.settings), now.weights, now.encoder
        if (known.weights, known.input) != (identity.weights, identity.input):
            raise ConfigError(
                f"{path} was taught with the encoder {known.name} (weights {known.weights[:12]}), given is {identity.name} "
                f"(weights {identity.weights[:12]}): leave --encoder out, or begin another file"
            )
        identity = known
    support, added, notes = _merged(before, more, wish.files, wish.label, wish.move)
    if wish.embed_encoder and not weights:
        weights = _carried(model, identity)
    if now is not None and head != (now.head, now.settings):
        notes.append(f"the head was {now.head} {now.settings} and is {head[0]} {head[1]} now: scores of every class change")
    elif now is not None and support is before and len(weights) == len(now.weights):
        return Taught(now, wish.label, [], notes, changed=False, before=now.support)
    kin = KinFile(support, fit(support, *head), *head, identity, weights)
    return Taught(kin, wish.label, added, notes, before=None if now is None else now.support)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, this process alone changes the file; what a killed one left beside it is cleared up."""
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}: make it first")
    with FileLock(path):
        sweep_orphans(path.parent, path.name)
        yield


def _checked_label(label: str) -> str:
    name = unicodedata.normalize("NFC", label).strip()
    if not name or len(name) > _LONGEST or not name.isprintable():
        raise ConfigError(f"a class is called by 1 to {_LONGEST} printable characters, got {label!r}: choose another name")
    return name


def _side(before: KinFile | None, thumbnails: int) -> int:
    """Side of the thumbnails. Raises ConfigError for one that is none, or not the file's."""
    if before is None:
        if thumbnails and not 8 <= thumbnails <= 512:
            raise ConfigError(f"thumbnails have a side of 8 to 512 pixels, or 0 for none, got {thumbnails}")
        return thumbnails
    kept = 0 if before.support.thumbnails is None else before.support.thumbnails.shape[-1]
    if thumbnails not in (0, kept):
        raise ConfigError(f"the file keeps {f'thumbnails of {kept} pixels' if kept else 'no thumbnails'}, got {thumbnails}: leave it out")
    return kept


def _files(images: Sequence[str | Path], unreadable: str) -> tuple[dict[str, Path], list[str]]:
    """Files by their content, each once, and what is to be said of others. Raises DataError."""
    paths = [found for image in map(Path, images) for found in (list_images(image) if image.is_dir() else [image])]
    if not paths:
        raise DataError(f"no image in {', '.join(map(str, images)) or 'nothing'}: give files, or folders that hold some")
    contents, notes = [""] * len(paths), []

    def look(row: int) -> None:
        load_image(paths[row], 8, 3)
        contents[row] = digest(read_file(paths[row], most=_LARGEST_IMAGE))

    failed = failures(len(paths), look)
    if failed:
        if unreadable == "refuse" or len(failed) == len(paths):
            raise DataError(f"{told(failed, len(paths))}\nnothing was taught; to do without such files, add --unreadable leave_out")
        notes.append(f"left out: {told(failed, len(paths))}")
    found: dict[str, Path] = {}
    for path, content in zip(paths, contents, strict=True):
        if content in found:
            notes.append(f"{path} is the same image as {found[content]}: counted once")
        elif content:
            found[content] = path
    return found, notes


def _encoder(before: KinFile | None, path: Path, encoder: str) -> tuple[Model, EncoderIdentity]:
    if before is None:
        return open_encoder(encoder or DEFAULT_ENCODER)
    return encoder_of(before, path, encoder), before.encoder


def _embedded(model: Model, label: str, new: dict[str, Path], called: dict[str, str], side: int) -> Support:
    shots = tuple(Shot(label, content, shown(called[content])) for content in new)
    features = model.embed(list(new.values()), batch=1)[BACKBONE].cpu() if new else torch.empty(0, model.dim)
    pictures: Tensor | None = None
    if side:
        drawn = [torch.from_numpy(load_image(file, side, 3).copy()) for file in new.values()]
        pictures = torch.stack(drawn) if drawn else torch.empty(0, 3, side, side, dtype=torch.uint8)
    return Support(shots, features, pictures)


def _merged(support: Support, more: Support, files: dict[str, str], label: str, move: bool) -> tuple[Support, list[str], list[str]]:
    """The support with what is new, names of that, and what is to be said of images that are there already. Raises DataError."""
    there, made = {shot.digest: shot for shot in support.shots}, {shot.digest for shot in more.shots}
    notes, elsewhere = [], []
    if gone := [name for content, name in files.items() if content not in there and content not in made]:
        raise DataError(f"somebody else took {', '.join(gone)} out of the file at this moment: teach it again")
    for content, name in files.items():
        if content in there and there[content].label == label:
            notes.append(f"{name} is taught already as {label} ({there[content].name}): counted once")
        elif content in there:
            elsewhere.append((content, name, there[content].label))
    if elsewhere and not move:
        raise TaughtElsewhere([(name, other) for _, name, other in elsewhere])
    for content, name, other in elsewhere:
        support = renamed(support, content, label)
        lost = "" if other in support.classes else ", which has no image left and is gone"
        notes.append(f"{name} was taught as {other}{lost}: moved to {label}")
    new = [row for row, shot in enumerate(more.shots) if shot.digest not in there]
    return (joined(support, more.taken(new)) if new else support), [more.shots[row].name for row in new], notes


def _carried(model: Model, identity: EncoderIdentity) -> dict[str, Tensor]:
    if identity.part == "onnx":
        raise ConfigError("--embed-encoder: an ONNX file is no set of tensors that could be carried along: keep it beside the classifier")
    return {name: value.detach().cpu() for name, value in model.encoder.state_dict().items()}


def _meant(support: Support, what: str, path: Path) -> list[Shot]:
    """The images that a text means. Raises ConfigError."""
    name = unicodedata.normalize("NFC", what).strip()
    of_class = [shot for shot in support.shots if shot.label == name]
    named = [shot for shot in support.shots if shot.name == name or (len(name) >= 8 and shot.digest.startswith(name))]
    if Path(what).is_file():
        content = digest(read_file(Path(what), most=_LARGEST_IMAGE))
        named = [shot for shot in support.shots if shot.digest == content] or named
    if of_class and named:
        raise ConfigError(
            f"{what!r} is a class and an image of {path}: name the image by its hash, {named[0].digest[:12]}, or rename the file"
        )
    if len(named) > 1:
        several = ", ".join(f"{shot.digest[:12]} ({shot.label})" for shot in named[:5])
        raise ConfigError(f"{what!r} means {len(named)} images of {path}: name one by its hash: {several}")
    if not of_class and not named:
        raise ConfigError(f"{path} has no class or image {what!r}: {suggest(name, [*support.classes, *(s.name for s in support.shots)])}")
    return of_class or named
