"""Proximal restarts: a run as a row of problems, each near the weights that it began with and with rows of classes chosen anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.learn.method import Extract
from kinshot.learn.model import Model, Output
from kinshot.learn.snapshot import Snapshot
from kinshot.learn.term import Term
from kinshot.objectives.proxies.reseeding import drawn_pool, farthest_rows
from kinshot.objectives.proxies.rows import ProxyRows

Watch = Callable[[Model, Extract], float]
"""What says how good the weights are: higher is better."""


class ProximalRestarts(nn.Module):
    """What a run remembers of its problems, and what each adds to the loss: penalty / 2 |weights - weights at its beginning|^2.

    Paper: Can, Gurbuz, Alatan 2019, arXiv 1907.07585 (alternating projections onto feasible sets), in the form of the successor of
        the same group, chance constraints: rows of classes are learned, and begun anew by greedy k-center from a pool of embeddings. There
        a problem of the first paper has one training sample of each class in their place, which is not here. The optimizer begins anew
        with each problem (ours), its rate follows the whole run's course (ours).

    The first problem has no penalty. A problem ends after `every` epochs, or after `patience` epochs in a row without a better value of
    `watch` than the best so far, of whatever problem; then the best weights are taken, else those that it ended with. Weights are all that
    the model learns, without rows of classes; what stands beside them, such as statistics of batch normalisation, goes back with them.

    Args:
        model: whose weights are meant.
        context: of the run.
        every: epochs of a problem; 0 leaves it to `patience`.
        patience: epochs without a better value; 0 leaves it to `every`.
        penalty: lambda, from 0.
        pool: samples of each class from which rows are chosen anew; 0 leaves rows as they are.
        watch: measures the weights, with `patience`.

    Raises:
        ConfigError: both or none of `every` and `patience`, or nothing that measures.
    """

    problem: Tensor
    waited: Tensor
    value: Tensor
    best_value: Tensor

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        every: int = 0,
        patience: int = 0,
        penalty: float = 2e-4,
        pool: int = 12,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        if (every > 0) == (patience > 0) or (patience and watch is None):
            raise ConfigError(f"restarts: expected either every or patience, and what measures with patience, got {every} and {patience}")
        self.context, self.every, self.patience, self.lam, self.pool, self.watch = context, every, patience, penalty, pool, watch
        self.start = Snapshot(_learned(model))
        self.best = Snapshot(_moving(model)) if patience else None
        self.register_buffer("problem", torch.tensor(0))
        self.register_buffer("waited", torch.tensor(0))
        self.register_buffer("value", torch.tensor(torch.nan))
        self.register_buffer("best_value", torch.tensor(-torch.inf))

    def penalty(self, model: Model) -> Tensor:
        """What it costs to leave the weights that the problem began with, a scalar."""
        away = [(weight - self.start.of(name)).square().sum() for name, weight in _learned(model).items()]
        return self.lam / 2 * self.problem.clamp(max=1) * torch.stack(away).sum()

    def start_epoch(self, epoch: int, model: Model, extract: Extract) -> bool:
        """Measure where that is due; end the problem and begin the next one, or not. Returns whether one begins."""
        if epoch == 0 or not self._ends(epoch, model, extract):
            return False
        self.start.take_(_learned(model))
        self.problem += 1
        return True

    @torch.no_grad()
    def reseed_(self, terms: Sequence[Term], model: Model, extract: Extract) -> None:
        """Choose rows of classes anew where terms have any that are learned."""
        for number, term in enumerate(terms):
            rows, labels = getattr(term.objective, "rows", None), term.kin.labels
            if not self.pool or not isinstance(rows, ProxyRows) or not isinstance(rows.weight, nn.Parameter) or labels is None:
                continue
            rng = keyed_numpy(self.context.seed, "restarts/pool", int(self.problem), number)
            drawn = drawn_pool(labels.cpu().numpy(), rows.classes, self.pool, rng)
            z = rows.weight.new_zeros((*drawn.shape, rows.weight.shape[1]))
            z[torch.from_numpy(drawn >= 0).to(z.device)] = extract(Output(model, term.place.on), drawn[drawn >= 0]).to(z)
            before = rows.weight.unflatten(0, (rows.classes, rows.per_class))
            there = torch.from_numpy(drawn >= 0).to(z.device)
            rows.weight.copy_(farthest_rows(z, there, before, points=rows.points).flatten(0, 1))

    def gauges(self) -> dict[str, float | Tensor]:
        """How many restarts there were, and what was measured last and at best."""
        found: dict[str, float | Tensor] = {"restarts": self.problem}
        return found if self.best is None else {**found, "map_at_r": self.value, "best_map_at_r": self.best_value}

    def _ends(self, epoch: int, model: Model, extract: Extract) -> bool:
        """Whether the problem ends with this epoch; the model then has the weights that the next one begins with."""
        if self.best is None or self.watch is None:
            return epoch % self.every == 0
        self.value.fill_(self.watch(model, extract))
        if self.value > self.best_value:
            self.best_value.copy_(self.value)
            self.best.take_(_moving(model))
            self.waited.zero_()
            return False
        self.waited += 1
        if self.waited < self.patience:
            return False
        self.waited.zero_()
        self.best.give_(_moving(model))
        return True


def _learned(model: Model) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _moving(model: Model) -> dict[str, Tensor]:
    """What training moves of a model: weights, and what is counted or averaged beside them."""
    return {**_learned(model), **dict(model.named_buffers())}
