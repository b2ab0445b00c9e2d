#include "report/page.h"

namespace polar {

// Colours are variables with a light and a dark set; a run's own colour comes as --run from its element.
const char* const kPageStyle = R"css(
:root { --page: #f6f7f9; --card: #ffffff; --text: #1b1f27; --soft: #667085; --line: #e1e4ea; --grid: #edeff3;
  --accent: #2f5fd8; --shadow: 0 1px 2px rgb(16 24 40 / .06), 0 1px 3px rgb(16 24 40 / .08); color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --page: #101319; --card: #191d25; --text: #e6e9ef; --soft: #97a0b0; --line: #2b313c; --grid: #232933;
    --accent: #7da2ff; --shadow: none; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 28px 24px 64px; background: var(--page); color: var(--text);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.product { margin: 0; color: var(--soft); font-size: 12px; letter-spacing: .06em; text-transform: uppercase; }
h1 { margin: 2px 0 18px; font-size: 24px; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 36px 0 12px; font-size: 17px; font-weight: 650; }
h3 { margin: 0 0 8px; font-size: 13px; font-weight: 600; }
code, pre, dd { font: 12.5px/1.55 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.note { color: var(--soft); margin: 8px 0; }
.controls { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: center;
  justify-content: space-between; padding: 10px 0; background: var(--page); border-bottom: 1px solid var(--line); }
.legend, .options { display: flex; flex-wrap: wrap; gap: 8px 14px; align-items: center; }
button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 7px;
  padding: 3px 10px; cursor: pointer; }
button:hover { border-color: var(--soft); }
button:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.chip[aria-pressed="false"] { opacity: .4; text-decoration: line-through; }
.run { overflow-wrap: anywhere; }
.run::before { content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 7px; border-radius: 3px;
  background: var(--run); }
.switch { display: inline-flex; }
.switch button { border-radius: 0; margin-left: -1px; }
.switch button:first-child { border-radius: 7px 0 0 7px; }
.switch button:last-child { border-radius: 0 7px 7px 0; }
.switch button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: var(--page); }
label { display: inline-flex; gap: 6px; align-items: center; color: var(--soft); }
input { accent-color: var(--accent); }
input[type="range"] { width: 110px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px;
  margin-top: 16px; }
.chart, .card, .scroll, .sample { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  box-shadow: var(--shadow); }
.chart { position: relative; padding: 12px 12px 6px; min-width: 0; }
.chart.wide { grid-column: 1 / -1; }
.chart h3 span { color: var(--soft); font-weight: 400; margin-left: 6px; }
.chart svg { display: block; width: 100%; touch-action: pan-y; cursor: crosshair; user-select: none; }
.chart text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--line); }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.faint { stroke-width: 1; opacity: .38; }
.cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
.brush { fill: var(--accent); opacity: .14; }
.tip { position: absolute; pointer-events: none; z-index: 1; padding: 6px 10px; border-radius: 8px; font-size: 12px;
  background: var(--card); border: 1px solid var(--line); box-shadow: 0 4px 14px rgb(0 0 0 / .16); white-space: nowrap; }
.tip b { display: block; font-weight: 600; }
.tip div { display: flex; gap: 14px; justify-content: space-between; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; }
table { border-collapse: collapse; min-width: 460px; }
th, td { padding: 7px 14px; text-align: left; border-top: 1px solid var(--grid); vertical-align: top; }
thead th { border-top: 0; border-bottom: 1px solid var(--line); font-weight: 600; }
tbody th { font-weight: 400; color: var(--soft); white-space: nowrap; }
.numbers td, .numbers thead th { text-align: right; font-variant-numeric: tabular-nums; }
.best { font-weight: 700; color: var(--accent); }
.cards { columns: 340px; column-gap: 16px; }
.card { padding: 14px 16px; margin-bottom: 16px; break-inside: avoid; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 16px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
details { margin-top: 16px; }
summary { cursor: pointer; color: var(--soft); margin-bottom: 12px; }
.sample { padding: 14px 16px; margin: 0 0 16px; white-space: pre-wrap; overflow-wrap: anywhere; }
@media print { .controls { display: none; } .chart, .card { break-inside: avoid; } }
)css";

}  // namespace polar
