"""Rows gathered from two processes: relational losses and their gradients are those of one process with the whole batch."""

from __future__ import annotations

import multiprocessing
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from kinshot.learn.gather import gather_rows
from kinshot.objectives.distillation.rkd_angle import rkd_angle
from kinshot.objectives.distillation.rkd_distance import rkd_distance

PROCESSES, ROWS = 2, 5
SECONDS = 60


def batch():
    """Inputs and a teacher's embeddings for all processes' samples."""
    rng = np.random.default_rng(0)
    return tuple(torch.from_numpy(rng.normal(size=(PROCESSES * ROWS, width))) for width in (6, 4))


def weights():
    return torch.from_numpy(np.random.default_rng(1).normal(size=(3, 6))).requires_grad_()


def loss_of(student, teacher):
    return rkd_distance(student, teacher) + 2 * rkd_angle(student, teacher)


def one_process(rank: int, folder: str) -> None:
    """What each of the processes does: its share of the batch, all embeddings, the loss, the averaged gradient."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    place = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=PROCESSES, timeout=timedelta(seconds=SECONDS))
    inputs, teacher = (rows[rank * ROWS : (rank + 1) * ROWS] for rows in batch())
    shared = weights()
    gathered = gather_rows(inputs @ shared.T)
    value = loss_of(gathered, gather_rows(teacher))
    value.backward()
    dist.all_reduce(shared.grad)
    np.savez(f"{folder}/{rank}.npz", value=value.detach(), gradient=shared.grad / PROCESSES, rows=gathered.detach())
    dist.destroy_process_group()


def test_without_a_process_group_rows_stay_as_they_are():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert gather_rows(z) is z


def test_two_processes_are_as_good_as_one(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=one_process, args=(rank, str(tmp_path)), daemon=True) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(SECONDS)
        assert [process.exitcode for process in processes] == [0] * PROCESSES
    finally:
        for process in processes:
            process.kill()

    inputs, teacher = batch()
    alone = weights()
    student = inputs @ alone.T
    value = loss_of(student, teacher)
    value.backward()
    assert alone.grad is not None
    for rank in range(PROCESSES):
        with np.load(tmp_path / f"{rank}.npz", allow_pickle=False) as found:
            np.testing.assert_allclose(found["rows"], student.detach(), rtol=1e-12)
            np.testing.assert_allclose(found["value"], value.detach(), rtol=1e-9)
            np.testing.assert_allclose(found["gradient"], alone.grad, rtol=1e-6, atol=1e-9)
