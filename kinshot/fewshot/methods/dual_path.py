"""Dual-path structural contrastive embeddings: a reconstruction."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.cosine_rows import CosineRows
from kinshot.fewshot.training_episodes import class_labels
from kinshot.kin.constructors import labels
from kinshot.learn import METHODS
from kinshot.learn.gauges import feature_std
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.alignment import alignment
from kinshot.objectives.class_uniformity import class_uniformity
from kinshot.objectives.common import check_above, check_choice
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.structural_similarity import structural_similarity
from kinshot.objectives.sup_con import sup_con
from kinshot.objectives.uniformity import uniformity
from kinshot.samples.batch import Batch

# which output of the projector a term looks at; classification looks at the backbone
PATH = {"structural": "structural", "contrastive": "contrastive", "alignment": "contrastive", "uniformity": "contrastive"}


@METHODS.register("dual_path")
class DualPath(Method):
    """Classes, likeness among samples and class contrast, each on its own path of one backbone (a reconstruction).

    A cosine classifier on the backbone's feature, both views; on the path `structural`, similarities among the samples of a batch
    that stay the same in the other view; on the path `contrastive`, supervised contrast over both views, and with weights of their
    own alignment within classes and uniformity. The loss is the weighted sum. A term of weight 0 is no loss and moves nothing; where
    its path exists its value is still recorded.

    Needs `projector: {paths: [structural, contrastive], last_norm: true}`. The normalisation matters: rows that are all alike have the
    same structure in both views, and without it the structural path ends there under kl and distance (`structural_std` falls to 0,
    where about 1 is healthy). A path that no term trains keeps its initial weights: leave it out of `paths`, lest joint features hold it.

    At test time: prototypes on backbone, structural, contrastive, projector (both paths) or joint (all three), the last being
    u([u(z); a / sqrt(2); b / sqrt(2)]).

    Paper: Li, Cui, Li, Wang, Wong 2021, arXiv 2112.12359. Only its abstract is known to us: two paths, structural similarity and
        contrastive features, alignment and uniformity in balance, no episodes, prototypes at test time. Every formula, weight and
        temperature here is a reconstruction, and no figure is to be compared with the paper's.

    Args:
        classification: weight of the cosine classifier's cross-entropy.
        structural: weight of the structural loss.
        contrastive: weight of the supervised contrastive loss.
        alignment: weight of the alignment within classes.
        uniformity: weight of the uniformity.
        structural_form: kl (softmax rows of similarities), distance (squared differences) or cka (centred-kernel alignment).
        structural_temperature: divides the similarities of the structural path.
        temperature: divides the similarities of the contrastive path.
        scale: starting value of the classifier's learned scale.
        alignment_power: exponent of the distance in the alignment.
        uniformity_level: whether samples (both views) or class means are spread.
        uniformity_sharpness: t in exp(-t distance^2).
    """

    labels: Tensor
    supervised = True

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        classification: float = 1.0,
        structural: float = 1.0,
        contrastive: float = 1.0,
        alignment: float = 0.0,
        uniformity: float = 0.0,
        structural_form: Literal["kl", "distance", "cka"] = "kl",
        structural_temperature: float = 0.1,
        temperature: float = 0.1,
        scale: float = 10.0,
        alignment_power: float = 2.0,
        uniformity_level: Literal["samples", "classes"] = "samples",
        uniformity_sharpness: float = 2.0,
    ) -> None:
        super().__init__(model)
        self.weights = {"classification": classification, "structural": structural, "contrastive": contrastive}
        self.weights |= {"alignment": alignment, "uniformity": uniformity}
        self.structural_form, self.structural_temperature, self.temperature = structural_form, structural_temperature, temperature
        self.alignment_power, self.uniformity_level, self.uniformity_sharpness = alignment_power, uniformity_level, uniformity_sharpness
        self._check(context)
        self.paths = _paths_of(self.projector, self.weights)
        self.uses = (*self.paths, *(("logits",) if classification > 0 else ()))  # type: ignore[misc]
        labels = class_labels("dual_path", context)
        self.register_buffer("labels", labels, persistent=False)
        if classification > 0:
            with keyed_initialisation(context.seed, "init classifier"):
                model.rows = CosineRows(model.dim, int(labels.max()) + 1, scale)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Weighted sum of the terms, and each term on its own, those of weight 0 included where their path exists.

        Beside them `accuracy` of the base classifier, its `scale`, and `structural_std`: 0 when the structural path has collapsed.
        """
        target = self.labels[outputs.shown.samples]
        terms: dict[str, Tensor] = {}
        gauges: dict[str, Tensor] = {}
        if isinstance(self.model.rows, CosineRows):
            logits = outputs["logits"]
            terms["classification"] = cross_entropy(logits, target)
            gauges = {"accuracy": (logits.detach().argmax(1) == target).float().mean(), "scale": self.model.rows.scale.detach()}
        if self.paths:
            terms |= self._path_terms(outputs, target, batch.indices)
            if "structural" in self.paths:
                gauges["structural_std"] = feature_std(outputs["structural"])
        # a term times 0 would still give gradients of 0, and with them momentum and weight decay would move its path
        loss = torch.stack([self.weights[name] * term for name, term in terms.items() if self.weights[name] > 0]).sum()
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}, **gauges}

    def _path_terms(self, outputs: Outputs, target: Tensor, indices: Tensor) -> dict[str, Tensor]:
        """Every term whose path exists; where its weight is 0, without gradient."""
        terms = {}
        for name, path in PATH.items():
            if path in self.paths:
                with nullcontext() if self.weights[name] > 0 else torch.no_grad():
                    terms[name] = self._term(name, outputs[path], target, indices)
        return terms

    def _term(self, name: str, rows: Tensor, target: Tensor, indices: Tensor) -> Tensor:
        """One loss on the output of its path, (2B, D): first views, then second ones."""
        if name == "structural":
            form, temperature = self.structural_form, self.structural_temperature
            return structural_similarity(*rows.chunk(2), indices, form=form, temperature=temperature)  # type: ignore[arg-type, misc]
        if name == "contrastive":
            return sup_con(rows, labels(target), temperature=self.temperature)
        if name == "alignment":
            return alignment(rows, labels(target), alpha=self.alignment_power)
        if self.uniformity_level == "classes":
            return class_uniformity(rows, labels(target), t=self.uniformity_sharpness)
        return uniformity(rows, t=self.uniformity_sharpness)

    def _check(self, context: RunContext) -> None:
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise ConfigError(f"dual_path: {name}: expected a weight of at least 0, got {weight}: 0 switches the term off")
        if not any(self.weights.values()):
            raise ConfigError("dual_path: every weight is 0 and nothing would be learned: give one of them a value, as classification=1")
        for name in ("structural_temperature", "temperature", "alignment_power", "uniformity_sharpness"):
            check_above(f"dual_path: {name}", getattr(self, name))
        check_choice("dual_path: structural_form", self.structural_form, ("kl", "distance", "cka"))
        check_choice("dual_path: uniformity_level", self.uniformity_level, ("samples", "classes"))
        if self.weights["structural"] > 0 and context.batch_size < 3:
            raise ConfigError(
                f"dual_path: structure is likeness to at least two other samples, got train.batch_size {context.batch_size}: "
                "set it to 3 or more, or method.structural=0"
            )


def _paths_of(projector: nn.Module, weights: dict[str, float]) -> tuple[str, ...]:
    """Names of the projector's outputs. Raises ConfigError where one is missing that a term of positive weight looks at."""
    names = tuple(getattr(projector, "names", ())) if hasattr(projector, "outputs") else ()
    for term, path in PATH.items():
        if weights[term] > 0 and path not in names:
            got = ", ".join(names) or "a single output"
            raise ConfigError(
                f"dual_path: {term} needs the projector's output {path!r}, got {got}: "
                f"write `projector: {{paths: [structural, contrastive]}}` in the recipe, or set method.{term}=0"
            )
    return names
