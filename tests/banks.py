"""A small random bank and its numpy copy, for the tests of InterCLR."""

from __future__ import annotations

import torch

from kinshot.ssl.interclr.bank import Bank


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def make_bank(n=60, d=5, k=4, seed=0, sizes=None):
    labels = torch.randint(0, k, (n,), generator=generator(seed + 1))
    if sizes is not None:
        n, k = sum(sizes), len(sizes)
        labels = torch.repeat_interleave(torch.arange(k), torch.tensor(sizes))[torch.randperm(n, generator=generator(seed))]
    return Bank(rows(n, d, seed=seed), labels, k)


def arrays(bank):
    return bank.features.numpy().copy(), bank.labels.numpy().copy(), bank.centroids.numpy().copy()


def consistent(bank):
    return torch.equal(bank.counts, torch.bincount(bank.labels, minlength=len(bank.counts)))
