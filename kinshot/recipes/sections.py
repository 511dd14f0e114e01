"""Sections of a recipe: the projector, the training, what is recorded, and validation; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ProjectorConfig:
    """The MLP between encoder and objective.

    Args:
        layers: linear layers; 0 leaves the encoder's output as it is.
        hidden: width of the hidden layers.
        dim: width of the output.
        last_norm: batch-normalise the output too.
        paths: names of several such networks side by side, each ending at unit length; empty for a single one.
        modalities: one such network for each modality of a bundle, on that modality's own features; what methods across modalities compare.
        norm: what stands before the last linear layer: none, or layer, normalisation over a sample's features without scale or shift.
        neck: what stands behind a single network: none, or batch, a batch normalisation with an output on either side of it, `before`,
            which distances are measured on, and `after`, which classes stand on and which is evaluated (BNNeck).
    """

    layers: int = 2
    hidden: int = 1024
    dim: int = 128
    last_norm: bool = False
    paths: tuple[str, ...] = ()
    modalities: bool = False
    norm: Literal["none", "layer"] = "none"
    neck: Literal["none", "batch"] = "none"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the projector's outputs where the recipe alone says them: paths, or both sides of a neck."""
        return self.paths if self.neck == "none" else ("before", "after")

    def conflicts(self) -> list[str]:
        """Settings that do not go together, as messages."""
        problems = []
        if self.norm != "none" and not self.layers:
            problems.append("projector.norm: it stands before the last linear layer, and projector.layers is 0: set 1, or leave norm out")
        if self.neck != "none" and (self.paths or self.modalities):
            other = "paths" if self.paths else "modalities"
            problems.append(f"projector.neck: it stands behind a single network, and projector.{other} makes several: leave one out")
        return problems


@dataclass(frozen=True)
class TrainConfig:
    """Optimization and how the machine is used.

    Args:
        epochs: passes over the training source.
        extend: epochs added after the last one, each time that a finished run was extended.
        extend_schedule: what the learning rate does over added epochs: its course once more over them alone (restart), or the end of
            one course over all epochs up to their last (prolong).
        batch_size: samples in a step; the last partial batch of an epoch is dropped. 0 chooses by the size and the number of samples.
        optimizer: adamw, sgd, or lars (lightly's).
        lr: peak learning rate.
        encoder_lr: share of the learning rate that the encoder takes; below 1 where `init` gives it weights worth keeping.
        layer_decay: of that, the share of each stage: the last one takes it once, the one before twice over (its square), and so on down to
            the stem; below 1 the first layers, which `init` knows best, change least. For encoders that say their stages.
        weight_decay: on weights of two or more dimensions; norms and biases have none.
        momentum: of sgd and lars.
        schedule: course of the learning rate after the warm-up.
        warmup: share of all steps over which the learning rate rises linearly, rounded up to whole steps.
        final_lr: share of the peak learning rate that the cosine would reach after the last step, which itself has a little more.
        freeze: parts of the encoder that stay as they are, modules by the names that its state has ([conv1, layer1]), [all], or
            [all_but_norms], which trains scales and shifts of normalisations alone; they get no gradient and stay in evaluation mode.
            Useful with `init`.
        norm_statistics: what becomes of the encoder's running means and variances (batch normalisation): moving follows the training
            samples, batch by batch; kept normalises by those of `init`, whose scales and shifts are still trained.
        clip: largest gradient norm; none leaves gradients as they are.
        ema: decay of the exponential moving average of weights that checkpoints export; 0 exports the weights themselves.
        precision: fp32, bf16 autocast, or auto (bf16 where the processor has instructions for it).
        channels_last: memory format of images and convolutions.
        wrong_labels: share of the training labels that are exchanged for those of other classes, drawn by the run's seed: for studies of
            what wrong labels cost. Validation and evaluations keep the labels that the data has.
        workers: loader processes; 0 loads in the training process (right for data in memory).
        threads: torch threads; 0 keeps torch's choice.
        allocator: keep freed memory in the process (Linux, glibc), so that activations are not faulted in again every step.
        device: auto, cpu, cuda, cuda:N or mps.
        deterministic: refuse GPU kernels whose results vary between runs.
    """

    epochs: int = 20
    extend: tuple[int, ...] = ()
    extend_schedule: Literal["restart", "prolong"] = "restart"
    batch_size: int = 256
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 3e-3
    encoder_lr: float = 1.0
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.03
    final_lr: float = 0.0
    freeze: tuple[str, ...] = ()
    norm_statistics: Literal["moving", "kept"] = "moving"
    clip: float | None = None
    ema: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    wrong_labels: float = 0.0
    workers: int = 0
    threads: int = 0
    allocator: bool = True
    device: str = "auto"
    deterministic: bool = False


@dataclass(frozen=True)
class MonitorConfig:
    """What is recorded, and how often.

    Args:
        log_every: steps between records of losses and gauges.
        checkpoint_every: epochs between checkpoints; fractions are allowed.
        keep: checkpoints kept; older ones are deleted.
        knn_every: epochs between kNN probes on labels, where the source has labels; 0 for none.
        knn_samples: samples in a kNN probe, drawn by class (half are the bank, half the queries).
        knn_k: neighbors that vote.
        knn_temperature: of their votes, exp(cosine / temperature).
        knn_split: split of the same data that gives the queries, the training samples being the bank; empty takes both from these. It
            chooses no checkpoint.
        projector_points: samples in TensorBoard's embedding projector at the end; 0 for none.
        tensorboard: write TensorBoard event files beside metrics.jsonl.
        loggers: where records go besides: csv, wandb, mlflow, ... (`ssl list logger`), each a name, perhaps with settings behind it
            (`wandb:project=birds`); none unless asked for.
    """

    log_every: int = 10
    checkpoint_every: float = 1.0
    keep: int = 2
    knn_every: int = 1
    knn_samples: int = 2000
    knn_k: int = 20
    knn_temperature: float = 0.1
    knn_split: str = ""
    projector_points: int = 1000
    tensorboard: bool = True
    loggers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidationConfig:
    """Episodes of validation classes, by which the checkpoint that a run is known by is chosen.

    Args:
        split: split of the same data whose classes are held out, for example val; empty for no validation: the last checkpoint counts.
        ways: classes of an episode.
        shots: support images of each class.
        queries: query images of each class.
        episodes: number of episodes, the same ones every time.
        every: epochs between measurements; the last epoch is always measured.
        head: head that classifies them.
        feature: backbone, projector, or another output of the projector.
    """

    split: str = ""
    ways: int = 5
    shots: int = 1
    queries: int = 15
    episodes: int = 600
    every: int = 1
    head: str = "prototype"
    feature: str = "backbone"
