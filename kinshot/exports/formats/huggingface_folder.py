"""A folder as the Hugging Face Hub has it: config.json, model.safetensors and a model card."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint_files import encode_config, encode_tensors
from kinshot.core.errors import ConfigError
from kinshot.exports import EXPORTS
from kinshot.exports.card import card
from kinshot.exports.native import Native, known_to
from kinshot.exports.places import without_places
from kinshot.exports.proof import Features
from kinshot.exports.subject import Made, Subject, preprocessing
from kinshot.exports.timm_folder import opened_by_timm, timm_config
from kinshot.learn.model import BACKBONE
from kinshot.recipes.exported import CARD, CONFIG, ENTRY, FILES, RECIPE, SCHEMA_VERSION, read_exported
from kinshot.recipes.loaded import Loaded
from kinshot.runs.embedder import from_checkpoint

_KEPT = ("step", "epoch", "total_steps", "steps_per_epoch", "seed", "samples", "threads", "cpu_seconds", "computed", "input", "random")
"""What of a checkpoint's state is of use without its training."""
_NO_TIMM = "timm is not installed here, and whether it opens this folder was not tried: the folder is for kinshot alone"


@EXPORTS.register("huggingface", suffix="", card=True)
def huggingface(subject: Subject) -> Made:
    """A folder with config.json, model.safetensors and a model card, for timm where it knows the encoder, the Hub, and kinshot.load."""
    if subject.encoder.name == "onnx":
        raise ConfigError("the encoder is an ONNX file, which has no weights of its own here: upload that file, it is an export already")
    found = known_to(subject, "timm")
    untried = found is not None and importlib.util.find_spec("timm") is None
    found = None if untried else found
    config, moved = without_places(subject.run.checkpoint.config, "recipe")
    weights = {FILES[part]: dict(module.state_dict()) for part, module in subject.model.parts().items() if part in FILES}
    files = {name: encode_tensors(state, name, {"format": "pt"}) for name, state in weights.items() if state}
    files[RECIPE] = encode_config(config)
    about = {**subject.identity, "preprocessing": preprocessing(found.input if found else subject.input, inside=False)}
    library = {"library_name": "kinshot"} if found is None else {**timm_config(found, subject.model.dim), "library_name": "timm"}
    entry, also = without_places({**_entry(subject, files), **about}, "")
    reading = _reading(found)
    files = {CONFIG: _json({**library, ENTRY: entry}), CARD: card(subject, found, about).encode(), **files}

    def opened(place: Path) -> Features:
        return _opened_here(place) if found is None else opened_by_timm(place, found)

    notes = [_NO_TIMM] if untried else []
    if moved or also:
        notes.append(f"of absolute paths only the last name is written: {', '.join((*moved, *also))}")
    return Made(files, "the folder" if found is None else f"timm's {found.name}", opened, reading, tuple(notes), about)


def _entry(subject: Subject, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What `recipes.exported` reads."""
    checkpoint = subject.run.checkpoint
    state = {key: checkpoint.state[key] for key in _KEPT if key in checkpoint.state}
    if subject.reached.finished:
        state.pop("total_steps", None)  # in the middle of a finished run is not of an unfinished one
    return {
        "schema_version": SCHEMA_VERSION,
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()},
        "state": state,
        "versions": dict(checkpoint.versions),
        **({"origin": checkpoint.origin} if checkpoint.origin else {}),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _opened_here(place: Path) -> Features:
    """What kinshot says, with the folder in the place of a checkpoint."""
    model = from_checkpoint(Loaded(*read_exported(place)))

    def features(values: Any) -> dict[str, Any]:
        return {BACKBONE: model.features(model.input.normalize(values))[BACKBONE]}

    return features


def _reading(found: Native | None) -> tuple[str, ...]:
    ours = (
        "import kinshot",
        "model = kinshot.load({path!r})  # model.embed(images): uint8 or [0, 1], any size",
    )
    if found is None:
        return (*ours, "from kinshot.exports.hub import HubModel", "model = HubModel.from_pretrained({path!r})  # or its name on the Hub")
    return ("import timm", "model = timm.create_model({local!r}, pretrained=True).eval()  # or hf-hub:NAME on the Hub", *ours)
