"""`segmentation predict` end to end: what is written, what is refused, and that nothing of others is replaced."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli.segmentation import main
from kinshot.encoders.efficientnet_lite0 import PACKAGE
from kinshot.studies.segmentation.prediction_files import shares
from tests.conftest import cli_environment
from tests.segmentation_runs import write_run

NEEDS_WEIGHTS = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="needs the extra `pretrained`")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Pictures of a red and of a blue square on noise, of several sizes, with masks."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, (height, width), (top, left) in (("a", (40, 56), (4, 6)), ("b", (32, 32), (10, 8)), ("q", (50, 36), (20, 10))):
        picture = random.integers(90, 160, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), dtype=np.uint8)
        picture[top : top + 16, left : left + 14] = (230, 20, 20)
        mask[top : top + 16, left : left + 14] = 1
        picture[:6, -8:], mask[:6, -8:] = (20, 20, 230), 2
        mask[-2:] = 255
        Image.fromarray(picture).save(f"{name}.png")
        Image.fromarray(mask).save(f"{name}_mask.png")
        Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)).save(f"{name}_binary.png")
    return tmp_path


def predict(run: Path, *args: object) -> int:
    return main(["predict", str(run), *map(str, args), "-q"])


def labels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_masks_overlays_and_scores_have_the_query_s_size(run, place, capsys):
    assert predict(run, "q.png", "--support", "a.png:a_mask.png:1,b.png:b_mask.png:1", "-o", "out", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {path.name for path in Path("out").iterdir()} == {"q_mask.png", "q_overlay.png", "q_scores.npz", "predictions.json"}
    mask = Image.open("out/q_mask.png")
    assert (mask.mode, mask.size) == ("P", (36, 50))
    assert set(np.unique(labels("out/q_mask.png"))) <= {0, 1}
    assert Image.open("out/q_overlay.png").size == (36, 50)
    scores = np.load("out/q_scores.npz")
    assert scores["scores"].shape == (2, 50, 36)
    assert np.array_equal(scores["scores"].argmax(axis=0), labels("out/q_mask.png"))
    assert str(scores["kind"]) == "logits"
    assert told["found"][0]["way 1, %"] == pytest.approx(100 * (labels("out/q_mask.png") == 1).mean(), abs=0.01)
    assert told["head"] == "cosine"


def test_more_ways_are_more_numbers_and_their_order_is_that_of_the_numbers(run, place):
    red, blue = "a.png:a_mask.png:1", "a.png:a_mask.png:2"
    for out, (first, second) in {"one": (red, blue), "two": (blue, red)}.items():
        assert predict(run, "q.png", "--support", first, "--support", second, "-o", out, "--scores", "png") == 0
    one, two = labels("one/q_mask.png"), labels("two/q_mask.png")
    assert np.array_equal(np.array([0, 2, 1])[one], two)
    pictures = [Image.open(f"one/q_scores_{way}.png") for way in range(3)]
    assert {picture.mode for picture in pictures} <= {"I;16", "I"}
    assert np.abs(sum(np.asarray(picture).astype(np.int64) for picture in pictures) - 65535).max() <= 3


def test_few_shot_heads_and_other_frames_segment_too(run, place):
    support = ("--support", "a.png:a_binary.png", "--binary")
    assert predict(run, "q.png", *support, "-o", "ridge", "--head", "ridge:cells=40", "--frame", "48", "--fit", "letterbox") == 0
    assert labels("ridge/q_mask.png").shape == (50, 36)


def test_one_broken_query_costs_the_others_nothing(run, place, capsys):
    Path("broken.png").write_bytes(b"no picture")
    Path("more").mkdir()
    Image.open("q.png").save("more/q.png")
    code = predict(run, "broken.png", "q.png", "more/q.png", "--support", "a.png:a_mask.png:1", "-o", "out", "--scores", "none", "--json")
    assert code == 3
    shown = capsys.readouterr()
    assert "1 of 3 queries could not be segmented" in shown.err
    assert "broken.png" in shown.err
    told = json.loads(shown.out)
    assert [one["query"] for one in told["found"]] == ["q.png", "more/q.png"]
    assert np.array_equal(labels("out/q_mask.png"), labels("out/q_2_mask.png"))
    assert set(json.loads(Path("out/predictions.json").read_text())["files"]) == {path.name for path in Path("out").iterdir()}


def test_what_is_not_its_own_is_never_replaced(run, place, capsys):
    support = ("--support", "a.png:a_mask.png:1")
    assert predict(run, "q.png", *support, "-o", "out") == 0
    assert predict(run, "q.png", *support, "-o", "out") == 0  # its own files are
    Path("out/b_mask.png").write_text("mine")
    assert predict(run, "b.png", *support, "-o", "out") == 2
    assert "holds b_mask.png, which is none of earlier predictions" in capsys.readouterr().err
    assert Path("out/b_mask.png").read_text() == "mine"
    assert {path.name for path in Path("out").glob("b_*")} == {"b_mask.png"}
    assert predict(run, "q.png", *support, "-o", "a.png") == 2
    assert Path("a.png").stat().st_size > 100


def test_files_of_an_interrupted_call_are_known_as_its_own(run, place, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kinshot.studies.segmentation.prediction_files.index_png", stop)
        assert predict(run, "q.png", "--support", "a.png:a_mask.png:1", "-o", "out") == 130
    Path("out/q_overlay.png").write_bytes(b"half")
    assert predict(run, "q.png", "--support", "a.png:a_mask.png:1", "-o", "out") == 0
    assert Image.open("out/q_overlay.png").size == (36, 50)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--support", "a.png"], 2, "--support: expected IMAGE:MASK"),
        (
            ["--support", "a.png:a_mask.png"],
            3,
            "mask a_mask.png holds several objects, 0, 1, 2, 255: say which is meant, a.png:a_mask.png:1",
        ),
        (["--support", "a.png:a_mask.png:7"], 3, "mask a_mask.png holds no 7, but 0, 1, 2, 255"),
        (
            ["--support", "a.png:a_binary.png"],
            3,
            "mask a_binary.png has no foreground, it holds 0, 255; if 255 is the object, add --binary",
        ),
        (["--support", "a.png:b_mask.png:1"], 3, "mask b_mask.png has 32 x 32 pixels, its image a.png 40 x 56"),
        (["--support", "a.png:lossy.jpg"], 3, "lossy.jpg"),
        (["--support", "a.png:a.png"], 3, "mask a.png is a coloured picture"),
        (["--support", "a.png:empty.png"], 3, "mask empty.png has no foreground, it holds 0: give a mask"),
        (["--support", "a.png:dot.png", "--frame", "8"], 3, "mask dot.png: its object of 1 pixels is lost"),
        (["--support", "none.png:a_mask.png:1"], 3, "none.png"),
        (["--support", "a.png:a_mask.png:0"], 3, "a.png:a_mask.png:0 asks for background, which is no object: name an object's number"),
        (["--support", "a.png:a_mask.png:255"], 3, "or add --binary if 255 is the object"),
        (["--support", "a.png:a_mask.png:1", "--frame", "1000000"], 2, "--frame: expected a side from 8 to 2048 pixels"),
        (["--support", "a.png:a_mask.png:1", "--frame", "3"], 2, "--frame: expected a side from 8 to 2048 pixels"),
        (["--support", "a.png:a_mask.png:1,b.png:b_mask.png:1", "--support", "a.png:a_mask.png:2"], 2, "every way needs as many images"),
        (["--support", "a.png:a_mask.png:1", "--head", "cosin"], 2, "did you mean 'cosine'"),
        (["--support", "a.png:a_mask.png:1", "--stage", "block9"], 2, "has no stage 'block9'"),
    ],
)
def test_bad_support_is_told_with_what_to_do(run, place, args, code, told, capsys):
    Image.fromarray(np.zeros((40, 56), dtype=np.uint8)).save("lossy.jpg")
    Image.fromarray(np.zeros((40, 56), dtype=np.uint8)).save("empty.png")
    dot = np.zeros((40, 56), dtype=np.uint8)
    dot[1, 1] = 1
    Image.fromarray(dot).save("dot.png")
    assert predict(run, "q.png", *args, "-o", "out") == code
    assert told in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--support", "a.png:a_mask.png:7"], "holds no 7"),
        (["--support", "a.png:b_mask.png:1"], "has 32 x 32 pixels"),
        (["--support", "a.png:a_mask.png:1,b.png:b_mask.png:1", "--support", "a.png:a_mask.png:2"], "every way needs as many images"),
        (["--support", "a.png:a_mask.png:1", "--head", "cosin"], "did you mean 'cosine'"),
        (["--support", "a.png:a_mask.png:1", "-o", "a.png"], "a.png"),
    ],
)
def test_bad_support_is_told_before_a_model_is_read(run, place, args, told, capsys, monkeypatch):
    monkeypatch.setattr("kinshot.recipes.loaded.read", lambda *_, **__: pytest.fail("the model was read"))
    assert predict(run, "q.png", "-o", "out", *args) in (2, 3)
    assert told in capsys.readouterr().err


def test_shares_of_scores():
    scores = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    powers = np.exp(scores.astype(np.float64))
    assert np.allclose(shares(scores, "logits"), powers / powers.sum(axis=0), atol=1e-6)
    spread = shares(scores, "similarities")
    assert (spread.min(), spread.max()) == (0, 1)
    assert np.array_equal(shares(np.ones((2, 1, 1)), "similarities"), np.zeros((2, 1, 1)))
    assert np.array_equal(shares(np.full((2, 1, 1), 0.25), "probabilities"), np.full((2, 1, 1), 0.25))


@pytest.mark.parametrize("backbone", ["", pytest.param("efficientnet_lite0", marks=NEEDS_WEIGHTS)])
def test_what_takes_long_to_load_is_left_alone(run, place, backbone):
    """A photograph is segmented within seconds from cold: torchvision and matplotlib alone would take two of them."""
    line = ["predict", backbone or str(run), "q.png", "--support", "a.png:a_mask.png:1", "-o", "out", "-q"]
    code = f"""
import sys
from kinshot.cli.segmentation import main
code = main({line!r})
heavy = {{"torchvision", "torch._dynamo", "matplotlib", "scipy", "sklearn", "timm", "tensorboard", "pandas"}} & sys.modules.keys()
sys.exit(f"imported: {{heavy}}" if heavy else code)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=place, env=cli_environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("query", "support", "told"),
    [
        ("q.png", "none.png:a_mask.png:1", "the image of --support names none.png, which is not there: give the path of a file"),
        ("q.png", "a.png:none.png:1", "the mask of --support names none.png, which is not there: give the path of a file"),
        ("q.png", ".:a_mask.png:1", "the image of --support names ., which is a folder: give the path of a file"),
        ("none.png", "a.png:a_mask.png:1", "QUERY names none.png, which is not there: give the path of a file"),
    ],
)
def test_a_file_that_is_not_there_is_told_with_the_argument_that_names_it(run, place, capsys, query, support, told):
    assert predict(run, query, "--support", support, "-o", "out") == 3
    assert told in capsys.readouterr().err
