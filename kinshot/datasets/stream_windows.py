"""A stream of lines cut into windows as it comes: what is held of it is one window of every modality and the line that came last."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import ConfigError
from kinshot.datasets.stream_lines import BadLine, Line, Modality
from kinshot.datasets.stream_track import StreamTrack

_EPS = 1e-6


@dataclass(frozen=True)
class StreamCut:
    """How a stream is cut.

    Args:
        seconds: length of a window.
        step: seconds from the begin of a window to that of the next.
        wait: a window is given out when all modalities have come to its end, or one has come to so many seconds behind it.
        gap: longest time without a line, in seconds, that a stream goes on over; nothing was measured in it.
        end: what becomes of the end of a stream that fills no window: a stream shorter than one window is filled up with NaN (pad), or
            whatever is left is given out as it is (rest), or it is left out.
    """

    seconds: float
    step: float
    wait: float = 0.0
    gap: float = math.inf
    end: str = "leave out"

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and 0 < self.step < math.inf):
            raise ConfigError(f"windows of a stream: expected seconds and step above 0, got {self.seconds} and {self.step}")
        if not (0 <= self.wait < math.inf and self.gap >= 0):
            raise ConfigError(f"windows of a stream: expected wait and gap of at least 0 s, got {self.wait} and {self.gap}")
        if self.end not in ("leave out", "pad", "rest"):
            raise ConfigError(f"windows of a stream: end is 'leave out', 'pad' or 'rest', got {self.end!r}")


@dataclass(frozen=True)
class Window:
    """What was measured from `start` to `end`, in seconds on the stream's clock: float32 (n, C) by modality, NaN where nothing was.

    `line` is its number where a window is what one line says.
    """

    start: float
    end: float
    recording: str | None
    steps: Mapping[str, np.ndarray]
    line: int | None = None


@dataclass(frozen=True)
class Began:
    """Another stream began, and no window holds something of both; `why`, for people."""

    start: float
    recording: str | None
    why: str


@dataclass(frozen=True)
class Short:
    """A stream ended before one window was full, and none was given out."""

    start: float
    end: float
    recording: str | None


class LineWindows:
    """Every line is a window, which knows of no other; what it lacks of `seconds` was not measured.

    Args:
        modalities: that lines may speak of.
        seconds: length of a window.

    Attributes:
        counts: nothing, as all is taken as it comes.
        left: no time is left over.
    """

    def __init__(self, modalities: Mapping[str, Modality], seconds: float) -> None:
        self.modalities, self.seconds = modalities, seconds
        self.counts: Counter[str] = Counter()
        self.left = 0.0
        self._recording: str | None = None

    def add(self, line: Line) -> Iterator[Window]:
        """The window that a line is. Raises BadLine for one that says more than a window holds."""
        for name, values in line.steps.items():
            length = math.floor(self.seconds * self.modalities[name].rate + _EPS)
            if len(values) > length:
                raise BadLine(
                    f"line {line.number}, {name}: {len(values)} steps are no window, which has {length}: cut it, or stream the steps"
                )
        self._recording = self._recording if line.recording is None else line.recording
        nothing = {name: np.zeros((0, one.channels), np.float32) for name, one in self.modalities.items()}
        start = line.time or 0.0
        yield Window(start, start + self.seconds, self._recording, {**nothing, **line.steps}, line.number)

    def close(self) -> Iterator[Window]:
        """Nothing is left."""
        return iter(())


class StreamWindows:
    """Windows of the streams that lines tell of.

    The clock of a stream begins with its first line, at its time, or at 0 where lines have no times. Windows begin there and with every
    `step` from it. A stream ends, and another begins, where lines name another recording, where times go back, and where no line came for
    longer than `gap`. A modality that is missing holds up nobody for longer than `wait`; without times it goes on, when it comes again,
    from where the others are.

    Args:
        modalities: that lines may speak of.
        cut: how windows are cut.

    Attributes:
        counts: what should be said of what was not taken as it came, and how often.
        left: seconds at the ends of streams that lie in no window.
    """

    def __init__(self, modalities: Mapping[str, Modality], cut: StreamCut) -> None:
        self.modalities, self.cut = modalities, cut
        self.counts: Counter[str] = Counter()
        self.left = 0.0
        self.tracks: dict[str, StreamTrack] = {}  # none between streams
        self._recording: str | None = None
        self._timed = False
        self._origin = self._front = 0.0
        self._given = 0  # windows of this stream
        self._number = 0  # of the line

    @property
    def held(self) -> dict[str, int]:
        """Steps in memory by modality."""
        return {name: track.held for name, track in self.tracks.items()}

    def add(self, line: Line) -> Iterator[Window | Began | Short]:
        """What a line completes.

        Raises:
            BadLine: a line with a time in a stream without, or the other way round; nothing of it was taken.
            DataError: times that say another rate than the encoder takes.
        """
        why = self._break(line) if self.tracks else ""
        if why:
            yield from self.close()
        self._number = line.number
        if not self.tracks:
            self._begin(line)
        if why:
            yield Began(self._origin, self._recording, why)
        time = self._since(line)
        if time is not None:
            self._front = max(self._front, time)
        for name, values in line.steps.items():
            track = self.tracks[name]
            track.put(values, time, self._until, self.counts)
            self._front = max(self._front, track.began)
        while self._complete():
            yield self._window()

    def close(self) -> Iterator[Window | Short]:
        """What the end of the stream leaves to be given out. Raises DataError as `add` does."""
        begun = [track for track in self.tracks.values() if track.zero is not None]
        limit = max((track.reached for track in begun), default=0.0)
        while begun and self._next + self.cut.seconds <= limit + _EPS:
            yield self._window()
        rest = limit - (self._next - self.cut.step + self.cut.seconds if self._given else 0.0)
        if begun and rest > _EPS:
            pads = self.cut.end == "pad" and not self._given
            if pads or self.cut.end == "rest":
                yield self._window(self.cut.seconds if pads else limit)
            else:
                self._check_rates()
                self.left += rest
                if not self._given:
                    yield Short(self._origin, self._origin + limit, self._recording)
        self.tracks = {}

    def _begin(self, line: Line) -> None:
        self.tracks = {name: StreamTrack(name, modality) for name, modality in self.modalities.items()}
        self._timed, self._given = line.time is not None, 0
        self._recording = self._recording if line.recording is None else line.recording
        self._origin, self._front = line.time or 0.0, 0.0

    def _since(self, line: Line) -> float | None:
        """A line's time since the stream began: that since 1970 leaves a float too few digits for a step."""
        return None if line.time is None else line.time - self._origin

    def _break(self, line: Line) -> str:
        """Why a line begins another stream; empty where it goes on with this one."""
        if line.recording is not None and line.recording != self._recording:
            return "another recording"
        time = self._since(line)
        if (time is not None) != self._timed:
            have = "has no time, and those before it have" if self._timed else "has a time, and those before it have none"
            raise BadLine(f"line {line.number} {have}: give all lines of a recording a time, or none")
        if time is None:
            return ""
        if any(self.tracks[name].goes_back(time) for name in line.steps) or time < self._front - self.cut.gap - _EPS:
            return "the time goes back"
        silent = time - max(self._front, *(track.reached for track in self.tracks.values()))
        return f"nothing for {silent:.6g} s" if silent > self.cut.gap + _EPS else ""

    @property
    def _next(self) -> float:
        """When the next window begins, since the stream did."""
        return self._given * self.cut.step

    @property
    def _until(self) -> float:
        """Up to when no window is to come any more: the end of the last one, or, where windows overlap, the begin of the next."""
        return min(self._next, self._next - self.cut.step + self.cut.seconds) if self._given else 0.0

    def _complete(self) -> bool:
        """Whether nothing more is to be expected of the next window."""
        end = self._next + self.cut.seconds - _EPS
        return all(track.reached >= end for track in self.tracks.values()) or self._front >= end + self.cut.wait

    def _check_rates(self) -> None:
        for track in self.tracks.values():
            track.check_rate(self._number)

    def _window(self, end: float | None = None) -> Window:
        """The next window, which ends where windows do or at `end`."""
        start = self._next
        end = start + self.cut.seconds if end is None else end
        self._check_rates()
        if not self._timed:
            for track in self.tracks.values():
                track.wait_no_more(end)
        steps = {name: track.between(start, end) for name, track in self.tracks.items()}
        self._given += 1
        for track in self.tracks.values():
            track.forget(self._next)
        return Window(self._origin + start, self._origin + end, self._recording, steps)
