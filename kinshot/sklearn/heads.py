"""Few-shot heads as scikit-learn classifiers: a class for each head of the registry, with the head's settings as its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.schema import REQUIRED, argument_help
from kinshot.fewshot import HEADS
from kinshot.fewshot.base_statistics import BaseStatistics, base_statistics
from kinshot.fewshot.evaluate import build_head, takes
from kinshot.fewshot.records import Head
from kinshot.fewshot.scores import scores_of
from kinshot.fewshot.specs import parse_head
from kinshot.recipes.loaded import read
from kinshot.runs.embedder import from_checkpoint
from kinshot.runs.trained_heads import INPUT, trained_heads
from kinshot.sklearn.files import Part, write_parts
from kinshot.sklearn.naming import class_name

PREFIX = "head_"
_DTYPES = [np.float64, np.float32]
_KINDS = {"i": "numbers", "u": "numbers", "f": "numbers", "b": "truth values", "U": "texts"}
"""What labels are, by the kind of their array."""


def _sure(self: FewShotClassifier) -> bool:
    if self.scores_kind != "similarities":
        return True
    raise AttributeError(
        f"{type(self).__name__} has no predict_proba with these settings: the scores of head {self.head} are similarities, which say "
        "nothing of how sure an answer is; wrap it in sklearn.calibration.CalibratedClassifierCV, or choose another head"
    )


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """A few-shot head that answers from the examples it was given; the base of a class for each head, `LogisticClassifier` and others.

    What is fitted are the examples themselves: an inductive head asks them for every query anew, a transductive one looks at all queries of
    one call together, so that an answer depends on what else is asked at the same time. Parameters are the settings of the head, under
    their own names but for those that mean something else to scikit-learn: `transform` is `head_transform`.

    Attributes:
        head: name of the head in the registry.
        classes_: the classes, sorted.
        support_: features of the examples, (N, D).
        labels_: class of each example, (N,), a place in `classes_`.

    >>> import kinshot.sklearn
    >>> X, y = np.array([[1.0, 0.0], [0.9, 0.2], [0.1, 0.9]]), np.array(["mug", "mug", "jar"])
    >>> model = kinshot.sklearn.LogisticClassifier(C=10.0).fit(X, y)
    >>> model.predict([[0.8, 0.1]]), model.classes_
    (array(['mug'], dtype='<U3'), array(['jar', 'mug'], dtype='<U3'))
    >>> model.partial_fit([[-1.0, 0.0]], ["lid"]).predict([[-0.9, 0.1]])  # a new class, from one example
    array(['lid'], dtype='<U3')
    """

    head: ClassVar[str] = ""
    _names: ClassVar[Mapping[str, str]] = {}  # parameters by the settings of the head

    def fit(self, X: Any, y: Any) -> Self:
        """Take examples (N, D) of classes (N,) in place of all that were there. Raises ConfigError for settings that the head refuses."""
        X, y = validate_data(self, X, y, dtype=_DTYPES)
        self._checked_settings()
        self._take(X, _targets(y))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Take further examples, of classes that are there or of new ones: the same as `fit` on all of them together, in their order.

        `classes` need not be given; where they are, examples of others are refused.
        """
        if not hasattr(self, "classes_"):
            X, y = validate_data(self, X, y, dtype=_DTYPES)
            self._checked_settings()
        else:
            X, y = validate_data(self, X, y, dtype=_DTYPES, reset=False)
        y = _targets(y)
        if classes is not None and (strange := sorted(set(y.tolist()) - set(np.asarray(classes).tolist()))):
            raise ValueError(f"y has the class {strange[0]!r}, which is none of the classes given: add it to them, or leave classes out")
        if hasattr(self, "classes_"):
            kinds = [_KINDS[one.dtype.kind] for one in (self.classes_, y)]
            if kinds[0] != kinds[1]:
                raise ValueError(f"the classes so far are {kinds[0]}, those of the new examples {kinds[1]}: give labels of one kind")
            X, y = np.concatenate([self.support_, X]), np.concatenate([self.classes_[self.labels_], y])
        self._take(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each query (Q, D), as `decision_function` has it highest."""
        best = self._scores(X).argmax(1)
        return np.asarray(self.classes_[best])

    def decision_function(self, X: Any) -> np.ndarray:
        """The head's own scores, (Q, C), float64; of two classes how far the second is above the first, (Q,)."""
        scores = self._scores(X)
        if scores.shape[1] == 1:
            return scores[:, 0]
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    @available_if(_sure)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (Q, C), of heads whose scores say it: logits, logarithms of probabilities, or probabilities."""
        scores = torch.from_numpy(self._scores(X))
        shares = scores.clamp(min=0) if self.scores_kind == "probabilities" and scores.shape[1] > 1 else scores.softmax(1)
        return (shares / shares.sum(1, keepdim=True)).numpy()

    @property
    def scores_kind(self) -> str:
        """What the scores are with these settings: logits, log_probabilities, probabilities or similarities (`kinshot.fewshot.scores`)."""
        return scores_of(self.head, self._checked_settings())

    @property
    def transductive(self) -> bool:
        """Whether the head looks at all queries of one call together, as the first line of its documentation says."""
        return HEADS.entry(self.head).summary.rstrip(".").endswith("transductive")

    def save(self, path: str | Path) -> None:
        """Write or replace a file that `kinshot.sklearn.load` reads. Raises as `kinshot.sklearn.save`."""
        write_parts(Path(path), {"": self.as_part()})

    def as_part(self) -> Part:
        """What a file keeps of it: settings, examples and classes. Raises NotFittedError."""
        check_is_fitted(self)
        tensors = {"support": torch.from_numpy(self.support_), "labels": torch.from_numpy(self.labels_)}
        base = getattr(self, "base", None)
        if base is not None:
            features, labels = _divided(base)
            tensors["base_features"] = torch.from_numpy(features)
            tensors |= {} if labels is None else {"base_labels": torch.from_numpy(labels)}
        run, names = getattr(self, "run", None), getattr(self, "feature_names_in_", None)
        facts = {
            "classes": self.classes_.tolist(),
            "labels": self.classes_.dtype.str,
            "run": None if run is None else str(Path(run).absolute()),
            "columns": None if names is None else [str(name) for name in names],
        }
        return Part("head", self.head, self._checked_settings(), facts, tensors)

    @classmethod
    def from_part(cls, part: Part) -> FewShotClassifier:
        """What `as_part` gave. Raises KeyError, TypeError, ValueError or an error of kinshot where it does not describe a classifier."""
        kind = class_of(part.name)
        found = kind(**{kind._names[setting]: value for setting, value in part.parameters.items()})
        found._checked_settings()
        support, labels = part.tensors["support"].numpy(), part.tensors["labels"].numpy()
        classes = np.array(part.facts["classes"], dtype=np.dtype(part.facts["labels"]))
        if support.ndim != 2 or support.dtype.kind != "f" or not np.isfinite(support).all() or labels.shape != support.shape[:1]:
            raise ValueError(f"its examples are {support.dtype} {support.shape} with labels {labels.shape}")
        if classes.dtype.kind not in _KINDS or classes.tolist() != part.facts["classes"] or classes.ndim != 1:
            raise ValueError(f"its classes are no labels of the type {part.facts['labels']}")
        if labels.dtype != np.int64 or not np.array_equal(np.unique(labels), np.arange(len(classes))):
            raise ValueError("its labels are no places in its classes, or a class has no example")
        if not np.array_equal(np.unique(classes), classes):
            raise ValueError("its classes are not sorted, or one is there twice")
        found.support_, found.labels_, found.classes_, found.n_features_in_ = support, labels, classes, support.shape[1]
        if part.facts["columns"] is not None:
            if len(part.facts["columns"]) != support.shape[1]:
                raise ValueError(f"it has {len(part.facts['columns'])} names of columns for {support.shape[1]} features")
            found.feature_names_in_ = np.array(part.facts["columns"], dtype=object)
        if "base_features" in part.tensors:
            base = part.tensors["base_features"].numpy()
            found.set_params(base=(base, part.tensors["base_labels"].numpy()) if "base_labels" in part.tensors else base)
            statistics = _base(part.name, found.get_params()["base"])
            if statistics is None or len(statistics.mean) != support.shape[1]:
                raise ValueError(f"its base has features {base.shape}, its examples {support.shape}")
        if part.facts["run"] is not None:
            found.set_params(run=str(part.facts["run"]))
        return found

    def _take(self, X: np.ndarray, y: np.ndarray) -> None:
        self.classes_, places = np.unique(y, return_inverse=True)
        self.labels_ = places.astype(np.int64)
        self.support_ = np.array(X)  # a copy: what becomes of the caller's array is not the model's business

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        ways = len(self.classes_)
        if ways == 1:  # every answer is this class, whatever the head
            return np.zeros((len(X), 1))
        dtype = np.result_type(X, self.support_)
        support, query = (torch.from_numpy(np.array(one, dtype=dtype))[None] for one in (self.support_, X))
        with torch.no_grad():
            scores = self._bound()(support, torch.from_numpy(self.labels_)[None], query, ways)[0]
        return scores.double().numpy()

    def _checked_settings(self) -> dict[str, Any]:
        """Every setting by its own name, as the head takes it. Raises ConfigError."""
        given = {setting: _plain(getattr(self, name)) for setting, name in self._names.items()}
        checked, problems = HEADS.check(self.head, given)
        if problems:
            raise ConfigError("; ".join(problems))
        return checked

    def _bound(self) -> Head:
        settings, base = self._checked_settings(), _base(self.head, getattr(self, "base", None))
        run = getattr(self, "run", None)
        if run is None:
            return build_head(self.head, settings, base=base)
        loaded = read(Path(run))
        heads = trained_heads(loaded, from_checkpoint(loaded))
        head = heads.build(self.head, settings, INPUT if takes(self.head, "encoder") else "backbone", base)
        if head is None:
            raise ConfigError(f"{run} trained nothing for head {self.head}: name a run of method {self.head}")
        return head


def classifier(head: str, **settings: Any) -> FewShotClassifier:
    """The classifier of a head by its name, or by name and settings as commands take them, `prototype:distance=squared`.

    Args:
        head: a name of `kinshot.heads`, or a text of it with settings.
        settings: parameters of its class.

    Raises:
        ConfigError: an unknown head or setting.

    >>> import kinshot.sklearn
    >>> kinshot.sklearn.classifier("nearest:neighbors=3")
    NearestClassifier(neighbors=3)
    >>> kinshot.sklearn.classifier("tim", steps=50).get_params()["steps"]
    50
    """
    name, given = parse_head(head)
    kind = class_of(name)
    return kind(**{kind._names[setting]: value for setting, value in given.items()} | settings)


@cache
def class_of(head: str) -> type[FewShotClassifier]:
    """The class of a head, made of its settings. Raises ConfigError for an unknown head."""
    entry = HEADS.entry(head)
    names = {setting: f"{PREFIX}{setting}" if _taken(setting) else setting for setting in entry.parameters}
    defaults = {names[setting]: parameter.default for setting, parameter in entry.parameters.items()}
    wired = {"base": ("base", "base_mean"), "run": ("network", "encoder")}
    defaults |= {name: None for name, parameters in wired.items() if any(takes(head, one) for one in parameters)}

    def __init__(self: FewShotClassifier, **parameters: Any) -> None:
        if missing := [name for name, default in defaults.items() if default is REQUIRED and name not in parameters]:
            raise ConfigError(f"{class_name(head)} needs the parameter {missing[0]}: give it a value")
        if strange := [name for name in parameters if name not in defaults]:
            meant = f"call it {names[strange[0]]}" if strange[0] in names else suggest(strange[0], defaults)
            raise ConfigError(f"{class_name(head)} has no parameter {strange[0]!r}: {meant}")
        for name, default in defaults.items():
            setattr(self, name, parameters.get(name, default))

    words = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=inspect.Parameter.empty if default is REQUIRED else default)
        for name, default in defaults.items()
    ]
    __init__.__qualname__ = f"{class_name(head)}.__init__"
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = inspect.Signature([own, *words])  # type: ignore[attr-defined]  # get_params and tools read it
    text = _documented(entry.docstring, names, [name for name in wired if name in defaults])
    body = {"__init__": __init__, "__doc__": text, "__module__": "kinshot.sklearn", "head": head, "_names": names}
    return type(class_name(head), (FewShotClassifier,), body)


_WIRED = {
    "base": "features (N, D) of base classes, or these and their labels (N,): their mean is what `cl2n` centres on; None for none.",
    "run": "a run of `fewshot train` that learned what this head needs; None for none.",
}


def _documented(text: str, names: Mapping[str, str], wired: list[str]) -> str:
    """The head's documentation with the parameters of its class in place of its arguments."""
    about, helps = text.split("\nArgs:", 1)[0], argument_help(text)
    lines = [f"    {name}: {helps.get(setting, '')}" for setting, name in names.items()] + [f"    {name}: {_WIRED[name]}" for name in wired]
    return "\n".join([about.rstrip(), "", "Args:", *lines, ""])


def _taken(name: str) -> bool:
    """Whether a name means something to scikit-learn already: what has a `transform`, for example, is a transformer."""
    return hasattr(FewShotClassifier, name) or name.endswith("_") or name in ("transform", "fit_transform", "base", "run", "coef_")


def _targets(y: np.ndarray) -> np.ndarray:
    check_classification_targets(y)
    y = column_or_1d(y)
    if y.dtype.kind == "O" and all(isinstance(one, str) for one in y.tolist()):
        y = y.astype(str)
    if y.dtype.kind not in _KINDS:
        raise ValueError(f"labels must be numbers, truth values or texts, got {y.dtype}: convert them")
    return y


def _plain(value: Any) -> Any:
    """A number of NumPy's, as grids are made of, as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _base(head: str, given: Any) -> BaseStatistics | None:
    """Statistics of the base classes as far as the head needs them. Raises DataError."""
    if given is None:
        return None
    features, labels = _divided(given)
    covariances = takes(head, "base")
    if labels is None and covariances:
        raise DataError(f"head {head} needs base classes: give base=(features, labels)")
    places = np.zeros(len(features), np.int64) if labels is None else labels
    return base_statistics(torch.from_numpy(features), places, covariances=covariances)


def _divided(base: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Features of base classes, and of which class each is, where that was given."""
    features, labels = base if isinstance(base, tuple) and len(base) == 2 else (base, None)
    return np.array(features), None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
