"""`fewshot eval` says how large a gain over its references is, and what to try where it is small and photographs are few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from kinshot.cli.fewshot import main
from kinshot.samples.pixels import PixelSpec
from kinshot.studies.gains import Gain, gains, next_step
from kinshot.studies.intervals import Intervals
from kinshot.studies.study import Trained, load_runs
from kinshot.studies.summaries import Measured
from tests.study_runs import DIGITS, call, write_run


def test_a_gain_is_the_paired_difference_of_the_best_rows() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(50, 10, 40)
    rows = {"a": 60, "b": 62}
    ours = [Measured("pretrained", name, "prototype", 5, 1, level + high - 50 + rng.normal(0, 1, 40)) for name, high in rows.items()]
    pixels = Measured("raw pixels", "pixels", "prototype", 5, 1, level + rng.normal(0, 1, 40))
    (gain,) = gains(ours, [pixels], Intervals())
    difference = ours[1].accuracy - pixels.accuracy
    assert (gain.against, gain.row, gain.against_row) == ("raw pixels", "b, prototype", "pixels, prototype")
    assert gain.mean == pytest.approx(difference.mean())
    assert gain.ci95 == pytest.approx(t.ppf(0.975, 39) * difference.std(ddof=1) / np.sqrt(40))


def test_the_command_says_it(tmp_path: Path, capsys: Any) -> None:
    run = write_run(tmp_path / "run", DIGITS, method="simclr")
    found = call(capsys, "eval", run, "--data", "glyphs", "--split", "val", "--set", "variants=9", "--queries", "3", "--episodes", "20")
    assert {gain["against"] for gain in found["gains over references"]} == {"untrained", "raw pixels"}
    rows = {(row["model"], row["feature"], row["shots"]): row["mean"] for row in found["rows"]}
    best = max(mean for (model, _, shots), mean in rows.items() if model == "pretrained" and shots == 1)
    gain = next(g for g in found["gains over references"] if g["against"] == "raw pixels" and g["shots"] == 1)
    assert gain["mean"] == pytest.approx(best - rows["raw pixels", "pixels", 1])
    assert found["next step"] == ""  # black and white characters are no photographs
    assert main(["eval", str(run), "--data", "digits", "--queries", "3", "--episodes", "20", "--device", "cpu", "-q"]) == 0
    assert "gain over" in capsys.readouterr().out


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    (run,) = load_runs([write_run(tmp_path / "run", DIGITS, method="simclr")])
    run.checkpoint.state["samples"] = 3068
    monkeypatch.setattr(Trained, "input", PixelSpec(3, 48, 48, (0.5,) * 3, (0.2,) * 3))
    return run


def gain(points: float, against: str = "raw pixels") -> Gain:
    return Gain(against, 5, 1, points, 0.7, "pretrained", "backbone, prototype", "pixels, prototype")


def test_where_photographs_are_few_and_the_gain_is_small_the_packaged_encoder_is_named(photographs: Trained) -> None:
    said = next_step([gain(9.0), gain(3.0, "untrained")], [photographs])
    assert said.startswith("3068 photographs are few to learn from, and the gain over untrained is only 3.0 points (5-way 1-shot)")
    assert "fewshot eval efficientnet_lite0" in said
    assert "ssl pretrain photos --init efficientnet_lite0" in said
    assert next_step([gain(9.0)], [photographs]) == ""
    assert next_step([], [photographs]) == ""
    photographs.checkpoint.state["samples"] = 1_000_000
    assert next_step([gain(3.0)], [photographs]) == ""
