"""Texts, as ids of their characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from kinshot.core.errors import DataError
from kinshot.samples import SPECS
from kinshot.samples.characters import (
    BYTE_VOCABULARY,
    FIRST_CHARACTER,
    MASK,
    PADDING,
    UNKNOWN,
    encode,
    text_of,
    vocabulary_size,
)
from kinshot.samples.spec import Described, Spec, count, given_as

_RAW_COLUMNS = 4096
"""Columns of the counts of ids that do not fit a byte; ids beyond share them."""


@SPECS.register("tokens")
@dataclass(frozen=True)
class TokenSpec(Spec):
    """Texts that a network was made for.

    Args:
        length: characters of a sample, padding included.
        alphabet: characters in the order of their ids, the first of which is 3.
    """

    kind: ClassVar[str] = "tokens"
    raw_label: ClassVar[str] = "character counts"
    raw_feature: ClassVar[str] = "counts"
    length: int
    alphabet: str

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TokenSpec:
        """What `to_dict` described."""
        return cls(count(given["length"]), str(given["alphabet"]))

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,)."""
        return (self.length,)

    @property
    def letters(self) -> str:
        """The alphabet."""
        return self.alphabet

    @property
    def vocabulary(self) -> int:
        """Number of ids: padding, mask, unknown, and the alphabet."""
        return vocabulary_size(self.alphabet)

    @property
    def meets(self) -> tuple[Any, ...]:
        """The alphabet; texts of any length are cut or padded."""
        return self.kind, self.alphabet

    def same_form(self, other: Spec) -> bool:
        """Whether length and alphabet agree."""
        return self == other

    def values(self, batch: Tensor) -> Tensor:
        """The ids as int64."""
        return batch.long()

    def fit(self, batch: Tensor) -> Tensor:
        """Ids (B, L), cut or padded to this length."""
        cut = batch[:, : self.length]
        return pad(cut, (0, self.length - cut.shape[1]), value=PADDING)

    def blank(self, n: int) -> Tensor:
        """Texts of one character each, beginning with the alphabet's first; beyond the alphabet, of several."""
        ids = torch.tensor([*range(FIRST_CHARACTER, self.vocabulary), UNKNOWN, MASK])
        row, place = torch.arange(n)[:, None], torch.arange(self.length)
        return ids[(row + place * (row // len(ids))) % len(ids)]

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Ids drawn evenly from all but padding."""
        return torch.randint(1, self.vocabulary, (n, self.length), generator=generator)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Texts as strings, or as ids (B, L) of this alphabet, cut or padded to this length: int64, strings on the CPU."""
        if not isinstance(samples, Tensor):
            texts = list(samples)
            if isinstance(samples, str) or not all(isinstance(text, str) for text in texts):
                raise DataError(f"this encoder was made for texts: give a list of strings, or token ids (B, L); got {given_as(samples)}")
            return self.values(torch.from_numpy(encode(texts, self.alphabet, self.length)))
        if samples.ndim != 2 or samples.is_floating_point():
            raise DataError(f"this encoder was made for token ids (B, L) or a list of strings, got {given_as(samples)}")
        fitted = self.values(self.fit(samples))
        if fitted.numel() and not 0 <= int(fitted.min()) <= int(fitted.max()) < self.vocabulary:
            got = f"{int(fitted.min())} to {int(fitted.max())}"
            raise DataError(f"this encoder knows the ids 0 to {self.vocabulary - 1}, got {got}: use its alphabet")
        return fitted

    def raw(self, batch: Tensor) -> Tensor:
        """How often each id occurs, padding left out: 256 columns for ids that fit a byte, else 4096, which ids beyond share."""
        columns = BYTE_VOCABULARY if self.vocabulary <= BYTE_VOCABULARY else _RAW_COLUMNS
        counts = torch.zeros(len(batch), columns, device=batch.device)
        return counts.scatter_add_(1, batch.long() % columns, (batch != PADDING).float())

    def texts(self, batch: Tensor) -> list[str]:
        """The texts, with a sign for what is hidden and one for what is unknown."""
        return [text_of(ids, self.alphabet) for ids in batch.tolist()]

    def describe(self) -> str:
        """Length and size of the alphabet."""
        return f"texts of {self.length} characters of {len(self.alphabet)}"

    def check_source(self, source: Described) -> None:
        """Raise DataError for another kind of samples or another alphabet."""
        super().check_source(source)
        if source.spec.letters != self.alphabet:
            raise DataError(f"{source.name} has another alphabet than the encoder was made for: read the texts with {self.alphabet!r}")
