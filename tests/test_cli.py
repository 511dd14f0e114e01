"""The commands as a user meets them: help, listings, mistakes and their exit codes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from kinshot.cli import fewshot, parts, segmentation, ssl
from kinshot.cli.common import lines
from kinshot.cli.table import rows_table
from kinshot.recipes.check import checked_recipe
from tests.tiny import arguments, result, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny finished run."""
    folder = tmp_path_factory.mktemp("trained")
    done = run("ssl", *arguments("simclr", "--out", "run", "--json"), cwd=folder)
    assert result(done)["steps"] > 0
    return folder / "run"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["pretrain", "glyph_demo"], "glyphs_demo"),
        (["pretrain", "glyphs_demo", "train.epoch=3"], "epochs"),
        (["pretrain", "glyphs_demo", "train.epochs=many"], "many"),
        (["pretrain", "glyphs_demo", "trian.epochs=3"], "train"),
        (["pretrain", "glyphs_demo", "data=glyph"], "glyphs"),
        (["pretrain", "glyphs_demo", "method=simcl"], "simclr"),
        (["pretrain", "glyphs_demo", "method.temperatur=0.2"], "temperature"),
        (["pretrain", "glyphs_demo", "encoder=os.system"], "unknown encoder"),
        (["pretrain", "glyphs_demo", "train.epochs"], "key=value"),
        (["pretrain", "glyphs_demo", "train.batch_size=1"], "at least 2"),
        (["pretrain", "glyphs_demo", "--resum", "auto"], "--resume"),
        (["pretrain", "glyphs_demo", "data=digits", "method=byol", "views.views=3"], "takes 2 views"),
        (["pretrian", "glyphs_demo"], "pretrain"),
        (["show", "simclrr"], "simclr"),
        (["validate", "missing.yaml"], "missing.yaml"),
    ],
)
def test_mistakes_exit_2_and_name_the_closest_valid_choice(args: list[str], expected: str, tmp_path: Path) -> None:
    done = run("ssl", *args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_validate_reports_every_problem_at_once(tmp_path: Path) -> None:
    bad = ["data: glyfs", "views: warp", "encoder: {name: conv4, widht: 3}", "method: simclr", "train: {lr: fast}", "sead: 1"]
    (tmp_path / "bad.yaml").write_text("\n".join(bad))
    done = run("ssl", "validate", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 2
    for part in ("glyphs", "width", "train: lr", "seed", "4 problems"):
        assert part in done.stderr


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text("data: !!python/object/apply:os.system ['touch canary']\n")
    done = run("ssl", "validate", "evil.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "canary").exists()


def test_list_show_cp_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = result(run("ssl", "list", "--json", cwd=tmp_path))["parts"]
    assert {"simclr", "moco", "interclr"} <= set(names["method"])
    assert "glyphs_demo" in names["recipe"]
    for name in names["recipe"]:
        assert checked_recipe(name, ()).name == name  # what ssl validate does, without a process for each
    assert "temperature" in run("ssl", "show", "interclr", cwd=tmp_path).stdout
    assert run("ssl", "cp", "glyphs_demo", "mine.yaml", cwd=tmp_path).returncode == 0
    assert run("ssl", "cp", "glyphs_demo", "mine.yaml", cwd=tmp_path).returncode == 2
    mine = result(run("ssl", "validate", "mine.yaml", "--json", cwd=tmp_path))["recipe"]
    shipped = result(run("ssl", "show", "glyphs_demo", "--json", cwd=tmp_path))["recipe"]
    assert {**mine, "name": ""} == {**shipped, "name": ""}


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = run("ssl", *arguments("interclr", "--dry-run", "--json"), cwd=tmp_path)
    assert result(done)["total_steps"] > 0
    assert list(tmp_path.iterdir()) == []


def test_non_empty_out_needs_resume_or_overwrite(trained: Path) -> None:
    before = contents(trained)
    refused = run("ssl", *arguments("simclr", "--out", "run"), cwd=trained.parent)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    again = run("ssl", *arguments("simclr", "--out", "run", "--resume", "auto", "--json"), cwd=trained.parent)
    assert result(again) == json.loads((trained / "result.json").read_text())
    other = run("ssl", *arguments("simclr", "--out", "run", "--resume", "run2"), cwd=trained.parent)
    assert other.returncode == 3
    changed = run("ssl", *arguments("simclr", "train.lr=0.5", "--out", "run", "--resume", "auto"), cwd=trained.parent)
    assert changed.returncode == 2
    assert "train.lr" in changed.stderr
    assert contents(trained) == before


def test_overwrite_never_deletes_what_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("mine")
    done = run("ssl", *arguments("simclr", "--out", "photos", "--overwrite"), cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "photos" / "cat.txt").read_text() == "mine"


def test_nan_exits_4_and_the_last_checkpoint_loads(tmp_path: Path) -> None:
    done = run("ssl", *arguments("simclr", "train.lr=1e6", "train.weight_decay=1e6", "train.warmup=0", "--out", "run"), cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    report = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert len(report["samples"]) == 32
    assert run("ssl", "inspect", "run", cwd=tmp_path).returncode == 0


def damage(kind: str, run_folder: Path) -> Path:
    """Break the newest checkpoint of a copied run; returns what to evaluate."""
    newest = max((run_folder / "checkpoints").iterdir())
    file = newest / "encoder.safetensors"
    data = bytearray(file.read_bytes())
    if kind == "missing":
        return run_folder / "nothing"
    if kind == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "flipped":
        data[-5] ^= 1
        file.write_bytes(data)
    elif kind == "foreign":
        (run_folder.parent / "model.pt").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR.")
        return run_folder.parent / "model.pt"
    return newest


@pytest.mark.parametrize("kind", ["missing", "truncated", "flipped", "foreign"])
def test_bad_checkpoints_exit_3_and_change_nothing(kind: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    target = damage(kind, tmp_path / "run")
    before = contents(tmp_path)
    for name, args in (("fewshot", ["eval", target, "--data", "digits"]), ("ssl", ["inspect", target])):
        done = run(name, *args, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert target.name in done.stderr
        assert "Traceback" not in done.stderr
    assert contents(tmp_path) == before


def test_fewshot_eval_prints_the_table_and_json(trained: Path) -> None:
    args = ["eval", "run", "--data", "digits", "--split", "all", "--ways", "3", "--shots", "1,5", "--queries", "5", "--episodes", "50"]
    args += ["--heads", "prototype,prototype:distance=euclidean:transform=cl2n,imprint,nearest,logistic"]
    found = result(run("fewshot", *args, "--json", "--results", "out/r.json", cwd=trained.parent))
    models = {(row["model"], row["feature"]) for row in found["rows"]}
    assert models == {(m, f) for m in ("pretrained", "untrained") for f in ("backbone", "projector", "joint")} | {("raw pixels", "pixels")}
    assert len(found["rows"]) == 7 * 5 * 2
    assert all(33 < row["mean"] <= 100 and row["n"] == 50 for row in found["rows"])
    assert set(json.loads((trained.parent / "out" / "r.json").read_text())) == {
        "name", "command", "data", "seeds", "cpu_minutes", "versions", "rows",
    }  # fmt: skip
    text = run("fewshot", *args, cwd=trained.parent).stdout
    assert "50 episodes (seed 0)" in text
    assert "raw pixels" in text
    assert "Student t" in text


def test_numbers_are_shown_without_the_noise_of_their_last_digits() -> None:
    said = lines({"best": {"accuracy": 44.940000000000005, "step": 12}, "losses": [0.1 + 0.2, 1e-7], "seconds": 1234567.8, "done": True})
    assert said.splitlines() == ["best:", "  accuracy: 44.94", "  step: 12", "losses: [0.3, 1e-07]", "seconds: 1234567.8", "done: True"]
    rows = [{"label": "a", "metric": "m", "mean": 1.0, "ci95": 0.0, "n": 1}]
    assert "share 44.94" in rows_table({"data": {"share": 44.940000000000005}, "protocol": {}, "rows": rows})


def test_checkpoints_of_one_run_are_compared_and_not_averaged(trained: Path) -> None:
    args = ["--data", "digits", "--split", "all", "--ways", "3", "--shots", "1", "--episodes", "20", "--features", "backbone", "--json"]
    first = sorted((trained / "checkpoints").iterdir())[0]
    found = result(run("fewshot", "eval", "run", first, *args, cwd=trained.parent))
    single = {row["model"]: row["mean"] for row in found["rows"]}
    assert set(single) == {"run", str(first), "untrained", "raw pixels"}
    (between,) = found["models paired"]
    assert between["mean"] == pytest.approx(single[between["model"]] - single[between["against"]])
    assert between["n"] == 20


def test_fewshot_mistakes(trained: Path) -> None:
    for args, expected in (
        (["--heads", "protoype"], "prototype"),
        (["--heads", "prototype:distance=manhattan"], "cosine"),
        (["--data", "digit"], "digits"),
        (["--data", "digits", "--split", "tset"], "test"),
        (["--shots", "one"], "--shots"),
        (["--features", "neck"], "backbone"),
        (["--data", "folder"], "folder:"),
    ):
        done = run("fewshot", "eval", "run", *args, cwd=trained.parent)
        assert done.returncode == 2, (args, done.stderr)
        assert expected in done.stderr


def test_bad_folders_exit_3_naming_the_file_or_class(trained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8 if name != "owl" else 3):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "empty").mkdir()
    args = ["eval", trained, "--ways", "3", "--shots", "1", "--queries", "4", "--episodes", "10", "--data"]
    few = run("fewshot", *args, "folder:data", cwd=tmp_path)
    assert few.returncode == 3, few.stderr
    assert "owl" in few.stderr
    none = run("fewshot", *args, "folder:empty", cwd=tmp_path)
    assert none.returncode == 3
    assert "empty" in none.stderr
    (tmp_path / "data" / "cat" / "0.png").write_bytes(b"not an image")
    broken = run("fewshot", *args, "folder:data", cwd=tmp_path)
    assert broken.returncode == 3
    assert "0.png" in broken.stderr
    before = run("ssl", "pretrain", "glyphs_demo", "data=folder", "data.root=data", "--out", "new", cwd=tmp_path)
    assert before.returncode == 3
    assert not (tmp_path / "new").exists()


def test_fewshot_eval_on_folder_of_colour_photos(trained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for c, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray((rng.integers(0, 100, (31, 40, 3)) + 50 * c).astype(np.uint8)).save(tmp_path / "data" / name / f"{i}.jpg")
    args = ["eval", trained, "--data", "folder:data", "--ways", "3", "--shots", "1", "--queries", "4", "--episodes", "10", "--json"]
    assert len(result(run("fewshot", *args, cwd=tmp_path))["rows"]) == 7


@pytest.mark.parametrize("command", ["ssl", "fewshot", "segmentation"])
def test_show_knows_every_part_of_every_kind(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = {"ssl": ssl, "fewshot": fewshot, "segmentation": segmentation}[command].main
    for registry in parts.REGISTRIES:
        name = registry.names()[-1]
        assert main(["show", name, "--kind", registry.kind, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["kind"], shown["name"], shown["module"]) == (registry.kind, name, registry.entry(name).module)
        assert shown["settings"].keys() == registry.entry(name).parameters.keys()


def test_show_shows_everything_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert ssl.main(["show", "feat"]) == 0
    text = capsys.readouterr().out
    assert "method feat: " in text
    assert "head feat: " in text
    assert ssl.main(["show", "feat", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [shown["kind"], *(other["kind"] for other in shown["also"])] == ["method", "head"]
    assert ssl.main(["show", "manifold", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["recipe"]["name"] == "manifold"
    assert [other["kind"] for other in shown["also"]] == ["data source"]


def test_show_refuses_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert ssl.main(["show", "simclr", "--kind", "head"]) == 2
    assert "nothing is called 'simclr' as head" in capsys.readouterr().err
    assert ssl.main(["show", "prototyp"]) == 2
    assert "did you mean 'prototype'" in capsys.readouterr().err


def test_list_has_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert ssl.main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["parts"]
    assert listed.keys() == {"recipe", *(registry.kind for registry in parts.REGISTRIES)}
    assert all(listed.values())
    assert ssl.main(["list", "head"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("head:\n")
    assert "  prototype " in text


@pytest.mark.parametrize("program", ["ssl", "fewshot", "segmentation"])
def test_help_names_every_command_once(program: str) -> None:
    group = getattr({"ssl": ssl, "fewshot": fewshot, "segmentation": segmentation}[program], program)
    text = CliRunner().invoke(group, ["--help"]).output
    for name, command in group.commands.items():
        assert len(re.findall(rf"^  {name}  ", text, re.MULTILINE)) == (not command.hidden), name
    named = [name for names in group.sections.values() for name in names]
    assert len(named) == len(set(named))
    assert set(named) <= group.commands.keys()
