"""Reads plain data out of a pickle file without unpickling it: the opcodes are interpreted here and nothing is ever called.

Only what the CIFAR files need is known: containers, text, numbers, and arrays of unsigned bytes. Everything else is refused. What a file
may ask for is bounded: its size, its opcodes and its containers. Nothing here walks down nested containers, of which a few bytes can make
more than any machine could visit: a key is text, a shape numbers, and messages name types, not values.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets.files import read_file, regular_file

# The largest file, CIFAR-100's training part, has 155 MB, 0.3 million opcodes and a dozen containers.
_MOST_BYTES, _MOST_OPCODES, _MOST_CONTAINERS = 1 << 29, 2_000_000, 10_000
_MOST_DIMENSIONS = 4
_CONTAINERS = frozenset({"EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "MARK", "TUPLE1", "TUPLE2", "TUPLE3"})
_RECONSTRUCT = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
_ARRAY, _DTYPE, _ENCODE, _BYTES = "numpy ndarray", "numpy dtype", "_codecs encode", "__builtin__ bytes"

# fmt: off
_VALUES = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
})
# fmt: on
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IGNORED = frozenset({"PROTO", "FRAME"})


class _RefusedError(ValueError):
    """The file asks for something that plain data has no need of."""


@dataclass(frozen=True)
class _Name:
    """A global that the file names: a symbol here, never looked up."""

    name: str


@dataclass
class _Dtype:
    """A numpy dtype that the file describes; `code` is its type string."""

    code: str


@dataclass
class _Array:
    """An array under construction: its value arrives with its state."""

    value: np.ndarray | None = None


def read_pickled_data(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle file, keys as text; values are containers, numbers, text, bytes and uint8 arrays.

    Reads protocols 0 to 4, also files that Python 2 wrote. Raises DataError naming the file when it is missing, no plain file,
    damaged, too large, or holds anything else; no code in the file is run.
    """
    if regular_file(path).st_size > _MOST_BYTES:
        raise DataError(f"{path} has more than {_MOST_BYTES >> 20} MiB, which no file of this kind has: get it from its official source")
    try:
        result = _Machine().run(read_file(path))
    except _RefusedError as error:
        raise DataError(f"{path} holds more than plain data ({error}) and was not loaded: get it from its official source") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, MemoryError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error or type(error).__name__}): download it again") from error
    if not isinstance(result, dict):
        raise DataError(f"{path} holds {type(result).__name__}, not the expected dictionary: download it again")
    return {_text(key): value for key, value in result.items()}


class _Machine:
    """The pickle machine's stack, the places of its marks, and its memo, with data opcodes only."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        actions, containers = self.actions(), 0
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            name = opcode.name
            containers += name in _CONTAINERS
            if count >= _MOST_OPCODES or containers > _MOST_CONTAINERS:
                raise _RefusedError(f"more than {_MOST_CONTAINERS} containers or {_MOST_OPCODES} opcodes")
            if name in _VALUES:
                self.stack.append(argument)
            elif name in actions:
                actions[name](argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name == "STOP":
                return _finished(self.stack.pop())
            elif name not in _IGNORED:
                raise _RefusedError(f"opcode {name}")
        raise ValueError("no end")

    def actions(self) -> dict[str, Callable[[Any], None]]:
        actions: dict[str, Callable[[Any], None]] = {
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_TUPLE": lambda _: self.stack.append(()),
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "DICT": lambda _: self.stack.append(_pairs(self.since_mark())),
            "LIST": lambda _: self.stack.append(self.since_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self.since_mark())),
            "TUPLE1": lambda _: self.tuple_of(1),
            "TUPLE2": lambda _: self.tuple_of(2),
            "TUPLE3": lambda _: self.tuple_of(3),
            "APPEND": lambda _: self.extend([self.stack.pop()]),
            "APPENDS": lambda _: self.extend(self.since_mark()),
            "SETITEM": lambda _: self.update([self.stack.pop(-2), self.stack.pop()]),
            "SETITEMS": lambda _: self.update(self.since_mark()),
            "MEMOIZE": lambda _: self.remember(len(self.memo)),
            "GLOBAL": lambda name: self.stack.append(_Name(name)),
            "STACK_GLOBAL": lambda _: self.stack.append(_Name(f"{_text(self.stack.pop(-2))} {_text(self.stack.pop())}")),
            "REDUCE": lambda _: self.reduce(),
            "BUILD": lambda _: self.build(),
        }
        actions.update(dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self.remember))
        actions.update(dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda key: self.stack.append(self.memo[key])))
        return actions

    def since_mark(self) -> list[Any]:
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def extend(self, items: list[Any]) -> None:
        _expect(self.stack[-1], list).extend(items)

    def update(self, items: list[Any]) -> None:
        _expect(self.stack[-1], dict).update(_pairs(items))

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.name if isinstance(function, _Name) else type(function).__name__
        if name in _RECONSTRUCT and arguments[0] == _Name(_ARRAY):
            self.stack.append(_Array())
        elif name == _DTYPE:
            self.stack.append(_Dtype(_text(arguments[0])))
        elif name == _ENCODE and _text(arguments[1]) == "latin1":
            self.stack.append(arguments[0].encode("latin-1"))
        elif name == _BYTES and arguments == ():
            self.stack.append(b"")
        else:
            raise _RefusedError(f"a call of {name}")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array):
            target.value = _array(state)
        elif not isinstance(target, _Dtype):
            raise _RefusedError(f"state for {type(target).__name__}")


def _array(state: tuple[Any, ...]) -> np.ndarray:
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, _Dtype) or dtype.code not in {"u1", "uint8"}:
        raise _RefusedError(f"an array of {dtype.code[:20] if isinstance(dtype, _Dtype) else type(dtype).__name__}")
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS or not all(type(n) is int and 0 <= n <= _MOST_BYTES for n in shape):
        raise ValueError("an array whose shape is no few numbers")
    if not isinstance(data, str | bytes):
        raise ValueError(f"an array of {type(data).__name__} for bytes")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if math.prod(shape) != len(raw):
        raise ValueError(f"array of shape {shape} with {len(raw)} bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _finished(value: Any) -> Any:
    """Arrays in place of their makers, in the dictionary that the CIFAR files are (one level deep)."""
    if not isinstance(value, dict):
        return value
    return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    for key in items[::2]:
        if not isinstance(key, str | bytes):  # of a tuple the hash alone could take longer than a life
            raise _RefusedError(f"a key of {type(key).__name__}")
    return dict(zip(items[::2], items[1::2], strict=True))


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise _RefusedError(f"{kind.__name__} items for {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return value
