"""InterCLR's bank as a module of anybody's loop, beside the iteration of the method; and everything that remembers in Lightning."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kinshot
from kinshot.core.errors import ConfigError, DataError, KinshotError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.queue import KeyQueue
from kinshot.ssl.interclr.bank import Bank, fill_bank_
from kinshot.ssl.interclr.step import iteration
from tests.loops_data import LABELS

SAMPLES, DIM, BATCH = 240, 12, 24


def embeddings(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = keyed_generator(0, "test", step)
    middle = torch.randn(6, DIM, generator=keyed_generator(0, "middles"))
    numbers = torch.randint(SAMPLES, (BATCH,), generator=generator)
    z = middle[numbers % 6] + 0.5 * torch.randn(BATCH, DIM, generator=generator)
    return z, z + 0.1 * torch.randn(BATCH, DIM, generator=generator), numbers


def whole_set() -> torch.Tensor:
    middle = torch.randn(6, DIM, generator=keyed_generator(0, "middles"))
    return middle[torch.arange(SAMPLES) % 6] + 0.5 * torch.randn(SAMPLES, DIM, generator=keyed_generator(0, "whole"))


def memory(**more: Any) -> kinshot.ClusterMemory:
    return kinshot.ClusterMemory(SAMPLES, DIM, **{"clusters": 6, "centroid_interval": 2, "seed": 5, **more})


def test_the_memory_is_interclrs_iteration() -> None:
    """Beside the step that the method InterCLR is tested against: the same loss, gradient and bank, step by step."""
    ours = memory()
    ours.fill(whole_set())
    bank = Bank.unfilled(SAMPLES, DIM, 6)
    fill_bank_(bank, whole_set(), keyed_generator(5, "interclr/kmeans", 0))
    queue = KeyQueue(BATCH, DIM)
    for step in range(6):
        z, keys, numbers = embeddings(step)
        first, second = z.clone().requires_grad_(), z.clone().requires_grad_()
        loss = ours(first, numbers, keys)
        loss.backward()
        # one generator draws the sample and another the repair, as in the method
        done = iteration(bank, queue, second, keys, numbers, keyed_generator(5, "interclr/sample", step), step=step, settings=ours.settings)
        done.inter.backward()
        assert torch.equal(loss, done.inter)
        assert torch.equal(first.grad, second.grad)
        from kinshot.ssl.interclr.step import advance_

        advance_(bank, numbers, keys, step, ours.settings, keyed_generator(5, "interclr/repair", step))
        ours.after_step()
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours.bank.buffers(), bank.buffers(), strict=True))
    assert int(ours.steps) == 6
    agree = [(ours.labels[torch.arange(SAMPLES) % 6 == kind].bincount(minlength=6).max() / 40).item() for kind in range(6)]
    assert sum(agree) / 6 > 0.8


def test_a_memory_goes_on_from_its_state_bit_for_bit(tmp_path: Path) -> None:
    whole = memory()
    whole.fill(whole_set())
    said: list[float] = []
    for step in range(8):
        z, keys, numbers = embeddings(step)
        said.append(float(whole(z, numbers, keys)))
        whole.after_step()
        if step == 3:
            torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed = memory()
    assert not resumed.filled
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.filled
    for step in range(4, 8):
        z, keys, numbers = embeddings(step)
        assert float(resumed(z, numbers, keys)) == said[step]
        resumed.after_step()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(resumed.buffers(), whole.buffers(), strict=True))


def test_a_memory_moves_after_the_step_alone_and_only_in_training() -> None:
    ours = memory()
    z, _, numbers = embeddings(0)
    with pytest.raises(KinshotError, match="ClusterMemory is empty: fill it"):
        ours(z, numbers)
    ours.fill(whole_set())
    before = copy.deepcopy(ours.state_dict())
    ours.eval()(z, numbers)
    assert ours.after_step() == {}
    ours.train()(z, numbers)
    ours(z.flip(0), numbers.flip(0))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    ours(torch.full_like(z, torch.nan), numbers)
    assert ours.after_step()
    assert int(ours.steps) == 1
    assert all(torch.isfinite(value).all() for value in ours.buffers())
    assert not torch.equal(ours.bank.features, before["bank.features"])
    assert ours.after_step() == {}


@pytest.mark.parametrize(
    ("more", "words"),
    [({"smapler": "hard"}, "did you mean 'sampler'"), ({"temperature": 0.0}, "above 0"), ({"clusters": 999}, "at most 240")],
)
def test_settings_of_a_memory_are_checked(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        memory(**more)


def test_what_fills_a_memory_is_checked() -> None:
    for features in (torch.zeros(3, DIM), torch.full((SAMPLES, DIM), torch.nan)):
        with pytest.raises(DataError, match=r"a finite embedding of each sample, \(240, 12\)"):
            memory().fill(features)


# -- Lightning


class Loop:
    """A Lightning module with everything that remembers; made where Lightning is there."""

    @staticmethod
    def made() -> Any:
        pl = pytest.importorskip("pytorch_lightning")

        class Remembering(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                with kinshot.keyed_initialisation(0, "loop"):
                    self.network = nn.Linear(64, DIM)
                    self.anchors = kinshot.objectives.proxy_anchor(DIM, 10)
                self.memory = kinshot.ClusterMemory(360, DIM, clusters=10, centroid_interval=3)
                self.losses: list[float] = []

            def on_fit_start(self) -> None:
                if not self.memory.filled:
                    rows = kinshot.sources.digits(split="train", size=8).load(range(360))
                    self.memory.fill(self.network(rows.flatten(1) / 255))

            def training_step(self, batch: Any, _: int) -> torch.Tensor:
                images, y, numbers = batch
                z = self.network(images.flatten(1) / 255)
                loss = self.memory(z, numbers) + kinshot.objectives.info_nce(z, kinshot.kin.labels(y)) + self.anchors(z, y)
                self.losses.append(float(loss.detach()))
                return loss

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.AdamW(self.parameters(), lr=1e-2)

            def optimizer_step(self, *args: Any, **more: Any) -> None:
                super().optimizer_step(*args, **more)
                self.memory.after_step()

        return pl, Remembering


def trained(folder: Path, steps: int, resume: str | None = None) -> Any:
    pl, module = Loop.made()
    source = kinshot.as_source(
        kinshot.sources.digits(split="train", size=8).load(range(360)), kinshot.sources.digits(split="train").labels[:360]
    )
    model = module()
    keep = pl.callbacks.ModelCheckpoint(folder, save_top_k=-1, every_n_train_steps=10)
    trainer = pl.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[keep], accelerator="cpu"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, DataLoader(kinshot.as_dataset(source, with_index=True), batch_size=36), ckpt_path=resume, weights_only=True)
    return model


def test_lightning_goes_on_bit_for_bit_with_everything_that_remembers(tmp_path: Path) -> None:
    """At the end of an epoch: within one, Lightning itself begins a plain loader anew."""
    whole = trained(tmp_path / "whole", 20)
    trained(tmp_path / "part", 10)
    (newest,) = (tmp_path / "part").glob("*step=10.ckpt")
    resumed = trained(tmp_path / "rest", 20, str(newest))
    assert resumed.losses == whole.losses[10:]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert int(resumed.memory.steps) == 20


def test_lightning_tells_a_sampler_the_epoch() -> None:
    pl, _ = Loop.made()
    sampler = kinshot.EpisodeSampler(LABELS, ways=2, shots=1, queries=1, episodes=3)
    seen: list[list[int]] = []

    class Watching(pl.LightningModule):
        def training_step(self, batch: torch.Tensor, _: int) -> None:
            seen.append(batch[0].tolist())

        def configure_optimizers(self) -> None:
            return None

    data = TensorDataset(torch.arange(len(LABELS)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(max_epochs=2, logger=False, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False)
        trainer.fit(Watching(), DataLoader(data, batch_sampler=sampler))
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert seen == expected
