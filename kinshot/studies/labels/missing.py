"""`ssl missing`: what encoders of several modalities reach with every subset of them, by heads that do or do not expect that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.rng import keyed_seed
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.agreement import accuracy, macro_f1
from kinshot.core.statistics.means import RULE
from kinshot.fewshot.draws import pool_of
from kinshot.fewshot.linear_probe import Scaling, probe_predictions
from kinshot.fewshot.subset_dropout import subset_dropout
from kinshot.recipes.amounts import Amount
from kinshot.studies.intervals import SEEDS_ALONE
from kinshot.studies.labels.amounts import Drawn, drawn
from kinshot.studies.labels.arms import Arm, Cell, Member, differences, rows_of, verdicts
from kinshot.studies.labels.bench import Bench, Subject, bench_of
from kinshot.studies.labels.curve import ACCURACY, F1, POINTS
from kinshot.studies.labels.modalities import (
    Known,
    Masked,
    bundles_of,
    encoder_of_bundles,
    lengths_vary,
    of_encoder,
    of_lengths,
    of_statistics,
    scalings_of,
    subsets_of,
)
from kinshot.studies.labels.parts import Choices, Parts
from kinshot.studies.results import COVERS
from kinshot.studies.study import study_result

Say = Callable[[str], None]
HEADS = {
    "fused": "as fused",
    "concat": "masked concat",
    "mean": "masked mean",
    "mean_subsets": "masked mean, head on subsets",
    "concat_subsets": "masked concat, head on subsets",
    "own": "masked concat, a head for each subset",
}
"""Ways to do with some of the modalities, and what tables call them."""
INCOMPLETE = "mean of incomplete"
LENGTHS = "lengths alone"
_SAID = {
    "as fused": "the encoder's own feature of the modalities that are there (fusion concat: zeros for the others)",
    "masked concat": "standardised features of modalities side by side, zeros for those that are absent",
    "masked mean": "the mean of the standardised features of the modalities that are there",
    "a head for each subset": "what could be known with these modalities, were it known beforehand which there are",
    "head on subsets": "trained on {copies} copies of every labelled sample, each modality dropped with p = {dropout:g}, one being kept",
}


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Args:
        labels: how many samples have labels.
        choices: which data.
        heads: of HEADS.
        draws: draws of the labelled samples, where these are not all.
        seed: key of the draws, and of the subsets that heads are trained on.
        C: of the logistic regression.
        dropout: probability that a modality is dropped where heads are trained on subsets.
        copies: subsets of each labelled sample there.
        reference: measure the references, too.
    """

    labels: Amount
    choices: Choices = field(default_factory=Choices)
    heads: tuple[str, ...] = ("fused", "concat", "mean", "mean_subsets", "concat_subsets")
    draws: int = 5
    seed: int = 0
    C: float = 1.0
    dropout: float = 0.5
    copies: int = 4
    reference: bool = True

    def __post_init__(self) -> None:
        for head in self.heads:
            if head not in HEADS:
                raise ConfigError(f"--heads: there is no {head!r}: {suggest(head, HEADS)}")
        if min(self.draws, self.copies) < 1 or not self.C > 0 or not 0 <= self.dropout < 1:
            got = f"{self.draws}, {self.copies}, {self.C:g} and {self.dropout:g}"
            raise ConfigError(f"--draws and --copies must be at least 1, --c above 0, --subset-dropout from 0 to below 1, got {got}")


def missing_modalities(paths: Sequence[Path], wanted: Wanted, device: str, say: Say, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Measure runs with every non-empty subset of modalities; returns the result that `ssl missing --json` prints.

    Encoders are frozen. Every head is a logistic regression, on complete training samples or on random subsets of their modalities; a
    subset of test samples is those that have at least one of its modalities, without the others. Beside the runs stand the untrained
    encoder, statistics made by hand, and, where windows vary in length, their lengths alone, which must not tell the classes apart.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit.
    """
    where = resolve_device(device)
    bench = bench_of(paths, names or [""] * len(paths), wanted.choices, "backbone", say)
    for run in bench.runs:
        encoder_of_bundles(run.model, str(run.path))
    parts = bench.any
    modalities = {bundles_of(part.train).names for part in bench.parts.values()}
    if len(modalities) > 1:
        raise ConfigError("these runs take different modalities: study them one at a time")
    (labelled,) = drawn([wanted.labels], pool_of(parts.train_labels), parts.classes, wanted.draws, wanted.seed, say)
    study = _Study(bench, wanted, labelled, where, say)
    references = [*bench.untrained(), *bench.statistics()] if wanted.reference else []
    measured = {subject.label: study.measured(subject) for subject in [*bench.subjects(), *references]}
    arms = _arms(bench.subjects(), references, measured)
    if wanted.reference and (figures := study.lengths()):
        arms.append(Arm(LENGTHS, (Member(LENGTHS, None, figures),), reference=True, fixed=True))
    rows = rows_of(arms)
    met = {"": [bench.of(run).test for run in bench.runs]}
    result = study_result(bench.runs, parts.describe(), _protocol(wanted, labelled, study), rows, where, met)
    if len(labelled.rows) == 1:  # then only training was drawn more than once, if it was
        result["protocol"] |= {"interval": SEEDS_ALONE, COVERS: "other seeds of training, not other labelled samples"}
    last = [replace(arm, members=tuple(map(_main, arm.members))) for arm in arms]
    return {
        **result,
        "modalities": list(study.names),
        "subsets": {name: [m for m, kept in zip(study.names, subset, strict=True) if kept] for name, subset in study.subsets.items()},
        "left out": study.left_out,
        "references": [arm.label for arm in arms if arm.reference],
        "paired": [asdict(difference) for difference in differences(last, POINTS)],
        "verdicts": verdicts(arms, rows, F1),
    }


def _arms(runs: Sequence[Subject], references: Sequence[Subject], measured: Mapping[str, Mapping[str, list[Member]]]) -> list[Arm]:
    """A row for every subject and head; runs are compared with references by the same head, and with themselves by the first one."""
    found = []
    for subject in [*runs, *references]:
        heads = measured[subject.label]
        first = next(iter(heads))
        others = [other.label for other in references if subject.label in other.of]
        for head, members in heads.items():
            beside = [f"{label}, {head}" for label in others if head in measured[label]]
            beside += [f"{subject.label}, {first}"] if head != first and not subject.of else []
            found.append(Arm(f"{subject.label}, {head}", tuple(members), tuple(beside), bool(subject.of), subject.fixed))
    return found


def _main(member: Member) -> Member:
    """Its figures of all modalities and of the mean over the other subsets, which come last: those that are compared."""
    columns = list(dict.fromkeys(column for _, column in member.values))
    return Member(member.name, member.seed, {cell: values for cell, values in member.values.items() if cell[1] in columns[-2:]})


def _protocol(wanted: Wanted, labelled: Drawn, study: _Study) -> dict[str, Any]:
    copies = {"copies": wanted.copies, "dropout": wanted.dropout}
    chosen = [HEADS[head] for head in wanted.heads]
    return {
        "labelled samples": labelled.amount.text,
        "draws": len(labelled.rows),
        "seed": wanted.seed,
        **{name: said.format(**copies) for name, said in _SAID.items() if any(name in head for head in chosen)},
        "classifier": f"logistic regression, C {wanted.C:g}, not tuned, on complete samples but where said; copies weigh as one",
        "standardised over": "all samples to learn from, without their labels",
        "a subset is tested on": "samples that have one of its modalities at least"
        + "".join(f"; {count} without any of {name} left out" for name, count in study.left_out.items() if count),
        "interval": RULE.replace("episodes", "draws of the labelled samples"),
    }


class _Study:
    """Measures one model after another with the same labelled samples."""

    def __init__(self, bench: Bench, wanted: Wanted, labelled: Drawn, device: torch.device, say: Say) -> None:
        self.bench, self.wanted, self.labelled, self.device, self.say = bench, wanted, labelled, device, say
        self.names = bundles_of(bench.any.train).names
        self.subsets = subsets_of(self.names)
        self.left_out: dict[str, int] = {}

    def measured(self, subject: Subject) -> dict[str, list[Member]]:
        """The members of a subject's row for every head."""
        parts, found = self.bench.of(subject.run), dict[str, list[Member]]()
        for name, seed, model in subject.models:
            train, test = (
                of_statistics(source) if model is None else of_encoder(model, source, name, self.device)
                for source in (parts.train, parts.test)
            )
            for head in self.wanted.heads:
                if "mean" in head and len({values.shape[1] for values in train.features.values()}) > 1:
                    self.say(f"{name}: modalities have features of different widths, which have no mean: {HEADS[head]} left out")
                    continue
                values = self._of_head(head, train, test, parts)
                found.setdefault(HEADS[head], []).append(Member(f"{name}, {HEADS[head]}", seed, values))
            self.say(f"measured {name}")
        if not found:
            raise ConfigError(f"--heads: none of {', '.join(self.wanted.heads)} fits {subject.label}: choose fused or concat_subsets")
        return found

    def lengths(self) -> dict[Cell, np.ndarray]:
        """What nothing but the lengths of windows tells; empty where they do not vary."""
        parts = self.bench.any
        train, test = of_lengths(parts.train), of_lengths(parts.test)
        return self._of_head("own", train, test, parts) if lengths_vary(train) or lengths_vary(test) else {}

    def _of_head(self, head: str, train: Known, test: Known, parts: Parts) -> dict[Cell, np.ndarray]:
        """Figures (E,) of every subset and of their mean, by block and column."""
        asked = {name: parts.rows[(test.present[parts.rows] & subset).any(axis=1)] for name, subset in self.subsets.items()}
        asked = {name: rows for name, rows in asked.items() if len(rows)}
        self.left_out = {name: len(parts.rows) - len(asked.get(name, ())) for name in self.subsets}
        labels = dict(zip(parts.rows.tolist(), parts.labels.tolist(), strict=True))
        said = {"fused": self._fused, "own": self._own}.get(head, self._masked)(head, train, test, asked, parts.train_labels)
        found: dict[Cell, np.ndarray] = {}
        for block, measure in ((ACCURACY, accuracy), (F1, partial(macro_f1, classes=len(parts.classes)))):
            each = {name: 100 * measure(said[name], np.array([labels[row] for row in rows.tolist()])) for name, rows in asked.items()}
            found |= {(block, name): values for name, values in each.items()}
            incomplete = [values for name, values in each.items() if not self.subsets[name].all()]
            found[block, INCOMPLETE] = np.mean(incomplete, axis=0)
        return found

    def _fused(self, head: str, train: Known, test: Known, asked: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions (E, n) for every subset, of a head on complete samples as their encoder fuses them."""
        every = np.ones(len(self.names), dtype=bool)
        x = train.fused(np.arange(len(labels)), every)
        scaling = Scaling.of(x)
        queries = torch.cat([scaling(test.fused(rows, self.subsets[name])) for name, rows in asked.items()])
        return _split(probe_predictions(scaling(x), labels, self.labelled.rows, queries, self.wanted.C), asked)

    def _own(self, head: str, train: Known, test: Known, asked: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions (E, n) for every subset, of a head that was trained on it alone; what lacks all of it is zeros there."""
        learned, tested = (Masked.of(known, scalings_of(train), mean=False) for known in (train, test))
        found = {}
        for name, rows in asked.items():
            x = learned(np.arange(len(labels)), train.present & self.subsets[name])
            queries = tested(rows, test.present[rows] & self.subsets[name])
            found[name] = probe_predictions(x, labels, self.labelled.rows, queries, self.wanted.C)
        return found

    def _masked(self, head: str, train: Known, test: Known, asked: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions (E, n) for every subset, of a head on standardised features that masks are laid over."""
        scalings, mean = scalings_of(train), head.startswith("mean")
        learned, tested = (Masked.of(known, scalings, mean) for known in (train, test))
        queries = torch.cat([tested(rows, test.present[rows] & self.subsets[name]) for name, rows in asked.items()])
        if not head.endswith("subsets"):
            x = learned(np.arange(len(labels)), train.present)
            return _split(probe_predictions(x, labels, self.labelled.rows, queries, self.wanted.C), asked)
        copies, found = self.wanted.copies, []
        for number, drawn_rows in enumerate(self.labelled.rows):
            rows = np.tile(drawn_rows, copies)
            samples = np.arange(len(rows)) // len(drawn_rows) * len(labels) + rows
            seed = keyed_seed(self.wanted.seed, "head on subsets", number)
            there = subset_dropout(samples, len(self.names), self.wanted.dropout, seed, train.present[rows])
            x, all_rows = learned(rows, there), np.arange(len(rows))[None]
            found.append(probe_predictions(x, labels[rows], all_rows, queries, self.wanted.C / copies))
        return _split(np.concatenate(found), asked)


def _split(predicted: np.ndarray, asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Predictions (E, n) of every subset, of those of all, one after the other."""
    ends = np.cumsum([len(rows) for rows in asked.values()])[:-1]
    return dict(zip(asked, np.split(predicted, ends, axis=1), strict=True))
