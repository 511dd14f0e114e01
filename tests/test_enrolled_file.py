"""MODEL.kin: what is written is read, nothing else is, and no writer loses what another wrote, whenever one is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import kinshot
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.core.filelock import FileLock
from kinshot.core.runlock import Busy
from kinshot.learn.sealed import checksum as sealed_by
from kinshot.runs.classifier import Classifier, open_classifier
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.runs.kin_file import SCHEMA_VERSION, read_kin, write_kin
from kinshot.runs.teaching import enroll, forget
from tests.enrolled_tools import photo, photos, small_encoder, taught
from tests.tiny import environment

FIXTURES = Path(__file__).parent / "fixtures"
REPOSITORY = Path(__file__).resolve().parents[1]


def same(one, other) -> bool:
    tensors = [(a.support.features, a.fit.means, a.fit.rows.weight, a.fit.rows.bias) for a in (one, other)]
    return (
        (one.support.shots, one.head, one.settings, one.encoder) == (other.support.shots, other.head, other.settings, other.encoder)
        and (one.fit.sureness, one.fit.open_set) == (other.fit.sureness, other.fit.open_set)
        and all(torch.equal(a.float(), b.float()) for a, b in zip(*tensors, strict=True))
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)
    )


def edited(path: Path, *, seal: bool = True, tensors: dict | None = None, **changes: object) -> Path:
    """The file with entries of its JSON and tensors changed, and a checksum that fits."""
    data = path.read_bytes()
    head = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["kinshot"])
    found = {**load_file(path), **(tensors or {})}
    checksum = head.pop("checksum")
    head |= changes
    head = {key: value for key, value in head.items() if value is not ...}
    save_file(found, path, {"kinshot": json.dumps({**head, "checksum": sealed_by(head, found) if seal else checksum})})
    return path


def test_what_is_written_is_read(tmp_path):
    done = taught(tmp_path / "a.kin", tmp_path, thumbnails=12)
    assert same(done.kin, read_kin(tmp_path / "a.kin"))
    assert done.kin.support.thumbnails.shape == (12, 3, 12, 12)
    before = (tmp_path / "a.kin").read_bytes()
    write_kin(tmp_path / "a.kin", read_kin(tmp_path / "a.kin"))
    assert (tmp_path / "a.kin").read_bytes() == before


def test_version_1_is_read():
    """Written by the first version that had such files: `taught` with two classes of two images and thumbnails of 8 pixels."""
    model = open_classifier(FIXTURES / "enrolled_v1.kin")
    assert model.classes == ("cherry", "sky")
    assert model.kin.support.counts.tolist() == [2, 2]
    assert model.kin.support.thumbnails.shape == (4, 3, 8, 8)
    assert model.kin.encoder.name == "small"
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    images[0, 0], images[1, 2] = 220, 220
    assert [one.top[0].name for one in model.predict(images)] == ["cherry", "sky"]
    z = model.embed(images)["backbone"]
    assert torch.allclose(torch.nn.functional.normalize(z, dim=1).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(b""), "no safetensors file"),
        (lambda path: path.write_bytes(b"\x80\x04K\x01."), "no safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "not a valid safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"), "is damaged: its checksum"),
        (lambda path: save_file({"weight": torch.ones(2)}, path), "something else"),
        (lambda path: save_file({"weight": torch.ones(2)}, path, {"kinshot": "[1]"}), "something else"),
        (lambda path: save_file({"weight": torch.ones(2)}, path, {"kinshot": "{"}), "not valid JSON"),
        (lambda path: edited(path, schema_version=SCHEMA_VERSION + 1), "newer than this kinshot"),
        (lambda path: edited(path, schema_version="1"), "expected a schema_version"),
        (lambda path: edited(path, seal=False, images=[]), "is damaged"),
        (lambda path: edited(path, images=[]), "does not describe a classifier"),
        (lambda path: edited(path, images=[["a", 1, "b"]]), "expected text, got 1"),
        (lambda path: edited(path, encoder=...), "KeyError"),
        (lambda path: edited(path, sureness={"temperature": 1}), "does not describe"),
        (lambda path: edited(path, tensors={"means": torch.ones(2, 2)}), "means is"),
        (lambda path: edited(path, tensors={"bias": torch.full((3,), torch.nan)}), "expected finite"),
        (lambda path: edited(path, tensors={"thumbnails": torch.ones(1)}), "thumbnails are"),
    ],
)
def test_other_files_are_refused(change, words, tmp_path):
    path = tmp_path / "a.kin"
    taught(path, tmp_path)
    change(path)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_kin(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_missing_file_is_told(tmp_path):
    for path in (tmp_path / "a.kin", tmp_path):
        with pytest.raises(CheckpointError, match="fewshot enroll"):
            read_kin(path)


@pytest.mark.parametrize("head", ["imprint", "prototype:distance=squared"])
def test_teaching_one_class_leaves_others_to_the_bit(head, tmp_path):
    before = taught(tmp_path / "a.kin", tmp_path, ("cherry", "sky"), head=head).kin
    after = enroll(tmp_path / "a.kin", "leaf", photos(tmp_path, "leaf", range(3))).kin
    assert after.support.classes == ("cherry", "leaf", "sky")
    assert torch.equal(before.fit.rows.weight, after.fit.rows.weight[[0, 2]])
    assert torch.equal(before.support.features, after.support.features[[0, 1, 2, 3, 7, 8, 9, 10]])
    assert same(forget(tmp_path / "a.kin", "leaf").kin, read_kin(tmp_path / "a.kin"))
    assert torch.equal(read_kin(tmp_path / "a.kin").fit.means, before.fit.means.float())


def test_the_order_of_teaching_does_not_change_the_file(tmp_path):
    files = photos(tmp_path, "leaf", range(4))
    taught(tmp_path / "a.kin", tmp_path, ("cherry",))
    for step in (files[2:], files[:1], files):
        enroll(tmp_path / "a.kin", "leaf", step)
    enroll(tmp_path / "b.kin", "leaf", files, opened=small_encoder(), embed_encoder=True)
    enroll(tmp_path / "b.kin", "cherry", photos(tmp_path, "cherry", range(4)))
    assert (tmp_path / "a.kin").read_bytes() == (tmp_path / "b.kin").read_bytes()


def test_images_that_are_known_are_said(tmp_path):
    path = tmp_path / "a.kin"
    taught(path, tmp_path, ("cherry", "leaf"), 2)
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "cherry" / "cherry0.png").read_bytes())
    again = enroll(path, "cherry", [copy, tmp_path / "cherry" / "cherry1.png"])
    assert not again.changed
    assert [note.partition(":")[0] for note in again.notes] == [
        "copy.png is taught already as cherry (cherry0.png)",
        "cherry1.png is taught already as cherry (cherry1.png)",
    ]
    twice = enroll(path, "sky", [photo(tmp_path / "s.png", "sky", 0), photo(tmp_path / "t.png", "sky", 0)])
    assert len(twice.added) == 1
    assert "same image" in twice.notes[0]
    with pytest.raises(DataError, match=r"no image is of two classes.*\n  copy.png is taught as cherry"):
        enroll(path, "leaf", [copy, photo(tmp_path / "u.png", "leaf", 9)])
    assert read_kin(path).support.counts.tolist() == [2, 2, 1]  # nothing of a refused teaching is there
    moved = enroll(path, "leaf", [copy, tmp_path / "cherry" / "cherry1.png"], move=True)
    assert moved.kin.support.classes == ("leaf", "sky")
    assert "no image left" in moved.notes[1]


def test_forgetting_means_one_thing(tmp_path):
    path = tmp_path / "a.kin"
    taught(path, tmp_path)
    assert forget(path, "leaf2.png").kin.support.counts.tolist() == [4, 3, 4]
    assert forget(path, str(tmp_path / "sky" / "sky1.png")).kin.support.counts.tolist() == [4, 3, 3]
    assert forget(path, read_kin(path).support.shots[0].digest[:9]).kin.support.counts.tolist() == [3, 3, 3]
    enroll(path, "sky", [photo(tmp_path / "other" / "leaf0.png", "sky", 20)])
    for what, words in (("lef", "did you mean 'leaf'"), ("leaf0.png", "means 2 images"), ("zz", "has no class or image")):
        with pytest.raises(ConfigError, match=words):
            forget(path, what)
    for label in ("cherry", "sky"):
        forget(path, label)
    with pytest.raises(ConfigError, match="delete the file"):
        forget(path, "leaf")
    enroll(path, "leaf0.png", [photo(tmp_path / "x.png", "coal", 0)])
    with pytest.raises(ConfigError, match="is a class and an image"):
        forget(path, "leaf0.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": " "}, "printable"),
        ({"label": "a\nb"}, "printable"),
        ({"path": "a.safetensors"}, "ends with .kin"),
        ({"path": "nowhere/a.kin"}, "no folder"),
        ({"head": "tim"}, "keeps one of"),
        ({"head": "ridge:penalti=1"}, "penalty"),
        ({"thumbnails": 3}, "8 to 512"),
    ],
)
def test_bad_requests_are_refused(options, words, tmp_path):
    given = {"path": "a.kin", "label": "sky", **options}
    path = tmp_path / given.pop("path")
    with pytest.raises(ConfigError, match=words):
        enroll(path, given.pop("label"), photos(tmp_path, "sky", range(1)), opened=small_encoder(), **given)
    assert not path.exists()


def test_thumbnails_are_kept_of_all_or_none(tmp_path):
    taught(tmp_path / "a.kin", tmp_path, ("sky",))
    with pytest.raises(ConfigError, match="keeps no thumbnails"):
        enroll(tmp_path / "a.kin", "leaf", photos(tmp_path, "leaf", range(1)), thumbnails=16)


def test_files_that_are_no_images_are_named_and_left_out_on_request(tmp_path):
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "broken.png").write_bytes(b"\x89PNG")
    files = [*photos(tmp_path, "sky", range(2)), tmp_path / "sky" / "broken.png"]
    with pytest.raises(DataError, match=r"broken.png.*\n.*leave_out"):
        enroll(tmp_path / "a.kin", "sky", files, opened=small_encoder())
    assert not (tmp_path / "a.kin").exists()
    done = enroll(tmp_path / "a.kin", "sky", files, opened=small_encoder(), unreadable="leave_out")
    assert len(done.added) == 2
    assert "broken.png" in done.notes[0]
    with pytest.raises(DataError, match="nothing was taught"):
        enroll(tmp_path / "a.kin", "leaf", files[2:], opened=small_encoder(), unreadable="leave_out")
    with pytest.raises(DataError, match="no image in"):
        enroll(tmp_path / "a.kin", "leaf", [], opened=small_encoder())


def test_another_encoder_is_refused(tmp_path):
    path = tmp_path / "a.kin"
    kin = taught(path, tmp_path, ("sky", "leaf")).kin
    model, identity = small_encoder()
    other = replace(identity, weights="0" * 64)
    with pytest.raises(ConfigError, match="taught with the encoder small"):
        enroll(path, "coal", photos(tmp_path, "coal", range(1)), opened=(model, other))
    write_kin(path, replace(kin, weights={"conv.weight": torch.ones(1)}))
    with pytest.raises(CheckpointError, match="carries does not fit conv4"):
        open_classifier(path)
    write_kin(path, replace(kin, weights={}, encoder=replace(kin.encoder, name=str(tmp_path / "gone"))))
    with pytest.raises(CheckpointError, match="gone"):
        open_classifier(path)


def test_a_change_of_head_is_said(tmp_path):
    taught(tmp_path / "a.kin", tmp_path)
    done = enroll(tmp_path / "a.kin", "sky", photos(tmp_path, "sky", range(4)), head="logistic:C=10")
    assert done.changed
    assert done.kin.settings["C"] == 10
    assert any("the head was imprint" in note for note in done.notes)
    kept = enroll(tmp_path / "a.kin", "sky", photos(tmp_path, "sky", range(4, 5))).kin
    assert kept.head == "logistic"


def test_load_gives_a_model_that_predicts(tmp_path):
    taught(tmp_path / "a.kin", tmp_path)
    model = kinshot.load(tmp_path / "a.kin")
    assert isinstance(model, Classifier)
    new = [photo(tmp_path / "new" / f"{label}.png", label, 30) for label in ("leaf", "cherry", "sky")]
    found = model.predict(new, top=2)
    assert [one.top[0].name for one in found] == ["leaf", "cherry", "sky"]
    assert [one.nearest[0].shot.label for one in found] == ["leaf", "cherry", "sky"]
    assert all(len(one.top) == 2 and 0 < one.top[1].probability < one.top[0].probability < 1 for one in found)
    logits = model.outputs(model.prepare(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)), ["logits"])["logits"]
    assert logits.shape == (2, 3)
    alone = model.predict(new[:1])[0]
    assert (alone.name, alone.known) == (found[0].name, found[0].known)
    with pytest.raises(ConfigError, match="at least 1"):
        model.predict(new, top=0)
    with pytest.raises(DataError, match="nowhere"):
        model.predict([tmp_path / "nowhere.png"])


def test_an_encoder_survives_as_plain_data():
    _, identity = small_encoder()
    assert EncoderIdentity.from_dict(json.loads(json.dumps(identity.as_dict()))) == identity
    with pytest.raises(ValueError, match="does not know"):
        EncoderIdentity.from_dict({**identity.as_dict(), "framing": "another way"})


def test_a_lock_waits_and_gives_up(tmp_path):
    file = tmp_path / "a.kin"
    with FileLock(file), pytest.raises(Busy, match=r"a.kin is in use by process"), FileLock(file, wait=0.05):
        pass
    with FileLock(file, wait=0):
        assert (tmp_path / ".a.kin.lock").is_file()


def writers(*args: str) -> str:
    line = [sys.executable, "-m", "tests.enrolled_writers", *args]
    done = subprocess.run(line, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_writers_lose_nothing(tmp_path):
    for number in range(12):
        photo(tmp_path / "in" / f"{number:02d}.png", "leaf", number)
    assert writers("two", str(tmp_path / "a.kin"), str(tmp_path / "in")).split("\n")[0] == "[0, 0] 12 12"


def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path):
    for number in range(3):
        photo(tmp_path / "in" / f"{number}.png", "leaf", number)
    said = writers("killed", str(tmp_path / "a.kin"), str(tmp_path / "in"), "12")
    known, _, classes, left, *_ = said.replace(";", "").split()
    assert (known, classes, left) == ("True", "2", "0"), said
