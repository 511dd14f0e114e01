"""What one modality of a stream measured of late: steps at its own rate, placed by their times, let go when no window needs them."""

from __future__ import annotations

import math
from collections import Counter, deque

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets.recording import RATE_TOLERANCE
from kinshot.datasets.stream_lines import Modality

REPEATED = "steps are left out, whose place another one has"
LATE = "steps came too late for their windows"
MOVED = "times a modality without times that had fallen behind went on from where the others were"

_EPS = 1e-4  # steps: times since 1970 are no more exact
_NEAR = 0.75  # steps that a measurement may lie from its place
_PACES = 256  # lines whose times are held against the rate
_ENOUGH = 8  # steps that say something of it


class StreamTrack:
    """The steps of one modality that a window may still need.

    Steps with times take places on a grid that begins with the first, each the next one if its time lies within three quarters of a step
    of that, so that times may jitter; a gap is left where they jump, and a step whose place is taken is left out. Steps without times
    follow one another at the rate.

    Args:
        name: for messages.
        modality: its channels and rate.

    Attributes:
        zero: time of place 0, in seconds; None before anything came.
        first: place of the first step that is held.
        next: place behind the last step.
    """

    def __init__(self, name: str, modality: Modality) -> None:
        self.name, self.rate, self.channels = name, modality.rate, modality.channels
        self.zero: float | None = None
        self.first = self.next = 0
        self.began = -math.inf  # time of the first step of the last line
        self._parts: deque[np.ndarray] = deque()
        self._pace: deque[tuple[float, int]] = deque(maxlen=_PACES)
        self._count = 0  # steps of the last line
        self._behind = False

    @property
    def reached(self) -> float:
        """Time up to which it has come: one step behind the last one."""
        return -math.inf if self.zero is None else self.zero + self.next / self.rate

    @property
    def held(self) -> int:
        """Steps in memory."""
        return sum(map(len, self._parts))

    def goes_back(self, time: float) -> bool:
        """Whether a line at `time` lies before the last one by more than a step."""
        return (self.began - time) * self.rate > 1 + _EPS

    def place(self, time: float) -> int:
        """The first place at or after a time."""
        return math.ceil((time - (time if self.zero is None else self.zero)) * self.rate - _EPS)

    def put(self, values: np.ndarray, time: float | None, given: float, counts: Counter[str]) -> None:
        """Take the steps (n, C) of a line.

        Args:
            values: the steps.
            time: of the first of them; None places them behind those before.
            given: time up to which no window is to come any more.
            counts: to which is added what should be said.
        """
        if self.zero is None:
            self.zero = 0.0 if time is None else time
        if time is None:
            slot = self.next
            counts[MOVED] += self._behind
            self._behind = False
            self.began = self.reached
        else:
            slot = self._slot(time, len(values))
        taken = min(max(self.next - slot, 0), len(values))
        counts[REPEATED] += taken
        values, slot = values[taken:], slot + taken
        if not len(values):
            return
        if time is not None:
            counts[LATE] += min(max(self.place(given) - slot, 0), len(values))
        if not self._parts:
            self.first = slot
        elif slot > self.next:
            self._parts.append(np.full((slot - self.next, self.channels), np.nan, np.float32))
        self._parts.append(values)
        self.next = slot + len(values)

    def _slot(self, time: float, count: int) -> int:
        """The place of a line's first step by its time, which is kept to be held against the rate."""
        if self._count:
            self._pace.append(((time - self.began) * self.rate, self._count))
        self.began, self._count = time, count
        where = (time - (self.zero or 0.0)) * self.rate
        return self.next if abs(where - self.next) < _NEAR else round(where)

    def wait_no_more(self, time: float) -> None:
        """Without times: what did not come before `time` counts as not measured, and what comes now goes on from there."""
        if self.zero is None:
            self.zero = 0.0
        behind = self.place(time) - self.next
        if behind > 0:
            if self._parts:
                self._parts.append(np.full((behind, self.channels), np.nan, np.float32))
            self.next += behind
            self.first = self.first if self._parts else self.next
            self._behind = True

    def between(self, start: float, end: float) -> np.ndarray:
        """The steps (n, C) at the places from `start` to before `end`, in seconds, NaN where there are none; none before anything came."""
        if self.zero is None:
            return np.zeros((0, self.channels), np.float32)
        low, high = self.place(start), self.place(end)
        joined = np.concatenate([*self._parts, np.zeros((0, self.channels), np.float32)])
        self._parts = deque([joined] if len(joined) else [])
        found = np.full((max(high - low, 0), self.channels), np.nan, np.float32)
        here = joined[max(low - self.first, 0) : max(high - self.first, 0)]
        begin = max(self.first - low, 0)
        found[begin : begin + len(here)] = here
        return found

    def forget(self, time: float) -> None:
        """Let go of what was measured before `time`."""
        drop = self.place(time) - self.first
        while self._parts and drop > 0:
            part = self._parts.popleft()
            if len(part) > drop:
                self._parts.appendleft(part[drop:].copy())  # a view would keep all of it
            gone = min(drop, len(part))
            self.first, drop = self.first + gone, drop - gone

    def check_rate(self, line: int) -> None:
        """Raises DataError where the times so far, gaps left out, say another rate; one step of jitter is allowed for."""
        if not self._pace:
            return
        gone, steps = (np.array(column, dtype=np.float64) for column in zip(*self._pace, strict=True))
        whole = gone - steps * np.median(gone / steps) <= _NEAR
        said, count = float(gone[whole].sum()), float(steps[whole].sum())
        if count < _ENOUGH or abs(said - count) <= RATE_TOLERANCE * count + 1:
            return
        got = f"{self.rate * count / said:.4g} Hz" if said > 0 else "no time between lines"
        raise DataError(
            f"line {line}, {self.name}: the encoder takes {self.rate:g} Hz, and the times of the last {len(self._pace)} lines say {got}: "
            f"resample to {self.rate:g} Hz, bring times to seconds, and give each step once"
        )
