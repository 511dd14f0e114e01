"""A method and the terms beside it: one loss, and everything that moves with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.encoders.paths import PathProjector
from kinshot.learn.balance import LearnedBalance
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.restarts import ProximalRestarts
from kinshot.learn.term import Term
from kinshot.samples.batch import Batch

_TEACHERS = "teachers"


class Learner(nn.Module):
    """What one run trains: `task * method's loss + sum of weight * term`, or with a `balance` the same with learned factors beside.

    Without terms it is the method alone, bit for bit. Teachers are no part of the state; a fingerprint of their weights is, so that a
    resumed run cannot meet another one.

    Args:
        method: whose networks are trained.
        terms: beside its own loss.
        context: of the run.
        task: weight of the method's own loss.
        task_label: what that loss is called in records, where there are terms.
        gauge_every: steps between two measurements of gradient norms, for terms that ask for it.
        teachers: fingerprints (hex) of the teachers, in the order in which the recipe names them.
        balance: "uncertainty" or "softmax" learns a factor for each loss that has a weight, see `kinshot.learn.balance`; None = 1.
        restarts: makes the run a row of problems, see `kinshot.learn.restarts`; None = it is one.
    """

    def __init__(
        self,
        method: Method,
        terms: Sequence[Term] = (),
        context: RunContext | None = None,
        *,
        task: float = 1.0,
        task_label: str = "task",
        gauge_every: int = 10,
        teachers: Sequence[str] = (),
        balance: Literal["uncertainty", "softmax"] | None = None,
        restarts: ProximalRestarts | None = None,
    ) -> None:
        super().__init__()
        self.method = method
        self.terms = nn.ModuleList(terms)
        self._terms = list(terms)
        self.context, self.task, self.task_label, self.gauge_every = context, task, task_label, gauge_every
        self._gauges: dict[str, float | Tensor] = {}
        self.balance = None if balance is None else LearnedBalance(self._weighed(), balance)
        self.restarts = restarts
        if teachers:
            self.register_buffer(_TEACHERS, _digest(teachers))
            self.register_load_state_dict_pre_hook(_check_teachers)

    @property
    def model(self) -> Model:
        """The networks."""
        return self.method.model

    @property
    def needs_clean(self) -> bool:
        """Whether the method or a term looks at the clean samples."""
        return self.method.needs_clean or any(term.needs_clean for term in self._terms)

    @property
    def asking(self) -> dict[int, Term]:
        """Terms that ask for partners, by number."""
        return {number: term for number, term in enumerate(self._terms) if term.kin.draws}

    def prepare(self, extract: Extract) -> None:
        """See `Method.prepare`."""
        self.method.prepare(extract)

    def start_epoch(self, epoch: int, extract: Extract) -> bool:
        """See `Method.start_epoch`. Returns whether a new problem begins here, with an optimizer that remembers nothing."""
        begins = self.restarts is not None and self.restarts.start_epoch(epoch, self.model, extract)
        self.method.start_epoch(epoch, extract)
        for term in self._terms:
            term.start_epoch(epoch, self.model, extract)
        if self.restarts is not None and begins:
            self.restarts.reseed_(self._terms, self.model, extract)
        return begins

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The scalar to minimize under "loss", and what is recorded beside it."""
        found = self._task(batch, step)
        if self.restarts is None:
            return found
        away = self.restarts.penalty(self.model)
        return {**found, "loss": found["loss"] + away, "proximal": away.detach()}

    def _task(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The same without restarts."""
        outputs = self.method.outputs(batch, tuple(dict.fromkeys(name for term in self._terms for name in term.names)))
        own = self.method.loss(outputs, batch, step)
        if not self._terms:
            return own
        values = [term(number, self.model, outputs, batch, step) for number, term in enumerate(self._terms)]
        self._measure(own["loss"], values, step)
        total, record = self.task * own["loss"], {self.task_label: own["loss"].detach()}
        for term, value in zip(self._terms, values, strict=True):
            total = total + term.place.weight * value
        if self.balance is not None:
            total, record = self._balanced(self.balance, own["loss"], values, record)
        for term, value in zip(self._terms, values, strict=True):
            label = term.place.label
            record[label] = record[label] + value.detach() if label in record else value.detach()
        return {"loss": total, **record, **{name: value for name, value in own.items() if name != "loss"}}

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move everything that remembers on; gauges of the method, and quotients of gradient norms when they were measured."""
        gauges = self.method.after_step(step)
        for term in self._terms:
            term.after_step()
        gauges, self._gauges = {**gauges, **self._gauges}, {}
        if self.restarts is not None:
            gauges |= self.restarts.gauges()
        if self.balance is not None and getattr(self.model.projector, "weights", None) is not None:
            self._weigh_paths(self.balance, self.model.projector)  # type: ignore[arg-type]
        return gauges

    @torch.no_grad()
    def _weigh_paths(self, balance: LearnedBalance, paths: PathProjector) -> None:
        """Write what the losses on each path are multiplied by, together, where the model's features find it; 0 where there is none."""
        learned = balance.weights()[int(self._counts_itself) :]
        places = [term.place.on for term in self._terms if term.place.weight > 0]
        for number, name in enumerate(paths.names):
            paths.weights[number] = learned[[place == name for place in places]].sum()  # type: ignore[index]

    @property
    def _counts_itself(self) -> bool:
        """Whether the method has a loss of its own that counts."""
        return self.task > 0 and not self.method.by_terms

    def _weighed(self) -> list[str]:
        """What the losses are called that have a weight."""
        own = [self.task_label] if self._counts_itself else []
        return own + [term.place.label for term in self._terms if term.place.weight > 0]

    def _balanced(
        self, balance: LearnedBalance, own: Tensor, values: Sequence[Tensor], record: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total with learned factors, and the factors beside what is recorded."""
        terms = [term.place.weight * value for term, value in zip(self._terms, values, strict=True) if term.place.weight > 0]
        total, factors = balance([self.task * own, *terms] if self._counts_itself else terms)
        # a method without a loss of its own has a gradient of 0 for all that terms do not look at
        return total if self._counts_itself else total + self.task * own, {**record, **factors}

    def _measure(self, own: Tensor, values: Sequence[Tensor], step: int) -> None:
        """Keep |gradient of a term| / |gradient of the method's loss| over the encoder's weights, where it is due."""
        self._gauges = {}
        measured = [(term, value) for term, value in zip(self._terms, values, strict=True) if term.place.gradients and value.requires_grad]
        last = self.context is not None and step + 1 == self.context.total_steps
        if not measured or not self.gauge_every or not ((step + 1) % self.gauge_every == 0 or last) or not own.requires_grad:
            return
        shared = [p for p in self.model.encoder.parameters() if p.requires_grad]
        norms = [_norm(value, shared) for _, value in measured]
        below = _norm(own, shared)
        for (term, _), norm in zip(measured, norms, strict=True):
            name = "gradient_ratio" if len(measured) == 1 else f"gradient_ratio_{term.place.label}"
            self._gauges[name] = norm / below


def _norm(value: Tensor, shared: Sequence[Tensor]) -> Tensor:
    found = torch.autograd.grad(value, shared, retain_graph=True, allow_unused=True)
    return torch.nn.utils.get_total_norm([g for g in found if g is not None])


def _digest(fingerprints: Sequence[str]) -> Tensor:
    return torch.tensor(list(hashlib.sha256("".join(fingerprints).encode()).digest()), dtype=torch.uint8)


def _check_teachers(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Runs before a state is loaded. Raises RuntimeError where it belongs to a run with other teachers."""
    recorded = state.get(prefix + _TEACHERS)
    own = module.get_buffer(_TEACHERS)
    if recorded is not None and not torch.equal(recorded.cpu(), own.cpu()):
        raise RuntimeError("the teachers have other weights than those that the run began with")
