"""How the parts look that only the page of a run has: gauges, the map with its pictures, grids of views and clusters."""

from __future__ import annotations

from kinshot.studies.report.theme import DARK, LIGHT

_SHAPES = (
    "border-radius: 50%",
    "border-radius: 1px",
    "clip-path: polygon(50% 0, 100% 100%, 0 100%)",
    "transform: rotate(45deg) scale(.85)",
    "clip-path: polygon(0 0, 100% 0, 50% 100%)",
    "clip-path: polygon(34% 0, 66% 0, 66% 34%, 100% 34%, 100% 66%, 66% 66%, 66% 100%, 34% 100%, 34% 66%, 0 66%, 0 34%, 34% 34%)",
    "clip-path: polygon(22% 0, 50% 28%, 78% 0, 100% 22%, 72% 50%, 100% 78%, 78% 100%, 50% 72%, 22% 100%, 0 78%, 28% 50%, 0 22%)",
    "clip-path: polygon(25% 5%, 75% 5%, 100% 50%, 75% 95%, 25% 95%, 0 50%)",
)


def _colors(series: tuple[str, ...]) -> str:
    return " ".join(f"--c{place}: {color};" for place, color in enumerate(series))


_POINTS = "\n".join(
    f".map .k{place} .dot, .legend .k{place} {{ background: var(--c{place}); opacity: .95; border-radius: 0; {shape}; }}"
    for place, shape in enumerate(_SHAPES)
)

_COLORS = f"""
:root {{ {_colors(LIGHT.series)} --bad: #fdecea; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colors(DARK.series)} --bad: #3d1f1e; }} }}
"""
_RULES = """
.pictures.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 235px), 1fr)); }
.way .samples li:not(.words) { width: 68px; } .way .samples img { width: 68px; height: 68px; }
.who { display: block; }
.gauges { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 12px; margin: 14px 0; padding: 0;
  list-style: none; }
.gauges li { border: 1px solid var(--line); border-left: 5px solid var(--soft); border-radius: 8px; padding: 10px 14px; }
.gauges .normal { border-left-color: var(--right); } .gauges .look { border-left-color: var(--warned); background: var(--warn); }
.gauges .wrong { border-left-color: var(--wrong); background: var(--bad); }
.gauges h3 { margin: 0; font: 600 .88rem ui-monospace, "DejaVu Sans Mono", monospace; }
.gauges .value { margin: 2px 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.gauges .value small { font-size: .85rem; font-weight: 400; color: var(--soft); }
.gauges p { margin: 2px 0; font-size: .85rem; } .gauges .said { color: var(--soft); }
.gauges .verdict { font-weight: 600; } .normal .verdict { color: var(--right); } .look .verdict { color: var(--warned); }
.wrong .verdict { color: var(--wrong); }
.grid td, .grid th { padding: 4px 6px; text-align: center; } .grid td img { display: block; margin: auto; border-radius: 4px; }
.grid { width: auto; } .grid td, .grid tbody th { vertical-align: middle; }
.grid tbody th { text-align: left; font-weight: 400; color: var(--soft); }
.choice { border: 0; margin: 12px 0 0; padding: 0; display: flex; gap: 4px 18px; flex-wrap: wrap; }
.choice label { cursor: pointer; } .choice small { color: var(--soft); }
.map { position: relative; height: min(92vw, 620px); margin: 10px 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden;
  --w: calc(100% - 196px); --h: 100%; }
.points { display: contents; }
.points label { display: contents; cursor: pointer; }
.points input { position: absolute; opacity: 0; width: 1px; height: 1px; left: calc(16px + (var(--w) - 32px) * var(--px));
  top: calc(16px + (var(--h) - 32px) * var(--py)); }
.map .dot { position: absolute; width: 11px; height: 11px; margin: -5px 0 0 -5px; background: var(--soft); opacity: .55;
  border-radius: 50%; left: calc(16px + (var(--w) - 32px) * var(--px)); top: calc(16px + (var(--h) - 32px) * var(--py)); }
.whole-map:has(.tsne:checked) .map .dot { left: calc(16px + (var(--w) - 32px) * var(--tx));
  top: calc(16px + (var(--h) - 32px) * var(--ty)); }
@media (prefers-reduced-motion: no-preference) { .map .dot { transition: left .5s, top .5s; } }
.map .pop, .map .hint { position: absolute; right: 0; top: 0; bottom: 0; width: 196px; padding: 14px; border-left: 1px solid var(--line);
  background: var(--card); font-size: .85rem; line-height: 1.35; visibility: hidden; }
.map .hint { visibility: visible; color: var(--soft); }
.map .pop img { display: block; width: 144px; height: 144px; object-fit: contain; margin-bottom: 8px; border-radius: 6px; }
.map .tiny { image-rendering: pixelated; }
.points input:checked ~ .pop { visibility: visible; z-index: 1; }
.points label:hover .pop { visibility: visible; z-index: 2; }
.points label:hover .dot, .points input:checked ~ .dot { width: 17px; height: 17px; margin: -8px 0 0 -8px; opacity: 1; z-index: 3; }
.points input:checked ~ .dot { outline: 2px solid var(--ink); outline-offset: 1px; }
.points input:focus-visible ~ .dot { outline: 3px solid var(--link); outline-offset: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 8px 0; padding: 0; list-style: none; font-size: .85rem; }
.legend .dot { display: inline-block; width: 11px; height: 11px; margin-right: 6px; background: var(--soft); border-radius: 50%; }
.clusters { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); gap: 14px; margin: 14px 0; padding: 0;
  list-style: none; }
.clusters > li { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; min-width: 0; }
.clusters h3 { margin: 0 0 6px; font-size: .95rem; } .clusters h3 small { font-weight: 400; color: var(--soft); }
@media (max-width: 620px) {
  .map { height: calc(92vw + 124px); --w: 100%; --h: calc(100% - 124px); }
  .map .pop, .map .hint { left: 0; top: auto; width: auto; height: 124px; padding: 10px; border-left: 0;
    border-top: 1px solid var(--line); }
  .map .pop img { float: left; width: 100px; height: 100px; margin: 0 12px 0 0; }
}
"""

RUN_STYLE = f"{_COLORS}{_RULES}{_POINTS}"
"""To follow the style of all reports."""
