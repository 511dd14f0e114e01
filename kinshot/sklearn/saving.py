"""Fitted estimators to files of ours and back: safetensors and JSON, no pickle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from kinshot.core.errors import CheckpointError, ConfigError, KinshotError
from kinshot.sklearn.encoding import EncoderTransformer
from kinshot.sklearn.files import Part, read_parts, write_parts
from kinshot.sklearn.heads import FewShotClassifier

_READERS: dict[str, Callable[[Part], Any]] = {"head": FewShotClassifier.from_part, "encoder": EncoderTransformer.from_part}


def save(estimator: Any, path: str | Path) -> None:
    """Write or replace a file of a fitted classifier of kinshot, an `EncoderTransformer`, or a pipeline of these.

    The file holds the settings, the examples and their classes; an encoder goes by its name and the hash of its weights.

    Args:
        estimator: what to save.
        path: the file.

    Raises:
        ConfigError: an estimator of another library, which only its own tools can save, or an encoder without a name.
        DataError: the file cannot be written; what was there before is unchanged.

    >>> import kinshot.sklearn
    >>> model = kinshot.sklearn.PrototypeClassifier().fit(np.eye(2), ["mug", "jar"])
    >>> kinshot.sklearn.save(model, "kitchen.few")
    >>> kinshot.sklearn.load("kitchen.few").predict(np.eye(2))
    array(['mug', 'jar'], dtype='<U3')
    """
    steps = dict(estimator.steps) if isinstance(estimator, Pipeline) else {"": estimator}
    for name, step in steps.items():
        if not isinstance(step, FewShotClassifier | EncoderTransformer):
            where = f"step {name!r} of the pipeline" if name else "what was given"
            raise ConfigError(
                f"{where} is {type(step).__name__}, and only estimators of kinshot.sklearn are saved: save it by its own tools"
            )
    write_parts(Path(path), {name: step.as_part() for name, step in steps.items()})


def load(path: str | Path) -> Any:
    """A classifier, transformer or pipeline that `save` wrote, fitted as it was.

    Args:
        path: the file.

    Raises:
        CheckpointError: missing, foreign, damaged, or written by a newer version; or its encoder is missing or another one now.

    >>> import kinshot.sklearn
    >>> kinshot.sklearn.PrototypeClassifier(distance="squared").fit(np.eye(2), [3, 5]).save("numbers.few")
    >>> kinshot.sklearn.load("numbers.few")
    PrototypeClassifier(distance='squared')
    """
    found = {}
    for name, part in read_parts(Path(path)).items():
        try:
            found[name] = _READERS[part.kind](part)
        except CheckpointError as problem:
            raise CheckpointError(f"{path}: {problem}") from problem
        except (KeyError, TypeError, ValueError, KinshotError) as problem:
            what = f"{type(problem).__name__}: {problem}"
            raise CheckpointError(f"{path} does not describe an estimator ({what}): copy it again, or save it anew") from problem
    return found[""] if "" in found else Pipeline(list(found.items()))
