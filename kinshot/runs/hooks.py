"""What surrounds the training loop: records, probes, checkpoints, and the closing report of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import kinshot
from kinshot.core.atomic import write_json, write_text
from kinshot.core.checkpoint import load_checkpoint, pack_optimizer, prune, save_checkpoint
from kinshot.core.config import flatten, to_yaml
from kinshot.core.progress import Progress
from kinshot.core.rng import keyed_numpy
from kinshot.kin.graph import RelationGraph, neighbor_retrieval
from kinshot.learn.features import weights_hash
from kinshot.learn.gauges import alignment, effective_rank, feature_std, uniformity
from kinshot.learn.knn import rows_by_class
from kinshot.learn.loop import Run, StepResult
from kinshot.learn.monitor import Monitor
from kinshot.recipes.loggers import parse_logger
from kinshot.recipes.sections import TrainConfig
from kinshot.runs.adapted import KNN, adapts, compared, figures_of, told, with_encoder
from kinshot.runs.begun import recorded, stand_in_count
from kinshot.runs.diagnose import numbers_of
from kinshot.runs.knn_probe import KnnProbe
from kinshot.runs.label_free import view_quality
from kinshot.runs.state import state_of
from kinshot.runs.validation import Validator
from kinshot.runs.validators import validator_of

if TYPE_CHECKING:
    from kinshot.runs.job import Job

RETRIEVAL_SAMPLES = 500
Say = Callable[[str], None]


class RunHooks:
    """Records, probes and checkpoints of one run; follows `kinshot.learn.loop.Hooks`.

    Everything that is recorded of a step is in the files before its checkpoint is, and what is not, the best step so far, is in the
    checkpoint: wherever a run is killed, the one that goes on from its newest checkpoint leaves the same files.

    `resumed_cpu` is what to add to the process's CPU clock: seconds of earlier processes, less what this one did before the run. Without
    `loggers` those that the recipe names are left out, as nobody is to be told of a rehearsal.
    """

    def __init__(self, job: Job, out: Path, say: Say, resumed_cpu: float, quiet: bool, *, loggers: bool = True) -> None:
        self.job, self.out, self.say = job, out, say
        self.resumed_cpu = resumed_cpu
        self.saved_step = -1
        self.validator = validator_of(job, out)
        for note in self.validator.said() if self.validator is not None else ():
            say(note)
        self.knn = KnnProbe(job) if job.recipe.monitor.knn_every and job.source.labels is not None else None
        self.samples = recorded(job.data.whole)
        # a run that begins anew drops also the records of step 0 that one killed before its first checkpoint left
        self.monitor = Monitor(
            out,
            resume_step=-1 if job.begun is None else job.run.step,
            tensorboard=job.recipe.monitor.tensorboard,
            loggers=[parse_logger(text) for text in job.recipe.monitor.loggers] if loggers else (),
            name=job.recipe.name,
            config=flatten(job.recipe.to_dict()),
        )
        self.final = {tag: value for tag, value in self.monitor.latest.items() if tag == "train/loss" or tag.startswith("eval/")}
        self.before: dict[str, list[float]] = dict((job.begun or {}).get("before") or {})
        self.progress = Progress(job.plan.total_steps, job.run.step, quiet=quiet)
        write_text(out / "config.yaml", to_yaml(job.recipe.to_dict()))

    def before_first_step(self, run: Run) -> None:
        """Where there are no labels, record how good the untrained encoder is by the views: what later figures are compared with.

        An encoder that training goes on with is measured as it came, by labels too, and may stay the chosen one.
        """
        if self.job.source.labels is None and self.job.recipe.monitor.knn_every:
            self.monitor.scalars(0, self._views(run), epoch=0)
        if not adapts(self.job.recipe):
            return
        self.before = figures_of(self.job, self.validator, self.knn)
        if KNN in self.before:
            self._probe(run, 0)
        if self.validator is not None and self._validate(self.validator, run, 0):
            self.save(run)
            self.validator.write()

    def after_step(self, run: Run, result: StepResult, epoch: int) -> None:
        """Record losses, rate, gauges and throughput every `log_every` steps and at the last one."""
        due = run.step % self.job.plan.log_every == 0 or run.step == self.job.plan.total_steps
        rate = len(result.batch.indices) / max(result.seconds, 1e-9)
        self.progress.update(run.step, epoch=epoch, loss=result.terms["loss"], rate=rate)
        if run.step in (1, self.job.plan.total_steps // 2 + 1):
            self._picture(run.step, result)
        if due:
            scalars = {"train/loss": float(result.terms["loss"]), "train/lr": result.lr, "train/grad_norm": float(result.grad_norm)}
            scalars |= {f"train/{name}": float(value) for name, value in result.terms.items() if name != "loss"}
            scalars |= {f"{self.job.recipe.method.name}/{name}": float(value) for name, value in result.gauges.items()}
            scalars |= self._collapse(run, result.batch.views)
            scalars |= {"time/images_per_second": rate, "time/data_share": result.data_seconds / max(result.seconds, 1e-9)}
            self.monitor.scalars(run.step, scalars, epoch=epoch)
            self.final |= {"train/loss": scalars["train/loss"]}

    def after_epoch(self, run: Run, epoch: int) -> None:
        """Validate and probe when it is due; a step that is better than ever gets its checkpoint, which becomes the chosen one."""
        last = run.step == self.job.plan.total_steps
        better = False
        if self.validator is not None and (last or (epoch + 1) % self.validator.settings.every == 0):
            better = self._validate(self.validator, run, epoch)
        every = self.job.recipe.monitor.knn_every
        if every and (last or (epoch + 1) % every == 0):
            self._probe(run, epoch)
        if self.validator is not None and better:
            self.save(run)
            self.validator.write()

    def _probe(self, run: Run, epoch: int) -> None:
        """Probe by kNN where there are labels, else by what two views say of each other; and the graph, if there is one."""
        with exported(run):
            found = self._views(run) if self.knn is None else {f"eval/knn/{name}": value for name, value in self.knn(self.job).items()}
            found |= {f"eval/graph/{name}": value for name, value in self._retrieval().items()}
        if KNN in self.before and "eval/knn/backbone" in found:
            found["eval/knn/gain"] = found["eval/knn/backbone"] - float(np.mean(self.before[KNN])) / 100
        self.final |= found
        if found:
            self.monitor.scalars(run.step, found, epoch=epoch)

    def save(self, run: Run) -> None:
        """Write `checkpoints/step-N`, then delete the oldest beyond `monitor.keep`; once for every step."""
        job = self.job
        if self.saved_step == run.step:
            return
        self.saved_step = run.step
        self.monitor.flush()
        optimizer, optimizer_meta = pack_optimizer(run.optimizer)
        training = state_of(run.learner)
        training |= {f"optimizer/{k}": v for k, v in optimizer.items()}
        training |= {f"average/{k}": v for k, v in (run.average.state if run.average else {}).items()}
        training |= {f"data/{k}": v for k, v in self.samples.items()}
        state = {
            "step": run.step,
            "total_steps": job.plan.total_steps,
            "steps_per_epoch": job.plan.steps_per_epoch,
            "epoch": run.step // job.plan.steps_per_epoch,
            "seed": job.plan.seed,
            "input": job.input.to_dict(),
            "source": job.data.whole.fingerprint(),
            "samples": len(job.source),
            "optimizer": optimizer_meta,
            "cpu_seconds": round(self.resumed_cpu + time.process_time(), 3),
            "threads": torch.get_num_threads(),
            "computed": job.computed,
            "overrides": list(job.recipe.overrides),
            **({"best": self.validator.best} if self.validator else {}),
            **({"before": self.before} if self.before else {}),
        }
        save_checkpoint(
            self.out / "checkpoints" / f"step-{run.step:08d}",
            parts={**exported_parts(run), "training": training},
            state=state,
            config=job.recipe.to_dict(),
        )
        prune(self.out, keep=job.recipe.monitor.keep)

    def diverged(self, run: Run, indices: Tensor, reason: str) -> None:
        """Leave `diverged.json`: the step, the reason and the samples of the batch."""
        write_json(self.out / "diverged.json", {"step": run.step, "reason": reason, "samples": indices.tolist()})

    def finish(self, run: Run, seconds: float) -> dict[str, Any]:
        """Embedding projector, hparams and `result.json`; returns the result."""
        prune(self.out, keep=self.job.recipe.monitor.keep)  # a run killed after its last checkpoint was saved did not come to it
        points = self.job.recipe.monitor.projector_points
        if points and self.monitor.tensorboard:
            with exported(run):
                self._projector(points, run.step)
        self.monitor.hparams(flatten(self.job.recipe.to_dict()), self.final)
        known_by = load_checkpoint(self.out, parts=("encoder",))
        result = {
            "schema_version": 1,
            "recipe": self.job.recipe.name,
            "out": str(self.out),
            "checkpoint": str(known_by.path),
            "steps": run.step,
            **extension(self.job.recipe.train),
            **stand_in_count(self.job.data.whole),
            "weights": weights_hash(known_by.encoder),
            "cpu_minutes": round((self.resumed_cpu + time.process_time()) / 60, 2),
            "wall_minutes": round(seconds / 60, 2),
            **({"best": self.validator.best} if self.validator else {}),
            **self._adapted(known_by.encoder),
            "metrics": {name: round(value, 6) for name, value in self.final.items()},
            "versions": {"kinshot": kinshot.__version__, "torch": torch.__version__, "training": ", then ".join(self.job.computed)},
        }
        write_json(self.out / "result.json", result)
        return result

    def _adapted(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the result says of an encoder that training went on with: whether it is better than it was; said to the person too."""
        recipe = self.job.recipe
        if not adapts(recipe):
            return {}
        with with_encoder(self.job, weights):
            found = compared(recipe, self.before, figures_of(self.job, self.validator, self.knn) if self.before else {})
        for line in told(recipe, found, str(self.out)):
            self.say(line)
        return {"adapted": found}

    def close(self) -> None:
        """Flush and close the records."""
        self.progress.close()
        self.monitor.close()

    def graph(self, found: Mapping[str, Any]) -> None:
        """Record what is known of the graph before training, as scalars `graph/...` of step 0."""
        if self.job.begun is None:
            self.monitor.scalars(0, {f"graph/{name}": value for name, value in numbers_of(found).items()}, epoch=0)

    def _picture(self, step: int, result: StepResult) -> None:
        """Show a few samples beside their views, as they look: at the beginning, and in the middle, when views may be others."""
        if step == 1:
            self.monitor.guide()
        if not self.monitor.tensorboard:
            return
        spec = self.job.input
        originals = spec.pictures(self.job.source.load(result.batch.indices[:8].cpu().numpy()))
        if originals is not None:
            self.monitor.view_grid([spec.denormalize(view[:8].cpu()).clamp(0, 1) for view in result.batch.views], originals, step)

    def _collapse(self, run: Run, views: Sequence[Tensor]) -> dict[str, float]:
        """Collapse gauges of up to 256 samples, or pairs of views, in evaluation mode, so that training state is not touched."""
        run.learner.eval()
        with torch.no_grad():
            z = [run.learner.model.features(view[:256])["projector"].float() for view in views[: min(2, run.learner.method.view_count)]]
        run.learner.train()
        found = {"feature_std": feature_std(z[0]), "effective_rank": effective_rank(z[0]), "uniformity": uniformity(z[0])}
        if len(z) == 2:
            found["alignment"] = alignment(z[0], z[1])
        return {f"collapse/{name}": float(value) for name, value in found.items()}

    def _validate(self, validator: Validator, run: Run, epoch: int) -> bool:
        """Measure the validation episodes; whether the run is better than ever."""
        with exported(run):
            measured = validator.measure(self.job, self.monitor)
        self.monitor.scalars(run.step, {f"eval/validation/{validator.metric}": measured}, epoch=epoch)
        self.final[f"eval/validation/{validator.metric}"] = measured
        return validator.improved(run.step, measured)

    def _views(self, run: Run) -> dict[str, float]:
        """Quality without labels, on two views that are never trained on and are the same in every epoch."""
        job, last = self.job, self.job.plan.epochs
        run.learner.eval()
        embed, plan = run.learner.model.features, job.plan
        found = view_quality(job.source, job.make_batch.shown, embed, seed=plan.seed, epoch=last, device=plan.device)
        run.learner.train()
        return {f"eval/views/{name}": value for name, value in found.items()}

    def _retrieval(self) -> dict[str, float]:
        """How well distances give the graph back, on up to RETRIEVAL_SAMPLES samples that are linked among themselves."""
        job = self.job
        if job.graph is None:
            return {}
        rows = _linked_rows(job.graph, job.plan.seed)
        head = None if job.recipe.structure.features == "projector" else torch.nn.Identity()
        return neighbor_retrieval(job.extract(head, rows).numpy(), job.graph, rows) if len(rows) else {}

    def _projector(self, points: int, step: int) -> None:
        source = self.job.source
        rows, names = np.zeros(0, dtype=np.int64), None
        if source.labels is not None:
            rows = rows_by_class(np.asarray(source.labels), points, self.job.plan.seed)
            names = [source.class_names[label] for label in source.labels[rows]]
        if not len(rows):
            rows, names = np.linspace(0, len(source) - 1, min(points, len(source))).astype(np.int64), None
        self.monitor.embedding(self.job.extract(None, rows), self.job.input.pictures(source.load(rows)), names, step)


def extension(train: TrainConfig) -> dict[str, Any]:
    """What a result says of a run that was extended."""
    return {"extended": {"epochs": list(train.extend), "schedule": train.extend_schedule}} if train.extend else {}


@contextmanager
def exported(run: Run) -> Iterator[None]:
    """Inside, the method has the weights that checkpoints export: with `train.ema`, the averaged ones."""
    if run.average is None:
        yield
        return
    model = run.learner.model
    live = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        model.load_state_dict(run.average.state)
        yield
    finally:
        model.load_state_dict(live)


def exported_parts(run: Run) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint keeps of the model, by part: with `train.ema`, the averaged weights."""
    model = run.learner.model
    state = run.average.state if run.average else model.state_dict()
    starts = {part: f"{part}." for part in model.parts()}
    return {part: {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)} for part, start in starts.items()}


def _linked_rows(graph: RelationGraph, seed: int) -> np.ndarray:
    """Some samples in keyed order, each with one of its neighbors, so that there is something to retrieve in any graph."""
    rng = keyed_numpy(seed, "probe/graph")
    linked = np.flatnonzero(graph.degrees())
    chosen = rng.permutation(linked)[: RETRIEVAL_SAMPLES // 2]
    return np.unique(np.concatenate([chosen, graph.sample_positives(chosen, 1, rng).ravel()]))
