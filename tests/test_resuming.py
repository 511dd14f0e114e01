"""Going on with a run: it remembers how it was started, and a finished one can be trained longer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kinshot.cli.ssl import main
from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.learn.features import weights_hash
from kinshot.learn.optim import extended_factor, lr_factor
from kinshot.recipes.loaded import with_recipe
from kinshot.recipes.recipe import parse
from tests.tiny import TINY

FAST = ["data.split=test", "train.batch_size=90", "monitor.knn_every=0", "monitor.projector_points=0", "encoder.width=4"]
FAST += ["monitor.tensorboard=false", "monitor.keep=100"]


def ssl(*args: str | Path) -> int:
    return main(["pretrain", *map(str, args), "-q"])


def hashes(run: Path) -> dict[str, str]:
    found = load_checkpoint(run)
    return {name: weights_hash(part) for name, part in found.tensors.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(TINY, "mine.yaml")
    return tmp_path


@pytest.fixture
def started(here: Path) -> Path:
    """A run of mine.yaml with overrides, as a kill left it before its last checkpoint."""
    assert ssl("mine.yaml", *FAST, "train.epochs=2", "--seed", "5", "--out", "run") == 0
    whole = sorted((here / "run/checkpoints").iterdir())
    (here / "whole").mkdir()
    whole[-1].rename(here / "whole" / whole[-1].name)
    (here / "run/result.json").unlink()
    return here / "whole" / whole[-1].name


@pytest.mark.parametrize(
    "words",
    [
        ["mine.yaml"],
        [],
        ["train.workers=1"],
        ["mine.yaml", "train.epochs=2", "train.workers=1"],
        ["mine.yaml", *FAST, "train.epochs=2", "--seed", "5"],
    ],
)
def test_what_was_set_at_the_start_need_not_be_said_again(words: list[str], started: Path, here: Path) -> None:
    expected = hashes(started)
    assert ssl(*words, "--out", "run", "--resume", "auto") == 0
    assert hashes(here / "run") == expected
    assert load_checkpoint(here / "run").config["seed"] == 5


def test_a_run_goes_on_without_its_recipe_file(started: Path, here: Path) -> None:
    expected = hashes(started)
    Path("mine.yaml").unlink()
    assert ssl("--out", "run", "--resume", "auto") == 0
    assert hashes(here / "run") == expected


@pytest.mark.parametrize("words", [["mine.yaml", "train.lr=0.5"], ["train.lr=0.5"], ["edited.yaml"]])
def test_what_differs_is_named(words: list[str], started: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("edited.yaml").write_text(TINY.read_text().replace("warmup: 0.1", "warmup: 0.1, lr: 0.5"))
    before = sorted((here / "run").rglob("*"))
    assert ssl(*words, "--out", "run", "--resume", "auto") == 2
    said = capsys.readouterr().err
    assert "train.lr: 0.003 -> 0.5" in said
    assert "seed" not in said
    assert sorted((here / "run").rglob("*")) == before


def test_without_a_recipe_there_must_be_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [],
        ["--out", "run"],
        ["--resume", "auto"],
        ["--out", "nowhere", "--resume", "auto"],
        ["--extend", "3", "--out", "nowhere"],
    ):
        assert ssl(*words) == 2
        assert "RECIPE" in (said := capsys.readouterr().err) or "--extend" in said
    assert not (here / "nowhere").exists()


def test_the_rate_of_an_extended_run() -> None:
    course = {"schedule": "cosine", "warmup": 0.1, "final": 0.0}

    def rates(parts: list[int], restart: bool) -> list[float]:
        return [extended_factor(step, parts=parts, restart=restart, **course) for step in range(sum(parts))]

    def plain(total: int) -> list[float]:
        return [lr_factor(step, total, **course) for step in range(total)]

    for restart in (True, False):
        assert rates([20], restart) == plain(20)
    assert rates([20, 10, 5], restart=True) == plain(20) + plain(10) + plain(5)
    assert rates([20, 10, 5], restart=False) == plain(20) + plain(30)[20:] + plain(35)[30:]


@pytest.mark.parametrize("schedule", ["restart", "prolong"])
def test_an_extended_run_is_the_run_whose_recipe_says_so(schedule: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = f"train.extend_schedule={schedule}"
    assert ssl("mine.yaml", *FAST, "train.epochs=1", "train.ema=0.9", "--out", "run") == 0
    assert main(["pretrain", "mine.yaml", rule, "--extend", "2", "--out", "run"]) == 0
    assert f"extending it by 2 epochs; {rule}" in capsys.readouterr().err
    assert ssl("mine.yaml", *FAST, "train.epochs=1", "train.ema=0.9", "train.extend=[2]", rule, "--out", "direct") == 0
    assert hashes(here / "run") == hashes(here / "direct")
    config = load_checkpoint(here / "run").config
    assert (config["train"]["epochs"], config["train"]["extend"], config["train"]["extend_schedule"]) == (1, [2], schedule)
    assert parse(config, "") == parse(load_checkpoint(here / "direct").config, "")
    result = json.loads((here / "run/result.json").read_text())
    assert result["steps"] == load_checkpoint(here / "run").step == 9
    assert result["extended"] == {"epochs": [2], "schedule": schedule}
    # stopped within the extension, and gone on with
    expected = hashes(here / "run")
    for path in (here / "run/checkpoints").iterdir():
        if path.name > "step-00000005":
            shutil.rmtree(path)
    assert ssl("mine.yaml", "--out", "run", "--resume", "auto") == 0
    assert hashes(here / "run") == expected


def test_only_a_finished_run_is_extended_and_it_can_be_again(started: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ssl("--extend", "1", "--out", "run") == 2
    assert "let the run finish first" in capsys.readouterr().err
    assert ssl("--resume", "auto", "--out", "run") == 0
    assert ssl("--extend", "1", "--out", "run") == 0
    assert ssl("--extend", "1", "train.extend_schedule=prolong", "--out", "run") == 2
    assert "train.extend_schedule: restart -> prolong" in capsys.readouterr().err
    assert ssl("--extend", "2", "--out", "run") == 0
    assert load_checkpoint(here / "run").config["train"]["extend"] == [1, 2]
    assert load_checkpoint(here / "run").step == 3 * (2 + 1 + 2)


def test_a_changed_number_of_epochs_says_how_to_train_longer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ssl("mine.yaml", *FAST, "train.epochs=1", "--out", "run") == 0
    capsys.readouterr()
    assert ssl("mine.yaml", "train.epochs=3", "--out", "run", "--resume", "auto") == 2
    said = capsys.readouterr().err
    assert "train.epochs: 1 -> 3" in said
    assert "--extend EPOCHS" in said
    assert "--init run" in said
    assert ssl("mine.yaml", *FAST, "train.epochs=1", "--init", "run", "--out", "longer") == 0


def test_a_checkpoint_that_is_older_than_a_setting_has_what_was_in_force(tmp_path: Path) -> None:
    config = parse({"data": "digits", "views": "clean", "encoder": "conv4", "method": {"name": "interclr"}}, "r").to_dict()
    assert config["method"]["repair_starts"] == "kmeans++"
    older = {**config, "method": {key: value for key, value in config["method"].items() if key != "repair_starts"}}
    for data, expected in ((config, "kmeans++"), (older, "size")):
        found = with_recipe(Checkpoint(tmp_path, {"step": 0, "epoch": 0}, data, {}, {}))
        assert found.recipe.method.settings["repair_starts"] == expected
