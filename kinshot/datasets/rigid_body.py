"""A body that moves and turns, and what an accelerometer, a gyroscope and a barometer that are fixed to it measure."""

from __future__ import annotations

import numpy as np

GRAVITY = 9.80665
"""m/s^2."""

_SEA_LEVEL = 1013.25
_LAPSE, _POWER = 2.25577e-5, 5.25588


def turned(angles: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4), w first, that turn the body to the world: yaw about z, then pitch about y, then roll about x.

    Args:
        angles: roll, pitch and yaw in radians (..., 3).
    """
    (cr, cp, cy), (sr, sp, sy) = (np.moveaxis(turn(angles / 2), -1, 0) for turn in (np.cos, np.sin))
    parts = (cr * cp * cy + sr * sp * sy, sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy)
    return np.stack(parts, axis=-1)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of quaternions (..., 4)."""
    (aw, ax, ay, az), (bw, bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    parts = (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
    return np.stack(parts, axis=-1)


def inverse(q: np.ndarray) -> np.ndarray:
    """The other way round, of unit quaternions (..., 4)."""
    return q * np.array([1.0, -1.0, -1.0, -1.0])


def rotated(q: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) turned by unit quaternions (..., 4)."""
    w, axis = q[..., :1], q[..., 1:]
    twice = 2 * np.cross(axis, vectors)
    return vectors + w * twice + np.cross(axis, twice)


def angular_rate(q: np.ndarray, step: float) -> np.ndarray:
    """Angular rate in the body's frame, rad/s (..., n, 3), of orientations (..., n, 4) that are `step` seconds apart.

    Turning by it for one step after the other gives the orientations again.
    """
    between = product(inverse(q[..., :-1, :]), q[..., 1:, :])
    between = between * np.where(between[..., :1] < 0, -1.0, 1.0)  # both signs are one turn: the shorter way
    half = np.linalg.norm(between[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(half, between[..., :1])
    rate = np.where(half > 1e-12, between[..., 1:] / np.maximum(half, 1e-12) * angle, 2 * between[..., 1:]) / step
    return np.concatenate([rate, rate[..., -1:, :]], axis=-2)


def specific_force(position: np.ndarray, q: np.ndarray, step: float) -> np.ndarray:
    """What an accelerometer at `position` (..., n, 3) in the world measures, m/s^2 in the body's frame: acceleration less gravity's.

    At rest and upright it is +g along z. The acceleration is the second difference of the position.
    """
    second = (position[..., 2:, :] - 2 * position[..., 1:-1, :] + position[..., :-2, :]) / step**2
    acceleration = np.concatenate([second[..., :1, :], second, second[..., -1:, :]], axis=-2)
    return rotated(inverse(q), acceleration + np.array([0.0, 0.0, GRAVITY]))


def pressure(height: np.ndarray) -> np.ndarray:
    """Air pressure in hPa at a height in metres above the sea, of the international standard atmosphere."""
    return _SEA_LEVEL * (1 - _LAPSE * height) ** _POWER
