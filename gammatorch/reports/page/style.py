"""The style sheet of a page: two columns of pictures where there is room, one on a telephone, none cut when printed."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fff; --ink: #1b1b1b; --soft: #5c5c5c; --line: #999; --shade: #bbb; --accent: #0072b2; --bad: #b3003c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #16181c; --ink: #e6e6e6; --soft: #a8adb4; --line: #5a5f66; --shade: #4a4f56; --accent: #56b4e9;
    --bad: #ff7d9c;
  }
}
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
}
main { max-width: 1320px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 0 0 0.25rem; }
p, li, dd { overflow-wrap: anywhere; max-width: 75ch; }
ul { padding-left: 1.3rem; }
.answer { font-size: 1.15rem; border-left: 4px solid var(--accent); padding-left: 0.8rem; margin: 1rem 0; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: 0.15rem 1rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); gap: 2rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure label { display: flex; gap: 0.6rem; align-items: center; color: var(--soft); }
figure input { flex: 1; min-width: 0; }
output { min-width: 5rem; }
.whole { grid-column: 1 / -1; }
figcaption { font-size: 0.9rem; color: var(--soft); max-width: 70ch; margin-top: 0.25rem; }
/* a shadow on the side where more of the table is; the ground covers it at the table's own ends */
.wide {
  overflow-x: auto;
  background:
    linear-gradient(to right, var(--page) 50%, transparent) left / 2rem 100% no-repeat local,
    linear-gradient(to left, var(--page) 50%, transparent) right / 2rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 0.7rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 0.7rem 100% no-repeat scroll;
}
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem 0.15rem 0; text-align: right; vertical-align: baseline; white-space: nowrap; }
th { border-bottom: 1px solid var(--line); font-weight: 600; }
th { cursor: pointer; }
th[aria-sort]::after { content: " ↑"; }
th[aria-sort="descending"]::after { content: " ↓"; }
[title]:is(td, th) { text-decoration: underline dotted var(--shade); text-underline-offset: 3px; }
.error { color: var(--bad); font-weight: 600; }
button { font: inherit; font-size: 0.8rem; color: var(--soft); background: none; border: 1px solid var(--shade);
  border-radius: 4px; padding: 0.1rem 0.6rem; cursor: pointer; }
.name { text-align: left; }
.long { width: clamp(12rem, 30vw, 32rem); white-space: normal; overflow-wrap: anywhere; }
summary { cursor: pointer; margin: 0.5rem 0; }
@media (max-width: 480px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.4rem; } }
@page { margin: 15mm; }
@media print {
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  .pictures { display: block; }
  figure { margin-bottom: 1.5rem; }
  button, figure label { display: none; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  .wide { overflow: visible; background: none; }
  .long { width: auto; }
  table { font-size: 8.5pt; }
  td.name { white-space: normal; }
  section:has(> details:not([open])) { display: none; }
}
"""
