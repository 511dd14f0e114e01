"""What the page of `fewshot studio` does, asked without a browser: teaching, answers, undoing beside others."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.datasets.files import digest
from kinshot.learn.features import weights_hash
from kinshot.runs.classifier import open_classifier
from kinshot.runs.kin_file import read_kin
from kinshot.runs.teaching import enroll, forget, forget_images
from kinshot.runs.undoing import NothingLeft, change_of, take_back
from tests.enrolled_tools import photo, photos, small_encoder, taught
from tests.studio_tools import KNOWN, asked, counts, form, picture, state, undo

pytest.importorskip("starlette", reason="needs the packages of kinshot[studio]")


@pytest.fixture
def client(tmp_path):
    with asked(tmp_path) as found:
        yield found


def teach(client, label, files, **words):
    reply = client.post("/api/teach", data={"label": label, **words}, files=form(*files))
    assert reply.status_code == 200, reply.text
    return reply.json()


def outside(path, label, files):
    """What another process would do."""
    return enroll(path, label, files, opened=small_encoder())


# -- teaching and asking


def test_what_the_page_teaches_is_what_the_command_teaches(client, tmp_path):
    coal = photos(tmp_path / "new", "coal", range(3))
    (tmp_path / "b.kin").write_bytes((tmp_path / "a.kin").read_bytes())
    done = teach(client, " coal ", coal)
    assert (done["class"], done["added"], done["notes"], done["refused"]) == ("coal", 3, [], [])
    outside(tmp_path / "b.kin", "coal", coal)
    assert (tmp_path / "a.kin").read_bytes() == (tmp_path / "b.kin").read_bytes()
    assert counts(done["state"]) == {**KNOWN, "coal": 3}
    again = teach(client, "coal", coal[:1])
    assert again["added"] == 0
    assert "counted once" in again["notes"][0]


def test_answers_are_the_classifiers(client, tmp_path):
    files = [photo(tmp_path / "asked" / f"{label}.png", label, 30) for label in ("leaf", "sky", "coal")]
    reply = client.post("/api/predict", files=form(*files)).json()
    ours = open_classifier(tmp_path / "a.kin").predict(files)
    for got, one, file in zip(reply["answers"], ours, files, strict=True):
        assert (got["file"], got["class"], got["known"], got["closeness"]) == (file.name, one.name, one.known, one.closeness)
        assert [(top["class"], top["probability"]) for top in got["top"]] == [(top.name, top.probability) for top in one.top]
        assert [(near["image"], near["closeness"]) for near in got["nearest"]] == [(near.shot.digest, near.cosine) for near in one.nearest]
        for image in (got["image"], *(near["image"] for near in got["nearest"])):
            assert client.get(f"/api/picture/{image}").content.startswith(b"\x89PNG")
        assert got["image"] == digest(file.read_bytes())
        assert got["taught as"] is None
    known = client.post("/api/predict", files=form(tmp_path / "asked" / "leaf.png")).json()["answers"][0]
    assert known["threshold"] == read_kin(tmp_path / "a.kin").fit.open_set.threshold
    teach(client, "leaf", files[:1])
    assert client.post("/api/predict", files=form(files[0])).json()["answers"][0]["taught as"] == "leaf"


def test_the_first_class_makes_the_file_and_undoing_it_removes_it(tmp_path):
    with asked(tmp_path) as client:
        for label in KNOWN:
            forget_last = client.post("/api/forget", json={"class": label})
        assert forget_last.status_code == 409
        assert "would have no class left" in forget_last.json()["error"]
        (tmp_path / "a.kin").unlink()  # by somebody
        assert not state(client)["exists"]
        assert "teach a class first" in client.post("/api/predict", files=form(("a.png", picture()))).json()["error"]
        assert client.get("/api/model").status_code == 422
        coal = photos(tmp_path / "new", "coal", range(3))
        assert counts(teach(client, "coal", coal)["state"]) == {"coal": 3}
        assert read_kin(tmp_path / "a.kin").support.thumbnails is not None
        whole = (tmp_path / "a.kin").read_bytes()
        assert client.get("/api/model").content == whole
        assert undo(client).status_code == 200
        assert not (tmp_path / "a.kin").exists()
        assert counts(undo(client, again=True).json()["state"]) == {"coal": 3}
        assert (tmp_path / "a.kin").read_bytes() == whole


def test_an_image_of_another_class_is_moved_when_that_is_asked_for(client, tmp_path):
    (file,) = photos(tmp_path / "taught", "sky", range(1))
    reply = client.post("/api/teach", data={"label": "leaf"}, files=form(file))
    assert (reply.status_code, reply.json()["elsewhere"]) == (409, [["sky0.png", "sky"]])
    assert counts(teach(client, "leaf", [file], move="1")["state"]) == {"cherry": 4, "leaf": 5, "sky": 3}
    assert counts(undo(client).json()["state"]) == KNOWN


@pytest.mark.parametrize("label", ["", "  ", "x" * 201, "a\nb"])
def test_a_class_has_a_name(client, label, tmp_path):
    before = (tmp_path / "a.kin").read_bytes()
    assert client.post("/api/teach", data={"label": label}, files=form(("a.png", picture()))).status_code == 409
    assert (tmp_path / "a.kin").read_bytes() == before


def test_a_file_without_small_pictures_shows_those_that_were_sent(tmp_path):
    taught(tmp_path / "a.kin", tmp_path / "taught")
    with asked(tmp_path, labels=()) as client:
        shown = state(client)["classes"][0]["images"][0]["image"]
        assert client.get(f"/api/picture/{shown}").status_code == 404
        teach(client, "coal", [photo(tmp_path / "coal.png", "coal", 1)])
        (new,) = state(client)["classes"][1]["images"]
        assert client.get(f"/api/picture/{new['image']}").status_code == 200


# -- undoing


def test_steps_are_undone_and_done_again_to_the_bit(client, tmp_path):
    path = tmp_path / "a.kin"
    states = [path.read_bytes()]
    teach(client, "coal", photos(tmp_path / "new", "coal", range(2)))
    states.append(path.read_bytes())
    teach(client, "leaf", photos(tmp_path / "taught", "sky", range(2)), move="1")
    states.append(path.read_bytes())
    image = state(client)["classes"][0]["images"][0]
    assert client.post("/api/forget", json={"class": "cherry", "image": image["image"]}).status_code == 200
    states.append(path.read_bytes())
    assert client.post("/api/forget", json={"class": "coal"}).status_code == 200
    states.append(path.read_bytes())
    assert len(set(states)) == 5
    for before in reversed(states[:-1]):
        assert undo(client).status_code == 200
        assert path.read_bytes() == before
    assert undo(client).status_code == 409
    for after in states[1:]:
        assert undo(client, again=True).status_code == 200
        assert path.read_bytes() == after
    assert undo(client, again=True).status_code == 409


def test_a_drop_in_several_requests_is_one_step(client, tmp_path):
    coal = photos(tmp_path / "new", "coal", range(4))
    for number in range(2):
        teach(client, "coal", coal[2 * number : 2 * number + 2], drop="d")
    assert state(client)["undo"] == "4 images of one drop"
    assert counts(undo(client).json()["state"]) == KNOWN
    assert state(client)["undo"] == ""


def test_undoing_leaves_what_others_taught_meanwhile(client, tmp_path):
    path = tmp_path / "a.kin"
    teach(client, "coal", photos(tmp_path / "new", "coal", range(3)))
    outside(path, "lemon", photos(tmp_path / "new", "lemon", range(3)))
    outside(path, "coal", photos(tmp_path / "new", "coal", range(3, 5)))
    forget(path, "coal0.png")
    enroll(path, "soot", photos(tmp_path / "new", "coal", range(1, 2)), opened=small_encoder(), move=True)
    assert state(client)["elsewhere"] == 1  # one look sees all of it
    reply = undo(client).json()
    assert counts(reply["state"]) == {**KNOWN, "coal": 2, "lemon": 3, "soot": 1}
    assert sorted(note.split()[0] for note in reply["notes"]) == ["coal0.png", "coal1.png"]
    assert reply["state"]["elsewhere"] == 1
    assert counts(undo(client, again=True).json()["state"]) == {**KNOWN, "coal": 3, "lemon": 3, "soot": 1}


def test_a_step_that_others_took_back_is_not_offered_again(client, tmp_path):
    teach(client, "coal", photos(tmp_path / "new", "coal", range(2)))
    forget(tmp_path / "a.kin", "coal")
    reply = undo(client)
    assert reply.status_code == 409
    assert "somebody else changed it" in reply.json()["error"]
    assert state(client)["undo"] == ""
    assert counts(state(client)) == KNOWN


def test_a_step_stays_where_the_file_cannot_be_written(client, tmp_path, monkeypatch):
    teach(client, "coal", photos(tmp_path / "new", "coal", range(2)))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        reply = undo(client)
        assert reply.status_code == 422
        assert "No space left" in reply.json()["error"]
    assert counts(state(client)) == {**KNOWN, "coal": 2}
    assert counts(undo(client).json()["state"]) == KNOWN


def test_undoing_without_a_page(tmp_path):
    path = tmp_path / "a.kin"
    first = change_of(taught(path, tmp_path, ("cherry",), 2))
    assert change_of(outside(path, "cherry", photos(tmp_path, "cherry", range(2)))) is None
    outside(path, "leaf", photos(tmp_path, "leaf", range(2)))
    done = change_of(forget(path, "leaf"))
    assert set(done.before.values()) == {"leaf"}
    assert set(done.after.values()) == {None}
    with pytest.raises(ConfigError, match="none of these images"):
        forget_images(path, set(done.before))
    assert take_back(path, first).kin is None
    assert not path.exists()
    with pytest.raises(NothingLeft, match="not there any more"):
        take_back(path, done)
    taught(path, tmp_path, ("sky",), 1)
    assert take_back(path, done).kin.support.classes == ("leaf", "sky")


# -- beside others


def test_many_requests_and_another_writer_lose_nothing(client, tmp_path):
    coal, lemon = photos(tmp_path / "new", "coal", range(10)), photos(tmp_path / "new", "lemon", range(10))
    with ThreadPoolExecutor(6) as pool:
        ours = [pool.submit(teach, client, f"coal {number}", [file]) for number, file in enumerate(coal)]
        theirs = [pool.submit(outside, tmp_path / "a.kin", "lemon", [file]) for file in lemon]
        for job in (*ours, *theirs):
            job.result()
    assert counts(state(client)) == {**KNOWN, **{f"coal {number}": 1 for number in range(10)}, "lemon": 10}


def test_the_page_sees_that_the_file_was_changed(client, tmp_path):
    first = state(client)
    assert client.get(f"/api/state?revision={first['revision']}").status_code == 204
    outside(tmp_path / "a.kin", "coal", photos(tmp_path / "new", "coal", range(1)))
    second = client.get(f"/api/state?revision={first['revision']}").json()
    assert (second["elsewhere"], counts(second)) == (first["elsewhere"] + 1, {**KNOWN, "coal": 1})
    teach(client, "lemon", photos(tmp_path / "new", "lemon", range(1)))
    assert state(client)["elsewhere"] == second["elsewhere"]


def test_a_file_that_was_damaged_is_said_and_left_alone(client, tmp_path):
    path = tmp_path / "a.kin"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    found = state(client)
    assert "a.kin" in found["problem"]
    for reply in (
        client.post("/api/predict", files=form(("a.png", picture()))),
        client.post("/api/teach", data={"label": "x"}, files=form(("a.png", picture()))),
        client.post("/api/forget", json={"class": "leaf"}),
    ):
        assert reply.status_code in (409, 422)
        assert "truncated" in reply.json()["error"] or "damaged" in reply.json()["error"]
    assert path.read_bytes() == whole[:5000]
    path.write_bytes(whole)
    assert (state(client)["problem"], counts(state(client))) == ("", KNOWN)


def test_a_file_that_was_made_anew_with_another_encoder_is_used(client, tmp_path):
    model, identity = small_encoder()
    with torch.no_grad():
        next(model.encoder.parameters()).mul_(1.5)
    other = model, replace(identity, weights=weights_hash(model.encoder.state_dict()))
    teach(client, "coal", photos(tmp_path / "new", "coal", range(1)))
    (tmp_path / "a.kin").unlink()
    enroll(tmp_path / "a.kin", "lemon", photos(tmp_path / "new", "lemon", range(2)), opened=other, embed_encoder=True)
    assert counts(state(client)) == {"lemon": 2}
    reply = undo(client)
    assert "another encoder" in reply.json()["error"]
    assert counts(teach(client, "coal", photos(tmp_path / "new", "coal", range(1)))["state"]) == {"coal": 1, "lemon": 2}


def test_what_is_taught_can_be_seen_while_something_takes_long(client):
    go = threading.Event()
    busy = client.worker.submit(go.wait, 60)
    try:
        found = state(client)
        assert counts(found) == KNOWN
        assert client.get(f"/api/picture/{found['classes'][0]['images'][0]['image']}").status_code == 200
        assert not busy.done()
    finally:
        go.set()


def test_a_file_that_cannot_be_locked_is_still_asked(client, tmp_path):
    (tmp_path / ".a.kin.lock").mkdir()
    reply = client.post("/api/teach", data={"label": "x"}, files=form(("a.png", picture())))
    assert reply.status_code == 409
    assert ".a.kin.lock" in reply.json()["error"]
    assert client.post("/api/predict", files=form(("a.png", picture()))).status_code == 200
    assert state(client)["undo"] == ""


def test_a_temporary_folder_that_is_gone_is_named(client, tmp_path):
    (tmp_path / "private").rmdir()
    reply = client.post("/api/predict", files=form(("a.png", picture())))
    assert (reply.status_code, "check the disk" in reply.json()["error"]) == (507, True)
    assert counts(state(client)) == KNOWN


def test_the_encoder_is_carried_along_also_by_a_file_that_is_made_again(tmp_path):
    from kinshot.studio.state import Studio
    from kinshot.studio.uploads import Sent

    path = tmp_path / "a.kin"
    taught(path, tmp_path / "taught", ("leaf",), 1)
    studio = Studio(path, device="cpu", embed_encoder=True)
    path.unlink()
    file = photo(tmp_path / "coal.png", "coal", 1)
    studio.teach("coal", [Sent(0, file, "an old name.png", digest(file.read_bytes()), np.zeros((3, 8, 8), np.uint8))])
    whole = path.read_bytes()
    assert (studio.look().support.shots[0].name, len(read_kin(path).weights) > 0) == ("an old name.png", True)
    studio.undo()
    assert not path.exists()
    studio.undo(again=True)
    assert path.read_bytes() == whole
