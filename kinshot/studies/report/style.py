"""The page's frame and its looks. Everything is in the file; the policy forbids the browser to fetch anything."""

from __future__ import annotations

FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><p class="kicker">$kicker</p><h1>$title</h1>$warning$tiles</header>
<nav aria-label="Sections">$links</nav>
<main>
$sections</main>
<footer>$footer</footer>
</body>
</html>
"""

STYLE = """
:root { --page: #f4f6f8; --card: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #dde3e9; --link: #0b5d94;
  --right: #12805c; --wrong: #b3261e; --stripe: rgba(11, 93, 148, .035); --tile: #eef5fa; --shade: rgba(31, 41, 51, .28);
  --warn: #fff4e0; --warned: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #11161c; --card: #1a2028; --ink: #e6eaef; --soft: #a7b3bf; --line: #303a46; --link: #7cc4f7;
    --right: #4fd1a5; --wrong: #ff8a80; --stripe: rgba(255, 255, 255, .03); --tile: #1c2c3a;
    --shade: rgba(0, 0, 0, .75); --warn: #3a2f14; --warned: #f5cf7a; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
header, main, footer { max-width: 1160px; margin: 0 auto; padding: 0 clamp(12px, 3vw, 28px); }
header { padding-top: 28px; }
.kicker { margin: 0; color: var(--soft); font-size: .85rem; letter-spacing: .06em; text-transform: uppercase; }
h1 { margin: 2px 0 16px; font-size: clamp(1.5rem, 4.5vw, 2.2rem); line-height: 1.2; }
h2 { margin: 0 0 8px; font-size: 1.3rem; }
h3 { margin: 26px 0 4px; font-size: 1.05rem; }
p { margin: 6px 0 12px; max-width: 76ch; }
a { color: var(--link); }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 0 0 18px; padding: 0; list-style: none; }
.tiles li { background: var(--tile); border: 1px solid var(--line); border-radius: 10px; padding: 8px 16px; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tiles small { font-weight: 400; font-size: .9rem; color: var(--soft); }
.tiles span { display: block; color: var(--soft); font-size: .85rem; }
.tiles .against { border-top: 1px solid var(--line); margin-top: 5px; padding-top: 4px; }
.note { margin: -8px 0 16px; color: var(--soft); font-size: .85rem; }
.warning { max-width: none; padding: 10px 16px; border-radius: 10px; background: var(--warn); color: var(--warned); font-weight: 600; }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: 4px 18px; overflow-x: auto; white-space: nowrap; background: var(--page);
  border-bottom: 1px solid var(--line); padding: 8px max(clamp(12px, 3vw, 28px), calc((100% - 1104px) / 2)); }
nav a { text-decoration: none; font-size: .92rem; }
nav a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 20px 0; scroll-margin-top: 52px;
  padding: clamp(14px, 2.5vw, 26px); }
dl { display: grid; grid-template-columns: minmax(9em, max-content) 1fr; gap: 6px 20px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; }
dd div + div { margin-top: 2px; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; }
.panels { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 8px; padding: 0; list-style: none; }
.panels li { width: clamp(112px, 14vw, 152px); font-size: .8rem; line-height: 1.3; color: var(--soft); }
.panels img { display: block; width: 100%; height: auto; border-radius: 4px; }
@media (max-width: 620px) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 10px; } }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  gap: 18px; margin: 14px 0; align-items: start; }
.pictures.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 220px), 300px)); }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: 4px; }
picture img { display: block; max-width: 100%; height: auto; }
.whole { white-space: nowrap; }
.scroll { overflow: auto; max-height: 46em; margin: 14px 0; border: 1px solid var(--line); border-radius: 8px;
  background: linear-gradient(to right, var(--card) 55%, transparent) 0 0 / 44px 100% no-repeat local,
    linear-gradient(to left, var(--card) 55%, transparent) 100% 0 / 44px 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) 0 0 / 14px 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) 100% 0 / 14px 100% no-repeat scroll; }
.scroll::-webkit-scrollbar { height: 10px; width: 10px; }
.scroll::-webkit-scrollbar-track { background: var(--line); }
.scroll::-webkit-scrollbar-thumb { background: var(--soft); border-radius: 5px; border: 2px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; overflow-wrap: normal; }
caption { text-align: left; padding: 8px 12px; color: var(--soft); }
caption span { display: inline-block; position: sticky; left: 12px; max-width: min(100%, calc(100vw - 84px)); }
th, td { padding: 5px 12px; text-align: left; border-top: 1px solid var(--line); vertical-align: baseline; }
thead th { position: sticky; top: 0; background: var(--card); white-space: nowrap; color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
tbody tr:nth-child(even) { background: var(--stripe); }
@media (max-width: 620px) {
  th, td { padding: 5px 9px; }
  .wide th:first-child { position: sticky; left: 0; z-index: 1; background: var(--card); box-shadow: 1px 0 var(--line); }
  .panels li { width: calc(50% - 4px); }
  .wide caption span::after { content: " — scroll sideways →"; color: var(--link); white-space: nowrap; }
}
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--link); }
.way { border-top: 1px solid var(--line); padding: 10px 0 4px; }
.way h4 { margin: 0 0 6px; font-size: .95rem; }
.way h4 small { color: var(--soft); font-weight: 400; margin-left: 8px; }
.badge { display: inline-block; min-width: 1.7em; margin-right: 8px; padding: 0 .4em; border-radius: 5px; background: var(--tile);
  border: 1px solid var(--line); text-align: center; }
.way .sets { display: flex; flex-wrap: wrap; gap: 8px 22px; }
.samples { display: flex; flex-wrap: wrap; gap: 6px; margin: 0; padding: 0; list-style: none; }
.samples li { width: 56px; font-size: .72rem; line-height: 1.25; }
.samples li.words { width: 15em; }
.samples img, .samples .text { display: block; width: 56px; height: 56px; object-fit: contain; border: 3px solid var(--line);
  border-radius: 6px; background: var(--page); }
.samples .text { width: auto; height: auto; padding: 4px 8px; font: .8rem/1.35 ui-monospace, "DejaVu Sans Mono", monospace; }
.samples .tiny { image-rendering: pixelated; }
.found { display: grid; grid-template-columns: repeat(auto-fill, minmax(126px, 1fr)); gap: 14px 12px; margin: 8px 0 4px; padding: 0;
  list-style: none; }
.found li { min-width: 0; font-size: .76rem; line-height: 1.3; color: var(--soft); }
.found img, .found .none { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: contain; border: 1px solid var(--line);
  border-radius: 10px; background: var(--page); }
.found .none { padding: 40% 8px 0; text-align: center; }
.found b { display: block; margin: 5px 0 1px; color: var(--ink); font-size: .95rem; font-variant-numeric: tabular-nums; }
.found .asked img, .found .asked .none { border: 3px solid var(--link); }
.found .asked b { color: var(--link); }
.bar { display: block; height: 4px; margin: 4px 0 0; border-radius: 2px; background: var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--link); }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid var(--ink); border-radius: 2px; }
.right img, .right .text { border-color: var(--right); }
.wrong img, .wrong .text { border-color: var(--wrong); border-style: dashed; }
.right .mark { color: var(--right); } .wrong .mark { color: var(--wrong); }
.mark b { font-size: .95rem; }
.label { color: var(--soft); font-size: .8rem; margin: 0 0 2px; }
footer { color: var(--soft); font-size: .85rem; padding-bottom: 36px; }
@media print { nav { display: none; } section { break-inside: avoid-page; } body { background: none; } }
"""
