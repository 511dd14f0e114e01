"""`ssl measure`: rows of teacher, students and int8 models against figures worked out otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import t as student_t

from kinshot.cli.fewshot import main as fewshot
from kinshot.cli.measure import measure_command, measure_table, named_run
from kinshot.core.checkpoint import save_checkpoint
from kinshot.core.errors import ConfigError, DataError, KinshotError
from kinshot.recipes.recipe import parse
from kinshot.runs.embedder import build_model
from kinshot.samples.spec import input_of
from kinshot.studies.footprint import Footprint, counted
from kinshot.studies.latency import Latency
from kinshot.studies.measure_rows import (
    DISTILLED,
    INT8,
    STUDENT,
    TEACHER,
    MeasuredModel,
    RunAccuracy,
    accuracy_of,
    difference_to,
    result_rows,
    row_of,
)
from kinshot.studies.report.theme import png
from kinshot.studies.results import result_block, write_document
from kinshot.studies.seed_groups import seed_groups
from kinshot.studies.size_plot import side_by_side, size_figure
from kinshot.studies.study import Trained, load_runs
from tests.study_runs import CPU, DIGITS, features, source

GLYPHS = ["--data", "glyphs", "--split", "val", "--set", "variants=4"]
FEW = ["--shots", "1", "--queries", "2", "--episodes", "12", "--k", "2", "--repeats", "5", "--device", "cpu"]
COST = Footprint(1000, 2000, 3000)
LATENCY = (Latency(1, 0.5, 0.4, 0.8, 9),)
has_int8 = bool(set(torch.backends.quantized.supported_engines) & {"x86", "fbgemm", "onednn", "qnnpack"})


def write(folder: Path, width: int, seed: int = 0, size: int = 16, **distill: Any) -> Path:
    """An untrained run on digits."""
    data = {**DIGITS, "size": size}
    content = {
        "data": data,
        "views": {"name": "warp", "views": 1},
        "encoder": {"name": "conv4", "width": width},
        "projector": {"hidden": 8, "dim": 6},
        "method": {"name": "simclr"},
        "seed": seed,
        **({"distill": distill} if distill else {}),
    }
    recipe = parse(content, "tiny")
    base = source(data["name"], **recipe.data.settings)
    encoder, projector = build_model(recipe, input_of(base))
    encoder.train()
    with torch.no_grad():  # settles the statistics of the normalisations
        for _ in range(20):
            encoder(base.load(np.arange(64)).float() / 255)
    state = {"step": 1, "epoch": 1, "input": input_of(base).to_dict(), "cpu_seconds": 60.0}
    parts = {"encoder": encoder.state_dict(), "projector": projector.state_dict(), "training": {}}
    return save_checkpoint(folder, parts=parts, state=state, config=recipe.to_dict(), fsync=False)


def measured(*args: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(measure_command, [*map(str, args), "--json", "-q"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    for seed in (0, 1):
        write(folder / f"teacher/seed={seed}", 8, seed)
        write(folder / f"student/seed={seed}", 4, seed)
    return folder


def conv4_parameters(width: int) -> int:
    return 9 * width * (1 + 3 * width) + 8 * width


@pytest.fixture(scope="module")
def both(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Two seeds of teacher and student, int8 too where there is an engine, with plot and results."""
    out = tmp_path_factory.mktemp("out")
    paths: list[str | Path] = [f"big={runs}/teacher/seed=0", f"big={runs}/teacher/seed=1", runs / "student/seed=0", runs / "student/seed=1"]
    extra: list[str | Path] = ["--plot", out / "plots" / "size.png", "--results", out / "tiny.json", *["--quantize"] * has_int8]
    return measured(*paths, *GLYPHS, *FEW, *extra), out


def test_rows_of_seeds_are_averaged_and_named(both: tuple[dict[str, Any], Path], runs: Path) -> None:
    found, _ = both
    rows = {row["label"]: row for row in found["rows"]}
    student = f"{runs}/student"
    assert list(rows) == (["big", "big, int8", student, f"{student}, int8"] if has_int8 else ["big", student])
    assert [row["role"] for row in found["rows"]] == ([TEACHER, INT8, STUDENT, INT8] if has_int8 else [TEACHER, STUDENT])
    assert all(row["seeds"] == [0, 1] for row in rows.values())
    assert (rows["big"]["parameters"], rows[student]["parameters"]) == (conv4_parameters(8), conv4_parameters(4))
    assert rows["big"]["macs"] == 9 * 8 * (16**2 + 8 * (8**2 + 4**2 + 2**2))
    assert found["protocol"]["seed"] == 0
    assert found["protocol"]["differences"].startswith("to big, paired by seed")
    assert found["protocol"]["interval is rough"].startswith(f"only {found['protocol']['episodes']} episodes")
    assert [t["batch"] for t in rows["big"]["latency_ms"]] == [1, 64]


def test_accuracy_is_that_of_fewshot_eval_and_differences_are_paired_by_seed(
    both: tuple[dict[str, Any], Path], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = both
    of: dict[tuple[str, int], float] = {}
    for name in ("teacher", "student"):
        for seed in (0, 1):
            args = ["eval", f"{runs}/{name}/seed={seed}", *GLYPHS, *FEW[:6], "--heads", "prototype", "--features", "backbone", "--json"]
            assert fewshot([*args, "--no-reference", "--device", "cpu"]) == 0
            of[name, seed] = json.loads(capsys.readouterr().out)["rows"][0]["mean"]
    rows = {row["label"]: row["accuracy"][0] for row in found["rows"]}
    teacher, student = rows["big"], rows[f"{runs}/student"]
    assert teacher["mean"] == pytest.approx((of["teacher", 0] + of["teacher", 1]) / 2)
    assert teacher["difference"] is None
    differences = np.array([of["student", seed] - of["teacher", seed] for seed in (0, 1)])
    half = student_t.ppf(0.975, 1) * differences.std(ddof=1) / 2**0.5
    assert (student["difference"]["mean"], student["difference"]["n"]) == pytest.approx((differences.mean(), 2))
    assert student["difference"]["ci95"] > half  # the episodes, which both runs share, have their part
    if has_int8:
        assert abs(rows["big, int8"]["difference"]["mean"]) < 10


def test_knn_is_leave_one_out_on_the_same_images(both: tuple[dict[str, Any], Path], runs: Path) -> None:
    found, _ = both
    labels, accuracies = source("glyphs", split="val", variants=4, size=16).labels, []
    for seed in (0, 1):
        x = features(runs / f"teacher/seed={seed}", "glyphs", split="val", variants=4, size=16).double().numpy()
        hits = 0
        for i, row in enumerate(x):
            distance = np.sqrt(((x - row) ** 2).sum(1))
            distance[i] = np.inf
            a, b = np.argsort(distance, kind="stable")[:2]
            hits += labels[a if distance[a] <= distance[b] else b] == labels[i]  # of two, the nearer one decides
        accuracies.append(100 * hits / len(x))
    knn = found["rows"][0]["knn"]
    assert knn["n"] == 2
    assert knn["mean"] == pytest.approx(np.mean(accuracies), abs=1.0)  # equal distances may fall either way


@pytest.mark.skipif(not has_int8, reason="this torch was built without an int8 engine")
def test_int8_is_smaller_and_costs_what_the_float_model_has(both: tuple[dict[str, Any], Path]) -> None:
    plain, int8 = both[0]["rows"][:2]
    assert (int8["parameters"], int8["macs"]) == (plain["parameters"], plain["macs"])
    assert int8["file_bytes"] != plain["file_bytes"]


def test_plot_results_and_table(both: tuple[dict[str, Any], Path]) -> None:
    found, out = both
    assert (out / "plots" / "size.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((out / "tiny.json").read_text())
    assert {row["metric"] for row in document["rows"]} >= {"parameters, thousands", "5-way 1-shot accuracy, %", "kNN accuracy, %"}
    assert "5-way 1-shot accuracy minus big, points" in result_block(out / "tiny.json")
    table = measure_table(found)
    assert "minus big" in table
    assert counted(conv4_parameters(8)) in table


def test_a_single_run_has_intervals_over_episodes(runs: Path) -> None:
    found = measured(runs / "teacher/seed=0", runs / "student/seed=1", *GLYPHS, *FEW)
    for row in found["rows"]:
        assert row["accuracy"][0]["n"] == 12
        assert row["knn"]["ci95"] == 0
    assert found["rows"][1]["accuracy"][0]["difference"]["n"] == 12


def test_differences_may_be_taken_to_another_row(runs: Path) -> None:
    named = [f"big={runs}/teacher/seed=0", f"small={runs}/student/seed=0"]
    first, second = measured(*named, *GLYPHS, *FEW), measured(*named, *GLYPHS, *FEW, "--to", "small")
    assert [row["to"] for row in second["rows"]] == ["small", "small"]
    assert [row["role"] for row in second["rows"]] == [TEACHER, STUDENT]
    there, back = first["rows"][1]["accuracy"][0]["difference"], second["rows"][0]["accuracy"][0]["difference"]
    assert second["rows"][1]["accuracy"][0]["difference"] is None
    assert there["mean"] == pytest.approx(-back["mean"])


def test_encoders_of_other_input_sizes_meet_the_same_episodes(runs: Path, tmp_path: Path) -> None:
    large = write(tmp_path / "large", 4, size=28)
    first = measured(runs / "student/seed=0", large, *GLYPHS, *FEW)
    second = measured(large, runs / "student/seed=0", *GLYPHS, *FEW)
    assert first["rows"][1]["accuracy"][0]["mean"] == second["rows"][0]["accuracy"][0]["mean"]
    there, back = (found["rows"][1]["accuracy"][0]["difference"] for found in (first, second))
    assert there["mean"] == pytest.approx(-back["mean"])
    assert there["ci95"] == pytest.approx(back["ci95"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--k", "0"], "--k: expected at least 1"),
        (["--to", "nobody"], "--to nobody: no such row"),
        (["--head", "prototype,nearest"], "take one each"),
        (["--plot", "size.pdf"], "ending .png"),
        (["--split", "val"], "need --data"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--feature", "logits"], "no feature 'logits'"),
        (["--data", "manifold"], "manifold"),
    ],
)
def test_bad_arguments_say_what_to_do(runs: Path, args: list[str], message: str) -> None:
    with pytest.raises(KinshotError, match=message):
        measured(runs / "student/seed=0", *args)


def test_named_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=3").mkdir()
    assert named_run("seed=3") == ("", Path("seed=3"))
    assert named_run("teacher=runs/x/seed=3") == ("teacher", Path("runs/x/seed=3"))
    assert named_run("runs/x/seed=3") == ("", Path("runs/x/seed=3"))
    assert named_run("runs/x") == ("", Path("runs/x"))


def test_groups_differ_by_seed_alone(tmp_path: Path) -> None:
    taught: dict[str, Any] = {"teachers": (f"{tmp_path}/teacher/seed=0",), "losses": ("rkd_distance",)}
    other: dict[str, Any] = {**taught, "teachers": (f"{tmp_path}/teacher/seed=1",)}
    folders = [
        write(tmp_path / "a_seed=0", 4, 0),
        write(tmp_path / "b_seed=0", 4, 0, **taught),
        write(tmp_path / "a_seed=1", 4, 1),
        write(tmp_path / "b_seed=1", 4, 1, **other),
        write(tmp_path / "c_seed=0", 8, 0),
    ]
    trained = load_runs(folders)
    found = seed_groups(trained)
    assert {group.label: [run.recipe.seed for run in group.runs] for group in found} == {
        f"{tmp_path}/a": [0, 1], f"{tmp_path}/b": [0, 1], f"{tmp_path}/c_seed=0": [0],
    }  # fmt: skip
    named = seed_groups(trained, ["x", "y", "x", "y", "x"])
    small, large = (counted(conv4_parameters(width)) for width in (4, 8))
    assert [(group.label, group.name) for group in named] == [(f"x, {small}", "x"), ("y", "y"), (f"x, {large}", "x")]
    same_size = seed_groups(trained, ["x"] * 5)
    assert [group.label for group in same_size] == [f"x, {tmp_path}/{place}" for place in ("a", "b", "c_seed=0")]
    with pytest.raises(ConfigError, match="the same settings and seed"):
        seed_groups([*trained, trained[0]])


@pytest.mark.parametrize(
    ("teachers", "groups"),
    [
        (["runs/v1/teacher_0", "runs/v1/teacher_1"], 1),  # each its own, the seed in its name
        (["runs/teacher_1", "runs/teacher_1"], 1),  # one for all
        (["runs/teacher/seed=0/checkpoints/step-10", "runs/teacher/seed=1/checkpoints/step-10"], 1),
        (["runs/small", "runs/large"], 2),
        (["runs/teacher_10", "runs/teacher_11"], 2),
    ],
)
def test_teachers_of_the_seed_or_of_all_do_not_divide(tmp_path: Path, teachers: list[str], groups: int) -> None:
    folders = [write(tmp_path / f"s{n}", 4, n, teachers=(path,), losses=("rkd_distance",)) for n, path in enumerate(teachers)]
    assert len(seed_groups(load_runs(folders))) == groups


def test_settings_that_follow_the_seed_do_not_divide(tmp_path: Path) -> None:
    first, second = load_runs([write(tmp_path / f"seed={seed}", 4, seed) for seed in (0, 1)])

    def with_points(run: Trained, points: int) -> Trained:
        return replace(run, recipe=replace(run.recipe, monitor=replace(run.recipe.monitor, projector_points=points)))

    assert len(seed_groups([with_points(first, 0), with_points(second, 1)])) == 1
    assert len(seed_groups([with_points(first, 0), with_points(second, 7)])) == 2


def model(label: str, role: str, *means: float, seeds: tuple[int, ...] | None = None, name: str = "") -> MeasuredModel:
    noise = np.array([-3.0, 1.0, 2.0])
    found = [RunAccuracy(seed, {(5, 1): mean + noise * (seed + 1)}, mean) for seed, mean in zip(seeds or range(9), means, strict=False)]
    return MeasuredModel(label, name or label, role, COST, tuple(found))


def test_differences_are_paired() -> None:
    teacher, many = model("t", TEACHER, 80.0), model("t", TEACHER, 80.0, 90.0)
    one = difference_to(model("s", STUDENT, 70.0, seeds=(1,)), teacher, (5, 1))
    assert one is not None
    values = np.array([-13.0, -9.0, -8.0])  # student minus teacher, episode by episode
    assert (one.mean, one.n) == (pytest.approx(-10.0), 3)
    assert one.ci95 == pytest.approx(student_t.ppf(0.975, 2) * values.std(ddof=1) / 3**0.5)
    over = difference_to(model("s", STUDENT, 70.0, 84.0), many, (5, 1))
    assert over is not None
    assert (over.mean, over.n) == (pytest.approx(-8.0), 2)
    noise = np.array([-3.0, 1.0, 2.0])
    rows = np.array([-10 + 0 * noise, -6 + 0 * noise])  # the noise of a seed is the same in both
    assert over.ci95 == pytest.approx(student_t.ppf(0.975, 1) * rows.mean(1).std(ddof=1) / 2**0.5)
    episodes = student_t.ppf(0.975, 2) * (1.5 * noise).std(ddof=1) / 3**0.5
    assert accuracy_of(many, (5, 1)).ci95 == pytest.approx(np.hypot(student_t.ppf(0.975, 1) * 5.0, episodes))
    shared = difference_to(model("s", STUDENT, 70.0, 84.0), teacher, (5, 1))
    assert shared is not None
    assert shared.mean == pytest.approx(-3.0)
    assert difference_to(model("s", STUDENT, 70.0, seeds=(5,)), many, (5, 1)) is None


def rows() -> list[dict[str, Any]]:
    teacher = model("teacher", TEACHER, 80.0, 82.0)
    others = [model("scratch", STUDENT, 70.0, 71.0), model("$x^2_$", DISTILLED, 78.0, 79.0), model("int8", INT8, 77.0, 80.0, name="$x^2_$")]
    return [row_of(m, LATENCY, teacher) for m in [teacher, *others]]


def test_result_rows_become_a_page(tmp_path: Path) -> None:
    found = result_rows(rows())
    assert all(set(row) == {"label", "metric", "mean", "ci95", "n"} for row in found)
    (latency,) = [row for row in found if row["label"] == "teacher" and "latency" in row["metric"]]
    assert (latency["mean"], latency["ci95"], latency["n"]) == (0.5, 0.2, 9)
    result = {"pretrained_by": [], "data": {}, "protocol": {}, "seeds": [0], "cpu_minutes": 1, "versions": {}}
    write_document(tmp_path / "x.json", result, "ssl measure x", found)
    page = result_block(tmp_path / "x.json")
    assert "| scratch |" in page
    assert "-10.50 ±" in page


def test_the_plot_has_a_marker_for_every_role_and_an_interval_for_every_model() -> None:
    figure = size_figure(rows())
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    containers: list[Any] = list(axes.containers)
    assert len(containers) == 4
    assert len({container.lines[0].get_marker() for container in containers}) == 4
    for container, row in zip(containers, rows(), strict=True):
        (bars,) = container.lines[2]
        low, high = bars.get_segments()[0][:, 1]
        task = row["accuracy"][0]
        assert (low, high) == (pytest.approx(task["mean"] - task["ci95"]), pytest.approx(task["mean"] + task["ci95"]))
    colors = [container.lines[0].get_color() for container in containers]
    assert (len(set(colors)), colors[3]) == (3, colors[2])  # int8 has the color of the model that it was made from
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "teacher", "scratch", "$x^2_$", "teacher", "student from scratch", "student distilled", "in int8",
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1k"]
    assert png(figure) == png(size_figure(rows()))


def test_sizes_of_one_name_are_joined_and_have_one_color() -> None:
    found = [{**row, "parameters": 1000 * 4**place, "name": name} for place, (row, name) in enumerate(zip(rows(), "abbb", strict=True))]
    (axes,) = size_figure(found).axes
    lines = [np.column_stack(line.get_data()) for line in axes.lines if line.get_linestyle() == "-"]
    (points,) = [line for line in lines if len(line) == 2]
    assert points.tolist() == [[row["parameters"], row["accuracy"][0]["mean"]] for row in found[1:3]]  # int8 is no part of it
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()[:2]] == ["a", "b"]


def test_models_of_one_size_stand_side_by_side() -> None:
    found = np.array(side_by_side([1000, 50, 1000, 1000]))
    assert found[[1, 2]] == pytest.approx([50, 1000])
    assert 800 < found[0] < found[2] < found[3] < 1250
    assert found[0] * found[3] == pytest.approx(1000**2)
    many = np.array(side_by_side([10] * 40))
    assert many[-1] / many[0] < 10**0.4


def test_counted() -> None:
    assert [counted(v) for v in (999, 111_936, 11_170_000, 1.8e9)] == ["999", "112k", "11.2M", "1.8G"]


def test_labels_are_needed(runs: Path) -> None:
    with pytest.raises((DataError, ConfigError)):
        measured(runs / "student/seed=0", "--data", "folder:/nonexistent")
    assert CPU.type == "cpu"
