"""`ssl nodes`: how well encoders tell a graph's nodes apart, on its published lists of labelled nodes, beside what needs no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.agreement import accuracy, macro_f1
from kinshot.core.statistics.areas import macro_auc
from kinshot.core.statistics.means import RULE
from kinshot.datasets.hetero_graph import NodeSource
from kinshot.datasets.hetero_graph_file import Lists
from kinshot.datasets.path_sim import neighbor_means
from kinshot.fewshot.draws import pool_of
from kinshot.fewshot.linear_probe import label_draws
from kinshot.fewshot.logistic_regression import fit_logistic
from kinshot.kin.clusters import as_many_clusters
from kinshot.recipes.recipe import Choice
from kinshot.samples.nodes import NodeSpec
from kinshot.studies.answers import build_source, features_of
from kinshot.studies.labels.arms import Arm, Cell, Member, differences, rows_of
from kinshot.studies.references import references
from kinshot.studies.seed_groups import seed_groups
from kinshot.studies.study import Trained, check_run_features, load_runs, study_result

Say = Callable[[str], None]
PENALTIES = tuple(10.0 ** (power / 2) for power in range(-2, 7))
"""Inverse penalties of the logistic regression, of which each list's validation nodes choose one."""
MACRO, MICRO, AUC, CHOSEN = "macro-F1, %", "micro-F1, %", "AUC, %", "macro-F1 on validation nodes, %"
CLUSTERS = "clusters, %"
POINTS = {MACRO: "macro-F1, points", MICRO: "micro-F1, points", AUC: "AUC, points", CLUSTERS: "clusters, points"}
MEAN_OF_PATHS = "mean of meta-paths"


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Args:
        data: the graph; none takes the first run's.
        feature: backbone, projector or joint.
        draws: how often labelled nodes are drawn anew beside the published list.
        clusterings: starts of k-means.
        seed: key of draws and starts.
        reference: measure what needs no training, too.
    """

    data: Choice | None = None
    feature: str = "backbone"
    draws: int = 5
    clusterings: int = 3
    seed: int = 0
    reference: bool = True

    def __post_init__(self) -> None:
        if self.draws < 0 or self.clusterings < 1:
            raise ConfigError(f"--draws must be at least 0 and --clusterings at least 1, got {self.draws} and {self.clusterings}")


def node_study(paths: Sequence[Path], wanted: Wanted, device: str, say: Say, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Measure runs; returns the result that `ssl nodes --json` prints.

    On unit rows of frozen features a logistic regression is fitted to each of the graph's lists of labelled nodes, and to as many nodes
    drawn anew, outside of its validation and test nodes; validation nodes choose the penalty by macro-F1, test nodes are looked at once.
    k-means of all nodes has as many clusters as there are classes.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for runs and data that do not fit.
    """
    where = resolve_device(device)
    runs = load_runs(paths)
    called = [name or ("pretrained" if len(runs) == 1 else "") for name in (names if len(names) == len(runs) else [""] * len(runs))]
    check_run_features([wanted.feature], runs)
    source = _graph(runs, wanted.data)
    groups = seed_groups(runs, called)
    study = _Study(source, wanted, where, say)
    arms = [Arm(group.label, tuple(study.member(group.label, run) for run in group.runs)) for group in groups]
    beside = study.references(runs) if wanted.reference else []
    arms = [replace(arm, beside=tuple(one.label for one in beside)) for arm in arms]
    every = [*arms, *beside]
    others = [(one, two) for number, two in enumerate(arms) for one in arms[number + 1 :]]
    compared = [*every, *(replace(two, label=two.label, beside=(one.label,)) for one, two in others)]
    found = study_result(runs, _data(source), _protocol(wanted, source), rows_of(every), where, {"": [source] * len(runs)})
    return {**found, "figures": study.figures, "paired": [asdict(one) for one in _differences(compared, every)]}


def _differences(compared: Sequence[Arm], every: Sequence[Arm]) -> list[Any]:
    """Every run minus each reference, and every two kinds of runs."""
    found = differences(every, POINTS)
    for arm in compared[len(every) :]:
        other = next(one for one in every if one.label == arm.beside[0])
        found += differences([arm, replace(other, beside=())], POINTS)
    return found


class _Study:
    """Measures one row after another on the same nodes."""

    def __init__(self, source: NodeSource, wanted: Wanted, device: torch.device, say: Say) -> None:
        self.source, self.wanted, self.device, self.say = source, wanted, device, say
        self.labels = np.asarray(source.labels, dtype=np.int64)
        self.classes = len(source.class_names)
        self.drawn = {count: self._drawn(count, lists) for count, lists in source.lists.items()}
        self.figures: list[dict[str, Any]] = []

    def member(self, label: str, run: Trained) -> Member:
        """One run of a row."""
        features = features_of(run.model, self.source, self.device)[self.wanted.feature]
        return self._measured(label, run.recipe.seed, features, float(run.checkpoint.state.get("cpu_seconds", 0.0)))

    def references(self, runs: Sequence[Trained]) -> list[Arm]:
        """Untrained encoders, one for each seed, the nodes' own features, and their mean over neighbours by meta-paths."""
        first = {run.recipe.seed: run for run in reversed(runs)}
        before: dict[str, list[Member]] = {}
        for one in [*references(runs), *(other for seed in sorted(first) for other in references([first[seed]]))]:
            known = [member.seed for member in before.get(one.label, [])]
            if one.model is not None and one.run.recipe.seed not in known:
                features = features_of(one.model, self.source, self.device)[self.wanted.feature]
                before.setdefault(one.label, []).append(self._measured(one.label, one.run.recipe.seed, features))
        found = [Arm(label, tuple(members), reference=True) for label, members in before.items()]
        raw = features_of(None, self.source, self.device)[NodeSpec.raw_feature]
        found.append(Arm(NodeSpec.raw_label, (self._measured(NodeSpec.raw_label, None, raw),), reference=True, fixed=True))
        mean = sum(F.normalize(torch.from_numpy(neighbor_means(path, raw.double().numpy())), dim=1) for path in self.source.paths.paths)
        found.append(Arm(MEAN_OF_PATHS, (self._measured(MEAN_OF_PATHS, None, torch.as_tensor(mean)),), reference=True, fixed=True))
        return found

    def _measured(self, label: str, seed: int | None, features: Tensor, cpu_seconds: float = 0.0) -> Member:
        name = label if seed is None else f"{label}, seed {seed}"
        rows = F.normalize(features.double(), dim=1)
        cells: dict[Cell, np.ndarray] = {}
        for count, lists in self.source.lists.items():
            figures = self._classified(rows, lists, self.drawn[count])
            for block, values in figures.items():
                cells[block, f"{count} per class, published"] = values[:1]
                if len(values) > 1:
                    cells[block, f"{count} per class, drawn"] = values[1:]
        means = self._clustered(rows)
        cells |= {(CLUSTERS, metric): np.array([value]) for metric, value in means.items()}
        for count in self.source.lists:
            own = {
                block.removesuffix(", %"): float(cells[block, f"{count} per class, published"][0]) for block in (MACRO, MICRO, AUC, CHOSEN)
            }
            self.figures.append({"arm": label, "seed": seed, "K": count, **own, **means, "cpu_seconds": round(cpu_seconds, 1)})
        self.say(f"measured {name}")
        return Member(name, seed, cells)

    def _classified(self, rows: Tensor, lists: Lists, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """Figures (1 + draws,) of the published list, then of drawn ones."""
        train = torch.from_numpy(drawn)
        x, hot = rows[train], F.one_hot(torch.from_numpy(self.labels)[train], self.classes).double()
        best = np.full(len(drawn), -1.0)
        scores = np.zeros((len(drawn), len(lists.test), self.classes))
        for penalty in PENALTIES:
            weight, bias = fit_logistic(x, hot, penalty, max_iter=3000)
            val, test = (
                (rows[torch.from_numpy(nodes)] @ weight + bias.unsqueeze(1)).softmax(2).numpy() for nodes in (lists.val, lists.test)
            )
            found = macro_f1(val.argmax(2), self.labels[lists.val], self.classes)
            better = found > best
            best[better], scores[better] = found[better], test[better]
        said, truth = scores.argmax(2), self.labels[lists.test]
        values = {
            MACRO: macro_f1(said, truth, self.classes),
            MICRO: accuracy(said, truth),
            AUC: np.array([macro_auc(one, truth) for one in scores]),
            CHOSEN: best,
        }
        return {block: 100 * found for block, found in values.items()}

    def _clustered(self, rows: Tensor) -> dict[str, float]:
        """Agreement of clusters with classes, the mean over starts."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        own, given = self.labels, rows.float().numpy()
        starts = [as_many_clusters(given, own, self.wanted.seed + number) for number in range(self.wanted.clusterings)]
        metrics = {"NMI": normalized_mutual_info_score, "ARI": adjusted_rand_score}
        return {name: 100 * float(np.mean([metric(own, found) for found in starts])) for name, metric in metrics.items()}

    def _drawn(self, count: int, lists: Lists) -> np.ndarray:
        """The published nodes to learn from, and as many of each class drawn anew outside of validation and test nodes: (1 + draws, n)."""
        published = lists.train[None]
        if self.wanted.draws == 0:
            return published
        free = np.setdiff1d(np.arange(len(self.labels)), np.concatenate([lists.val, lists.test]))
        per_class = np.bincount(self.labels[lists.train], minlength=self.classes)
        pool = pool_of(self.labels[free])
        found = free[label_draws(pool, per_class[pool.classes], self.wanted.draws, self.wanted.seed)]
        return np.concatenate([published, found])


def _graph(runs: Sequence[Trained], data: Choice | None) -> NodeSource:
    """The graph that all runs know, with labels and lists."""
    for run in runs:
        if not isinstance(run.input, NodeSpec):
            raise ConfigError(
                f"{run.path} was made for {run.input.describe()}: ssl nodes measures encoders of a graph's nodes, see recipe meow"
            )
    source = build_source(data or runs[0].recipe.data, runs[0].input)
    for run in runs[1:]:
        run.input.check_source(source)
    if not isinstance(source, NodeSource):
        raise ConfigError(f"--data: {source.name} is no graph in a file: take hetero_graph:FILE")
    if source.labels is None:
        raise DataError(f"{source.name} has no labels, and classes are needed: add the array labels to its file")
    if not source.lists:
        raise DataError(f"{source.name} has no lists of labelled nodes: add train_K, val_K and test_K to its file, for example with K = 20")
    for count, lists in source.lists.items():
        lacking = set(range(len(source.class_names))) - set(source.labels[lists.train].tolist())
        if lacking:
            raise DataError(f"{source.name}: train_{count} has no node of class {source.class_names[min(lacking)]}: add some to its file")
    return source


def _data(source: NodeSource) -> dict[str, Any]:
    return {"graph": source.name, "nodes": source.spec.describe(), "classes": len(source.class_names)}


def _protocol(wanted: Wanted, source: NodeSource) -> dict[str, Any]:
    counts = ", ".join(map(str, source.lists))
    return {
        "labelled nodes": f"the published lists of {counts}, and {wanted.draws} draws outside of each list's validation and test nodes",
        "seed": wanted.seed,
        "feature": f"{wanted.feature}, rows of unit length",
        "classifier": f"logistic regression, C from {PENALTIES[0]:g} to {PENALTIES[-1]:g} by macro-F1 on the validation nodes",
        "clusters": f"k-means, the mean of {wanted.clusterings} starts",
        "interval": RULE.replace("episodes", "draws of the labelled nodes"),
    }
