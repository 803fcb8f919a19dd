"""The page's one script: draws figures light or dark, sorts tables, saves data, moves the slider over steps."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

SCRIPT = r"""
(() => {
"use strict";
const night = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const AT_NIGHT = {"#0072b2": "#56b4e9", "#d55e00": "#f0803c", "#009e73": "#3fc79a", "#a8579b": "#d893cc",
  "#8a6d00": "#d6b53a", "#5c5c5c": "#b0b0b0", "#3c3c3c": "#d4d4d4", "#c4006a": "#ff6fb5", "#e5e5e5": "#33373d",
  "#b8b8b8": "#5a5f66", "#f2f2f2": "#2b2f35", "#ffffff": "#16181c", "#f7f7f7": "#23262b", "#2166ac": "#6cb2f0",
  "#92c5de": "#3a648c", "#f4a582": "#8f4a3a", "#b2182b": "#ff8a6b"};
const themed = text => night.matches && !printing
  ? text.replace(/"#[0-9a-f]{6}"/g, colour => JSON.stringify(AT_NIGHT[colour.slice(1, -1)] || colour.slice(1, -1)))
  : text;
const plots = [...document.querySelectorAll("[data-figure]")].map(place => ({
  place, text: place.parentElement.querySelector("script[type='application/json']").textContent}));

function draw({place, text}) {
  const {data, layout} = JSON.parse(themed(text));
  if (innerWidth < 600) {
    layout.margin = {...layout.margin, l: 45, r: 8};
    layout.font = {...layout.font, size: 11};
    if (layout.yaxis.scaleanchor) layout.height = 340;
  }
  layout.hoverlabel = {bgcolor: layout.plot_bgcolor, font: {color: layout.font.color}};
  place.ready = Plotly.react(place, data, layout, {responsive: true, displaylogo: false,
    displayModeBar: innerWidth < 600 ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], showSendToCloud: false, plotlyServerURL: ""});
  place.style.minHeight = `${layout.height}px`;
  const meta = layout.meta;
  if (meta && meta.stack) slide(place, meta);
}

function slide(place, {stack, steps, side}) {
  const bytes = Uint8Array.from(atob(stack), letter => letter.charCodeAt(0));
  const values = new Float32Array(bytes.buffer);
  const box = place.parentElement.querySelector("input"), told = place.parentElement.querySelector("output");
  const show = () => {
    const start = box.value * side * side, rows = [];
    for (let row = 0; row < side; row++) rows.push(values.subarray(start + row * side, start + (row + 1) * side));
    told.textContent = steps[box.value];
    return Plotly.restyle(place, {z: [rows]}, [0]);
  };
  box.oninput = show;
  place.ready = place.ready.then(show);
}

function sorted(head) {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[column].textContent;
  const number = text => text.trim() === "" || text === "-" ? NaN : Number(text.replace("%", ""));
  const order = (one, other) => {
    const [a, b] = [number(key(one)), number(key(other))];
    if (isNaN(a) && isNaN(b)) return (up ? 1 : -1) * key(one).localeCompare(key(other), undefined, {numeric: true});
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
    return up ? a - b : b - a;
  };
  body.append(...[...body.rows].sort(order));
}

function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const cell = text => /^[=+@\t\r-]/.test(text) && isNaN(text) && text !== "-" ? "'" + text : text;
const csv = table => [...table.rows].map(row => [...row.cells].map(
  one => '"' + cell(one.textContent).replaceAll('"', '""') + '"').join(",")).join("\n") + "\n";

for (const head of document.querySelectorAll("thead th")) {
  head.tabIndex = 0;
  head.addEventListener("click", () => sorted(head));
  head.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sorted(head); }
  });
}
for (const button of document.querySelectorAll("button[data-save]")) {
  button.addEventListener("click", () => button.dataset.save === "csv"
    ? save("table.csv", csv(button.closest("section").querySelector("table")), "text/csv")
    : save("result.json", document.getElementById("result").textContent, "application/json"));
}
const again = () => plots.forEach(draw);
again();
night.addEventListener("change", again);
addEventListener("beforeprint", () => { printing = true; again(); });
addEventListener("afterprint", () => { printing = false; again(); });
})();
"""


@cache
def plotly_script() -> str:
    """Plotly's own code, from its package."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
