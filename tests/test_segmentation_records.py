"""What a run of segmentation leaves to look at: figures in groups, what the guide says of them, pictures of validation episodes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinshot.cli.segmentation import main
from kinshot.learn.board import guide
from kinshot.segmentation.strips import GAP

RECIPE = """
data: {name: glyph_scenes, split: train, size: 32, classes: 8, per_class: 6}
views: {name: warp, views: 2}
encoder: {name: conv4, width: 4}
projector: {layers: 0}
method: {name: dual_prototype, ways: 1, shots: 1, queries: 1, tasks: 4}
train: {epochs: 2, batch_size: 8, threads: 1}
validation: {split: val, head: cosine, ways: 2, shots: 1, queries: 1, episodes: 6}
monitor: {log_every: 1, checkpoint_every: 1.0, projector_points: 0, knn_every: 0}
"""
NAMED = ("1_eval/validation/miou", "2_train/miou", "2_train/class_specific", "2_train/class_agnostic")
NAMED += tuple(f"4_dual_prototype/{name}" for name in ("dictionary_fill", "intra_class", "inter_class"))


def test_a_run_records_what_the_guide_names_and_shows_validation_queries(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    assert main(["train", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "run"), "-q"]) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()
    tags = set(events.Tags()["scalars"])
    for tag in NAMED:
        assert tag in tags
        assert f"| {tag} |" in guide()
    fill = [event.value for event in events.Scalars("4_dual_prototype/dictionary_fill")]
    assert 0 < fill[0] < fill[-1] <= 1
    shown, measured = events.Images("segmentation/queries"), events.Scalars("1_eval/validation/miou")
    assert [image.step for image in shown] == [value.step for value in measured]
    first, last = (np.asarray(Image.open(io.BytesIO(shown[i].encoded_image_string))).astype(int) for i in (0, -1))
    assert first.shape == last.shape
    assert first.shape[1] == GAP + 5 * (128 + GAP), "support, query, truth, prediction, score"
    panels = np.stack([first, last])[:, :, : GAP + 3 * (128 + GAP)]
    assert (panels[0] == panels[1]).all(), "support, query and truth are the same every time"
    assert (first != last).any(), "predictions move"
