"""`segmentation train` that is killed while its dictionary fills, and goes on, ends as the run that never stopped."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

from kinshot.core.checkpoint import load_checkpoint
from kinshot.learn.features import weights_hash
from tests.test_resume import records
from tests.tiny import command, environment, result, run

RECIPE = """
name: tiny_dual_prototype
data: {name: glyph_scenes, split: train, size: 32, glyphs: 2, classes: 12, per_class: 12}
views: {name: warp, views: 2}
encoder: {name: dense_cnn, width: 8, depth: 2, stride: 4}
method: {name: dual_prototype, tasks: 2, ways: 2, queries: 2, key_momentum: 0.9, length: 37, keys: cells}
projector: {layers: 0}
train: {epochs: 4, batch_size: 8, lr: 0.01, threads: 1}
monitor: {log_every: 2, checkpoint_every: 0.3, tensorboard: false}
"""


def parts(run: Path) -> dict[str, str]:
    """Hashes of the weights and of the whole training state, which holds the dictionary and the momentum encoder."""
    checkpoint = load_checkpoint(run)
    assert {f"method/dictionary.{name}" for name in ("vectors", "held", "pointer")} <= checkpoint.training.keys()
    return {"encoder": weights_hash(checkpoint.encoder), "training": weights_hash(checkpoint.training)}


def test_kill_in_the_middle_of_a_dictionary_then_resume_equals_never_stopped(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    given = ["train", "recipe.yaml"]
    expected = result(run("segmentation", *given, "--out", "whole", "--json", "-q", cwd=tmp_path))["weights"]
    killed = command("segmentation", *given, "--out", "killed", "-q")
    process = subprocess.Popen(killed, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random("dual_prototype").uniform(0.0, 0.3))  # anywhere: in a step, in a save, between
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = run("segmentation", *given, "--out", "killed", "--resume", "auto", "--json", "-q", cwd=tmp_path)
    assert result(again)["weights"] == expected
    assert parts(tmp_path / "killed") == parts(tmp_path / "whole")
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    fill = [row["dual_prototype/dictionary_fill"] for row in records(tmp_path / "whole") if "dual_prototype/dictionary_fill" in row]
    assert 0 < fill[0] < 0.5 < fill[-1]
