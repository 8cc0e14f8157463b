// Live motion instead of the exported one: from scripts, from a page that embeds this one, and from a WebSocket.

import { jointsOf } from './head.js';

const JOINTS = { rotation: ['root'], neck: ['neck'], jaw: ['jaw'], eyes: ['left eye', 'right eye'] }; // that parts of a row rotate
const LATER = [500, 10000]; // milliseconds before reconnecting: at first, and at most

const finite = (values, count) => Array.isArray(values) && (count === undefined || values.length === count) && values.every(Number.isFinite);

// Axis-angles as quaternions (w, x, y, z) and back, and their products.
function quat([x, y, z]) {
  const angle = Math.hypot(x, y, z);
  const factor = angle > 1e-9 ? Math.sin(angle / 2) / angle : 0.5;
  return [Math.cos(angle / 2), factor * x, factor * y, factor * z];
}

function times([a, b, c, d], [e, f, g, h]) {
  return [a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g, a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e];
}

function rotvec([w, x, y, z]) {
  const sine = Math.hypot(x, y, z);
  if (sine < 1e-12) return [0, 0, 0];
  const factor = (w < 0 ? -2 : 2) * Math.atan2(sine, Math.abs(w)) / sine;
  return [factor * x, factor * y, factor * z];
}

// A row (expressions, joints, translation) from {weights, head} or from parts of a FLAME pose, see docs/live.md.
export function createRows(meta) {
  const { expressions, live } = meta.head;
  const place = {};
  let size = expressions;
  const joints = jointsOf(meta);
  const parts = Object.entries(JOINTS).filter(([, turned]) => joints.includes(turned[0])).map(([name, turned]) => [name, 3 * turned.length]);
  parts.push(['translation', 3]);
  for (const [name, count] of parts) {
    place[name] = size;
    size += count;
  }

  return function row(message) {
    if (message === null || typeof message !== 'object' || Array.isArray(message)) throw new Error('want { weights: { jawOpen: 0.5 }, head: [x, y, z] }');
    const out = new Array(size).fill(0);
    const add = (name, values) => values.forEach((value, i) => { out[place[name] + i] += value; });
    for (const [name, value] of Object.entries(message.weights || {})) {
      if (!Object.hasOwn(live.weights, name)) throw new Error(`there is no weight ${name}`);
      if (!Number.isFinite(value)) throw new Error(`${name}: want a number from 0 to 1`);
      for (const [column, amount] of live.weights[name]) out[column] += amount * Math.min(Math.max(value, 0), 1);
    }
    if (message.head !== undefined) {
      if (!finite(message.head, 3)) throw new Error('head: want an axis-angle, three numbers in radians');
      const angle = Math.hypot(...message.head);
      const limited = angle > 1e-8 ? live.largest_turn * Math.tanh(angle / live.largest_turn) / angle : 1;
      add('rotation', message.head.map((x) => (1 - live.neck_share) * limited * x));
      if ('neck' in place) add('neck', message.head.map((x) => live.neck_share * limited * x));
    }
    if (message.expr !== undefined) {
      if (!finite(message.expr) || message.expr.length > expressions) throw new Error(`expr: want up to ${expressions} numbers`);
      message.expr.forEach((value, i) => { out[i] += value; });
    }
    for (const [name, count] of parts) {
      if (message[name] === undefined) continue;
      if (!finite(message[name], count)) throw new Error(`${name}: want ${count} numbers`);
      add(name, message[name]);
    }
    // The avatar keeps its place.
    const at = place.rotation;
    out.splice(at, 3, ...rotvec(times(quat(live.rotation), quat(out.slice(at, at + 3)))));
    add('translation', live.translation);
    return out;
  };
}

// Messages of a page that embeds this one, { pose: ... }, and of the WebSocket that ?ws= names. `take` may throw.
export function listen(take) {
  const tried = (message) => {
    try {
      take(message);
    } catch (error) {
      console.warn(`pose: ${error.message}`);
    }
  };
  addEventListener('message', (event) => {
    if (event.source === window.parent && event.data && event.data.pose !== undefined) tried(event.data.pose);
  });
  const address = new URLSearchParams(location.search).get('ws');
  if (address) connect(address, tried, LATER[0]);
}

function connect(address, tried, later) {
  let socket;
  try {
    socket = new WebSocket(address);
  } catch (error) {
    return console.warn(`?ws=: ${error.message}`);
  }
  socket.onopen = () => { later = LATER[0]; };
  socket.onmessage = ({ data }) => {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return console.warn('?ws=: a message is no JSON');
    }
    tried(message && message.face === false ? null : message);
  };
  socket.onclose = () => {
    tried(null); // the exported motion resumes
    setTimeout(() => connect(address, tried, Math.min(2 * later, LATER[1])), later);
  };
}
