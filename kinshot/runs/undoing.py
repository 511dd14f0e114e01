"""Taking back what a step did to a classifier, image by image, while what others taught in the meantime stays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from kinshot.core.errors import ConfigError
from kinshot.fewshot.enrolled.fit import fit
from kinshot.fewshot.enrolled.support import Support, joined
from kinshot.runs.kin_file import KinFile, read_kin, write_kin
from kinshot.runs.teaching import Taught, writing


class NothingLeft(ConfigError):
    """Others changed all that a step did."""


@dataclass(frozen=True)
class Change:
    """What a step did: for each image that it touched, the class before it and after it, None where the image was not there.

    Attributes:
        before: class of each image before the step, by content.
        after: class of each image after it.
        rows: these images with their features and thumbnails.
        model: what the file was like: head, encoder, and the weights where the step made the file.
        made: whether the step made the file.
    """

    before: dict[str, str | None]
    after: dict[str, str | None]
    rows: Support
    model: KinFile
    made: bool

    @property
    def back(self) -> Change:
        """The opposite: what was before is to be after."""
        return replace(self, before=self.after, after=self.before)

    def then(self, later: Change) -> Change:
        """Both steps as one."""
        known = {shot.digest for shot in self.rows.shots}
        new = [row for row, shot in enumerate(later.rows.shots) if shot.digest not in known]
        rows = joined(self.rows, later.rows.taken(new)) if new else self.rows
        return replace(self, before=later.before | self.before, after=self.after | later.after, rows=rows)


@dataclass(frozen=True)
class TakenBack:
    """What became of a file.

    Attributes:
        kin: the file as it is now; None where it is not there any more.
        before: what it held when it was changed.
        done: the change that was taken back; images that somebody else changed since are not in it.
        notes: what is to be said of others.
    """

    kin: KinFile | None
    before: Support | None
    done: Change
    notes: list[str] = field(default_factory=list)


def change_of(taught: Taught) -> Change | None:
    """What teaching or forgetting changed; None where that is nothing."""
    was = _labels(taught.before)
    now = _labels(taught.kin.support)
    touched = {digest for digest in was.keys() | now.keys() if was.get(digest) != now.get(digest)}
    if not touched:
        return None
    rows = _of(taught.kin.support, touched)
    if taught.before is not None and (gone := touched - now.keys()):
        rows = joined(rows, _of(taught.before, gone))
    made = taught.before is None
    model = taught.kin if made else replace(taught.kin, weights={})
    before = {digest: was.get(digest) for digest in touched}
    return Change(before, {digest: now.get(digest) for digest in touched}, rows, model, made)


def take_back(path: Path, change: Change) -> TakenBack:
    """Put every image that a step touched where it was, as `change.before` has it; images that others moved since stay where they are.

    A file that the step made, and that holds nothing else, is removed. Taking the opposite back (`change.back`) does the step again.

    Raises:
        NothingLeft: there is nothing that could be taken back: others changed it, removed the file, or made it anew with another encoder.
        ConfigError: nothing would be left of a file that the step did not make.
        CheckpointError: a bad file.
    """
    with writing(path):
        now = read_kin(path) if path.exists() else None
        if now is None and not change.made:
            raise NothingLeft(f"{path} is not there any more: somebody else removed it, and there is nothing to take back")
        if now is not None and (now.encoder.weights, now.encoder.input) != (change.model.encoder.weights, change.model.encoder.input):
            raise NothingLeft(f"{path} was made anew with another encoder: what was taught before cannot be taken back")
        support = change.rows.taken([]) if now is None else now.support
        there = _labels(support)
        ours = {digest for digest, label in change.after.items() if there.get(digest) == label}
        names = {shot.digest: shot.name for shot in change.rows.shots}
        notes = [f"{names[digest]} was changed by somebody else since: left as it is" for digest in change.after if digest not in ours]
        done = replace(change, before=_part(change.before, ours), after=_part(change.after, ours))
        if not ours:
            raise NothingLeft(f"nothing is left to be taken back in {path}: somebody else changed it since")
        placed = _placed(support, done)
        if not placed.shots and not change.made:
            raise ConfigError(f"{path} would have no class left: delete the file instead")
        if not placed.shots:
            path.unlink()
            return TakenBack(None, support, done, notes)
        base = now or change.model
        kin = replace(base, support=placed, fit=fit(placed, base.head, base.settings))
        write_kin(path, kin)
    return TakenBack(kin, support, done, notes)


def _labels(support: Support | None) -> dict[str, str]:
    return {} if support is None else {shot.digest: shot.label for shot in support.shots}


def _part(labels: dict[str, str | None], digests: set[str]) -> dict[str, str | None]:
    return {digest: label for digest, label in labels.items() if digest in digests}


def _of(support: Support, digests: set[str]) -> Support:
    return support.taken([row for row, shot in enumerate(support.shots) if shot.digest in digests])


def _placed(support: Support, change: Change) -> Support:
    """The support with the images of a change in the classes that they had before it."""
    stay = support.taken([row for row, shot in enumerate(support.shots) if shot.digest not in change.before])
    rows = [row for row, shot in enumerate(change.rows.shots) if change.before.get(shot.digest) is not None]
    more = change.rows.taken(rows)
    shots = tuple(replace(shot, label=str(change.before[shot.digest])) for shot in more.shots)
    return joined(stay, Support(shots, more.features, more.thumbnails)) if shots else stay
