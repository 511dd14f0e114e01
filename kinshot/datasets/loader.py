"""Batches in a keyed order: the same for any number of worker processes, and from any step on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from kinshot.core.errors import ConfigError, KinshotError, resource_error
from kinshot.core.rng import keyed_generator
from kinshot.core.signals import FOR_THE_PARENT
from kinshot.datasets.base import Source
from kinshot.datasets.orders.shuffled import shuffled

Batch = tuple[Any, torch.Tensor]
"""(samples (B, ...), a tensor, or one by field for a source of several; int64 indices (B,))."""
Companions = Callable[[torch.Tensor, int], torch.Tensor]
"""(int64 indices (B,) of a batch, step of the whole run) -> int64 (P,) further samples that belong with it. Picklable."""
Order = Callable[[int], torch.Tensor]
"""epoch -> int64 (steps, B): the samples of every batch of that epoch; a pure function of the epoch, picklable. See `ORDERS`."""


def batches(
    source: Source,
    batch_size: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    workers: int = 0,
    companions: Companions | None = None,
    order: Order | None = None,
) -> Iterator[Batch]:
    """One epoch of shuffled batches: (samples (B, ...), int64 indices (B,)), companions behind the batch that called for them.

    Samples are a tensor, or for a source of several fields one by field.

    The order is a permutation drawn from (seed, epoch) alone, without replacement, where no `order` is given; the last partial
    batch is dropped. A run resumed at `start_step` gets exactly the batches that it has not seen.

    Args:
        source: where the images are.
        batch_size: images per batch, at most `len(source)`.
        seed: the run's seed.
        epoch: which epoch's order.
        start_step: first batch to give.
        workers: processes that decode ahead; 0 loads in this process. The batches are the same.
        companions: what to load beside each batch, for example graph neighbors; a pure function, called where the batch is loaded.
        order: which samples make up each batch of an epoch, for example episodes; then `batch_size` only numbers the steps.

    Raises:
        ConfigError: at once, when the sizes do not fit.
        DataError: while iterating, when an image cannot be read, also in a worker process.
    """
    _check(source, batch_size, workers)
    if batch_size > len(source):
        raise ConfigError(f"batch size {batch_size} is larger than {source.name}, which holds {len(source)} images: lower it")
    if start_step < 0:
        raise ConfigError(f"start_step must be at least 0, got {start_step}")
    steps = len(source) // batch_size
    chunks = (order or shuffled(np.empty(len(source)), batch_size, steps, seed))(epoch)
    return _stream(_Chunks(source, list(chunks)[start_step:], companions, epoch * steps + start_step), workers)


def in_order(source: Source, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Every sample once, in order, the last batch possibly smaller: (samples (B, ...), int64 indices (B,)), as `batches` gives them.

    For extracting features. Raises ConfigError on a batch size below 1, DataError when an image cannot be read.
    """
    _check(source, batch_size, workers)
    chunks = list(torch.arange(len(source)).split(batch_size)) if len(source) else []
    return _stream(_Chunks(source, chunks), workers)


def _check(source: Source, batch_size: int, workers: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch size must be at least 1, got {batch_size}")
    if workers < 0:
        raise ConfigError(f"workers must be at least 0, got {workers}")


def _stream(chunks: _Chunks, workers: int) -> Iterator[Batch]:
    if workers == 0 or not len(chunks):
        yield from map(chunks.load, range(len(chunks)))
        return
    loader: DataLoader[Batch | KinshotError] = DataLoader(
        chunks,
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        collate_fn=_as_is,
        worker_init_fn=_ignore_interrupt,
        # torch seeds its workers from a draw; this one leaves the global generator as it was
        generator=keyed_generator(0, "workers"),
    )
    results = iter(loader)
    while True:
        try:
            result = next(results)
        except StopIteration:
            return
        except RuntimeError as error:
            if (short := resource_error(error)) is not None:
                raise short from error
            raise
        if isinstance(result, KinshotError):
            raise result
        yield result


class _Chunks(Dataset[Batch | KinshotError]):
    """Whole batches by step. An error comes back as a value, so that the parent raises it with its own words."""

    def __init__(self, source: Source, chunks: Sequence[torch.Tensor], companions: Companions | None = None, first_step: int = 0) -> None:
        self.source, self.chunks = source, chunks
        self.companions, self.first_step = companions, first_step

    def __len__(self) -> int:
        return len(self.chunks)

    def load(self, step: int) -> Batch:
        # A copy: what goes to the main process is moved to shared memory by another thread, and with it the memory that all chunks of an
        # epoch share would move away under the batch that is loading meanwhile.
        indices = self.chunks[step].clone()
        if self.companions is not None:
            indices = torch.cat([indices, self.companions(indices, self.first_step + step)])
        several = tuple(self.source.fields) if len(self.source.fields) > 1 else None
        return self.source.load(indices, several), indices

    def __getitem__(self, step: int) -> Batch | KinshotError:
        try:
            return self.load(step)
        except KinshotError as error:
            return error


def _as_is(result: Any) -> Any:
    return result


def _ignore_interrupt(worker: int) -> None:
    # Ctrl-C and the end of a terminal reach the whole process group; the parent alone decides when to stop.
    for signum in FOR_THE_PARENT:
        signal.signal(signum, signal.SIG_IGN)
