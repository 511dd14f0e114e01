"""The peer of `sensors`: contrastive pretraining on windows as public code of TS-TCC goes about it, written anew.

A Dataset of tensors augments one window after the other with numpy as it hands it out (the public code does it once for a whole run, which
costs accuracy), scaling channel by channel as that code does; a DataLoader stacks them, and a plain PyTorch network learns from both views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import Clock

KNOTS = 6
Augment = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def scaling(x: np.ndarray, rng: np.random.Generator, mean: float, deviation: float) -> np.ndarray:
    """Every channel of a window (C, T) times a number of its own."""
    factors = rng.normal(mean, deviation, len(x))
    return np.concatenate([np.multiply(channel, factor)[np.newaxis] for channel, factor in zip(x, factors, strict=True)])


def jitter(x: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Noise on every value."""
    return x + rng.normal(0.0, deviation, x.shape)


def permutation(x: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    """Segments that change places, alike in all channels."""
    steps, count = np.arange(x.shape[1]), rng.integers(1, most)
    cuts = np.sort(rng.choice(x.shape[1] - 2, count - 1, replace=False))
    pieces = np.split(steps, cuts)
    return x[:, np.concatenate([pieces[i] for i in rng.permutation(count)])]


def rotation(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every three channels turned by one rotation."""
    axis, angle = rng.normal(size=3), rng.uniform(-math.pi, math.pi)
    a, b, c = axis / np.linalg.norm(axis)
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    matrix = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return np.concatenate([matrix @ x[first : first + 3] for first in range(0, len(x), 3)])


def curves(steps: int, count: int, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Smooth random curves around 1, (steps, count)."""
    return CubicSpline(np.linspace(0, steps - 1, KNOTS), rng.normal(1.0, deviation, (KNOTS, count)))(np.arange(steps))


def magnitude_warp(x: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Every channel times a smooth curve of its own."""
    return x * curves(x.shape[1], len(x), rng, deviation).T


def time_warp(x: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """All channels read along one smooth curve."""
    steps = x.shape[1]
    passed = np.cumsum(curves(steps, 1, rng, deviation)[:, 0])
    places = passed * (steps - 1) / passed[-1]
    return np.stack([np.interp(np.arange(steps), places, channel) for channel in x])


def weak_strong(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """TS-TCC's pair."""
    return scaling(x, rng, 2.0, 1.1), jitter(permutation(x, rng, 8), rng, 0.8)


def chain(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two views by a chain of what is usual for sensors, each of the costly ones of half the windows."""
    first, second = (_chained(x, rng) for _ in range(2))
    return first, second


def _chained(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        x = rotation(x, rng)
    if rng.random() < 0.5:
        x = time_warp(x, rng, 0.2)
    if rng.random() < 0.5:
        x = permutation(x, rng, 6)
    if rng.random() < 0.5:
        x = magnitude_warp(x, rng, 0.2)
    return jitter(scaling(x, rng, 1.0, 0.1), rng, 0.05)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Windows (N, C, T) that are augmented one by one."""

    def __init__(self, windows: np.ndarray, augment: Augment, seed: int) -> None:
        self.windows, self.augment, self.rng = torch.from_numpy(windows), augment, np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        first, second = self.augment(self.windows[index].numpy(), self.rng)
        return torch.from_numpy(first).float(), torch.from_numpy(second).float()


class Network(nn.Module):
    """Strided convolutions for each sensor, their means side by side, and a projector; of the other side's sizes.

    Args:
        sensors: channels of each.
        layers: of one encoder: output channels, taps and stride.
        projector: hidden and output units.
    """

    def __init__(self, sensors: Sequence[int], layers: Sequence[tuple[int, int, int]], projector: tuple[int, int]) -> None:
        super().__init__()
        self.sensors = list(sensors)
        self.encoders = nn.ModuleList(nn.Sequential(*_modules(channels, layers)) for channels in sensors)
        hidden, dim = projector
        self.projector = nn.Sequential(
            nn.Linear(layers[-1][0] * len(sensors), hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Windows (B, C, T) of all sensors to (B, dim)."""
        parts = x.split(self.sensors, dim=1)
        return self.projector(torch.cat([encode(part).mean(2) for encode, part in zip(self.encoders, parts, strict=True)], 1))


def _modules(inputs: int, layers: Sequence[tuple[int, int, int]]) -> Iterator[nn.Module]:
    for outputs, kernel, stride in layers:
        yield nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        yield nn.BatchNorm1d(outputs)
        yield nn.ReLU(inplace=True)
        inputs = outputs


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss, as most people write it."""
    z = F.normalize(torch.cat([first, second]))
    similar = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(similar, torch.arange(len(z)).roll(len(first)))


class PeerRun:
    """A training run that can be continued for some steps at a time.

    Args:
        data: windows that augment themselves.
        model: what learns.
        batch_size: windows in a step.
        temperature: of the loss.
        lr: learning rate of Adam.
    """

    def __init__(self, data: Windows, model: Network, batch_size: int, temperature: float, lr: float) -> None:
        self.loader: DataLoader[Any] = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)
        self.model, self.batch_size, self.temperature = model.train(), batch_size, temperature
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        self.endless = self._batches()

    def measure(self, steps: int, clock: Clock) -> float:
        """Windows per second over `steps` steps."""
        started = clock()
        for _ in range(steps):
            first, second = next(self.endless)
            loss = nt_xent(self.model(first), self.model(second), self.temperature)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
        return steps * self.batch_size / (clock() - started)

    def augmented(self, batches: int, clock: Clock) -> float:
        """Windows per second over `batches` batches that are only made."""
        started = clock()
        for _ in range(batches):
            next(self.endless)
        return batches * self.batch_size / (clock() - started)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader
