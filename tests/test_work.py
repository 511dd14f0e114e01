"""Studies say how far they are and how long they will take, and stay quiet where they are quick or told to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.progress import Work
from kinshot.fewshot.low_shot import low_shot_probe
from kinshot.studies import imprint_study, low_shot
from tests.tiny import run


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_says_now_and_then_what_is_left() -> None:
    clock, said = Clock(), []
    work = Work(200, said.append, "imprinting", clock=clock)
    for _ in range(20):
        clock.now += 4.0
        work.step(10)
    # every tenth second is over after 3, 6, 9, ... parts; the end needs no word
    assert said[0] == "imprinting: 15 % done, about 1m08s left"
    assert len(said) == 6
    assert said[-1] == "imprinting: 90 % done, about 8s left"


def test_quick_work_says_nothing() -> None:
    said: list[str] = []
    work = Work(3, said.append, "probes")
    for _ in range(3):
        work.step()
    assert said == []


def test_a_probe_counts_all_of_its_work() -> None:
    generator = torch.Generator().manual_seed(0)
    amounts: list[float] = []
    low_shot_probe(torch.randn(24, 3, generator=generator), np.repeat(np.arange(3), 8), shots=[1, 4], draws=2, seed=0, done=amounts.append)
    assert amounts == [2, 8]


def test_an_imprinting_study_counts_all_of_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    study = imprint_study.Study(None, [1, 2], ["random", "imprinted"], ["none", "network"], draws=3)  # type: ignore[arg-type]
    tuning = imprint_study.Tuning(10, 0.1)
    arms = 2 * 2 * 3 * (imprint_study._cost("none", tuning) + imprint_study._cost("network", tuning))
    assert imprint_study._work(study, [tuning], 2) == pytest.approx(arms)
    assert imprint_study._work(study, [tuning, tuning], 2) > arms  # choosing comes on top


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import TINY, result

    folder = tmp_path_factory.mktemp("work")
    result(run("ssl", "pretrain", TINY, "train.epochs=0", "monitor.tensorboard=false", "--out", "run", "--json", "-q", cwd=folder))
    return folder


def test_the_study_passes_its_speaker_on(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(low_shot, "Work", lambda total, say, what: Work(total, say, what, every=0.0))
    wanted = low_shot.Probe(None, None, [1, 2], 2, 0, [("prototype", "prototype", {})], ["backbone"])
    low_shot.low_shot([trained / "run"], wanted, "cpu", said.append)
    told = [line for line in said if "% done" in line]
    assert told[0].startswith("low-shot probes: 11 % done, about")  # 2 of 18: three models, 1 and 2 images, two draws
    assert len(told) == 5
