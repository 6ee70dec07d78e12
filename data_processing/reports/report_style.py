"""How a report page looks: one style sheet, for light and dark, wide and narrow, screen and paper. Knows no facts.

The four colours that carry meaning are told apart with every common colour blindness (after Okabe and Ito 2008,
"Color Universal Design"): blue for what is kept, vermilion for what is left out, yellow for what is taken from kept
texts, grey for what lies around them.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c1f24; --soft: #5a626d; --line: #dfe2e6; --track: #eceef1;
  --accent: #0b62a4; --kept: #0072b2; --kept-2: #56a5d8; --kept-3: #a6cfea; --dropped: #d55e00; --removed: #e8b100;
  --around: #8a929c; --note: #fff6e5; --note-line: #e8b100; --code: #f2f3f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1b1f25; --ink: #e7e9ec; --soft: #a0a8b3; --line: #323841; --track: #2a3038;
    --accent: #7cc0f0; --kept: #4aa3dc; --kept-2: #2b6f9c; --kept-3: #1d4866; --dropped: #f08a3c; --removed: #f2cf4a;
    --around: #77808b; --note: #2a2618; --note-line: #b98f1a; --code: #252a31;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
header, main, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.015em; }
h2 { font-size: 21px; line-height: 1.3; margin: 0 0 4px; letter-spacing: -0.01em; }
h3 { font-size: 16px; margin: 28px 0 8px; }
p { margin: 0 0 12px; max-width: 72ch; }
.lead, .headline { color: var(--soft); }
.headline { font-size: 18px; margin-bottom: 20px; }
.lead { margin-bottom: 18px; }
a { color: var(--accent); }
nav { border-block: 1px solid var(--line); margin-top: 24px; padding: 8px 0; font-size: 14px; }
nav ul { display: flex; flex-wrap: wrap; gap: 2px 18px; list-style: none; margin: 0; padding: 0; }
nav a { text-decoration: none; display: inline-block; padding: 4px 0; }
nav a:hover { text-decoration: underline; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 24px 0; padding: 24px 28px 28px;
  scroll-margin-top: 12px;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; margin: 20px 0 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 2px 0 0; }
.tile b {
  display: block; font-size: 25px; font-weight: 600; line-height: 1.25; letter-spacing: -0.015em;
  font-variant-numeric: tabular-nums;
}
.tile span { color: var(--soft); font-size: 13px; }
.notable {
  background: var(--note); border-left: 4px solid var(--note-line); border-radius: 0 8px 8px 0; list-style: none;
  margin: 20px 0 0; padding: 12px 18px; overflow-wrap: anywhere;
}
.notable li + li { margin-top: 6px; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 28px; align-items: start; }
.columns {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 0 36px; align-items: start;
}
.drawn { position: sticky; top: 12px; }
.plot { display: block; overflow: visible; margin-bottom: 8px; }
.plot text { font-size: 13px; fill: var(--ink); }
.plot .note, .plot .tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.plot .note { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.plot .track { fill: var(--track); }
.plot .grid { stroke: var(--line); stroke-dasharray: 3 4; }
.plot .axis { stroke: var(--around); }
rect.kept { fill: var(--kept); } rect.kept-2 { fill: var(--kept-2); } rect.kept-3 { fill: var(--kept-3); }
polyline.kept { stroke: var(--kept); } polyline.dropped { stroke: var(--dropped); }
polyline.around { stroke: var(--around); }
rect.dropped { fill: var(--dropped); } rect.removed { fill: var(--removed); } rect.around { fill: var(--around); }
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 4px 0 12px; padding: 0; font-size: 13px;
  color: var(--soft);
}
.key { margin-right: 6px; vertical-align: -1px; }
.scroll { overflow-x: auto; margin-bottom: 12px; }
table { border-collapse: collapse; min-width: min(100%, 460px); font-size: 14px; line-height: 1.4; }
.beside table, .columns table { width: 100%; min-width: 0; }
caption { text-align: left; color: var(--soft); font-size: 13px; padding-bottom: 6px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.beside :is(th, td):last-child, .columns :is(th, td):last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 600; font-size: 13px; vertical-align: bottom; }
tbody th { font-weight: 400; }
tbody :is(th, td):not(.right) { overflow-wrap: anywhere; min-width: 9em; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
td.right { white-space: nowrap; }
.more { color: var(--soft); }
code, pre {
  font-family: ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px;
}
code { overflow-wrap: anywhere; }
pre {
  background: var(--code); border-radius: 6px; margin: 6px 0 0; padding: 10px 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 16em; overflow-y: auto;
}
details { border-bottom: 1px solid var(--line); padding: 7px 0; font-size: 14px; }
.opening { border-top: 1px solid var(--line); margin: 16px 0; }
summary { cursor: pointer; padding: 2px 0; overflow-wrap: anywhere; }
summary .count { color: var(--soft); font-variant-numeric: tabular-nums; }
summary .meaning { color: var(--soft); }
details[open] > summary { margin-bottom: 8px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.sample { margin: 0 0 14px; }
.sample p { margin: 0; font-size: 14px; max-width: none; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 13px; padding-bottom: 40px; overflow-wrap: anywhere; }
@media (max-width: 760px) {
  header, main, footer { padding-inline: 14px; }
  header { padding-top: 24px; }
  h1 { font-size: 25px; }
  section { padding: 18px 16px 20px; margin: 16px 0; border-radius: 8px; }
  .beside, .columns { grid-template-columns: minmax(0, 1fr); gap: 12px; }
  .drawn { position: static; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tile { padding: 10px 12px; }
  .tile b { font-size: 20px; }
  .minor { display: none; }
  th, td { padding-right: 8px; }
  tbody :is(th, td):not(.right) { min-width: 7.5em; }
  table { font-size: 13px; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --track: #eee; --code: #f4f4f4; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 11pt; }
  nav { display: none; }
  section { border: 0; border-radius: 0; padding: 0; margin: 18pt 0; }
  .drawn { position: static; }
  .beside, tr, .sample { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  pre { max-height: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
