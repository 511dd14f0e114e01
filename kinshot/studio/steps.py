"""The steps that the page can undo, and those that it undid and can do again."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from kinshot.core.errors import ConfigError
from kinshot.runs.undoing import Change


@dataclass(frozen=True)
class Step:
    """A change with what it is called.

    Attributes:
        change: what it did; of a step that was undone, the opposite.
        name: what it is called.
        drop: what the images of one drop share, by which several changes are one step; empty for none.
    """

    change: Change
    name: str
    drop: str = ""


class Steps:
    """Two piles.

    Args:
        most: steps that are kept; the oldest go first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._past: list[Step] = []
        self._undone: list[Step] = []
        self._lock = threading.Lock()

    @property
    def next_names(self) -> tuple[str, str]:
        """What would be undone, and what would be done again; empty for nothing."""
        with self._lock:
            return (self._past[-1].name if self._past else ""), (self._undone[-1].name if self._undone else "")

    def add(self, change: Change | None, name: str, drop: str = "") -> None:
        """A step was taken: what was undone before cannot be done again after it. Nothing happens where it changed nothing."""
        if change is None:
            return
        with self._lock:
            self._undone.clear()
            last = self._past[-1] if self._past else None
            if drop and last is not None and last.drop == drop:
                change, name = last.change.then(change), f"{len(last.change.after.keys() | change.after.keys())} images of one drop"
                self._past.pop()
            self._past = [*self._past, Step(change, name, drop)][-self.most :]

    def top(self, again: bool) -> Step:
        """The step on top of a pile. Raises ConfigError where there is none."""
        with self._lock:
            pile = self._undone if again else self._past
            if not pile:
                raise ConfigError("there is nothing to do again" if again else "there is nothing to undo")
            return pile[-1]

    def turn(self, done: Change | None, again: bool) -> None:
        """The step on top of a pile leaves it; what was done of it comes, the other way round, onto the other pile."""
        with self._lock:
            step = (self._undone if again else self._past).pop()
            if done is not None:
                (self._past if again else self._undone).append(Step(done.back, step.name))
