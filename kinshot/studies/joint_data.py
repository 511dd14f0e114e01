"""Which images play which part where base and novel classes meet: base images to learn from and to test on, novel, validation classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.fewshot.joint import KEPT, TEST, VALIDATION, hold_out
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import present_split
from kinshot.samples.spec import Spec
from kinshot.studies.study import Say, labelled

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1


@dataclass(frozen=True)
class JointChoices:
    """What the user named; None takes the default that `joint_data` documents.

    Args:
        base: base classes.
        novel: novel classes.
        validation: classes that are neither, on which offsets, steps and learning rates are chosen.
        base_test: test images of base classes, matched by the name of their class.
    """

    base: Choice | None = None
    novel: Choice | None = None
    validation: Choice | None = None
    base_test: Choice | None = None


@dataclass(frozen=True)
class Images:
    """Some images of a source.

    Args:
        source: where they are.
        rows: their numbers there, (n,).
        labels: base class of each, (n,).
    """

    source: Source
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class JointData:
    """The parts that images play.

    Args:
        base_names: names of the base classes, which `Images.labels` count.
        kept: base images to learn from: prototypes, fine-tuning.
        held: base images to choose settings on.
        tested: base images to test on.
        novel: images of novel classes, with `labels`.
        validation: images of validation classes, or None.
        note: where the base test images are from, and whether training saw them.
        seen: whether training may have seen them.
    """

    base_names: Sequence[str]
    kept: Images
    held: Images
    tested: Images
    novel: Source
    validation: Source | None
    note: str
    seen: bool = field(default=False)

    def describe(self) -> dict[str, Any]:
        """What a report says of the data."""
        others = {"validation": self.validation.name, "validation classes": len(self.validation.class_names)} if self.validation else {}
        return {
            "name": self.kept.source.name,
            "base classes": len(self.base_names),
            "base images": len(self.kept.rows),
            "base test images": f"{len(self.tested.rows)} {self.note}",
            "novel": self.novel.name,
            "novel classes": len(self.novel.class_names),
            "novel images": len(self.novel),
            **others,
        }


def joint_data(choices: JointChoices, own: Choice, input: Spec, seed: int, say: Say) -> JointData:
    """The parts of the data for a run that was trained on `own`.

    Base classes are those of `own`; novel and validation classes its splits test and val, where these hold other classes. Base test
    images are, in this order: those that are named; those of `part=test` where training had `part=train` of every class; those of the
    split test where it holds the classes that were trained on; and else a keyed share of the base images. The last were trained on,
    which nothing can mend afterwards: it is said, and the report repeats it. Another keyed share is held out to choose settings on.

    Raises:
        ConfigError: no novel classes to be found, or novel or validation classes that are base classes.
        DataError: data without labels, a class with too few images, or no test image of any base class.
    """
    base, labels = labelled(choices.base or own, input, "--base")
    novel = _novel(choices, own, base, input)
    validation = _validation(choices, own, base, novel, input)
    test, note = _base_test(choices, own, base, input)
    share = TEST_SHARE if test is None else 0.0
    parts = hold_out(labels, test=share, validation=VALIDATION_SHARE, seed=seed)
    kept, held, tested = (_images(base, labels, parts == part) for part in (KEPT, VALIDATION, TEST))
    if test is None:
        say(f"base test images are {note}")
    return JointData(base.class_names, kept, held, test or tested, novel, validation, note, test is None)


def own_test_images(own: Choice) -> Choice | None:
    """Test images of the very classes that a run was trained on, where its data divides the images of every class into parts."""
    return Choice(own.name, {**own.settings, "part": "test"}) if own.settings.get("part") == "train" else None


def _novel(choices: JointChoices, own: Choice, base: Source, input: Spec) -> Source:
    choice = choices.novel or present_split(own, "test")
    if choice is None:
        raise ConfigError(f"{base.name} has no split test to take novel classes from: give --novel")
    novel, _ = labelled(choice, input, "--novel")
    shared = _shared(base, novel)
    if shared:
        raise ConfigError(f"novel classes must not be base classes: {novel.name} and {base.name} share {_some(shared)}: give --novel")
    return novel


def _validation(choices: JointChoices, own: Choice, base: Source, novel: Source, input: Spec) -> Source | None:
    choice = choices.validation or present_split(own, "val")
    if choice is None:
        return None
    found, _ = labelled(choice, input, "--validation")
    if choices.validation is None and _shared(base, found):
        return None  # a split of images, not of classes
    for name, other in (("base", base), ("novel", novel)):
        if _shared(other, found):
            problem = f"validation classes must not be {name} classes: {found.name} and {other.name} share {_some(_shared(other, found))}"
            raise ConfigError(f"{problem}: give another --validation")
    return found


def _base_test(choices: JointChoices, own: Choice, base: Source, input: Spec) -> tuple[Images | None, str]:
    choice = choices.base_test or (own_test_images(own) if choices.base is None else None)
    if choice is None and choices.base is None:
        split = present_split(own, "test")
        choice = split if split is not None and _shared(base, labelled(split, input, "--base-test")[0]) else None
    if choice is None:
        seen = "training saw them, so that figures of base classes are too good" if choices.base is None else "training may have seen them"
        return None, f"held out here: {seen} (--base-test names others)"
    source, labels = labelled(choice, input, "--base-test")
    place = {name: number for number, name in enumerate(base.class_names)}
    found = np.array([place.get(name, -1) for name in source.class_names])[labels]
    if not (found >= 0).any():
        raise DataError(f"{source.name} has no image of a class of {base.name}, by name: give test images of base classes (--base-test)")
    if source.fingerprint() == base.fingerprint():
        raise ConfigError(f"--base-test {source.name}: these are the base images themselves; name others, or leave it out")
    return _images(source, found, found >= 0), f"of {source.name}"


def _images(source: Source, labels: np.ndarray, chosen: np.ndarray) -> Images:
    rows = np.flatnonzero(chosen)
    return Images(source, rows, labels[rows])


def _shared(a: Source, b: Source) -> list[str]:
    """Names of classes that two sources share, where they are of one data set: elsewhere equal names may be chance."""
    if a.name.partition("/")[0] != b.name.partition("/")[0]:
        return []
    return sorted(set(a.class_names) & set(b.class_names))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
