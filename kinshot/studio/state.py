"""What the page shows and what it does: one classifier in a file that others may write too, and the steps that can be undone."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinshot.core.errors import ConfigError, DataError, KinshotError
from kinshot.core.runtime import resolve_device
from kinshot.fewshot.enrolled.support import Support
from kinshot.learn.model import Model
from kinshot.runs.classifier import Classifier, Prediction, encoder_of, open_encoder
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.runs.kin_file import SUFFIX, KinFile, read_kin
from kinshot.runs.teaching import DEFAULT_ENCODER, Taught, enroll, forget_images
from kinshot.runs.undoing import NothingLeft, TakenBack, change_of, take_back
from kinshot.studio.limits import Limits
from kinshot.studio.steps import Steps
from kinshot.studio.uploads import Sent

_Stamp = tuple[int, ...] | None
_UNKNOWN: _Stamp = ()


@dataclass(frozen=True)
class Seen:
    """The file as it was last seen.

    Attributes:
        revision: grows with every change.
        elsewhere: changes that were not made by this page.
        kin: what is in the file; None while there is none.
        classifier: it in use.
        problem: why the file cannot be used; empty if it can.
    """

    revision: int = 0
    elsewhere: int = 0
    kin: KinFile | None = None
    classifier: Classifier | None = None
    problem: str = ""

    @property
    def support(self) -> Support | None:
        """What was taught."""
        return None if self.kin is None else self.kin.support


class Studio:
    """A classifier at work. `look` and `picture` may be called by any thread; what teaches or predicts, by one at a time.

    Args:
        path: MODEL.kin; made by the first class that is taught.
        encoder: where the encoder is; empty for the file's own, or for a new one the packaged one.
        thumbnails: side of the small pictures of a new file.
        embed_encoder: carry the encoder's weights in the file.
        device: where features are made.
        limits: how much is remembered.

    Raises:
        ConfigError: a name that is none of a classifier, or a folder that is not there.
        CheckpointError: a bad file, or an encoder that is missing or another one.
    """

    def __init__(
        self, path: Path, *, encoder: str = "", thumbnails: int = 128, embed_encoder: bool = False, device: str = "auto",
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
    ) -> None:  # fmt: skip
        if path.suffix != SUFFIX:
            raise ConfigError(f"a classifier is a file that ends with {SUFFIX}, got {path.name!r}: call it {path.name}{SUFFIX}")
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent}: make it first")
        if not 8 <= thumbnails <= 512:
            raise ConfigError(f"thumbnails have a side of 8 to 512 pixels, got {thumbnails}")
        self.path, self.limits, self.side = path, limits, thumbnails
        self.steps = Steps(limits.steps)
        self._encoder, self._embed, self._device = encoder, embed_encoder, resolve_device(device)
        self._lock, self._changing = threading.Lock(), False
        self._pictures: OrderedDict[str, np.ndarray] = OrderedDict()
        self._stamp = _UNKNOWN
        kin = read_kin(path) if path.exists() else None
        self._opened = self._open(kin)
        self._seen = Seen(kin=kin, classifier=self._used(kin))

    def look(self) -> Seen:
        """The file as it is now: read again where it was written since, and told to be somebody else's change where it is one."""
        with self._lock:
            stamp = _stamp(self.path)
            if self._changing or stamp == self._stamp:
                return self._seen
            try:
                kin = None if stamp is None else read_kin(self.path)
                problem = ""
                classifier = self._used(kin)
            except KinshotError as error:
                kin, classifier, problem = self._seen.kin, None, str(error)
            self._stamp = stamp
            if _content(kin) != _content(self._seen.kin) or problem != self._seen.problem:
                self._seen = Seen(self._seen.revision + 1, self._seen.elsewhere + 1, kin, classifier, problem)
            return self._seen

    def teach(self, label: str, images: Sequence[Sent], *, move: bool = False, drop: str = "") -> Taught:
        """Teach a class some images; what one drop brings in several requests is one step. Raises as `enroll` does."""
        if not images:
            raise DataError("nothing was taught: none of the files is an image that can be read")
        with self._change():
            self._keep(images)
            exists = self.path.exists()
            done = enroll(
                self.path, label, [image.path for image in images], move=move, device=str(self._device),
                names={image.path: image.name for image in images}, opened=self._opened, embed_encoder=self._embed,
                thumbnails=0 if exists else self.side,
            )  # fmt: skip
            self.steps.add(change_of(done), f"{_counted(len(images))} of {done.label}", drop)
            self._adopt(done.kin, done.before)
        return done

    def forget(self, label: str, digest: str = "") -> Taught:
        """Take an image out, or a whole class. Raises ConfigError where it is not there, or nothing would be left."""
        with self._change():
            support = self._seen.support
            shots = [] if support is None else [shot for shot in support.shots if shot.label == label and digest in ("", shot.digest)]
            if not shots:
                raise ConfigError(f"there is no {'such image of ' if digest else 'class '}{label} any more")
            done = forget_images(self.path, {shot.digest for shot in shots})
            self.steps.add(change_of(done), f"forgetting {shots[0].name if digest else label}")
            self._adopt(done.kin, done.before)
        return done

    def undo(self, *, again: bool = False) -> tuple[str, TakenBack]:
        """Take the last step back, or do the last one that was taken back again; what it was, and what became of the file.

        Raises:
            ConfigError: there is no such step, or somebody else changed all that it did; it is then no longer offered.
        """
        with self._change():
            step = self.steps.top(again)
            try:
                done = take_back(self.path, step.change)
            except NothingLeft:
                self.steps.turn(None, again)
                raise
            self.steps.turn(done.done, again)
            self._adopt(done.kin, done.before)
        return step.name, done

    def predict(self, images: Sequence[Sent], top: int = 3) -> tuple[Seen, list[Prediction]]:
        """What is said of images, and by what. Raises ConfigError where nothing is taught yet, DataError for no image."""
        seen = self.look()
        if seen.problem:
            raise DataError(seen.problem)
        if seen.classifier is None:
            raise ConfigError("nothing is taught yet: teach a class first")
        if not images:
            raise DataError("none of the files is an image that can be read")
        self._keep(images)
        return seen, seen.classifier.predict([image.path for image in images], top)

    def picture(self, digest: str) -> np.ndarray | None:
        """The small picture of an image, uint8 (3, S, S): the one that the file keeps, or one that was sent; None for neither."""
        support = self._seen.support
        if support is not None and support.thumbnails is not None:
            for row, shot in enumerate(support.shots):
                if shot.digest == digest:
                    return np.asarray(support.thumbnails[row].numpy())
        with self._lock:
            return self._pictures.get(digest)

    def _keep(self, images: Sequence[Sent]) -> None:
        with self._lock:
            for image in images:
                self._pictures[image.digest] = image.picture
                self._pictures.move_to_end(image.digest)
            while len(self._pictures) > self.limits.pictures:
                self._pictures.popitem(last=False)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Inside, the file is written by us: what `look` would find is not yet told to be somebody else's."""
        self.look()
        with self._lock:
            self._changing = True
        try:
            yield
        finally:
            self._changing = False

    def _adopt(self, kin: KinFile | None, before: Support | None) -> None:
        """Take over what we wrote; what was in the file before and not known is somebody else's."""
        with self._lock:
            known, was = self._seen.support, before
            strange = (() if known is None else known.shots) != (() if was is None else was.shots)
            self._seen = Seen(self._seen.revision + 1, self._seen.elsewhere + strange, kin, self._used(kin))
            self._stamp = _UNKNOWN  # somebody may have written it again by now

    def _used(self, kin: KinFile | None) -> Classifier | None:
        if kin is None:
            return None
        model, identity = self._opened
        if (kin.encoder.weights, kin.encoder.input) != (identity.weights, identity.input):  # made anew by somebody else
            self._opened = model, identity = self._open(kin)
        return Classifier(model.encoder, kin).to(self._device)

    def _open(self, kin: KinFile | None) -> tuple[Model, EncoderIdentity]:
        if kin is None:
            return open_encoder(self._encoder or DEFAULT_ENCODER)
        return encoder_of(kin, self.path, self._encoder).to(self._device), kin.encoder


def _stamp(path: Path) -> _Stamp:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(kin: KinFile | None) -> object:
    return None if kin is None else (kin.support.shots, kin.head, kin.settings, kin.encoder.weights)


def _counted(count: int) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"
