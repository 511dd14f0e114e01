"""How much may be sent to the page, and how much it remembers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes and numbers; the number of pixels of an image is bounded by the decoder.

    Attributes:
        file: bytes of one image.
        files: images in one request.
        request: bytes of one request with images.
        words: bytes of any other request.
        steps: steps that can be undone.
        pictures: small pictures of images that were sent, kept in memory.
    """

    file: int = 32 * 2**20
    files: int = 64
    request: int = 160 * 2**20
    words: int = 64 * 2**10
    steps: int = 50
    pictures: int = 512
