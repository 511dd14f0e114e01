"""What a user is told when memory runs out or the system ends a process: no request for a bug report."""

from __future__ import annotations

import errno
import os

import click
import numpy as np
import pytest
import torch

from kinshot.cli.common import run
from kinshot.core.errors import resource_error, suggest


def too_much_of_numpy() -> None:
    np.ones(1 << 60, dtype=np.uint8)


def too_much_of_torch() -> None:
    torch.ones(1 << 60, dtype=torch.uint8)


def dead_loader() -> None:
    """In PyTorch's words, which arrive wherever the main process is."""
    raise RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. ")


def no_memory_to_fork() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def graphics_card_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("fails", [too_much_of_numpy, too_much_of_torch, dead_loader, no_memory_to_fork, graphics_card_full])
def test_resources_that_run_out_are_no_internal_error(fails, capsys):
    assert run(click.Command("x", callback=fails), []) == 3
    told = capsys.readouterr().err
    assert "internal error" not in told
    assert "train.workers" in told
    assert "--resume auto" in told


def test_other_errors_are_ours(capsys):
    def wrong() -> None:
        raise RuntimeError("shapes differ")

    assert resource_error(RuntimeError("shapes differ")) is None
    assert run(click.Command("x", callback=wrong), []) == 1
    assert "internal error: RuntimeError: shapes differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "choices", "said"),
    [
        ("alphabet", [], "there is none"),
        ("recal", ["recall", "nmi"], "did you mean 'recall'?"),
        ("x", ["b", "a"], "valid names: a, b"),
        ("x", [f"name{k:02}" for k in range(13)], "one of 13 names, the first are name00, name01"),
    ],
)
def test_a_wrong_name_is_told_the_right_ones(name: str, choices: list[str], said: str) -> None:
    assert suggest(name, choices).startswith(said)
