"""What the classes of heads are called; imports neither torch nor scikit-learn."""

from __future__ import annotations

from kinshot.fewshot import HEADS


def class_name(head: str) -> str:
    """What the class of a head is called: BdCspnClassifier for bd_cspn."""
    return "".join(f"{word[:1].upper()}{word[1:]}" for word in head.split("_")) + "Classifier"


def heads_by_class() -> dict[str, str]:
    """Every head of the registry by the name of its class."""
    return {class_name(head): head for head in HEADS.names()}
