// Loads the avatar, poses its head and sorts its Gaussians, off the drawing thread.

import { createHead, jointsOf } from './head.js';
import { createSorter } from './sort.js';

const TYPES = { float32: Float32Array, uint32: Uint32Array, int16: Int16Array };

let meta, data, means, head, sorter, frames, planes, shown;

async function load() {
  const answer = await fetch('avatar.json');
  if (!answer.ok) throw new Error(`avatar.json: ${answer.status} ${answer.statusText}`);
  meta = await answer.json();
  const binary = await fetch('avatar.bin');
  if (!binary.ok) throw new Error(`avatar.bin: ${binary.status} ${binary.statusText}`);
  const bytes = await binary.arrayBuffer();
  if (bytes.byteLength !== meta.bytes)
    throw new Error(`avatar.bin holds ${bytes.byteLength} bytes, want ${meta.bytes}: copy the folder again`);
  data = {};
  for (const [name, { type, offset, length }] of Object.entries(meta.buffers))
    data[name] = new TYPES[type](bytes, offset, length);
  means = new Float32Array(bytes, meta.buffers.gaussians.offset, data.gaussians.length); // the same words as numbers
  sorter = createSorter(meta.gaussians);
  planes = new Float64Array(4 * meta.faces);
  frames = new Float32Array(12 * meta.faces);
  if (meta.head) head = createHead(meta, data);
  else frames.set([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]); // the world itself
  const words = data.gaussians.slice();
  postMessage({ meta, words }, [words.buffer]);
}

// The motion at a frame, or a live row, plus the sliders' amounts.
function move(frame, added, live) {
  const E = meta.head.expressions, turned = E + 3 * jointsOf(meta).length; // then the translation
  const row = live ? Float32Array.from(live) : data.motion.slice(frame * (turned + 3), (frame + 1) * (turned + 3));
  for (const [index, amount] of Object.entries(added)) row[index] += amount;
  head.frames(head.pose(row, row.subarray(E, turned), row.subarray(turned), live ? null : frame), frames);
}

// Depth of every Gaussian, from the row (x, y, z, distance) of the view that gives it, and the order that follows.
function sort([x, y, z, d]) {
  // Within a triangle's frame, depth is linear in the local mean.
  for (let f = 0; f < meta.faces; ++f)
    for (let c = 0; c < 4; ++c)
      planes[4 * f + c] = x * frames[12 * f + c] + y * frames[12 * f + 4 + c] + z * frames[12 * f + 8 + c] + (c === 3 ? d : 0);
  const stride = 4 * meta.texels;
  for (let i = 0, at = 0; i < meta.gaussians; ++i, at += stride) {
    const f = 4 * data.gaussians[at + 3];
    sorter.depths[i] = planes[f] * means[at] + planes[f + 1] * means[at + 1] + planes[f + 2] * means[at + 2] + planes[f + 3];
  }
  return sorter.order();
}

onmessage = ({ data: { frame, added, live, depth } }) => {
  const pose = JSON.stringify(live ? [live, added] : [frame, added]);
  const moved = pose !== shown;
  if (moved && head) move(frame, added, live);
  shown = pose;
  const order = sort(depth);
  const copy = moved ? frames.slice() : null;
  postMessage({ order, frames: copy }, copy ? [order.buffer, copy.buffer] : [order.buffer]);
};

load().catch((error) => postMessage({ error: error.message }));
