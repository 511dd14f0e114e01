"""People in motion, simulated: an accelerometer, a gyroscope and a barometer on one body that moves and turns."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets import SOURCES
from kinshot.datasets.people import Division, part_of
from kinshot.datasets.recording import Recording, Track, check_sensors, runs
from kinshot.datasets.rigid_body import angular_rate, pressure, rotated, specific_force, turned
from kinshot.datasets.windows import Cut, WindowSource

RATES = {"accelerometer": 50.0, "gyroscope": 50.0, "barometer": 10.0}
"""Steps in a second of each sensor, in Hz."""

_RATE = 100.0  # of the motion itself
_BLEND = 0.8  # seconds that passing from one activity to the next takes
_NOISE = {"accelerometer": 0.15, "gyroscope": 0.03, "barometer": 0.02}
_BIAS = {"accelerometer": 0.2, "gyroscope": 0.02}


class Activity(NamedTuple):
    """What people do: a tempo in Hz, and how far the body moves and turns at it.

    `along`, `across` and `up` are amplitudes in metres, `roll`, `pitch` and `yaw` in radians; the body goes up and down twice in a cycle
    unless `single`. `sharp` is the share of the next harmonic, `lean` a pitch that is held, `climb` metres upwards in a second, `spin`
    radians in a second about the vertical, `limp` how unlike the two halves of a cycle are.
    """

    tempo: float = 0.3
    along: float = 0.0
    across: float = 0.0
    up: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    sharp: float = 0.2
    lean: float = 0.0
    climb: float = 0.0
    spin: float = 0.0
    limp: float = 0.0
    single: float = 0.0


BASE = {
    "standing": Activity(0.25, 0.004, 0.004, 0.001, 0.01, 0.015, 0.01),
    "sitting": Activity(0.28, 0.002, 0.001, 0.001, 0.006, 0.008, 0.006, lean=0.35),
    "lying": Activity(0.25, 0.001, 0.001, 0.002, 0.004, 0.004, 0.004, lean=1.45),
    "walking": Activity(0.9, 0.02, 0.02, 0.02, 0.06, 0.05, 0.12),
    "walking upstairs": Activity(0.75, 0.02, 0.03, 0.03, 0.09, 0.08, 0.10, 0.3, 0.12, 0.28),
    "walking downstairs": Activity(0.95, 0.02, 0.02, 0.03, 0.07, 0.06, 0.10, 0.5, -0.05, -0.32),
    "running": Activity(1.35, 0.02, 0.02, 0.045, 0.09, 0.10, 0.22, 0.4, 0.1),
    "cycling": Activity(1.15, 0.006, 0.012, 0.006, 0.08, 0.03, 0.05, 0.1, 0.65),
}
NOVEL = {
    "jumping": Activity(1.9, 0.01, 0.01, 0.09, 0.03, 0.06, 0.03, 0.5, single=1.0),
    "squatting": Activity(0.45, 0.06, 0.01, 0.18, 0.03, 0.35, 0.02, 0.1, single=1.0),
    "rowing": Activity(0.5, 0.22, 0.01, 0.02, 0.02, 0.40, 0.02, 0.2, 0.3, single=1.0),
    "limping": Activity(0.7, 0.03, 0.04, 0.03, 0.12, 0.06, 0.10, 0.3, limp=0.8),
    "going up in a lift": Activity(0.25, 0.004, 0.004, 0.001, 0.01, 0.015, 0.01, climb=1.1),
    "spinning": Activity(0.6, 0.03, 0.03, 0.01, 0.05, 0.05, 0.04, spin=2.6),
}


@SOURCES.register("motion", kind="series")
def motion(
    *,
    split: Literal["all", "train", "val", "test"] = "train",
    classes: Literal["split", "base", "novel", "all"] = "split",
    sensors: tuple[str, ...] = ("accelerometer", "gyroscope", "barometer"),
    subjects: int = 24,
    seconds: float = 2.56,
    step: float = 1.28,
    stretch: float = 12.0,
    missing: float = 0.0,
    relative: tuple[str, ...] = ("barometer",),
    held_out: tuple[str, ...] = (),
    seed: int = 0,
) -> WindowSource:
    """Accelerometer, gyroscope (50 Hz) and barometer (10 Hz) on people in motion, simulated: three sensors of one rigid body.

    A body moves along a path and turns; where it is and how it stands give what all three sensors measure: acceleration less gravity's in
    the body's frame (m/s^2), angular rate (rad/s), and air pressure (hPa) of its height. Every person has an own gait and tempo, wears the
    sensors elsewhere and otherwise turned, and these have own biases; each recording has an own height and weather. A recording is one
    person doing every activity once, in an order of its own. Train, val and test share no person; six of the fourteen activities are
    novel, and never part of train. All is drawn by keys: the same settings give the same numbers.

    Args:
        split: train, val or test, people that have nobody in common (three fifths, a fifth, a fifth), or all.
        classes: base (8), novel (6) or all activities; split is base for train and val, novel for test, all for all.
        sensors: of accelerometer, gyroscope and barometer those to take, in order.
        subjects: people in all splits together.
        seconds: length of a window.
        step: seconds from a window to the next; windows lie within one activity.
        stretch: seconds of each activity, on average.
        missing: share of recordings in which each sensor, drawn for itself, measured nothing; one sensor is left to every recording.
        relative: sensors whose windows count as what they are around their own mean, as pressure does, whose level is weather.
        held_out: people who are tested on, all others being trained on or validated with; empty draws them.
        seed: of everything that is drawn.
    """
    if not 3 <= subjects <= 1000 or not 4 <= stretch <= 600 or not 0 <= missing < 1:
        wanted = "subjects must be in 3..1000, stretch in 4..600 seconds and missing from 0 to below 1"
        raise ConfigError(f"motion: {wanted}, got {subjects}, {stretch:g} and {missing:g}")
    check_sensors("motion", sensors, list(RATES))
    chosen = {"train": "base", "val": "base", "test": "novel", "all": "all"}[split] if classes == "split" else classes
    names = list({"base": BASE, "novel": NOVEL, "all": BASE | NOVEL}[chosen])
    everyone = [f"person {number:03d}" for number in range(subjects)]
    there = [Recording(person, {}, person) for person in everyone]
    kept, _ = part_of(there, split, Division(held_out=tuple(held_out), seed=seed), "motion")
    numbers = tuple(everyone.index(recording.subject) for recording in kept)
    recordings = [_recording(number, names, stretch, missing, seed) for number in numbers]
    cut = Cut(seconds, step, "pure", "stretches", relative=tuple(sensor for sensor in relative if sensor in sensors))
    return WindowSource(recordings, cut, names, f"motion/{split}", sensors)


def _person(number: int, seed: int) -> dict[str, np.ndarray]:
    """What is a person's own, whatever is done."""
    draws = keyed_numpy(seed, "motion person", number)
    return {
        "tempo": draws.uniform(0.85, 1.15, 1),
        "size": np.exp(draws.normal(0, 0.2, 6)),  # of the amplitudes
        "phase": draws.uniform(-0.6, 0.6, 6),
        "sharp": draws.uniform(0.6, 1.4, 1),
        "lean": draws.normal(0, 0.06, 1),
        "mount": np.concatenate([draws.normal(0, 0.2, 2), draws.uniform(-0.5, 0.5, 1)]),
        "place": draws.normal(0, [0.05, 0.08, 0.05]),
        "accelerometer": draws.normal(0, _BIAS["accelerometer"], 3),
        "gyroscope": draws.normal(0, _BIAS["gyroscope"], 3),
    }


def _recording(number: int, names: list[str], stretch: float, missing: float, seed: int) -> Recording:
    """A person doing each of some activities once."""
    person, draws = _person(number, seed), keyed_numpy(seed, "motion recording", number)
    order = draws.permutation(len(names))
    steps = np.rint(stretch * draws.uniform(0.85, 1.15, len(names)) * RATES["barometer"]).astype(np.int64) * int(_RATE / RATES["barometer"])
    labels = np.repeat(order, steps)
    table = np.array([BASE[name] if name in BASE else NOVEL[name] for name in names])
    moves = _blended(table[labels])
    position, angles = _path(moves, person, draws)
    q = turned(angles)
    where = position + rotated(q, np.broadcast_to(person["place"], position.shape))
    mounted = turned(person["mount"]) * np.array([1.0, -1.0, -1.0, -1.0])
    ideal = {
        "accelerometer": rotated(mounted, specific_force(where, q, 1 / _RATE)) + person["accelerometer"],
        "gyroscope": rotated(mounted, angular_rate(q, 1 / _RATE)) + person["gyroscope"],
        "barometer": pressure(draws.uniform(0, 300) + where[:, 2:]) + draws.normal(0, 8),
    }
    gone = draws.uniform(size=len(RATES)) < missing
    gone[draws.integers(len(RATES))] &= not gone.all()
    tracks = {}
    for (sensor, rate), lost in zip(RATES.items(), gone.tolist(), strict=True):
        values = ideal[sensor][:: int(_RATE / rate)]
        values = values + draws.normal(0, _NOISE[sensor], values.shape)
        if not lost:
            tracks[sensor] = Track(values.astype(np.float32), rate)
    stretches, done = runs(labels, 0.0, _RATE)
    return Recording(f"person {number:03d}", tracks, f"person {number:03d}", stretches, done)


def _blended(moves: np.ndarray) -> np.ndarray:
    """What is done at every step (n, A), passing smoothly from one activity to the next: a mean of means over time."""
    width = int(_BLEND * _RATE / 2)
    for _ in range(2):
        padded = np.concatenate([np.repeat(moves[:1], width, 0), moves, np.repeat(moves[-1:], width, 0)])
        sums = np.concatenate([np.zeros((1, moves.shape[1])), np.cumsum(padded, axis=0)])
        moves = (sums[2 * width + 1 :] - sums[: -2 * width - 1]) / (2 * width + 1)
    return moves


def _path(moves: np.ndarray, person: dict[str, np.ndarray], draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Position in metres and roll, pitch and yaw in radians at every step, (n, 3) each; nobody keeps the pace or goes straight."""
    (tempo, along, across, up, roll, pitch, yaw, sharp, lean, climb, spin, limp, single) = moves.T
    pace, turns = _blended(np.repeat(draws.normal(0, [0.06, 0.15], (len(moves) // int(_RATE) + 1, 2)), int(_RATE), axis=0)[: len(moves)]).T
    phase = 2 * np.pi * np.cumsum(tempo * person["tempo"] * (1 + pace)) / _RATE + draws.uniform(0, 2 * np.pi)

    def swing(amplitude: np.ndarray, part: int, harmonic: np.ndarray | float = 1.0) -> np.ndarray:
        """A wave of once (1) to twice (2) in a cycle."""
        at = phase + person["phase"][part]
        wave = (2 - harmonic) * (np.sin(at) + sharp * person["sharp"] * np.sin(2 * at + 0.7))
        wave = wave + (harmonic - 1) * (np.sin(2 * at) + sharp * person["sharp"] * np.sin(4 * at + 0.7))
        return amplitude * person["size"][part] * wave * (1 + limp * np.tanh(3 * np.sin(at)) / 2)

    heading = np.cumsum(spin + turns) / _RATE + draws.uniform(0, 2 * np.pi)
    forward, sideward, upward = swing(along, 0, 2 - single), swing(across, 1), swing(up, 2, 2 - single)
    position = np.stack(
        [
            np.cos(heading) * forward - np.sin(heading) * sideward,
            np.sin(heading) * forward + np.cos(heading) * sideward,
            upward + np.cumsum(climb) / _RATE,
        ],
        axis=1,
    )
    return position, np.stack([swing(roll, 3), lean + person["lean"] + swing(pitch, 4, 2 - single), heading + swing(yaw, 5)], axis=1)
