"""The model card of an exported encoder: what it is, what it learned from, how it was measured, what it cannot do, how it is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_json
from kinshot.datasets import SOURCES
from kinshot.exports.native import Native
from kinshot.exports.places import without_folders
from kinshot.exports.subject import Subject
from kinshot.recipes.backbones import UNKNOWN
from kinshot.recipes.exported import RECIPE, WEIGHTS

_NEEDED = ("name", "command", "data", "versions", "rows")
_ROW = ("label", "metric", "mean", "ci95", "n")
NOT_KNOWN = "unknown"
_TASKS = {"image": "image-feature-extraction", "tokens": "feature-extraction"}


def read_results(path: Path) -> dict[str, Any]:
    """A file that `--results` of a measuring command wrote. Raises DataError for any other."""
    remedy = "name a file that `fewshot eval --results` wrote"
    found = read_json(path, remedy=remedy)
    lacking = [key for key in _NEEDED if key not in found] if isinstance(found, dict) else list(_NEEDED)
    if lacking:
        raise DataError(f"{path} lacks {', '.join(lacking)}: {remedy}")
    rows = found["rows"]
    fit = isinstance(rows, list) and rows and all(isinstance(row, dict) and set(_ROW) <= set(row) for row in rows)
    numbers = fit and all(isinstance(row[key], int | float) for row in rows for key in ("mean", "n"))
    if not numbers or not isinstance(found["data"], dict) or not isinstance(found["versions"], dict):
        raise DataError(f"{path} has no rows of {', '.join(_ROW)}: {remedy}")
    return found


def names_run(results: Mapping[str, Any], run: Path) -> bool:
    """Whether the commands of a result file name a run, by its path or the last part of it."""
    words = re.split(r"[\s'\"]+", str(results["command"]))
    return any(word == str(run) or Path(word).name == run.name for word in words if word)


def card(subject: Subject, found: Native | None, about: Mapping[str, Any]) -> str:
    """README.md of an exported folder.

    Args:
        subject: what is exported.
        found: the model of timm that it is; None where only kinshot opens it.
        about: what stands in `config.json` beside the weights.
    """
    head = {
        "library_name": "timm" if found else "kinshot",
        **({"pipeline_tag": _TASKS[subject.input.kind]} if subject.input.kind in _TASKS else {}),
        "tags": ["kinshot", "feature-extraction", *(["timm"] if found else []), subject.encoder.name.replace("_", "-")],
        "license": NOT_KNOWN,
    }
    header = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{header}---",
        f"# {_title(subject)}",
        _what(subject, found),
        f"## Opening it\n\n{_opening(subject, found)}",
        f"## What it takes\n\n{_bullets(about['preprocessing'])}",
        f"## Training\n\n{_training(subject)}",
        f"## Data and licence\n\n{_data(subject)}",
        f"## Measured\n\n{_measured(subject)}",
        f"## Limits\n\n{_limits(subject)}",
    ]
    return "\n".join(map(without_folders, "\n\n".join(parts).split("\n"))) + "\n"


def _title(subject: Subject) -> str:
    return f"{subject.encoder.name}, {subject.name}" if not subject.run.checkpoint.origin else subject.name


def _what(subject: Subject, found: Native | None) -> str:
    named = f" It is timm's `{found.name}` without a classifier." if found else ""
    beside = [part for part in ("projector", "rows") if getattr(subject.model, part) is not None]
    files = {"projector": "`projector.safetensors` the projector's", "rows": "`rows.safetensors` those of the classes of its training"}
    others = f"; {', '.join(files[part] for part in beside)}" if beside else ""
    return (
        f"An encoder of {subject.input.describe()} that gives {subject.model.dim} numbers for each sample, exported by kinshot "
        f"{subject.identity['kinshot']}.{named} `{WEIGHTS}` holds its weights under native names{others}."
    )


def _opening(subject: Subject, found: Native | None) -> str:
    lines = ["import kinshot", "", 'model = kinshot.load("FOLDER")  # verified', 'features = model.embed(samples)["backbone"]']
    if found is not None:
        first = ["import timm", "", 'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # on the Hub: hf-hub:NAME', ""]
        return _fenced([*first, "# or, with the projector and without normalising by hand", *lines])
    hub = ["", "from kinshot.exports.hub import HubModel", "", 'model = HubModel.from_pretrained("FOLDER")  # or its name on the Hub']
    return _fenced([*lines, *hub])


def _training(subject: Subject) -> str:
    checkpoint, recipe = subject.run.checkpoint, subject.run.recipe
    if checkpoint.origin:
        return f"{checkpoint.origin[:1].upper()}{checkpoint.origin[1:]}. How it was trained is not known here."
    views = "" if recipe.views == UNKNOWN else f", views `{recipe.views.name}`"
    rows = [
        f"recipe `{recipe.name}` (`{RECIPE}`), SHA-256 `{subject.identity['recipe_sha256']}`",
        f"method `{recipe.method.name}`, encoder `{subject.encoder.name}`{views}, seed {recipe.seed}",
        *([f"terms beside the method's loss: {', '.join(term.objective.name for term in recipe.all_terms)}"] if recipe.all_terms else []),
        *([f"began with `{Path(recipe.init).name}`"] if recipe.init else []),
        *([f"taught by {', '.join(f'`{Path(name).name}`' for name in recipe.teachers)}"] if recipe.teachers else []),
        f"{subject.reached}",
        f"encoder's weights: SHA-256 `{subject.identity['encoder_sha256']}` over names and values",
    ]
    return "\n".join(f"- {row}" for row in rows)


def _data(subject: Subject) -> str:
    """The data and its licence, as far as they are known."""
    unsaid = "The licence of the weights is for whoever publishes them to say: set `license` at the top."
    data = subject.run.recipe.data
    if data == UNKNOWN:
        return f"- trained on: {NOT_KNOWN}\n- licence of the data: {NOT_KNOWN}\n\n{unsaid}"
    settings = {key: value for key, value in data.settings.items() if key != "root" and value not in (None, "", ())}
    said = ", ".join(f"{key} {value}" for key, value in settings.items())
    count = subject.run.checkpoint.state.get("samples")
    rows = [
        f"trained on: `{data.name}`" + (f" ({said})" if said else "") + (f", {count} samples" if count else ""),
        f"licence of the data: {_licence(data.name)}",
    ]
    return "\n".join(f"- {row}" for row in rows) + f"\n\n{unsaid}"


def _licence(source: str) -> str:
    """What a source's own description says of its licence."""
    if source not in SOURCES.entries:
        return NOT_KNOWN
    found = re.search(r"^Licence: (.+?)(?:\n\n|\Z)", SOURCES.entry(source).docstring, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else f"{NOT_KNOWN} to kinshot; ask whoever gives `{source}` out"


def _measured(subject: Subject) -> str:
    if not subject.results:
        return "Nothing was given to this card (`ssl export --results FILE`)."
    return "\n\n".join(_result(document) for document in subject.results)


def _result(document: Mapping[str, Any]) -> str:
    rows = [[str(row["label"]), str(row["metric"]), _figure(row), str(row["n"])] for row in document["rows"] if not row.get("part_of")]
    table = _table(["", "", "mean ± half of the 95 % interval", "n"], rows)
    protocol = _bullets({**document["data"], "versions": document["versions"]})
    return f"### {document['name']}\n\n{table}\n\nProtocol:\n\n{protocol}\n\n{_fenced(str(document['command']).splitlines(), 'sh')}"


def _figure(row: Mapping[str, Any]) -> str:
    spread = row["ci95"]
    return f"{row['mean']:.2f} ± {spread:.2f}" if isinstance(spread, int | float) else f"{row['mean']:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _limits(subject: Subject) -> str:
    rows = ["features were compared with those of the original before this folder was written, in single precision on a CPU"]
    if subject.input.kind == "image":
        rows.append("samples of another size are to be resized as said above; features of other resizing differ")
    if subject.results:
        rows.append("figures hold for the data, protocol and intervals that stand beside them, and for no others")
    else:
        rows.append(
            "how good its features are is not said here: measure them on your own classes (`fewshot eval FOLDER --data folder:PHOTOS`)"
        )
    if subject.reached.finished is False:
        rows.append("training did not get to its end")
    rows.append("what the data show, and whom they leave out, the features inherit")
    return "\n".join(f"- {row}" for row in rows)


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {_words(value)}" for key, value in values.items() if value not in (None, "", [], {}))


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def _fenced(lines: Sequence[str], language: str = "python") -> str:
    return "\n".join([f"```{language}", *lines, "```"])
