"""Characters as numbers: what token sources, encoders of text and views agree on. Free of torch."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from kinshot.core.errors import ConfigError

PADDING, MASK, UNKNOWN = 0, 1, 2
"""Ids with a meaning of their own: nothing here, hidden, a character that the alphabet lacks."""

FIRST_CHARACTER = 3
"""Id of the alphabet's first character; the others follow in its order."""

ALPHABET = string.ascii_lowercase + string.digits + " " + string.punctuation
"""The default alphabet: small letters, digits, space, punctuation (69 characters)."""

BYTE_VOCABULARY = 256
"""Vocabularies up to this size are stored in bytes."""


def vocabulary_size(alphabet: str) -> int:
    """Ids that texts in `alphabet` use: its characters and the three special ones."""
    return FIRST_CHARACTER + len(alphabet)


def check_alphabet(alphabet: str) -> str:
    """The alphabet itself. Raises ConfigError where it is empty or names a character twice."""
    twice = sorted({character for character in alphabet if alphabet.count(character) > 1}) if len(set(alphabet)) < len(alphabet) else []
    if not alphabet or twice:
        found = f"{''.join(twice)!r} twice" if twice else "none"
        raise ConfigError(f"alphabet: expected different characters, got {found}: name each character once")
    return alphabet


def encode(texts: Sequence[str], alphabet: str, length: int) -> np.ndarray:
    """Texts as ids, (N, length): cut beyond `length`, padded behind the end; uint8, or int64 for a vocabulary beyond 256.

    A character that the alphabet lacks is read as its lower case, white space as a space, where the alphabet has that, and is
    UNKNOWN otherwise.
    """
    dtype = np.uint8 if vocabulary_size(alphabet) <= BYTE_VOCABULARY else np.int64
    ids = np.full((len(texts), length), PADDING, dtype=dtype)
    cut = [text[:length] for text in texts]
    lengths = np.array([len(text) for text in cut], dtype=np.int64)
    # surrogatepass: a text with half a surrogate pair has an unknown character, and is no reason to stop
    codes = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    different, which = np.unique(codes, return_inverse=True)
    known = {character: FIRST_CHARACTER + number for number, character in enumerate(alphabet)}
    table = np.array([_id_of(chr(code), known) for code in different.tolist()], dtype=dtype)
    ids[np.arange(length) < lengths[:, None]] = table[which]
    return ids


def text_of(ids: Sequence[int], alphabet: str) -> str:
    """Ids (L,) as text, without padding; what is hidden or unknown has a sign of its own."""
    special = {MASK: "\u2592"}
    return "".join(
        alphabet[i - FIRST_CHARACTER] if 0 <= i - FIRST_CHARACTER < len(alphabet) else special.get(i, "\ufffd") for i in ids if i != PADDING
    )


def _id_of(character: str, known: dict[str, int]) -> int:
    if character in known:
        return known[character]
    if character.isspace():
        return known.get(" ", UNKNOWN)
    return known.get(character.lower(), UNKNOWN)
