#include "report/page.h"

namespace polar {

// Draws the charts as SVG from the JSON in #data. One state for all of them: the axis, the zoom, the hidden
// runs. Strings reach the page by textContent only, never as markup.
const char* const kPageScript = R"js(
'use strict';
(() => {
const runs = JSON.parse(document.getElementById('data').textContent).runs;
const state = {x: 'step', log: false, smooth: Number(document.getElementById('smooth').value), zoom: null, hidden: new Set()};
const HEIGHT = 250, LEFT = 54, RIGHT = 14, TOP = 8, BOTTOM = 24;
const DASHES = ['', '6 4', '2 3', '8 3 2 3'];

// Which columns a chart shows: a name, or a prefix that ends in "/".
const charts = [
  {title: 'Training loss', unit: 'nats per token', column: 'loss', smooth: true},
  {title: 'Validation loss', unit: 'nats per token', column: 'val_loss', markers: true},
  {title: 'Learning rate', unit: '', column: 'lr/'},
  {title: 'Gradient norm', unit: 'before clipping', column: 'grad_norm', smooth: true},
  {title: 'Throughput', unit: 'tokens per second', column: 'tokens_per_s', fromZero: true},
  {title: 'Share of the nuclear norm', unit: '<U,M> / ||M||', column: 'nuclear_share/'},
  {title: 'Nuclear norm', unit: 'of what the oracle saw', column: 'nuclear/'},
  {title: 'Orthogonality error', unit: 'of the oracle\'s factor', column: 'orthogonality/'},
  {title: 'Update', unit: 'root mean square of an element', column: 'update_rms/'},
  {title: 'Effective learning rate', unit: 'what the direction is multiplied with', column: 'effective_lr/'},
  {title: 'Condition number', unit: 'of what the oracle saw', column: 'condition/'},
  {title: 'Gradient: nuclear norm', unit: '', column: 'gradient_nuclear/'},
  {title: 'Gradient: condition number', unit: '', column: 'gradient_condition/'},
  {title: 'MFU', unit: 'share of the device\'s matrix rate', column: 'mfu', fromZero: true},
].filter(chart => runs.some(run => columnsOf(chart, run).length > 0));

function columnsOf(chart, run) {
  return Object.keys(run.columns).filter(name =>
    (chart.column.endsWith('/') ? name.startsWith(chart.column) : name === chart.column) &&
    run.columns[name].some(value => value !== null));
}

function svg(name, attributes, parent) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (parent) parent.appendChild(element);
  return element;
}

function html(name, className, text, parent) {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  parent.appendChild(element);
  return element;
}

// Four digits, in the unit that suits `size`: the value itself, or the largest tick of an axis.
const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
function number(value, size = Math.abs(value)) {
  if (value === 0) return '0';
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, 'e');
  const unit = UNITS.find(u => size >= 10 * u[0] || (u[0] > 1e3 && size >= u[0]));
  return unit ? +(value / unit[0]).toPrecision(4) + unit[1] : String(+value.toPrecision(4));
}

// Weighted mean over both sides, weights falling by `weight` a point: unlike a trailing mean it does not lag.
function smoothed(values, weight) {
  const sums = values.map(() => [0, 0]);
  const sweep = indices => {
    let sum = 0, total = 0;
    for (const i of indices) {
      if (values[i] === null) continue;
      sums[i][0] += weight * sum;
      sums[i][1] += weight * total;
      sum = weight * sum + values[i];
      total = weight * total + 1;
    }
  };
  const order = [...values.keys()];
  sweep(order);
  sweep(order.reverse());
  return values.map((value, i) => value === null ? null : (sums[i][0] + value) / (sums[i][1] + 1));
}

function pointsOf(xs, ys) {
  const points = [];
  for (let i = 0; i < xs.length; i++)
    if (ys[i] !== null && (!state.log || ys[i] > 0)) points.push([xs[i], ys[i]]);
  return points;
}

// Where one run has several lines, their dashes say which is which: "solid: adamw · dashed: muon, polargrad".
function dashNames(chart) {
  const names = [];
  for (const run of runs)
    columnsOf(chart, run).forEach((name, order) => {
      (names[order % DASHES.length] ||= new Set()).add(name.slice(chart.column.length));
    });
  if (names.length < 2) return '';
  return names.map((set, i) => ['solid', 'dashed', 'dotted', 'dash-dot'][i] + ': ' + [...set].join(', ')).join(' · ');
}

// All lines of a chart: {run, label, color, dash, points, raw}.
function linesOf(chart) {
  const lines = [];
  runs.forEach((run, index) => {
    if (state.hidden.has(index)) return;
    columnsOf(chart, run).forEach((name, order) => {
      const ys = run.columns[name], smooth = chart.smooth && state.smooth > 0;
      const group = name.slice(chart.column.length);
      lines.push({
        label: group ? run.name + ' · ' + group : run.name, color: run.color, dash: DASHES[order % DASHES.length],
        points: pointsOf(run[state.x], smooth ? smoothed(ys, state.smooth) : ys),
        raw: smooth ? pointsOf(run[state.x], ys) : null});
    });
  });
  return lines;
}

function fullRange() {
  let low = Infinity, high = -Infinity;
  for (const run of runs) {
    low = Math.min(low, run[state.x][0]);
    high = Math.max(high, run[state.x][run.step.length - 1]);
  }
  return high > low ? [low, high] : [low - 1, high + 1];
}

function rangeOfY(chart, lines, [x0, x1]) {
  let low = Infinity, high = -Infinity;
  for (const line of lines)
    for (const [x, y] of line.raw || line.points)
      if (x >= x0 && x <= x1) { low = Math.min(low, y); high = Math.max(high, y); }
  if (low > high) return [1, 2];
  if (state.log) return low === high ? [low / 2, high * 2] : [low / 1.05, high * 1.05];
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  return [chart.fromZero && low >= 0 ? 0 : low - margin, high + margin];
}

// Round values between two bounds: multiples of 1, 2, 2.5 or 5 times a power of ten.
function linearTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high, count) {
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
    for (const m of [1, 2, 5]) {
      const tick = m * 10 ** e;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  if (ticks.length < 3) return linearTicks(low, high, count);
  const decades = ticks.filter(t => Math.abs(Math.log10(t) % 1) < 1e-9);
  return ticks.length > 2 * count && decades.length > 1 ? decades : ticks;
}

// At most four points a pixel column (first, lowest, highest, last): what the eye could tell apart.
function thin(points, toX) {
  if (points.length < 4000) return points;
  const kept = [];
  for (let start = 0; start < points.length;) {
    const pixel = Math.round(toX(points[start][0]));
    let end = start, low = start, high = start;
    while (end < points.length && Math.round(toX(points[end][0])) === pixel) {
      if (points[end][1] < points[low][1]) low = end;
      if (points[end][1] > points[high][1]) high = end;
      end++;
    }
    for (const i of [...new Set([start, low, high, end - 1])].sort((a, b) => a - b)) kept.push(points[i]);
    start = end;
  }
  return kept;
}

function scales(chart, lines, width) {
  const [x0, x1] = state.zoom || fullRange(), [y0, y1] = rangeOfY(chart, lines, [x0, x1]);
  const f = state.log ? Math.log : y => y, right = width - RIGHT, bottom = HEIGHT - BOTTOM;
  return {
    x0, x1, y0, y1, right, bottom,
    toX: x => LEFT + (x - x0) / (x1 - x0) * (right - LEFT),
    toY: y => bottom - (f(y) - f(y0)) / (f(y1) - f(y0)) * (bottom - TOP),
    fromX: px => x0 + (Math.min(Math.max(px, LEFT), right) - LEFT) / (right - LEFT) * (x1 - x0)};
}

function drawAxes(root, s) {
  const ticksY = (state.log ? logTicks : linearTicks)(s.y0, s.y1, 6);
  const largest = Math.max(...ticksY.map(Math.abs));
  for (const tick of ticksY) {
    const y = s.toY(tick);
    svg('line', {x1: LEFT, x2: s.right, y1: y, y2: y, class: 'grid'}, root);
    svg('text', {x: LEFT - 8, y: y + 4, 'text-anchor': 'end'}, root).textContent = number(tick, largest);
  }
  const ticksX = linearTicks(s.x0, s.x1, Math.max(2, (s.right - LEFT) / 90)).filter(Number.isInteger);
  for (const tick of ticksX)
    svg('text', {x: s.toX(tick), y: s.bottom + 17, 'text-anchor': 'middle'}, root).textContent =
      number(tick, Math.max(...ticksX));
  svg('line', {x1: LEFT, x2: s.right, y1: s.bottom, y2: s.bottom, class: 'axis'}, root);
}

function drawCurve(parent, points, line, s, className) {
  const path = thin(points, s.toX).map(([x, y], i) =>
    (i ? 'L' : 'M') + s.toX(x).toFixed(1) + ' ' + s.toY(y).toFixed(1)).join('');
  if (path) svg('path', {d: path, class: className, stroke: line.color, 'stroke-dasharray': line.dash}, parent);
}

function draw(chart) {
  const width = chart.box.clientWidth - 24;
  if (width < 80) return;
  chart.lines = linesOf(chart);
  const s = chart.scale = scales(chart, chart.lines, width), root = chart.svg;
  root.replaceChildren();
  root.setAttribute('viewBox', '0 0 ' + width + ' ' + HEIGHT);
  root.setAttribute('height', HEIGHT);
  const clip = svg('clipPath', {id: 'clip-' + chart.column}, root);
  svg('rect', {x: LEFT - 4, y: TOP - 4, width: s.right - LEFT + 8, height: s.bottom - TOP + 8}, clip);
  drawAxes(root, s);
  const curves = svg('g', {'clip-path': 'url(#clip-' + chart.column + ')'}, root);
  for (const line of chart.lines) if (line.raw) drawCurve(curves, line.raw, line, s, 'curve faint');
  for (const line of chart.lines) {
    drawCurve(curves, line.points, line, s, 'curve');
    if (line.points.length === 1 || (chart.markers && line.points.length < 200))
      for (const [x, y] of line.points)
        svg('circle', {cx: s.toX(x), cy: s.toY(y), r: 3, fill: line.color}, curves);
  }
  chart.overlay = svg('g', {}, root);
}

function drawAll() {
  document.getElementById('reset').hidden = state.zoom === null;
  charts.forEach(draw);
}

// The index of the point whose x is nearest; points are sorted by x.
function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1; else high = middle;
  }
  return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
}

function clearHover(chart) {
  if (chart.overlay) chart.overlay.replaceChildren();
  chart.tip.hidden = true;
}

function hover(chart, px) {
  const s = chart.scale, at = s.fromX(px), found = [];
  clearHover(chart);
  for (const line of chart.lines) {
    if (!line.points.length) continue;
    const i = nearest(line.points, at), [x, y] = line.points[i];
    const ended = at < line.points[0][0] || at > line.points[line.points.length - 1][0];
    if (ended && Math.abs(s.toX(x) - px) > 24) continue;
    if (x >= s.x0 && x <= s.x1) found.push({line, x, y, raw: line.raw ? line.raw[i][1] : null});
  }
  if (!found.length) return;
  const x = found.reduce((a, b) => Math.abs(b.x - at) < Math.abs(a.x - at) ? b : a).x;
  svg('line', {x1: s.toX(x), x2: s.toX(x), y1: TOP, y2: s.bottom, class: 'cursor'}, chart.overlay);
  chart.tip.replaceChildren();
  html('b', '', (state.x === 'step' ? 'step ' : 'tokens ') + x.toLocaleString('en'), chart.tip);
  for (const {line, x: own, y, raw} of found) {
    svg('circle', {cx: s.toX(own), cy: s.toY(y), r: 4, fill: line.color}, chart.overlay);
    const row = html('div', '', '', chart.tip);
    html('span', 'run', line.label, row).style.setProperty('--run', line.color);
    html('span', '', number(y) + (raw === null ? '' : ' (' + number(raw) + ')'), row);
  }
  chart.tip.hidden = false;
  const left = s.toX(x) + 24 + chart.tip.offsetWidth < chart.box.clientWidth
    ? s.toX(x) + 24 : s.toX(x) - chart.tip.offsetWidth;
  chart.tip.style.left = Math.max(4, left) + 'px';
  chart.tip.style.top = '44px';
}

function listen(chart) {
  const root = chart.svg;
  let start = null;
  const position = event => event.clientX - root.getBoundingClientRect().left;
  root.addEventListener('pointerdown', event => {
    start = position(event);
    root.setPointerCapture(event.pointerId);
  });
  root.addEventListener('pointermove', event => {
    hover(chart, position(event));
    if (start === null) return;
    const s = chart.scale, edges = [start, position(event)].map(p => Math.min(Math.max(p, LEFT), s.right));
    svg('rect', {x: Math.min(...edges), width: Math.abs(edges[1] - edges[0]), y: TOP, height: s.bottom - TOP,
      class: 'brush'}, chart.overlay);
  });
  root.addEventListener('pointerup', event => {
    const end = position(event), edges = [start, end].map(chart.scale.fromX).sort((a, b) => a - b);
    if (start !== null && Math.abs(end - start) > 6 && edges[1] > edges[0]) {
      state.zoom = edges;
      drawAll();
    }
    start = null;
  });
  root.addEventListener('pointercancel', () => { start = null; });
  root.addEventListener('pointerleave', () => clearHover(chart));
  root.addEventListener('dblclick', resetZoom);
}

function resetZoom() {
  state.zoom = null;
  drawAll();
}

function press(buttons, chosen) {
  for (const button of buttons) button.setAttribute('aria-pressed', String(button === chosen));
}

const container = document.getElementById('charts');
charts.forEach((chart, index) => {
  chart.box = html('div', index === 0 && charts.length % 2 === 1 ? 'chart wide' : 'chart', '', container);
  html('span', '', chart.unit || dashNames(chart), html('h3', '', chart.title, chart.box));
  chart.svg = svg('svg', {role: 'img', 'aria-label': chart.title}, chart.box);
  chart.tip = html('div', 'tip', '', chart.box);
  chart.tip.hidden = true;
  listen(chart);
});

const axisButtons = document.querySelectorAll('[data-x]');
for (const button of axisButtons)
  button.addEventListener('click', () => {
    state.x = button.dataset.x;
    press(axisButtons, button);
    resetZoom();
  });
for (const chip of document.querySelectorAll('[data-run]'))
  chip.addEventListener('click', () => {
    const run = Number(chip.dataset.run), hide = !state.hidden.has(run);
    if (hide) state.hidden.add(run); else state.hidden.delete(run);
    chip.setAttribute('aria-pressed', String(!hide));
    drawAll();
  });
document.getElementById('log').addEventListener('change', event => {
  state.log = event.target.checked;
  drawAll();
});
document.getElementById('smooth').addEventListener('input', event => {
  state.smooth = Number(event.target.value);
  drawAll();
});
document.getElementById('reset').addEventListener('click', resetZoom);
new ResizeObserver(drawAll).observe(container);
})();
)js";

}  // namespace polar
