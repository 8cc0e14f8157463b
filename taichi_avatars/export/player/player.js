// The page: pointer and keys in, frames out. `window.avatar` offers the same to scripts.

import { createOrbit } from './camera.js';
import { jointsOf } from './head.js';
import { createRows, listen } from './live.js';
import { createSplats } from './splats.js';

const SHARPEST = 2; // canvas pixels per CSS pixel; more costs much and shows little
const RADIANS = 0.006; // of turning, per CSS pixel
const AMOUNT = 1.0; // full range of an expression's slider, if it has a name; else 3
const [$, canvas, message] = [(id) => document.getElementById(id), document.getElementById('picture'), document.getElementById('message')];

const worker = new Worker('worker.js', { type: 'module' });
let meta, splats, orbit;
let playing = true, time = 0, last = null, background = [0, 0, 0];
let added = {}; // amounts added to expressions and poses by hand, by their position in a row of the motion
let rows, live = null; // the function that makes rows of live poses, and the current one
let busy = null, asked = '', drawn = '', holding = false;
let ready, refuse;

function fail(text) {
  message.hidden = false;
  message.textContent = text;
  refuse(new Error(text));
}

function frame() {
  return Math.floor(time * meta.fps + 1e-6) % meta.frames;
}

// Asks the worker for this frame from this view; resolves when the next drawing shows it.
function ask(view, at = frame()) {
  const r = view.rotation;
  const question = { frame: at, added, live, depth: [r[6], r[7], r[8], view.translation[2]] };
  asked = JSON.stringify(question);
  worker.postMessage(question);
  return new Promise((resolve) => { busy = resolve; });
}

worker.onmessage = ({ data }) => {
  if (data.error) return fail(data.error);
  if (data.meta) return start(data.meta, data.words);
  splats.update(data);
  drawn = '';
  const done = busy;
  busy = null;
  done();
};
worker.onerror = (event) => fail(event.message || 'the worker could not be started');

function start(loaded, words) {
  meta = loaded;
  try {
    splats = createSplats(canvas, meta, words);
  } catch (error) {
    return fail(error.message);
  }
  orbit = createOrbit(meta);
  background = meta.background;
  $('background').value = '#' + background.map((c) => Math.round(255 * c).toString(16).padStart(2, '0')).join('');
  document.title = meta.title;
  document.getElementById('label').textContent = meta.label || '';
  $('time').max = meta.frames - 1;
  for (const id of ['play', 'time', 'clock']) $(id).hidden = meta.frames < 2;
  $('expressions').hidden = !meta.head;
  if (meta.head) {
    buildFace();
    rows = createRows(meta);
    listen(avatar.pose);
  }
  $('bar').hidden = false;
  message.hidden = true;
  requestAnimationFrame(tick);
  ready();
}

function fit() {
  const ratio = Math.min(window.devicePixelRatio || 1, SHARPEST);
  const [width, height] = [Math.max(1, Math.round(canvas.clientWidth * ratio)), Math.max(1, Math.round(canvas.clientHeight * ratio))];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
}

function tick(now) {
  requestAnimationFrame(tick);
  if (holding) return;
  if (playing && last !== null) time = (time + (now - last) / 1000) % (meta.frames / meta.fps);
  last = now;
  fit();
  const view = orbit.view();
  const r = view.rotation;
  if (!busy && asked !== JSON.stringify({ frame: frame(), added, live, depth: [r[6], r[7], r[8], view.translation[2]] })) ask(view);
  const state = JSON.stringify([view, canvas.width, canvas.height, background]);
  if (state === drawn || !asked) return;
  splats.draw({ ...view, lens: orbit.lens(canvas.width, canvas.height) }, background);
  drawn = state;
  $('time').value = frame();
  $('clock').textContent = `${frame() + 1} / ${meta.frames}`;
  $('play').textContent = playing ? 'Pause' : 'Play';
}

// Sliders that add to expressions and to the jaw.
function buildFace() {
  const { expressions, names } = meta.head;
  const shown = names ? names.map((name, i) => [i, name]) : [...Array(Math.min(20, expressions)).keys()].map((i) => [i, `expression ${i + 1}`]);
  const most = names ? AMOUNT : 3 * AMOUNT;
  const jaw = jointsOf(meta).indexOf('jaw');
  const opening = jaw < 0 ? [] : [[expressions + 3 * jaw, 'jaw', 0, 0.4]];
  for (const [index, name, low, high] of [...opening, ...shown.map(([i, name]) => [i, name, names ? 0 : -most, most])]) {
    const label = document.createElement('label');
    const slider = Object.assign(document.createElement('input'), { type: 'range', min: low, max: high, step: 'any', defaultValue: 0 });
    slider.oninput = () => { added = { ...added, [index]: Number(slider.value) }; };
    label.append(name, slider);
    $('face').append(label);
  }
}

function reset() {
  orbit.reset();
  added = {};
  $('face').reset();
}

$('play').onclick = () => { playing = !playing; drawn = ''; };
$('time').oninput = () => { avatar.seek(Number($('time').value)); };
$('background').oninput = () => {
  const value = $('background').value;
  background = [1, 3, 5].map((i) => parseInt(value.slice(i, i + 2), 16) / 255);
};
$('expressions').onclick = () => { $('face').hidden = !$('face').hidden; };
$('home').onclick = reset;
onkeydown = (event) => {
  const { tagName } = event.target;
  if (!meta || tagName === 'INPUT' || (tagName === 'BUTTON' && event.key === ' ')) return;
  if (event.key === ' ') $('play').click();
  else if (event.key === 'ArrowRight') avatar.seek(frame() + 1);
  else if (event.key === 'ArrowLeft') avatar.seek(frame() - 1);
  else if (event.key === 'r') reset();
  else return;
  event.preventDefault();
};

// One pointer orbits, with the other button or a key pans; two pinch and pan.
const pointers = new Map();
canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
};
canvas.onpointerup = canvas.onpointercancel = (event) => pointers.delete(event.pointerId);
canvas.onpointermove = (event) => {
  const before = pointers.get(event.pointerId);
  if (!before || !orbit) return;
  const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
  const focal = orbit.lens(canvas.clientWidth, canvas.clientHeight)[0];
  if (pointers.size > 1) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const spread = (x, y) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
    orbit.zoom(spread(...before) / spread(event.clientX, event.clientY));
    orbit.move(dx / 2, dy / 2, focal);
  } else if (event.buttons & 6 || event.shiftKey) orbit.move(dx, dy, focal);
  else orbit.turn(-RADIANS * dx, RADIANS * dy);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
};
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.addEventListener('wheel', (event) => {
  if (orbit) orbit.zoom(Math.exp(0.001 * event.deltaY));
  event.preventDefault();
}, { passive: false });
canvas.addEventListener('webglcontextlost', () => fail('The graphics context was lost; reload the page.'));

const avatar = {
  ready: new Promise((resolve, reject) => { [ready, refuse] = [resolve, reject]; }),
  get frame() { return frame(); },
  get frames() { return meta.frames; },
  get playing() { return playing; },
  play() { playing = true; drawn = ''; },
  pause() { playing = false; drawn = ''; },
  seek(to) {
    playing = false;
    time = (((to % meta.frames) + meta.frames) % meta.frames) / meta.fps;
    drawn = '';
  },
  // Amounts added to the motion, by the name or number of an expression, until they are 0 again.
  express(amounts) {
    for (const [name, amount] of Object.entries(amounts)) {
      const index = meta.head.names && meta.head.names.includes(name) ? meta.head.names.indexOf(name) : Number(name);
      if (!(index >= 0 && index < meta.head.expressions)) throw new Error(`there is no expression ${name}`);
      added = { ...added, [index]: amount };
    }
  },
  // A pose instead of the motion's: { weights, head }, or parts of a FLAME pose; null: the motion resumes.
  pose(message) {
    if (!rows) throw new Error(meta ? 'this scene has no head' : 'not loaded yet: await avatar.ready');
    live = message === null ? null : rows(message);
  },
  // A picture (PNG as a data address) of a frame from a camera: width, height, fx, fy, cx, cy, world_to_camera (16, row-major).
  async picture(at, camera) {
    holding = true;
    try {
      while (busy) await new Promise((resolve) => setTimeout(resolve, 1));
      const m = camera.world_to_camera;
      const view = {
        rotation: [m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]],
        translation: [m[3], m[7], m[11]],
        lens: [camera.fx, camera.fy, camera.cx, camera.cy],
      };
      await ask(view, at);
      [canvas.width, canvas.height] = [camera.width, camera.height];
      splats.draw(view, background);
      return canvas.toDataURL('image/png');
    } finally {
      holding = false;
      drawn = asked = '';
    }
  },
};
avatar.ready.catch(() => {}); // the page says it too
window.avatar = avatar;
