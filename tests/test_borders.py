"""What is typed wrong, and files of rubbish, end in a message that says what to do, never in an internal error."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinshot.cli import common
from kinshot.cli.ssl import main
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.runtime import MOST_THREADS, set_threads
from kinshot.datasets import SOURCES
from kinshot.recipes.recipe import SECTIONS, load_recipe, parse, recipe_names
from tests.tiny import TINY


def ended(*arguments: str) -> tuple[int, str]:
    """Exit code and messages of `ssl` with these arguments, in this process."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    return code, errors.getvalue()


# -- bounds


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.clip=0", "train.clip: expected a number above 0, got 0.0: every gradient would be 0"),
        ("train.lr=0", "train.lr: expected a number above 0"),
        ("train.threads=100000", f"train.threads: expected at most {MOST_THREADS}, got 100000"),
        ("train.workers=100000", "train.workers: expected at most"),
        ("train.epochs=999999999999", "train.epochs: expected at most"),
        ("monitor.checkpoint_every=1e300", "monitor.checkpoint_every: expected at most"),
        ("monitor.knn_k=99999999999999999999", "monitor.knn_k: expected at most 1000000000"),
        ("projector.hidden=999999999", "projector.hidden: expected at most"),
        ("train.ema=1", "train.ema: expected at most"),
        ("seed=9007199254740992", "seed: expected a whole number from 0"),
        ("seed=0x_", "seed: expected a whole number from 0, got '0x_'"),
        ("seed=" + "9" * 5000, "5000 digits"),
        ("name=a/b", "name: expected up to 200 characters without a slash"),
        ("name=" + "x" * 300, "name: expected up to 200"),
        ("distill={losses: [kd:weight=0], task: 0}", "nothing would be learned"),
    ],
)
def test_settings_that_train_nothing_or_that_no_machine_can_do(override: str, words: str) -> None:
    code, said = ended("validate", str(TINY), override)
    assert code == 2
    assert words in said
    assert len(said) < 1000


def test_every_number_of_a_section_has_bounds() -> None:
    for section, kind in SECTIONS.items():
        for key, value in vars(kind()).items():
            if type(value) is int and section not in ("structure", "distill"):
                for wrong in (10**12, -1):
                    with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
                        load_recipe(str(TINY), [f"{section}.{key}={wrong}"])


def test_shipped_recipes_are_within_them() -> None:
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_threads_are_bounded_for_python_callers_too() -> None:
    for n in (0, MOST_THREADS + 1):
        with pytest.raises(ConfigError, match=f"expected 1 to {MOST_THREADS}"):
            set_threads(n)


# -- a setting in the wrong place


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["epochs=5"], "unknown key 'epochs': it is a setting of train: write train.epochs=5"),
        (["temperature=0.2"], "it is a setting of method: write method.temperature=0.2"),
        (["batch_size=7"], "write train.batch_size=7"),
        (["epoch=5"], "unknown key 'epoch'"),
        (["--epochs", "5"], "epochs is a setting of a recipe and no option: write train.epochs=VALUE"),
        (["--batch-size", "5"], "write train.batch_size=VALUE"),
        (["--train.lr=5"], "write train.lr=VALUE"),
        (["--queue", "5"], "write method.queue=VALUE"),
    ],
)
def test_settings_are_told_how_they_are_written(arguments: list[str], words: str) -> None:
    code, said = ended("pretrain", str(TINY), *arguments)
    assert code == 2
    assert words in said


# -- what a command says when the machine fails it


def test_what_the_system_refuses_is_no_internal_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.run(failing(PermissionError(13, "Permission denied", "/a/b")), []) == 3
    assert "cannot use /a/b: Permission denied" in capsys.readouterr().err
    assert common.run(failing(RuntimeError("a mistake of ours")), []) == 1
    assert "report it" in capsys.readouterr().err


def failing(error: Exception) -> click.Command:
    """A command that fails."""

    def fail() -> None:
        raise error

    return click.Command("fail", callback=fail)


@pytest.mark.parametrize("error", [ValueError, TypeError, OverflowError, RuntimeError, ZeroDivisionError])
def test_a_part_that_says_no_in_its_own_way_is_a_mistake_in_the_recipe(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def part(**_: Any) -> None:
        raise error("not like this")

    SOURCES.get("digits")
    monkeypatch.setitem(SOURCES._parts, "digits", part)
    with pytest.raises(ConfigError, match="source digits cannot be made with size=16: not like this; change them"):
        SOURCES.build("digits", settings={"size": 16})
    monkeypatch.setitem(SOURCES._parts, "digits", lambda **_: os.stat("x" * 300))
    with pytest.raises(DataError, match="name too long"):
        SOURCES.build("digits", settings={"size": 16})


def test_numbers_for_people_have_the_digits_that_they_have() -> None:
    said = common.lines({"accuracy": 44.940000000000005, "whole": 3, "loss": {"a": 0.1 + 0.2}, "several": [1 / 3, 2]})
    assert said.splitlines() == ["accuracy: 44.94", "whole: 3", "loss:", "  a: 0.3", "several: [0.3333333333, 2]"]


# -- rubbish

KEYS = [
    "seed", "name", "init", "data", "data.root", "data.size", "views.elastic", "encoder.width", "method", "method.temperature", "graph",
    "train.lr", "train.epochs", "train.clip", "monitor.keep", "projector.paths", "validation.split", "distill.losses", "structure", "x.y.z",
]  # fmt: skip
ODD = [
    "", "-1", "1e999", "nan", ".inf", "[", "{", "&a [*a]", "*a", "!!python/name:os.system", "2024-13-01", "0x_", "--5", "9" * 5000, "\x00",
    "x" * 300, "null", "true", "[1, [2, [3]]]", "{a: {b: c}}", "'", "\u0661\u0662", "\ud800", "/dev/zero", "../..", "~", "1_000", "-0",
    "kd:weight=nan", "a:b:c",
]  # fmt: skip
values = st.one_of(st.sampled_from(ODD), st.text(max_size=20), st.integers().map(str), st.floats().map(str))
overrides = st.lists(st.tuples(st.sampled_from(KEYS), values).map("=".join), min_size=1, max_size=4)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides)
def test_rubbish_overrides(given_overrides: list[str]) -> None:
    code, said = ended("validate", str(TINY), *given_overrides)
    assert code in (0, 2, 3), said
    assert "internal" not in said


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="{}[]:,-&*!'\"ab01 \n\t", max_size=60).map(str.encode)))
def test_rubbish_recipes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    code, said = ended("validate", str(tmp_path / "r.yaml"))
    assert code in (0, 2), said


def damaged(name: str) -> bytes:
    """A good file of this kind."""
    stream = io.BytesIO()
    array = np.array([[0, 1], [1, 2], [2, 0]])
    if name.endswith("npy"):
        np.save(stream, array)
    elif name.endswith("npz"):
        np.savez_compressed(stream, edges=array, weights=np.array([0.5, 1, 2]))
    else:
        text = {"csv": "source,target,weight\n0,1,0.5\n1,2,1\n", "tsv": "a\tb\n0\t1\n1\t2\n"}
        mtx = "%%MatrixMarket matrix coordinate real general\n% x\n3 3 3\n1 2 0.5\n2 3 1\n3 1 2\n"
        stream.write(text.get(name.rpartition(".")[2], mtx).encode())
    return stream.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.npy", "a.npz", "a.mtx"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files(name: str, tmp_path: Path, data: st.DataObject) -> None:
    """A good file with bytes changed, taken away or put in."""
    content = bytearray(damaged(name))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["cut", "insert", "change"])):
            case "cut":
                del content[place:]
            case "insert":
                content.insert(place, 57)
        if place < len(content):
            content[place] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content)
    code, said = ended("graph", "inspect", str(tmp_path / name))
    assert code in (0, 3), said
    if not name.endswith("mtx"):
        with contextlib.suppress(DataError, ConfigError):
            SOURCES.build("table", settings={"root": str(tmp_path / name)})


def test_a_recipe_as_plain_data_is_checked_alike() -> None:
    with pytest.raises(ConfigError, match="problem"):
        parse({"seed": 10**400, "name": None, "train": json.loads('{"lr": 1e999}')}, "x")
