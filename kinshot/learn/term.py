"""One term of a run's loss: an objective over the method's outputs and over who is kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.kin.kin import Kin, Pairs
from kinshot.learn.change import Change
from kinshot.learn.gather import gather_rows
from kinshot.learn.method import Extract
from kinshot.learn.model import Model, Output
from kinshot.learn.outputs import Outputs
from kinshot.learn.place import Place
from kinshot.learn.self_paced import SelfPaced
from kinshot.objectives.common import unit
from kinshot.objectives.module import ObjectiveModule
from kinshot.samples.batch import Batch, Shown


class Term(nn.Module):
    """An objective, the kinship that it is about, and its place.

    Args:
        place: label, output and weight.
        objective: called as what it takes says.
        kin: who is kin.
        takes: "relation", of (z, relation, refs), where it is a module of (z, relation, refs, y, step); "proxies", of (z, y, step); or
            "teacher", of (student, teacher, indices, step), where the kin `speaks` for it.
        change: what is done to the pairs before they are compared.
        paced: weights of samples, by what they cost so far; None = all weigh 1.
        share: factor of its value itself: what is recorded, and weighed, is the mean over several teachers.
    """

    def __init__(
        self,
        place: Place,
        objective: Callable[..., Tensor],
        kin: Kin,
        *,
        takes: str = "relation",
        change: Change | None = None,
        paced: SelfPaced | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        self.place, self.kin, self.takes, self.change, self.share = place, kin, takes, change, share
        self.objective, self.paced = objective, paced

    @property
    def needs_clean(self) -> bool:
        """Whether it looks at the clean samples."""
        return self.kin.needs_clean

    @property
    def names(self) -> tuple[str, ...]:
        """Outputs of the method that it looks at."""
        return () if self.kin.anchors == "clean" else (self.place.on,)

    def forward(self, number: int, model: Model, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        """The term's value, a scalar.

        Args:
            number: its own, under which the batch holds its partners.
            model: the method's.
            outputs: the method's of this batch.
            batch: the samples.
            step: of the whole run.
        """
        z, shown = self._anchors(model, outputs, batch)
        if self.takes == "teacher":
            return self.share * self._compared(z, shown, batch, step)
        partners = self._partners(model, batch, number)
        pairs = self.kin.pairs(z, partners, shown, batch, step)
        if pairs is None:
            return z.sum() * 0.0
        if self.paced is not None:
            pairs = self.paced(pairs, shown.samples, step)
        return self.share * self._related(pairs if self.change is None else self.change(pairs, step), step)

    def start_epoch(self, epoch: int, model: Model, extract: Extract) -> None:
        """Let the kin look at embeddings of all samples, where it asks for them."""
        if self.kin.renews(epoch):
            self.kin.renew(epoch, extract(Output(model, self.place.on)))

    def after_step(self) -> None:
        """Move what the objective and the augmenter remember."""
        if isinstance(self.objective, ObjectiveModule):
            self.objective.after_step()
        for part in (self.change, self.paced):
            if part is not None:
                part.after_step()

    def _related(self, pairs: Pairs, step: int) -> Tensor:
        if self.takes == "proxies":
            return self.objective(pairs.z, pairs.y, step)
        if isinstance(self.objective, ObjectiveModule):
            return self.objective(pairs.z, pairs.relation, pairs.refs, pairs.y, step)
        return self.objective(pairs.z, pairs.relation, pairs.refs)

    def _anchors(self, model: Model, outputs: Outputs, batch: Batch) -> tuple[Tensor, Shown]:
        on, which = self.place.on, self.kin.anchors
        if which == "clean" and batch.clean is not None:
            return model.outputs(batch.clean, [on])[on], Shown(batch.indices, (-1,), (batch.clean,))
        if which == "view" and len(outputs.shown.views) > 1:
            first = outputs.shown.views[:1]
            return outputs.blocks(on)[0], Shown(batch.indices, first, tuple(batch.views[view] for view in first))
        return outputs[on], outputs.shown

    def _partners(self, model: Model, batch: Batch, number: int) -> Tensor | None:
        if number not in batch.partners:
            return None
        x, on = batch.partners[number].samples, self.place.on
        # batch normalisation cannot take a batch of one
        return model.outputs(x.expand(2, *x.shape[1:]) if len(x) == 1 else x, [on])[on][: len(x)]

    def _compared(self, z: Tensor, shown: Shown, batch: Batch, step: int) -> Tensor:
        said = self.kin.word(shown, batch, step)
        ours, theirs = (unit(z) if self.place.unit == "both" else z), (said if self.place.unit == "none" else unit(said))
        return self.objective(gather_rows(ours), gather_rows(theirs), gather_rows(shown.samples), step)


def try_objective(term: Term, student: Tensor, teacher: Tensor, batch_size: int, whose: str) -> None:
    """Raise ConfigError, naming both outputs, where a term of a teacher does not take a batch of them; leaves no trace in its state.

    Args:
        term: of a student and its teacher.
        student: the student's output for two samples.
        teacher: the teacher's.
        batch_size: of the run.
        whose: the teacher's name.
    """
    state: dict[str, Any] = {name: value.clone() for name, value in term.state_dict().items()}
    rows = torch.arange(batch_size) % len(student)
    try:
        with torch.no_grad():
            term.objective(student[rows], teacher[rows], torch.arange(batch_size), 0)
        term.load_state_dict(state)
    except ConfigError as error:
        raise ConfigError(f"{term.place.label}, on {term.place.on}, against {whose}: {error}") from error
