"""Simulated people in motion: three sensors that agree with one another, people and activities that are kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES, motion
from kinshot.datasets.rigid_body import GRAVITY, angular_rate, inverse, pressure, product, rotated, specific_force, turned

SMALL = {"subjects": 6, "stretch": 6.0}


def matrix(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """The rotation matrix of the three angles, written down as products."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    return np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ y @ x


def test_quaternions_turn_as_matrices_do():
    angles = np.random.default_rng(0).uniform(-1.4, 1.4, (5, 3))
    vectors = np.random.default_rng(1).normal(size=(5, 3))
    expected = [matrix(*a) @ v for a, v in zip(angles, vectors, strict=True)]
    np.testing.assert_allclose(rotated(turned(angles), vectors), expected, atol=1e-12)
    both = product(turned(angles[:1]), turned(angles[1:2]))
    np.testing.assert_allclose(rotated(both, vectors[:1])[0], matrix(*angles[0]) @ matrix(*angles[1]) @ vectors[0], atol=1e-12)
    np.testing.assert_allclose(rotated(inverse(turned(angles)), np.array(expected)), vectors, atol=1e-12)


def test_turning_by_the_gyroscope_gives_the_orientation():
    time = np.arange(400) / 100
    q = turned(np.stack([0.3 * np.sin(5 * time), 0.4 * np.cos(3 * time), 1.5 * time], axis=1))
    rates = angular_rate(q, 0.01)
    now = q[0]
    for row, rate in enumerate(rates[:-1]):
        angle = np.linalg.norm(rate) * 0.01
        now = product(now, np.array([np.cos(angle / 2), *(np.sin(angle / 2) * rate / np.linalg.norm(rate))]))
        assert abs(abs(now @ q[row + 1]) - 1) < 1e-9
    np.testing.assert_allclose(angular_rate(np.repeat(q[:1], 3, 0), 0.01), 0, atol=1e-12)
    np.testing.assert_allclose(angular_rate(np.array([q[0], -q[0]]), 0.01), 0, atol=1e-9)  # two signs of one turn


def test_an_accelerometer_feels_gravity_and_what_moves_it():
    q = turned(np.zeros((200, 3)))
    still = specific_force(np.zeros((200, 3)), q, 0.01)
    np.testing.assert_allclose(still, np.tile([0, 0, GRAVITY], (200, 1)), atol=1e-9)
    falling = np.zeros((200, 3))
    falling[:, 2] = -GRAVITY * (np.arange(200) / 100) ** 2 / 2
    np.testing.assert_allclose(specific_force(falling, q, 0.01), 0, atol=1e-6)
    on_its_back = turned(np.tile([0, -np.pi / 2, 0], (200, 1)))
    np.testing.assert_allclose(specific_force(np.zeros((200, 3)), on_its_back, 0.01)[0], [GRAVITY, 0, 0], atol=1e-9)
    turning = np.arange(200) / 100 * 3.0
    circle = np.stack([0.2 * np.cos(turning), 0.2 * np.sin(turning), np.zeros(200)], axis=1)
    q = turned(np.stack([np.zeros(200), np.zeros(200), turning], axis=1))
    np.testing.assert_allclose(specific_force(circle, q, 0.01)[1:-1], np.tile([-0.2 * 9, 0, GRAVITY], (198, 1)), atol=2e-3)


def test_air_is_thinner_further_up():
    assert pressure(np.array(0.0)) == pytest.approx(1013.25)
    assert pressure(np.array(1000.0)) == pytest.approx(898.7, abs=0.1)  # of the standard atmosphere
    assert float(pressure(np.array(10.0)) - pressure(np.array(0.0))) == pytest.approx(-1.2, abs=0.01)


def test_sensors_have_their_rates_and_windows_their_people():
    source = motion.motion(split="all", **SMALL)
    assert {name: (spec.shape, spec.rate) for name, spec in source.fields.items()} == {
        "accelerometer": ((3, 128), 50.0),
        "gyroscope": ((3, 128), 50.0),
        "barometer": ((1, 25), 10.0),
    }
    assert source.class_names == [*motion.BASE, *motion.NOVEL]
    assert len(source.attribute_names["subject"]) == 6
    assert not source.present
    # at rest an accelerometer feels gravity alone, and lying it lies along another axis than standing
    force = source.load(range(len(source)), ("accelerometer",))["accelerometer"].mean(2).numpy()
    still = np.isin(source.labels, [0, 1, 2])
    assert np.abs(np.linalg.norm(force[still], axis=1) - GRAVITY).max() < 0.8
    assert force[source.labels == 0, 2].mean() > 8.5
    assert force[source.labels == 2, 0].mean() < -8
    air = source.load(range(len(source)), ("barometer",))["barometer"][:, 0]
    slope = (air[:, -5:].mean(1) - air[:, :5].mean(1)).numpy()
    climbs = {name: slope[source.labels == label].mean() for label, name in enumerate(source.class_names)}
    assert climbs["going up in a lift"] < climbs["walking upstairs"] < -0.03 < 0.03 < climbs["walking downstairs"]
    turns = source.load(range(len(source)), ("gyroscope",))["gyroscope"].mean(2).norm(dim=1).numpy()
    assert turns[source.labels == source.class_names.index("spinning")].mean() == pytest.approx(motion.NOVEL["spinning"].spin, abs=0.5)


def test_parts_share_no_person_and_train_has_no_novel_activity():
    found = {split: SOURCES.build("motion", settings={**SMALL, "split": split}) for split in ("train", "val", "test")}
    people = [set(source.attribute_names["subject"]) for source in found.values()]
    assert [len(part) for part in people] == [4, 1, 1]
    assert not set.intersection(*people)
    assert [source.class_names for source in found.values()] == [list(motion.BASE), list(motion.BASE), list(motion.NOVEL)]
    whole = motion.motion(split="test", classes="all", **SMALL)
    assert len(whole.class_names) == 14
    assert set(whole.attribute_names["subject"]) == people[2]
    alone = motion.motion(split="test", held_out=("person 004",), **SMALL)
    assert alone.attribute_names["subject"] == ["person 004"]
    assert "person 004" not in motion.motion(split="train", held_out=("person 004",), **SMALL).attribute_names["subject"]


def test_a_seed_gives_the_same_numbers_and_another_seed_others():
    first, again, other = (motion.motion(split="val", seed=seed, **SMALL) for seed in (3, 3, 4))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    # a person is the same whoever else there is
    one = motion.motion(split="test", held_out=("person 002",), seed=1, **SMALL)
    more = motion.motion(split="test", held_out=("person 002",), seed=1, **{**SMALL, "subjects": 9})
    assert one.fingerprint() == more.fingerprint()


def test_sensors_may_be_missing():
    source = motion.motion(split="all", missing=0.5, **SMALL)
    assert set(source.present) == set(source.fields)
    assert np.any(list(source.present.values()), axis=0).all()
    for sensor, there in source.present.items():
        found = source.load(range(len(source)), (sensor,))[sensor]
        assert torch.equal(found.isnan().flatten(1).all(1), torch.from_numpy(~there))


def test_settings_out_of_range_are_named():
    for wrong in ({"subjects": 2}, {"stretch": 1.0}, {"missing": 1.0}):
        with pytest.raises(ConfigError, match=r"motion: subjects must be in 3\.\.1000"):
            motion.motion(**wrong)
    with pytest.raises(ConfigError, match="there is no subject 'nobody' to hold out"):
        motion.motion(held_out=("nobody",))


def test_some_sensors_measure_what_they_do_beside_the_others():
    whole, some = motion.motion(split="all", **SMALL), motion.motion(split="all", sensors=("barometer", "gyroscope"), **SMALL)
    assert list(some.fields) == ["barometer", "gyroscope"]
    for field, values in some.load(range(len(some)), some.fields).items():
        assert torch.equal(values, whole.load(range(len(whole)), (field,))[field])
    with pytest.raises(ConfigError, match="motion: expected sensors of accelerometer, gyroscope, barometer, each once, got compass"):
        motion.motion(sensors=("compass",))
