"""Samples that are texts, character by character."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.datasets.identity import Chunk
from kinshot.samples.characters import ALPHABET, check_alphabet, encode
from kinshot.samples.tokens import TokenSpec


class TextSource(Source):
    """Texts held in memory as character ids: 0 padding, 1 mask, 2 unknown, then the alphabet (`kinshot.samples.characters`).

    Ids are uint8, or int64 for an alphabet of more than 253 characters.

    Args:
        texts: one text for each sample, none of them empty.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        alphabet: the characters that are told apart; capitals that it lacks are read as small letters.
        length: characters of each sample, longer texts are cut; None is the longest text.
        name: used in messages.
        more: what every source can say of its samples: `attributes`, `clock`, `graph`, ....

    Raises:
        DataError: an empty text, something that is no text, or labels that do not fit.
        ConfigError: an alphabet with a character twice, or a length below 1.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        *,
        alphabet: str = ALPHABET,
        length: int | None = None,
        name: str = "texts",
        **more: Any,
    ) -> None:
        if isinstance(texts, str):
            raise DataError(f"{name}: expected a list of texts, got one text: put it into a list")
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text:
                what = "is empty" if isinstance(text, str) else f"is {type(text).__name__}, no text"
                raise DataError(f"{name}: text {row} {what}: fill it in or leave it out")
        if length is not None and length < 1:
            raise ConfigError(f"{name}: length must be at least 1, got {length}")
        longest = max(map(len, texts), default=1) if length is None else length
        super().__init__(name, TokenSpec(longest, check_alphabet(alphabet)), labels, class_names, len(texts), **more)
        self.tokens = torch.from_numpy(encode(texts, alphabet, longest))

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.tokens[torch.from_numpy(rows)]

    def _content(self) -> Iterable[Chunk]:
        yield self.tokens.numpy()
