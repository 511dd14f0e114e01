"""What a source is, as bytes to hash: the same for the same samples, labels and graph, whenever and wherever they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kinshot.datasets.base import Source

Chunk = bytes | np.ndarray


def identity(source: Source, content: Iterable[Chunk]) -> Iterator[Chunk]:
    """Chunks that identify a source with this content, to be hashed in order.

    What is left out at its default keeps the fingerprints, and so the checkpoints, of sources without it.
    """
    specs = source.fields
    (one,) = specs.values() if len(specs) == 1 else (None,)
    shape = one.shape if one is not None else {name: spec.shape for name, spec in specs.items()}
    yield repr((len(source), shape, list(source.class_names))).encode()
    yield b"none" if source.labels is None else _integers(source.labels)
    yield from content
    if one is None:
        yield _text([(name, spec.kind, spec.letters) for name, spec in specs.items()])
    elif one.kind != "image":  # which all were before there were others
        yield _text((one.kind, one.letters))
    yield from _beside(source)
    if source.graph is not None:
        g = source.graph
        yield from _leaves((g.n, g.directed, g.layers, g.layer_weights, g.negatives, g.groups))


def _beside(source: Source) -> Iterator[Chunk]:
    """What is known of samples beside what they hold."""
    for key in sorted(source.attributes):
        values = source.attributes[key]
        yield _text((key, source.attribute_names[key]))
        if values.dtype != np.int64 or values.ndim > 1:
            yield _text((values.dtype.str, values.shape))
        yield _integers(values) if values.dtype.kind == "i" else np.ascontiguousarray(values)
    for key in sorted(source.present):
        yield _text(("present", key))
        yield np.ascontiguousarray(source.present[key])
    if source.clock is not None:
        yield b"clock"
        yield np.ascontiguousarray(source.clock.time, dtype="<f8")
        yield _integers(source.clock.recording)
    if source.pairs is not None:
        yield b"pairs"
        yield _integers(np.column_stack([source.pairs.rows, source.pairs.same, source.pairs.fold]))
    if source.contains is not None:
        yield b"contains"
        yield np.ascontiguousarray(source.contains)


def _text(value: Any) -> bytes:
    return repr(value).encode("utf-8", "surrogatepass")


def _integers(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype="<i8").tobytes()


def _leaves(value: Any) -> Iterator[bytes]:
    """What a graph is made of, as bytes: arrays whatever the width of their integers, mappings by name, dataclasses by field."""
    if isinstance(value, np.ndarray):
        yield repr(value.shape).encode()
        yield np.ascontiguousarray(value, dtype="<i8" if value.dtype.kind in "iub" else "<f4").tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves((key, value[key]))
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        # what is no array is a remark, whose wording may change
        yield from _leaves({name: part for name, part in parts.items() if isinstance(part, np.ndarray) or is_dataclass(part)})
    elif isinstance(value, tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield repr(value).encode()
