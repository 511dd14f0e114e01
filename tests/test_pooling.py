"""Several checkpoints side by side: seeds are averaged, strangers are compared, one run given twice counts once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinshot.core.checkpoint import load_checkpoint, save_checkpoint
from kinshot.core.statistics.means import crossed
from kinshot.core.statistics.pairing import paired_test
from kinshot.studies.intervals import Intervals
from kinshot.studies.pooling import Pool, differences, pooled
from kinshot.studies.results import COVERS, ROUGH, result_block
from kinshot.studies.summaries import Measured, head_differences, summarized
from tests.study_runs import call, write_run

GLYPHS: dict[str, Any] = {"name": "glyphs", "split": "val", "variants": 6, "size": 16}
FEW: list[str | Path] = ["--data", "digits", "--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "30", "--features", "backbone"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one recipe, and a stranger: another width."""
    folder = tmp_path_factory.mktemp("pools")
    for seed in (0, 1):
        write_run(folder / f"a_{seed}", GLYPHS, method="simclr", seed=seed)
    write_run(folder / "b", GLYPHS, method="simclr", encoder={"name": "conv4", "width": 6})
    return folder


def measured(name: str, seed: int, spread: float = 4.0) -> Measured:
    return Measured(name, "backbone", "prototype", 5, 1, np.random.default_rng(seed).normal(60, spread, 50))


def rows(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in result["rows"]}


def test_only_seeds_are_averaged_and_strangers_are_compared_on_the_same_episodes(place, capsys):
    runs = [place / "a_0", place / "a_1", place / "b"]
    found = call(capsys, "eval", *runs, *FEW, "--no-reference", "-q")
    mean = f"mean of 2 ({place}/a)"
    assert list(rows(found)) == [mean, *map(str, runs)]
    assert rows(found)[mean]["mean"] == pytest.approx(np.mean([rows(found)[str(run)]["mean"] for run in runs[:2]]))
    assert [row["part_of"] for row in found["rows"]] == ["", mean, mean, ""]
    (between,) = found["models paired"]
    assert (between["model"], between["against"], between["paired"]) == (mean, str(place / "b"), "")
    assert between["mean"] == pytest.approx(rows(found)[mean]["mean"] - rows(found)[str(place / "b")]["mean"])
    again = call(capsys, "eval", *runs[::-1], *FEW, "--no-reference", "-q")
    assert again["models paired"] == found["models paired"]
    assert rows(again) == rows(found)


def test_seeds_alone_keep_the_short_name_and_their_interval_has_the_episodes_part(place, capsys):
    found = call(capsys, "eval", place / "a_0", place / "a_1", *FEW, "--no-reference", "-q")
    assert found["models paired"] == []
    mean = rows(found)["mean of 2"]
    singles = [rows(found)[str(place / f"a_{seed}")] for seed in (0, 1)]
    over_seeds = 12.706 * abs(singles[0]["mean"] - singles[1]["mean"]) / 2
    assert mean["n"] == 2
    assert mean["ci95"] > over_seeds
    assert "Howe" in found["protocol"]["interval"]
    assert "not other classes" in found["protocol"][COVERS]
    assert "only 30 episodes" in found["protocol"][ROUGH]


def test_two_strangers_are_paired_episode_by_episode():
    a, b = measured("a", 0), measured("b", 1)
    (found,) = differences([a, b], [Pool("a", {"a": 0}), Pool("b", {"b": 5})], Intervals())
    test = paired_test(b.accuracy, a.accuracy)
    assert (found.mean, found.ci95, found.p, found.n) == pytest.approx((test.difference.mean, test.difference.half_width, test.p, 50))
    assert found.p_holm == found.p


def test_pools_that_share_seeds_are_paired_by_them():
    names = ["a0", "a1", "b0", "b1"]
    each = [measured(name, number) for number, name in enumerate(names)]
    pools = [Pool("a", {"a0": 0, "a1": 1}), Pool("b", {"b1": 1, "b0": 0})]
    (found,) = differences(each, pools, Intervals())
    expected = crossed(np.stack([each[2].accuracy - each[0].accuracy, each[3].accuracy - each[1].accuracy]))
    assert (found.mean, found.ci95, found.p, found.n, found.paired) == pytest.approx(
        (expected.mean, expected.half_width, expected.p, 2, "seeds")
    )
    (mean, _) = summarized(pooled(each, pools), Intervals())
    assert mean.ci95 == pytest.approx(crossed(np.stack([each[0].accuracy, each[1].accuracy])).half_width)


def test_pools_of_other_seeds_have_the_spread_of_both():
    each = [measured(name, number) for number, name in enumerate(["a0", "a1", "b7", "b8"])]
    (found,) = differences(each, [Pool("a", {"a0": 0, "a1": 1}), Pool("b", {"b7": 7, "b8": 8})], Intervals())
    a, b = (np.stack([each[i].accuracy for i in rows_]) for rows_ in ((0, 1), (2, 3)))
    spread = [12.7062 * rows_.mean(1).std(ddof=1) / 2**0.5 for rows_ in (a, b)]
    episodes = 2.00958 * (b - a).mean(0).std(ddof=1) / 50**0.5
    assert found.ci95 == pytest.approx(np.sqrt(np.sum(np.square([*spread, episodes]))), rel=1e-4)
    assert found.paired == ""


def test_several_heads_get_holm_beside_the_raw_p():
    heads = [Measured("m", "f", head, 5, 1, np.random.default_rng(n).normal(60 + n, 3, 40)) for n, head in enumerate("pqrs")]
    found = head_differences(heads, Intervals())
    raw = sorted(d.p for d in found)
    assert sorted(d.p_holm for d in found) == pytest.approx([3 * raw[0], max(3 * raw[0], 2 * raw[1]), max(3 * raw[0], 2 * raw[1], raw[2])])


def test_one_run_given_twice_counts_once_and_is_said(place, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(place / "a_0", copy)
    alone = call(capsys, "eval", place / "a_0", *FEW)
    capsys.readouterr()
    twice = call(capsys, "eval", place / "a_0", copy, f"{place}/./a_0", *FEW)
    assert twice["rows"] == alone["rows"]
    assert {row["model"] for row in twice["rows"]} == {"pretrained", "untrained", "raw pixels"}
    from kinshot.cli.fewshot import main

    assert (
        main(
            [
                "lowshot",
                str(place / "a_0"),
                str(copy),
                "--data",
                "digits",
                "--shots",
                "1",
                "--draws",
                "2",
                "--no-reference",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    said = capsys.readouterr()
    assert f"{copy} is the same checkpoint as {place / 'a_0'}: counted once" in said.err
    assert "mean of" not in said.out


def test_runs_of_other_training_data_or_of_another_step_are_no_seeds(place, tmp_path, capsys):
    for name, state in (("data", {"source": "other"}), ("step", {"step": 7})):
        run = load_checkpoint(place / "a_1")
        parts = {"encoder": run.encoder, "projector": run.projector, "training": {}}
        changed = save_checkpoint(tmp_path / name, parts=parts, state={**run.state, **state}, config=run.config, fsync=False)
        found = call(capsys, "eval", place / "a_0", changed, *FEW, "--no-reference", "-q")
        assert not [model for model in rows(found) if model.startswith("mean of")]
        assert len(found["models paired"]) == 1


def test_compare_with_one_seed_each_says_what_the_episodes_say(place, capsys):
    found = call(capsys, "eval", place / "a_0", place / "b", *FEW, "--compare", "encoder.width", "--no-reference", "-q")
    models = list(rows(found))
    assert models[:3] == ["encoder.width 4", "encoder.width 6", "encoder.width 4 to 6, paired"]
    assert rows(found)[models[2]]["mean"] == pytest.approx(rows(found)[models[1]]["mean"] - rows(found)[models[0]]["mean"])
    assert rows(found)[models[2]]["n"] == 30
    refused = call(capsys, "eval", place / "a_0", place / "a_1", *FEW, "--compare", "encoder.width", code=2)
    assert "expected two values or more" in refused


def test_intervals_over_classes_are_wider_and_said(place, tmp_path, capsys):
    args = ["eval", place / "a_0", *FEW, "--no-reference", "-q"]
    episodes, classes = (call(capsys, *args, "--interval", how) for how in ("episodes", "classes"))
    assert rows(classes)["pretrained"]["ci95"] > rows(episodes)["pretrained"]["ci95"]
    assert rows(classes)["pretrained"]["mean"] == rows(episodes)["pretrained"]["mean"]
    assert "jackknife" in classes["protocol"]["interval"]
    assert "other classes" in classes["protocol"][COVERS]
    assert "fewer --ways" in call(capsys, "eval", place / "a_0", *FEW, "--ways", "all", "--interval", "classes", code=3)


def test_result_files_say_what_single_runs_are_part_of(place, tmp_path, capsys):
    out = tmp_path / "x.json"
    runs = [place / "a_0", place / "a_1", place / "b"]
    call(capsys, "eval", *runs, *FEW, "--heads", "prototype,nearest,ridge", "--no-reference", "-q", "--results", out)
    document = json.loads(out.read_text())
    tested = [row for row in document["rows"] if "p" in row]
    assert tested
    assert all(row["p"] <= row["p_holm"] <= 1 for row in tested)
    page = result_block(out)
    assert f"| {place}/b, backbone, prototype |" in page
    assert f"| mean of 2 ({place}/a), backbone, prototype |" in page
    assert f"| {place}/a_0, backbone, prototype |" not in page
    assert "Holm" in page
