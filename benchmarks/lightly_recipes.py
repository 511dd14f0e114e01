"""The peer: SimCLR and MoCo as a user of lightly writes them after its plain-PyTorch examples.

Its public classes, its settings (SGD 0.06, heads 512 and 128, memory bank 4096, no blur on tiny images), float32, one PIL image
at a time in the training process. Backbones are written as most people write them. Nothing is held back on purpose: what
makes a step slow here is what the example does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform, SimCLRTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kinshot.datasets.base import Source
from kinshot.samples.statistics import pixel_statistics

HIDDEN, OUT = 512, 128
LEARNING_RATE = 0.06
BANK = 4096
EPOCHS = 10


class PilImages(Dataset[tuple[list[Tensor], int]]):
    """Images held as arrays and handed to the transform as PIL images, like torchvision's CIFAR10."""

    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def pil_arrays(source: Source) -> np.ndarray:
    """Every image as PIL takes it: (N, H, W) gray or (N, H, W, 3)."""
    images = source.load(torch.arange(len(source))).permute(0, 2, 3, 1).contiguous().numpy()
    return images[..., 0] if images.shape[-1] == 1 else images


def make_transform(method: str, source: Source) -> Any:
    """lightly's transform for a method, without blur, normalised like the other side."""
    mean, std = pixel_statistics(source)
    kind = {"simclr": SimCLRTransform, "moco": MoCoV2Transform}[method]
    return kind(input_size=source.shape[1], gaussian_blur=0.0, normalize={"mean": list(mean), "std": list(std)})


def plain_conv4(channels: int, width: int = 64) -> nn.Module:
    """Conv-4 with the ceil-mode pooling of the other side, from torch's modules."""
    layers: list[nn.Module] = []
    for inputs in (channels, width, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
    return nn.Sequential(*layers)


def small_resnet18() -> nn.Module:
    """torchvision's ResNet-18 for images of 32 pixels: 3x3 stride-1 stem, no max-pooling, no classifier."""
    resnet = torchvision.models.resnet18()
    resnet.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    resnet.maxpool = nn.Identity()  # type: ignore[assignment]
    return nn.Sequential(*list(resnet.children())[:-1])


class SimCLR(nn.Module):
    """Backbone and head."""

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimCLRProjectionHead(dim, HIDDEN, OUT)
        self.criterion = NTXentLoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def loss(self, first: Tensor, second: Tensor, epoch: int) -> Tensor:
        """One pass for each view."""
        return self.criterion(self(first), self(second))


class MoCo(nn.Module):
    """Backbone and head, with momentum copies."""

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone, self.projection_head = backbone, MoCoProjectionHead(dim, HIDDEN, OUT)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NTXentLoss(memory_bank_size=(BANK, OUT))

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x: Tensor) -> Tensor:
        """The key's pass."""
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()

    def loss(self, first: Tensor, second: Tensor, epoch: int) -> Tensor:
        """Momentum update, then one pass for each view."""
        momentum = cosine_schedule(epoch, EPOCHS, 0.996, 1)
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
        return self.criterion(self(first), self.forward_momentum(second))


class LightlyRun:
    """A training run that can be continued for some steps at a time.

    Args:
        method: "simclr" or "moco".
        encoder: "conv4" or "resnet18".
        source: the images.
        batch_size: images in a step.
        workers: loader processes.
    """

    def __init__(self, method: str, encoder: str, source: Source, batch_size: int, workers: int = 0) -> None:
        backbone = plain_conv4(source.shape[0]) if encoder == "conv4" else small_resnet18()
        with torch.no_grad():
            dim = backbone.eval()(torch.zeros(1, *source.shape)).numel()
        self.model: SimCLR | MoCo = (SimCLR if method == "simclr" else MoCo)(backbone, dim)
        self.model.train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        data = PilImages(pil_arrays(source), make_transform(method, source))
        self.loader: DataLoader[Any] = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=workers)
        self.batch_size, self.workers = batch_size, workers
        self.total_loss = torch.zeros(())
        self.endless = self._batches()

    def measure(self, steps: int, clock: Callable[[], float]) -> float:
        """Images per second over `steps` steps.

        Loader processes live only during the call: left alone they would fill their queue in the other side's time. The first
        step, which waits for them to start, is not counted.
        """
        if self.workers:
            self.endless = self._batches()
            self._train(1)
        started = clock()
        self._train(steps)
        seconds = clock() - started
        if self.workers:
            self.endless.close()
        return steps * self.batch_size / seconds

    def _train(self, steps: int) -> None:
        for _ in range(steps):
            epoch, ((first, second), _) = next(self.endless)
            loss = self.model.loss(first, second, epoch)
            self.total_loss += loss.detach()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _batches(self) -> Generator[Any, None, None]:
        for epoch in range(10**9):
            for batch in self.loader:
                yield min(epoch, EPOCHS), batch
