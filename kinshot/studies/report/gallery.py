"""The gallery of the page: support samples of each way, and queries whose answers are marked by colour, line and symbol."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase

from kinshot.studies.report.content import Answer, ShownEpisode, ShownWay
from kinshot.studies.report.markup import Html, escaped, fill, joined, named
from kinshot.studies.report.samples import Sample

_SHORT = 8
_TINY = 32
"""Up to this side a sample's own pixels are shown as squares."""


def episode_html(episode: ShownEpisode, samples: Mapping[int, Sample]) -> Html:
    """One episode: a title, and a row for each class.

    Wrong answers name the class that was taken: by its name where all names are short, else by the letter of its row.
    """
    title = f"Episode {episode.number}, {episode.why}: {episode.accuracy:.1f} % right"
    hidden = episode.ways_in_all - len(episode.ways)
    note = fill("<p>The first $shown of $all classes.</p>", shown=len(episode.ways), all=episode.ways_in_all) if hidden else Html("")
    taken = [answer.predicted for way in episode.ways for answer in way.queries]
    lettered = not hidden and max(map(len, [way.name for way in episode.ways] + taken)) > _SHORT
    letters = ascii_uppercase if lettered else ""
    rows = joined(_way(way, letters[i : i + 1], letters, samples) for i, way in enumerate(episode.ways))
    return fill("<h3>$title</h3>$note$rows", title=title, note=note, rows=rows)


def _way(way: ShownWay, letter: str, letters: str, samples: Mapping[int, Sample]) -> Html:
    support = joined(sample_html(samples[index], f"support sample {index} of {way.name}", "", Html("")) for index in way.support)
    queries = joined(_answer(way, answer, letters, samples[answer.index]) for answer in way.queries)
    badge = fill('<span class="badge">$letter</span>', letter=letter) if letter else Html("")
    return fill(
        '<div class="way"><h4>$badge$name<small>$right of $asked right</small></h4><div class="sets">'
        '<div><p class="label">support$more_support</p><ul class="samples">$support</ul></div>'
        '<div><p class="label">queries$more_queries</p><ul class="samples">$queries</ul></div></div></div>',
        badge=badge, name=named(way.name), right=way.right_in_all, asked=way.queries_in_all, support=support, queries=queries,
        more_support=_part(len(way.support), way.supports_in_all), more_queries=_part(len(way.queries), way.queries_in_all),
    )  # fmt: skip


def _part(shown: int, total: int) -> str:
    return f" (the first {shown} of {total})" if shown < total else ""


def _answer(way: ShownWay, answer: Answer, letters: str, sample: Sample) -> Html:
    if answer.right:
        mark = fill('<span class="mark"><b aria-hidden="true">\u2713</b> right</span>')
        return sample_html(sample, f"query sample {answer.index} of {way.name}, right", "right", mark)
    put = letters[answer.way] if letters else named(answer.predicted)
    mark = fill('<span class="mark"><b aria-hidden="true">\u2717</b> as $put</span>', put=put)
    return sample_html(sample, f"query sample {answer.index} of {way.name}, wrong: put into {answer.predicted}", "wrong", mark)


def sample_html(sample: Sample, alt: str, kind: str, mark: Html) -> Html:
    """A sample as an item of a list: its picture or text, `right`, `wrong` or neither, and a mark below it."""
    if sample.picture is None:
        shown = fill('<span class="text">$text</span>', text=sample.text)
        return fill('<li class="words $kind">$shown$mark</li>', kind=kind, shown=shown, mark=mark)
    return fill('<li class="$kind">$shown$mark</li>', kind=escaped(kind), shown=image_html(sample, alt), mark=mark)


def image_html(sample: Sample, alt: str, side: int = 56) -> Html:
    """A sample's picture; nothing where it has none."""
    if sample.picture is None:
        return Html("")
    tiny = Html(' class="tiny"') if max(sample.picture.size) <= _TINY else Html("")
    return fill('<img$tiny src="$uri" alt="$alt" width="$side" height="$side">', tiny=tiny, uri=sample.data_uri(), alt=alt, side=side)
