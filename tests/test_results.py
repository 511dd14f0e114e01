"""The pages of results say what the files say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kinshot.core.errors import DataError
from kinshot.studies.result_intervals import mended
from kinshot.studies.results import result_block, results_page, write_results

REPOSITORY = Path(__file__).resolve().parents[1]


def row(label: str, metric: str, mean: float, **more: float) -> dict:
    return {"label": label, "metric": metric, "mean": mean, "ci95": 0.5, "n": 3, **more}


def whole_block(folder: Path, rows: list[dict], **fields: object) -> list[str]:
    document = {
        "name": "x",
        "command": "do",
        "data": {"name": "d"},
        "seeds": [0],
        "cpu_minutes": 1,
        "versions": {"kinshot": "1"},
        "rows": rows,
    }
    (folder / "x.json").write_text(json.dumps({**document, **fields}))
    return result_block(folder / "x.json").splitlines()


def block(folder: Path, rows: list[dict]) -> list[str]:
    return [line for line in whole_block(folder, rows) if line.startswith("|")]


def test_labels_go_down_and_metrics_across(tmp_path: Path) -> None:
    lines = block(tmp_path, [row("a", "1-shot", 50.0), row("a", "5-shot", 60.0), row("b, minus a", "1-shot", 1.25, p=0.034)])
    assert lines == [
        "| | 1-shot | 5-shot |",
        "|---|---|---|",
        "| a | 50.00 ± 0.50 (n=3) | 60.00 ± 0.50 (n=3) |",
        "| b, minus a | 1.25 ± 0.50 (n=3, p=0.034) |  |",
    ]


def test_large_figures_have_no_decimals(tmp_path: Path) -> None:
    assert block(tmp_path, [row("a", "images/s", 42160.4)])[2] == "| a | 42160 ± 0 (n=3) |"


def test_what_was_counted_has_no_interval(tmp_path: Path) -> None:
    assert block(tmp_path, [row("a", "parameters", 12.0, ci95=0.0, n=1)])[2] == "| a | 12.00 |"


def test_conditions_are_written_for_people(tmp_path: Path) -> None:
    data = {"name": "d", "root": "", "rotations": True, "dims": [64, 512], "found": {"mean": 39.782538, "bound": None}}
    cost = {"training of each": [1.0] * 8 + [3.25], "evaluation of all": 0.5}
    lines = whole_block(tmp_path, [row("a", "m", 1.0)], data=data, cpu_minutes=cost, seeds=[0, 1, 2])
    assert [line for line in lines if line.startswith("- ")] == [
        "- Data: name d; rotations yes; dims 64, 512; found (mean 39.7825)",
        "- Seeds: 0, 1, 2",
        "- CPU minutes: training of each 1 to 3.25 (9 of them, 11.25 in all); evaluation of all 0.5",
        "- Versions: kinshot 1",
    ]


def test_accounts_stand_above_their_tables_and_in_the_contents(tmp_path: Path) -> None:
    block(tmp_path, [row("a", "m", 1.0)])
    (tmp_path / "y.json").write_text((tmp_path / "x.json").read_text().replace('"x"', '"y"'))
    (tmp_path / "y.md").write_text("What was asked. What was seen, 1.\n\nMore.\n")
    page = results_page(tmp_path)
    assert "- [x](#x)\n- [y](#y): What was asked\n" in page
    assert "## y\n\nWhat was asked. What was seen, 1.\n\nMore.\n\n```\ndo\n```" in page


def test_many_metrics_go_down(tmp_path: Path) -> None:
    lines = block(tmp_path, [row(label, f"m{i}", i) for label in ("a", "b") for i in range(12)])
    assert lines[0] == "| | a | b |"
    assert len(lines) == 2 + 12
    assert lines[5] == "| m3 | 3.00 ± 0.50 (n=3) | 3.00 ± 0.50 (n=3) |"


def test_single_runs_are_left_out_beside_their_mean(tmp_path: Path) -> None:
    rows = [
        row("mean of 2, backbone", "m", 2.0),
        row("runs/a, backbone", "m", 1.0),
        row("runs/b, backbone", "m", 3.0),
        row("raw pixels", "m", 0.0),
    ]
    assert [line.split("|")[1].strip() for line in block(tmp_path, rows)[2:]] == ["mean of 2, backbone", "raw pixels"]
    assert len(block(tmp_path, rows[1:])) == 2 + 3


def test_differences_between_heads_are_in_the_file(tmp_path: Path) -> None:
    difference = {
        "model": "m",
        "feature": "f",
        "head": "tim",
        "against": "prototype",
        "ways": 5,
        "shots": 1,
        "mean": 2.0,
        "ci95": 0.25,
        "p": 0.00123456,
    }
    result = {
        "pretrained_by": ["train"], "data": {}, "protocol": {}, "seeds": [0], "cpu_minutes": 1, "versions": {},
        "rows": [{"model": "m", "feature": "f", "head": "tim", "ways": 5, "shots": 1, "mean": 52.0, "ci95": 0.5, "n": 10}],
        "heads paired": [{**difference, "n": 10}],
    }  # fmt: skip
    write_results(tmp_path / "x.json", result, "measure")
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert rows[1] == {
        "label": "m, f, tim minus prototype", "metric": "5-way 1-shot accuracy, %", "mean": 2.0, "ci95": 0.25, "n": 10, "p": 0.0012,
    }  # fmt: skip
    assert "p" not in rows[0]


def test_a_file_that_lacks_a_field_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="lacks name, command"):
        result_block(tmp_path / "x.json")


def test_the_page_begins_with_the_figures_that_a_list_names(tmp_path: Path) -> None:
    block(tmp_path, [row("a", "m, %", 62.25), row("b", "m, %", 50.0), row("a", "other", 1.0)])
    entry = {"says": "What was hoped for", "file": "x", "metric": "m, %", "row": "a", "beside": "b"}
    (tmp_path / "headlines.yaml").write_text(json.dumps({"figures": [entry, {**entry, "metric": "other", "beside": "a"}]}))
    lines = results_page(tmp_path).splitlines()
    figures = [line for line in lines[: lines.index("## Contents")] if line.startswith("|")]
    assert figures[2] == "| What was hoped for (m, %) | **62.25 ± 0.50 (n=3)** | 50.00 ± 0.50 (n=3) | [x](#x) |"
    assert lines.index("## Contents") < lines.index("- [x](#x)") < lines.index("## x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": "c"}, "no row 'c' with the metric 'm, %'; it has 'a', 'b'"),
        ({"file": "y"}, "y.json is not there"),
        ({"metric": "n"}, "no row 'a' with the metric 'n'"),
        ({"value": 3}, "entry 1: expected file, metric, row, says"),
    ],
)
def test_a_figure_that_is_not_in_the_files_stops_the_page(tmp_path: Path, change: dict, message: str) -> None:
    block(tmp_path, [row("a", "m, %", 62.25), row("b", "m, %", 50.0)])
    entry = {"says": "What was hoped for", "file": "x", "metric": "m, %", "row": "a", **change}
    (tmp_path / "headlines.yaml").write_text(json.dumps({"figures": [entry]}))
    with pytest.raises(DataError, match=re.escape(message)):
        results_page(tmp_path)


def test_a_dozen_figures_of_the_real_files_come_first() -> None:
    folder = Path(__file__).resolve().parents[1] / "docs" / "results"
    lines = results_page(folder).splitlines()
    first = [line for line in lines[: lines.index("## Contents")] if line.startswith("| ")]
    assert 10 <= len(first) - 1 <= 12
    assert lines.index("## Contents") < 30, "one screen"


def old_file(rows: list[dict], interval: str, **data: object) -> dict:
    return {"name": "x", "data": {"episodes": 2000, "classes": 60, "interval": interval, **data}, "rows": rows}


OLD = "Student t, 95 %, over episodes; mean row: Student t, 95 %, over checkpoints"


def test_old_means_get_the_part_of_the_episodes_from_the_rows_beside_them() -> None:
    metric = "5-way 1-shot accuracy, %"
    rows = [{**row("mean of 2, joint, prototype", metric, 97.16), "ci95": 0.06, "n": 2}]
    rows += [{**row(f"runs/{n}, joint, prototype", metric, 97.16), "ci95": half, "n": 2000} for n, half in (("a", 0.2), ("b", 0.1))]
    rows += [{**row("runs/a, backbone, prototype", metric, 90.0), "ci95": 3.0, "n": 2000}, row("untrained, joint, prototype", metric, 50)]
    found = mended(old_file(rows, OLD))
    assert found["rows"][0]["ci95"] == pytest.approx(np.sqrt(0.06**2 + (0.2**2 + 0.1**2) / 2), abs=1e-3)
    assert found["rows"][1:] == rows[1:]
    assert "Howe" in found["data"]["interval"]
    assert "60 classes" in found["data"]["interval covers"]
    assert mended(found) == found


def test_old_differences_are_taken_as_if_unpaired() -> None:
    names = {
        "structure.weight 0.0, joint, p": 0.1,
        "structure.weight 0.3, joint, p": 0.2,
        "structure.weight 0.0 to 0.3, paired, joint, p": 0.3,
    }
    rows = [{**row(name, "m", 1.0), "ci95": half} for name, half in names.items()]
    halves = {("0", 0): 0.5, ("0", 1): 0.6, ("0.3", 0): 0.7, ("0.3", 1): 0.8}
    rows += [{**row(f"runs/g/weight={w}_seed={s}, joint, p", "m", 1.0), "ci95": half, "n": 2000} for (w, s), half in halves.items()]
    found = [r["ci95"] for r in mended(old_file(rows, OLD))["rows"][:3]]
    parts = [(0.5**2 + 0.6**2) / 2, (0.7**2 + 0.8**2) / 2]
    expected = [np.sqrt(0.1**2 + parts[0]), np.sqrt(0.2**2 + parts[1]), np.sqrt(0.3**2 + parts[0] + parts[1])]
    assert found == pytest.approx(expected, abs=1e-3)


def test_old_files_without_single_runs_say_what_is_missing() -> None:
    found = mended(old_file([row("teacher", "5-way 1-shot accuracy, %", 99.5)], OLD.replace("mean row", "means")))
    assert found["rows"][0]["ci95"] == 0.5
    assert "checkpoints alone" in found["data"]["interval"]
    assert "1 mean above 99 %" in found["data"]["interval is rough"]


def test_old_predictions_of_a_graph_count_once_for_every_seed() -> None:
    values = np.array([91.0, 95.0, 92.5])
    twice = np.repeat(values, 2)
    half = [stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / len(v) ** 0.5 for v in (twice, values)]
    old = [{**row("predicted by the graph", "m", values.mean()), "ci95": half[0], "n": 6}]
    found = mended(old_file(old, "Student t, 95 %, over seeds"))
    assert found["rows"][0]["ci95"] == pytest.approx(half[1], abs=1e-3)
    assert found["rows"][0]["n"] == 3
    assert "seeds alone" in found["data"]["interval"]


def test_old_p_values_get_holm_within_their_task() -> None:
    names = [("m, f, a minus z", "1-shot", 0.01), ("m, f, b minus z", "1-shot", 0.04), ("m, f, a minus z", "5-shot", 0.03)]
    found = mended(old_file([row(label, metric, 1.0, p=p) for label, metric, p in names], "Student t, 95 %, over episodes"))
    assert [r["p_holm"] for r in found["rows"]] == [0.02, 0.04, 0.03]


def test_published_files_have_all_the_parts_that_they_can_have() -> None:
    for path in sorted((REPOSITORY / "docs" / "results").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        assert mended(document) == document, f"{path.name}: run make results"


def test_make_results_writes_what_is_there(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png"))
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    line = [sys.executable, tmp_path / "docs" / "make_results.py"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for page in ("README.md", "docs/results.md"):
        assert (tmp_path / page).read_text() == (REPOSITORY / page).read_text(), f"{page}: run make results"
