"""The command `segmentation`: lists of episodes, what is listed, and what is refused."""

from __future__ import annotations

import json

import pytest

from kinshot.cli.segmentation import main
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.episode_files import read_episode_list
from tests.tiny import TINY

SCENES = ["--data", "glyph_scenes", "--set", "classes=8", "--set", "per_class=6", "--set", "size=32"]


def printed(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_episodes_are_made_and_inspected(tmp_path, capsys):
    path = tmp_path / "list.npz"
    assert (
        main(["episodes", "make", *SCENES, "--ways", "2", "--shots", "2", "--episodes", "30", "--seed", "3", "-o", str(path), "--json"])
        == 0
    )
    made = printed(capsys)
    assert (made["episodes"], made["ways"], made["shots"]) == (30, 2, 2)
    assert made["hash"] == read_episode_list(path).episodes.hash()
    assert main(["episodes", "inspect", str(path), "--json"]) == 0
    found = printed(capsys)
    assert found["hash"] == made["hash"]
    assert "problems" not in found
    assert len(found["classes"]) == 8
    assert sum(int(text.split()[0]) for text in found["classes"].values()) == 60
    assert main(["episodes", "inspect", str(path), *SCENES, "--json"]) == 0
    found = printed(capsys)
    assert found["problems"] == []
    assert found["photographs"] <= found["of photographs"] == 16
    assert main(["episodes", "inspect", str(path), *SCENES]) == 0
    assert "hash: " in capsys.readouterr().out


def test_a_list_of_other_data_is_told_with_exit_3(tmp_path, capsys):
    path = tmp_path / "list.json"
    assert main(["episodes", "make", *SCENES, "--episodes", "5", "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["episodes", "inspect", str(path), *SCENES, "--split", "val"]) == 3
    shown = capsys.readouterr()
    assert "it names 8 classes, and glyph_scenes/val has others" in shown.out
    assert "use what it was made for" in shown.err


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--data", "glyph_scene"], 2, "did you mean 'glyph_scenes'"),
        (["--data", "digits"], 3, "digits has no class maps"),
        ([*SCENES, "--fold", "1"], 2, "fold"),
        ([*SCENES, "--set", "clases=3"], 2, "did you mean 'classes'"),
        ([*SCENES, "--shots", "6"], 3, "needs 7 photographs of a class"),
        ([*SCENES, "--shots", "6", "--short-classes", "leave_out"], 3, "0 of 8 classes have the 7 photographs"),
        ([*SCENES, "--ways", "0"], 2, "ways must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(args, code, told, tmp_path, capsys):
    assert main(["episodes", "make", *args, "-o", str(tmp_path / "list.json")]) == code
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_of_other_kinds_are_refused(tmp_path, capsys):
    assert main(["episodes", "make", *SCENES, "-o", str(tmp_path / "list.txt")]) == 2
    assert "kept in .npz or .json files" in capsys.readouterr().err
    assert main(["episodes", "inspect", str(tmp_path / "none.npz")]) == 3
    assert main(["episodes", "inspect", str(tmp_path / "none.npz"), "--split", "test"]) == 2
    assert "need --data" in capsys.readouterr().err


def test_list_names_every_segmenter_and_mistyped_commands_are_helped(capsys):
    assert main(["list", "--json"]) == 0
    assert printed(capsys)["segmenters"].keys() == set(SEGMENTERS.names())
    assert main(["lst"]) == 2
    assert "did you mean 'list'" in capsys.readouterr().err
    assert main(["episodes", "mak"]) == 2
    assert "did you mean 'make'" in capsys.readouterr().err


def test_settings_behind_a_name_are_told_from_a_name(capsys):
    assert main(["show", "base_suppressed:head=ridge"]) == 2
    assert "settings are no part of a name, show base_suppressed" in capsys.readouterr().err
    assert main(["show", "base_supressed:head=ridge"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_train_runs_recipes_of_its_own_only(capsys):
    assert main(["train", str(TINY)]) == 2
    assert "learns without labels: run it with `ssl pretrain`" in capsys.readouterr().err
