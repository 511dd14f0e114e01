"""The model that a checkpoint describes, with its weights, and what stands on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from kinshot.core.checkpoint import Checkpoint
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.misfit import misfit
from kinshot.core.part_text import read_settings, split_text
from kinshot.datasets.base import Source
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.cosine_rows import CosineRows
from kinshot.encoders.modality_projector import modality_projector
from kinshot.encoders.neck import BatchNormNeck
from kinshot.encoders.paths import PathProjector
from kinshot.encoders.projector import mlp_projector
from kinshot.learn.model import Model
from kinshot.recipes.fit import POOLED, made_by
from kinshot.recipes.loaded import Loaded, read
from kinshot.recipes.recipe import Choice, Recipe
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec, input_of, spec_from_dict

_SAME_FORM = "set data.size and data.channels"


def build_model(recipe: Recipe, input: Spec) -> tuple[nn.Module, nn.Module]:
    """The recipe's encoder and projector with their initial weights, a function of the recipe's seed."""
    encoder = build_encoder(recipe.encoder.name, recipe.encoder.settings, input, seed=recipe.seed)
    p = recipe.projector
    if problems := p.conflicts():
        raise ConfigError("; ".join(problems))
    with keyed_initialisation(recipe.seed, "init projector"):
        if p.modalities:
            projector: nn.Module = modality_projector(encoder, p.hidden, p.dim, p.layers, last_norm=p.last_norm, norm=p.norm)
        elif p.paths:
            projector = PathProjector(encoder.dim, p.hidden, p.dim, p.layers, p.paths, p.last_norm, p.norm, recipe.weighs_paths)
        else:
            projector = mlp_projector(encoder.dim, p.hidden, p.dim, p.layers, last_norm=p.last_norm, norm=p.norm)
        if p.neck == "batch":
            projector = BatchNormNeck(projector, p.dim if p.layers else encoder.dim)
    return encoder, projector


def from_checkpoint(run: Loaded) -> Model:
    """The model described by a checkpoint's recipe and weights."""
    checkpoint, input = run.checkpoint, input_spec(run.checkpoint)
    encoder, projector = build_model(_without_start(made_by(run)), input)
    for part, module, weights in (("encoder", encoder, checkpoint.encoder), ("projector", projector, checkpoint.projector)):
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            problem = f"{checkpoint.path}: {part}.safetensors does not fit config.yaml: {misfit(module, weights) or error}"
            raise CheckpointError(f"{problem}; restore both from one run") from error
    return Model(encoder, projector if not checkpoint.origin else None, input=input).eval()


def with_rows(model: Model, run: Loaded) -> Model:
    """A checkpoint's model with the classifier, cosine or linear, that its method learned, where the part `rows` was loaded."""
    found = {name: value.float() for name, value in (run.checkpoint.optional("rows") or {}).items()}
    if found:
        classes, dim = found["weight"].shape
        model.rows = CosineRows(dim, classes) if "scale" in found else nn.Linear(dim, classes, bias="bias" in found)
        model.rows.load_state_dict(found)
        model.rows_on = "projector" if run.recipe.method.settings.get("feature") == "projector" else "backbone"
    return model.eval()


def untrained(run: Loaded) -> Model:
    """The same architecture with the weights that the run started from: the reference row of an evaluation.

    What an encoder was given of the data, as its attribute `given` says by the beginnings of names, it has as the run has it.
    """
    input = input_spec(run.checkpoint)
    encoder, projector = build_model(made_by(run), input)
    known = {name: value for name, value in run.checkpoint.encoder.items() if name.startswith(getattr(encoder, "given", ()) or "\0")}
    encoder.load_state_dict(known, strict=False)
    return Model(encoder, projector if not run.checkpoint.origin else None, input=input).eval()


def initial(run: Loaded) -> Model | None:
    """The encoder of `init` as the run started from it, with the projector that it drew; None for a run that started from none.

    Raises what `read` does where `init` is no longer there, and ConfigError where it is another one now.
    """
    recipe = made_by(run)
    if not recipe.init:
        return None
    input = input_spec(run.checkpoint)
    encoder, projector = build_model(_without_start(recipe), input)
    initialize(encoder, read(Path(recipe.init), parts=("encoder",)), recipe)
    return Model(encoder, projector, input=input).eval()


def _without_start(recipe: Recipe) -> Recipe:
    """The recipe with an encoder that brings no weights of its own, as a checkpoint has them."""
    if not recipe.encoder.settings.get("pretrained"):
        return recipe
    return replace(recipe, encoder=Choice(recipe.encoder.name, {**recipe.encoder.settings, "pretrained": False}))


def input_spec(checkpoint: Checkpoint) -> Spec:
    """The samples that the checkpoint's encoder expects. Raises CheckpointError when the state does not say."""
    try:
        return spec_from_dict(checkpoint.state["input"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{checkpoint.path}: state.json does not describe the input ({error})"
        raise CheckpointError(f"{problem}; it was not written by ssl pretrain") from error


def initial_input(checkpoint: Checkpoint, source: Source) -> Spec:
    """What the encoder of `init` was made for, which training it further keeps. Raises ConfigError where the source's samples differ.

    A backbone that was not trained here takes another size, if its architecture does.
    """
    made_for, found = input_spec(checkpoint), input_of(source)
    if checkpoint.origin and isinstance(made_for, PixelSpec) and isinstance(found, PixelSpec) and made_for.channels == found.channels:
        return replace(made_for, height=found.height, width=found.width)
    if not made_for.same_form(found):
        advice = f"set data.channels={made_for.channels}" if checkpoint.origin and isinstance(made_for, PixelSpec) else _SAME_FORM
        raise ConfigError(
            f"init {checkpoint.path} was made for {made_for.describe()}, {source.name} gives {found.describe()}: "
            f"{advice}, or choose other data or another init"
        )
    return made_for


def _weights_of(encoder: Choice) -> Choice:
    """An encoder but for what leaves its weights as they are: dilation instead of strides, which dense features are tuned with."""
    return Choice(encoder.name, {key: value for key, value in encoder.settings.items() if key != "output_stride"})


def _named(text: str) -> Choice:
    """The encoder that a text names, with all its settings."""
    name, *assignments = split_text(text, ":", "encoder.of", "conv4:width=32")
    return Choice(name, ENCODERS.check(name, read_settings(text, assignments, "encoder.of", "conv4:width=32"))[0])


def initialize(encoder: nn.Module, run: Loaded, recipe: Recipe) -> None:
    """Put the weights of `init` into a freshly built encoder, or into the one whose maps it pools.

    Raises ConfigError naming both where the encoders differ.
    """
    checkpoint, made, wanted, key = run.checkpoint, made_by(run).encoder, recipe.encoder, "encoder"
    if wanted.name == POOLED and made.name != POOLED:
        encoder, wanted, key = encoder.trunk, _named(wanted.settings["of"]), "encoder.of"  # type: ignore[assignment]
    if _weights_of(made) != _weights_of(wanted):
        raise ConfigError(
            f"init {checkpoint.path} has the encoder {made.name} {made.settings}, the recipe {wanted.name} "
            f"{wanted.settings}: set {key}=auto, which takes that of init"
        )
    problem = misfit(encoder, checkpoint.encoder)
    if problem:
        raise ConfigError(f"init {checkpoint.path} does not fit images of this size: {problem}; set data.size to that of init")
    encoder.load_state_dict(checkpoint.encoder)
