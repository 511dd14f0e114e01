"""`fewshot eval`: checkpoints on episodes of unseen classes, beside the references that they must beat.

Features of the whole split are computed once per model and cached by content; every model and head sees the same episodes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from kinshot.core.runtime import resolve_device
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.runs.reached import reached_text
from kinshot.studies.answers import Protocol, Say, measure
from kinshot.studies.choosing import Candidates, choose, chosen_text
from kinshot.studies.fields import Fields, shared_data
from kinshot.studies.gains import gains, next_step
from kinshot.studies.intervals import Intervals, covered, intervals_over, roughness
from kinshot.studies.lineage import Lineage
from kinshot.studies.pooling import Between, Pool, compared, differences, pooled
from kinshot.studies.provenance import commands_behind, versions
from kinshot.studies.references import references
from kinshot.studies.results import CHOSEN, COVERS, ROUGH, SEEN
from kinshot.studies.seed_groups import SeedGroup, pools_of, seed_groups
from kinshot.studies.seen import seen_fields
from kinshot.studies.study import Trained, check_run_features, seeds_of, shared_features
from kinshot.studies.summaries import Difference, Line, Measured, beats, head_differences, summarized


def evaluate(runs: Sequence[Trained], protocol: Protocol, device: str, say: Say, candidates: Candidates | None = None) -> dict[str, Any]:
    """Measure checkpoints; returns the result that `fewshot eval --json` prints.

    Every checkpoint meets the same episodes, rendered as its encoder was made for them. With candidates, heads' settings and features
    are chosen on validation episodes first, and nothing else is measured.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    where = resolve_device(device)
    protocol = replace(protocol, features=protocol.features or shared_features(runs))
    check_run_features(protocol.features, runs)
    checkpoints = [run.checkpoint for run in runs]
    fields = Fields(protocol.data or shared_data(runs), [run.input for run in runs], protocol.drawing)
    for line in fields.said():
        say(line)
    chosen = None if candidates is None else choose(runs, protocol, candidates, fields, where, say)
    protocol = protocol if chosen is None else chosen.protocol
    intervals = intervals_over(protocol.interval, fields.tasks)
    measured = [m for run in runs for m in _measured(run.label, run.model, run, fields, protocol, where, say)]
    found = _summary(measured, runs, protocol.compare, intervals)
    known = references(runs, say) if protocol.reference else []
    others = [m for one in known for m in _measured(one.label, one.model, one.run, fields, protocol, where, say)]
    lines = found.lines + summarized(others, intervals)
    over = gains(found.measured, others, intervals) if others else []
    met = {"": fields} if chosen is None else {"": fields, "validation": chosen.fields}
    lineage = Lineage((run.path, run) for run in runs)
    seen, said = seen_fields(runs, {role: [one.of(run.input).source for run in runs] for role, one in met.items()}, lineage)
    training = [round(float(run.checkpoint.state.get("cpu_seconds", 0.0)) / 60, 2) for run in runs]
    return {
        "checkpoints": [str(run.checkpoint.path) for run in runs],
        "weights": [weights_hash(run.checkpoint.encoder) for run in runs],
        "pretrained_by": commands_behind(((run.path, run) for run in runs), lineage),
        "seeds": seeds_of(runs),
        "data": fields.describe(),
        "protocol": {
            **protocol.drawing.describe(fields.tasks),
            "interval": intervals.rule(found.several),
            **worth(intervals, fields, [line.mean for line in lines if "paired" not in line.model]),
            "support and query": "disjoint, checked",
            "training": reached_text(checkpoints),
            **said,
            **({CHOSEN: chosen_text(chosen.account)} if chosen is not None else {}),
        },
        SEEN: seen,
        **({CHOSEN: chosen.account} if chosen is not None else {}),
        **({"per episode": _per_episode([*measured, *others])} if protocol.per_episode else {}),
        "main": found.main,
        "rows": [asdict(line) for line in lines],
        "heads paired": [asdict(difference) for difference in found.heads],
        "models paired": [asdict(difference) for difference in found.models],
        "beats_references": beats(lines) if protocol.reference else None,
        "gains over references": [asdict(gain) for gain in over],
        "next step": next_step(over, runs),
        "cpu_minutes": {"training of each": training, "evaluation of all": round(time.process_time() / 60, 2)},
        "versions": versions(checkpoints, where),
    }


def _per_episode(measured: list[Measured]) -> list[dict[str, Any]]:
    """The accuracy of every episode in percent, in the order of the episodes, which is the same for all."""
    return [{**vars(one), "accuracy": np.round(one.accuracy, 3).tolist()} for one in measured]


@dataclass(frozen=True)
class _Summary:
    """Rows of an evaluation; `main` is the model of the first checkpoint's row, `several` says that there are means over seeds.

    `measured` is what rows are of, checkpoints that differ by their seed alone put together.
    """

    main: str
    several: bool
    lines: list[Line]
    heads: list[Difference]
    models: list[Between]
    measured: list[Measured]


def _summary(measured: list[Measured], runs: Sequence[Trained], compare: str, intervals: Intervals) -> _Summary:
    """Means over seeds, single checkpoints, heads against the first one, and checkpoints that are no seeds of one another."""
    groups = pools_of(seed_groups(runs, apart=True))
    pools = _pools(groups)
    means = pooled(measured, [pool for pool in pools if len(pool.seeds) > 1])
    single = summarized(measured, intervals)
    if compare:
        recipes = {run.label: run.recipe for run in runs}
        lines = compared(measured, recipes, compare, intervals, [list(pool.seeds) for pool in pools]) + single
    else:
        owner = {name: pool.label for pool in pools for name in pool.seeds if name != pool.label}
        lines = summarized(means, intervals) + [replace(line, part_of=owner.get(line.model, "")) for line in single]
    heads = head_differences([*means, *measured], intervals)
    main = next(name for name, group in groups.items() if runs[0] in group.runs)
    return _Summary(main, bool(means), lines, heads, [] if compare else differences(measured, pools, intervals), pooled(measured, pools))


def _pools(groups: Mapping[str, SeedGroup]) -> list[Pool]:
    """The groups in the order in which they were given, each by ascending seed, so that no last digit depends on the order."""
    by_seed = {name: sorted(group.runs, key=lambda run: run.recipe.seed) for name, group in groups.items()}
    return [Pool(name, {run.label: run.recipe.seed for run in runs}) for name, runs in by_seed.items()]


def worth(intervals: Intervals, fields: Fields, means: list[float]) -> dict[str, str]:
    """What the intervals cover, and why they are only rough where they are."""
    rough = roughness(means, [len(episodes) for episodes in fields.tasks.values()])
    return {COVERS: covered(intervals, fields.describe()["classes"]), **({ROUGH: rough} if rough else {})}


def _measured(
    label: str, model: Model | None, run: Trained, fields: Fields, protocol: Protocol, device: torch.device, say: Say
) -> list[Measured]:
    met = fields.of(run.input)
    return measure(label, model, run, met.source, met.tasks, protocol, device, say)
