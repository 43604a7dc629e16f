// Two pictures of the last two minutes: rates as lines, sync times as a strip of heat.

import { number } from './figures.js';

const POINTS = 240; // Two minutes of figures, twice a second.
const LEFT = 52, BOTTOM = 20, TOP = 8;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext('2d');
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '11.5px system-ui, sans-serif';
  context.textBaseline = 'middle';
  return { context, width, height };
}

const x = (place, width) => LEFT + ((place + 1) / POINTS) * (width - LEFT);

function times(context, width, height) {
  context.fillStyle = style('--quiet');
  context.textAlign = 'left';
  context.fillText('2 min ago', LEFT, height - 7);
  context.textAlign = 'center';
  context.fillText('1 min', LEFT + (width - LEFT) / 2, height - 7);
  context.textAlign = 'right';
  context.fillText('now', width, height - 7);
}

// A round number that is not below the value, so that the scale changes seldom.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 10)));
  return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= value);
}

export function rates(canvas, history) {
  const { context, width, height } = prepare(canvas);
  const floor = height - BOTTOM;
  const top = ceiling(Math.max(10, ...history.map((point) => Math.max(point.reads, point.writes))));
  const y = (value) => floor - (value / top) * (floor - TOP);
  context.textAlign = 'right';
  for (const share of [0, 0.5, 1]) {
    const at = Math.round(y(top * share)) + 0.5;
    context.strokeStyle = style('--line');
    context.lineWidth = 1;
    context.beginPath(); context.moveTo(LEFT, at); context.lineTo(width, at); context.stroke();
    context.fillStyle = style('--quiet');
    context.fillText(number(top * share), LEFT - 8, at);
  }
  for (const [name, colour, dash] of [['reads', style('--reads'), []], ['writes', style('--writes'), [6, 4]]]) {
    const points = history.map((point, at) => [x(POINTS - history.length + at, width), y(point[name])]);
    if (points.length < 2) continue;
    context.beginPath();
    points.forEach(([at, value], first) => (first ? context.lineTo(at, value) : context.moveTo(at, value)));
    context.strokeStyle = colour; context.lineWidth = 2; context.lineJoin = 'round'; context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
    context.lineTo(points.at(-1)[0], floor); context.lineTo(points[0][0], floor); context.closePath();
    context.globalAlpha = 0.09; context.fillStyle = colour; context.fill(); context.globalAlpha = 1;
  }
  times(context, width, height);
}

const LOWEST = 5, HIGHEST = 20; // Places of the histogram: from 16 µs to 1 s.
// Where values begin that are more than this, to within 5 %: a kibi is nearly a thousand.
const MARKS = [[6, '30 µs'], [8, '125 µs'], [11, '1 ms'], [14, '8 ms'], [17, '65 ms'], [20, '500 ms']];

export function heat(canvas, history) {
  const { context, width, height } = prepare(canvas);
  const rows = HIGHEST - LOWEST + 1, floor = height - BOTTOM, row = (floor - TOP) / rows;
  const top = (place) => floor - (place - LOWEST + 1) * row;
  context.fillStyle = style('--quiet');
  context.textAlign = 'right';
  for (const [place, label] of MARKS) {
    const at = Math.round(top(place) + row) + 0.5;
    context.fillText(label, LEFT - 8, at);
    context.strokeStyle = style('--line');
    context.lineWidth = 1;
    context.globalAlpha = 0.7;
    context.beginPath(); context.moveTo(LEFT, at); context.lineTo(width, at); context.stroke();
    context.globalAlpha = 1;
  }
  const most = Math.max(1, ...history.flatMap((point) => point.syncs.map(([, count]) => count)));
  history.forEach((point, at) => {
    for (const [place, count] of point.syncs) {
      const strength = Math.log1p(count) / Math.log1p(most);
      const share = Math.round(strength * 100);
      context.fillStyle = `color-mix(in oklab, ${style('--heat-high')} ${share}%, ${style('--heat-low')})`;
      const kept = Math.min(HIGHEST, Math.max(LOWEST, place));
      const [left, right] = [-1, 0].map((more) => Math.round(x(POINTS - history.length + at + more, width)));
      const [upper, lower] = [top(kept), top(kept) + row].map(Math.round);
      context.fillRect(left, upper, right - left, lower - upper);
    }
  });
  times(context, width, height);
}

export { POINTS };
