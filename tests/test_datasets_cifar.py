"""CIFAR from its binary and its Python files, which are read without unpickling."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.safe_pickle import read_pickled_data
from tests.trees import noise, write_cifar10, write_cifar100

SHARED = Path(__file__).resolve().parents[2] / "shared"


def test_cifar_binary_labels_and_pixels(tmp_path):
    write_cifar10(tmp_path)
    write_cifar100(tmp_path)
    ten = SOURCES.build("cifar10", settings={"root": str(tmp_path), "split": "test"})
    assert (ten.images.numpy() == noise(5, 3, 3072).reshape(3, 3, 32, 32)).all()
    assert ten.labels.tolist() == [0, 1, 9]
    assert ten.class_names[9] == "class9"
    assert len(SOURCES.build("cifar10", settings={"root": str(tmp_path)})) == 15
    for kind, labels in (("fine", [99, 7]), ("coarse", [19, 3])):
        source = SOURCES.build("cifar100", settings={"root": str(tmp_path), "labels": kind})
        assert source.labels.tolist() == labels
        assert source.class_names[labels[0]] == f"{kind}{labels[0]}"


def python2_pickle(content: dict[str, object]) -> bytes:
    """The bytes that Python 2's cPickle writes at protocol 2: text as byte strings, arrays with a raw byte string."""

    def value(item: object) -> bytes:
        if isinstance(item, str):
            return b"U" + bytes([len(item)]) + item.encode("latin-1")
        if isinstance(item, int):
            return b"K" + bytes([item])
        if isinstance(item, list):
            return b"](" + b"".join(map(value, item)) + b"e"
        rows, columns = item.shape
        state = b"K\x01J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        raw = b"\x89T" + struct.pack("<i", item.size) + item.tobytes()
        return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(" + state + dtype + raw + b"tb"

    return b"\x80\x02}q\x01(" + b"".join(value(key) + value(item) for key, item in content.items()) + b"u."


def cifar_batch(seed: int) -> dict[str, object]:
    return {"batch_label": "batch", "labels": [9, 0], "data": noise(seed, 2, 3072), "filenames": ["a.png", "b.png"]}


@pytest.mark.parametrize("writer", ["python2", "protocol 0", "protocol 2", "protocol 3", "protocol 4", "bytes keys", "fortran"])
def test_cifar_python_files_are_read_without_unpickling(tmp_path, monkeypatch, writer):
    def dump(content: dict) -> bytes:
        if writer == "python2":
            return python2_pickle(content)
        if writer == "bytes keys":
            return pickle.dumps({key.encode(): item for key, item in content.items()}, protocol=2)
        if writer == "fortran":
            content = {key: np.asfortranarray(item) if isinstance(item, np.ndarray) else item for key, item in content.items()}
        return pickle.dumps(content, protocol=int(writer[-1]) if writer.startswith("protocol") else 2)

    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for number in range(1, 6):
        (place / f"data_batch_{number}").write_bytes(dump(cifar_batch(number)))
    (place / "batches.meta").write_bytes(dump({"label_names": [f"class{k}" for k in range(10)]}))
    hundred = tmp_path / "cifar-100-python"
    hundred.mkdir()
    (hundred / "test").write_bytes(dump({"data": noise(9, 2, 3072), "fine_labels": [99, 0], "coarse_labels": [19, 1]}))
    (hundred / "meta").write_bytes(
        dump({"fine_label_names": [f"f{k}" for k in range(100)], "coarse_label_names": [f"c{k}" for k in range(20)]})
    )
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("unpickled"))
    source = SOURCES.build("cifar10", settings={"root": str(tmp_path)})
    expected = np.concatenate([noise(number, 2, 3072) for number in range(1, 6)]).reshape(-1, 3, 32, 32)
    assert (source.images.numpy() == expected).all()
    assert source.labels.tolist() == [9, 0] * 5
    assert source.class_names[9] == "class9"
    coarse = SOURCES.build("cifar100", settings={"root": str(tmp_path), "split": "test", "labels": "coarse"})
    assert coarse.labels.tolist() == [19, 1]
    assert coarse.class_names[19] == "c19"


class Attack:
    """Unpickling it runs a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, protocol):
    canary = tmp_path / "canary"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Attack(canary), "labels": [1]}, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_1 holds more than plain data.*system"):
        read_pickled_data(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())
    assert canary.exists()  # the file was armed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x80\x02}q\x01(U\x04data",
        b"\x80\x02]q\x01.",
        b"(d0\x80.",
        pickle.dumps({"data": np.zeros(3, np.float32)}, protocol=2),
        pickle.dumps({"data": np.array([None])}, protocol=2),
        pickle.dumps({"data": {1, 2}}, protocol=2),
        pickle.dumps({"data": 1 + 2j}, protocol=2),
    ],
)
def test_other_pickles_are_refused(tmp_path, data):
    path = tmp_path / "meta"
    path.write_bytes(data)
    with pytest.raises(DataError, match="meta"):
        read_pickled_data(path)


NESTED = b"]" + b"\x85" * 100_000
# t = (t, t), 300 times: 2^300 tuples to whoever walks down
DOUBLED = b")q\x00" + b"h\x00\x86q\x00" * 300
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
TYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


@pytest.mark.parametrize(
    "body",
    [
        b"}" + NESTED + b"K\x01s.",  # a key nested without end
        b"}" + DOUBLED + b"K\x01s.",  # a key whose hash visits 2^300 tuples
        b"}U\x04data" + ARRAY + b"K\x01" + DOUBLED + TYPE + b"\x89U\x01xtbs.",  # a shape of them
        b"}U\x04data" + ARRAY + b"K\x01K\x01\x85" + DOUBLED + b"\x89U\x01xtbs.",  # a type of them
        b"}U\x04data" + ARRAY + b"K\x01K\x01\x85" + TYPE + b"\x89" + DOUBLED + b"tbs.",  # bytes of them
        DOUBLED + DOUBLED + b"\x93.",  # the name of a function
        b"(" * 300_000,
        b"(" * 150_000 + b"t" * 150_000 + b".",
        b"K\x01" * 2_000_001,
    ],
)
def test_small_files_that_ask_for_much_are_refused_at_once(tmp_path, body):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x04" + body)
    with pytest.raises(DataError, match="data_batch_1"):
        read_pickled_data(path)


def test_names_of_classes_are_text(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-bin").rename(tmp_path / "bin")
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    (place / "test_batch").write_bytes(python2_pickle(cifar_batch(0)))
    (place / "batches.meta").write_bytes(b"\x80\x02}U\x0blabel_names](" + DOUBLED + b"es.")
    with pytest.raises(DataError, match=r"batches\.meta: label_names must be names"):
        SOURCES.build("cifar10", settings={"root": str(tmp_path), "split": "test"})


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_pickle_never_escapes_as_another_error(tmp_path_factory, place, byte, cut):
    data = bytearray(pickle.dumps({"data": noise(0, 2, 3), "labels": [1, 2], b"n": ["a", 1.5, None]}, protocol=2))
    place %= len(data)
    data[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data[:place] if cut else data)
    with contextlib.suppress(DataError):
        assert isinstance(read_pickled_data(path), dict)


def test_cifar_damage_is_named(tmp_path):
    write_cifar10(tmp_path)
    place = tmp_path / "cifar-10-batches-bin"
    chosen = {"root": str(tmp_path)}
    for name, data, words in (
        ("data_batch_3.bin", b"\0" * 100, "multiple of 3073"),
        ("data_batch_3.bin", b"\x0a" + b"\0" * 3072, "10 class names"),
        ("batches.meta.txt", None, "batches.meta.txt"),
    ):
        before = (place / name).read_bytes()
        if data is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(data)
        with pytest.raises(DataError, match=words):
            SOURCES.build("cifar10", settings=chosen)
        (place / name).write_bytes(before)
    python = tmp_path / "py" / "cifar-10-batches-py"
    python.mkdir(parents=True)
    for content in ({"labels": [1]}, {"data": noise(0, 2, 3072), "labels": [1]}, {"data": noise(0, 1, 3072), "labels": ["x"]}):
        (python / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(DataError, match="test_batch"):
            SOURCES.build("cifar10", settings={"root": str(python.parent), "split": "test"})
