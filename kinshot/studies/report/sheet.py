"""An episode as one picture: a row for each class, its support samples, then its queries with right and wrong marked."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from kinshot.studies.report.content import Answer, ShownEpisode, ShownWay
from kinshot.studies.report.samples import Sample
from kinshot.studies.report.theme import LIGHT, short

CELL, BORDER, GAP = 64, 3, 6
_NAME, _LINE, _BETWEEN = 190, 16, 24
RIGHT, WRONG = "#12805c", "#b3261e"


def sheet_png(episode: ShownEpisode, samples: Mapping[int, Sample]) -> bytes:
    """The episode's picture as a PNG file. Every sample must have a picture."""
    most_support = max(len(way.support) for way in episode.ways)
    most_queries = max(len(way.queries) for way in episode.ways)
    step, height = CELL + 2 * BORDER + GAP, CELL + 2 * BORDER + _LINE + GAP
    first_query = _NAME + most_support * step + _BETWEEN
    size = (first_query + most_queries * step + GAP, _LINE + 3 * GAP + len(episode.ways) * height)
    sheet = Image.new("RGB", size, LIGHT.paper)
    draw, font = ImageDraw.Draw(sheet), _font(12)
    for x, text in ((GAP, "class"), (_NAME, "support"), (first_query, "queries")):
        draw.text((x, GAP), text, fill=LIGHT.faint, font=font)
    for row, way in enumerate(episode.ways):
        _draw_way(sheet, way, samples, _LINE + 2 * GAP + row * height, first_query)
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _draw_way(sheet: Image.Image, way: ShownWay, samples: Mapping[int, Sample], top: int, first_query: int) -> None:
    draw, font = ImageDraw.Draw(sheet), _font(12)
    step = CELL + 2 * BORDER + GAP
    draw.text((GAP, top + CELL // 2 - 8), short(way.name, 24), fill=LIGHT.ink, font=_font(13))
    draw.text((GAP, top + CELL // 2 + 9), f"{way.right_in_all} of {way.queries_in_all} right", fill=LIGHT.faint, font=font)
    for i, index in enumerate(way.support):
        _paste(sheet, samples[index], _NAME + i * step, top, LIGHT.faint)
    for i, answer in enumerate(way.queries):
        left = first_query + i * step
        _paste(sheet, samples[answer.index], left, top, RIGHT if answer.right else WRONG)
        _mark(draw, answer, left, top + CELL + 2 * BORDER + 2)


def _paste(sheet: Image.Image, sample: Sample, left: int, top: int, color: str) -> None:
    if sample.picture is None:
        return
    picture = sample.picture.convert("RGB")
    scale = CELL / max(picture.size)
    filtered = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), filtered)
    ImageDraw.Draw(sheet).rectangle((left, top, left + CELL + 2 * BORDER - 1, top + CELL + 2 * BORDER - 1), fill=color)
    sheet.paste(picture, (left + BORDER + (CELL - picture.width) // 2, top + BORDER + (CELL - picture.height) // 2))


def _mark(draw: ImageDraw.ImageDraw, answer: Answer, left: int, top: int) -> None:
    """A tick, or a cross with the class that the sample was put into: the symbol says it without colour."""
    if answer.right:
        draw.line([(left + 2, top + 7), (left + 5, top + 11), (left + 11, top + 2)], fill=RIGHT, width=2)
        return
    draw.line([(left + 2, top + 3), (left + 10, top + 11)], fill=WRONG, width=2)
    draw.line([(left + 10, top + 3), (left + 2, top + 11)], fill=WRONG, width=2)
    draw.text((left + 14, top), _fitting(draw, answer.predicted, CELL - 10), fill=LIGHT.ink, font=_font(10))


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """As much of a text's beginning as is not wider than `width`."""
    font = _font(10)
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text[:-2].rstrip("\u2026") + "\u2026"
    return text


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
