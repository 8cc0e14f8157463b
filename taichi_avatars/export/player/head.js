// The head model (Li et al. 2017): parameters in, frames of the triangles out (GaussianAvatars, 3.1). Runs in the worker.

const FLAME = { joints: ['root', 'neck', 'jaw', 'left eye', 'right eye'], parents: [-1, 0, 1, 1, 1] };
const TINY = 1e-20;

// Rodrigues' formula: the rotation of an axis-angle, 9 numbers, row-major.
function rotation(x, y, z) {
  const angle2 = x * x + y * y + z * z;
  const angle = Math.sqrt(angle2);
  const a = angle < 1e-4 ? 1 - angle2 / 6 : Math.sin(angle) / angle;
  const b = angle < 1e-4 ? 0.5 - angle2 / 24 : (1 - Math.cos(angle)) / angle2;
  return [
    1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y,
    b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x,
    b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y),
  ];
}

function multiply(a, b) {
  const out = new Array(9);
  for (let r = 0; r < 3; ++r)
    for (let c = 0; c < 3; ++c) out[3 * r + c] = a[3 * r] * b[c] + a[3 * r + 1] * b[3 + c] + a[3 * r + 2] * b[6 + c];
  return out;
}

function apply(m, v, i) {
  return [0, 1, 2].map((r) => m[3 * r] * v[i] + m[3 * r + 1] * v[i + 1] + m[3 * r + 2] * v[i + 2]);
}

// The joints of a head, in the order of their axis-angles in a row of the motion.
export function jointsOf(meta) {
  return meta.head.joints || FLAME.joints;
}

// meta.head: vertices, expressions, correctives (9 for each of the last joints, or 0); joints and parents unless FLAME's. data: rest, basis, basis_scale, weights, faces, and offset, offset_scale, offset_places if there are some.
export function createHead(meta, data) {
  const { vertices: count, expressions, correctives } = meta.head;
  const parents = meta.head.parents || FLAME.parents;
  const JOINTS = parents.length;
  const corrected = JOINTS - correctives / 9; // the first joint that has correctives
  const size = 3 * (count + JOINTS); // vertices, then joints
  const shaped = new Float32Array(size);
  const posed = new Float32Array(3 * count);

  function add(component, amount) {
    const factor = amount * data.basis_scale[component];
    if (factor === 0) return;
    const start = component * size;
    const basis = data.basis;
    for (let i = 0; i < size; ++i) shaped[i] += factor * basis[start + i];
  }

  function addOffset(frame) {
    const places = data.offset_places, scale = data.offset_scale[0], start = frame * places.length;
    for (let k = 0; k < places.length; ++k) shaped[places[k]] += scale * data.offset[start + k];
  }

  // expr (E), pose (3J): axis-angles of the joints; translation (3); frame: for offsets over time, null for none.
  // Returns the vertices (3V), overwritten by the next call.
  function pose(expr, turns, translation, frame) {
    const local = Array.from({ length: JOINTS }, (_, j) => rotation(turns[3 * j], turns[3 * j + 1], turns[3 * j + 2]));
    shaped.set(data.rest);
    if (data.offset && frame !== null) addOffset(frame);
    for (let k = 0; k < expressions; ++k) add(k, expr[k]);
    for (let k = 0; k < correctives; ++k) {
      const joint = corrected + Math.floor(k / 9), entry = k % 9;
      add(expressions + k, local[joint][entry] - (entry % 4 === 0 ? 1 : 0));
    }
    const turn = [], shift = [];
    for (let j = 0; j < JOINTS; ++j) {
      const at = 3 * (count + j), parent = parents[j];
      turn.push(parent < 0 ? local[j] : multiply(turn[parent], local[j]));
      // The joint moves with its parent. Then a vertex v moves to turn v + shift.
      const joint = [shaped[at], shaped[at + 1], shaped[at + 2]];
      const goal = parent < 0 ? joint : apply(turn[parent], joint, 0).map((x, i) => x + shift[parent][i]);
      const carried = apply(turn[j], joint, 0);
      shift.push(goal.map((x, i) => x - carried[i]));
    }
    const w = data.weights;
    const m = new Float64Array(12);
    for (let v = 0; v < count; ++v) {
      m.fill(0);
      for (let j = 0; j < JOINTS; ++j) {
        const weight = w[JOINTS * v + j];
        if (weight === 0) continue;
        for (let i = 0; i < 9; ++i) m[i] += weight * turn[j][i];
        for (let i = 0; i < 3; ++i) m[9 + i] += weight * shift[j][i];
      }
      const x = shaped[3 * v], y = shaped[3 * v + 1], z = shaped[3 * v + 2];
      for (let i = 0; i < 3; ++i)
        posed[3 * v + i] = m[3 * i] * x + m[3 * i + 1] * y + m[3 * i + 2] * z + m[9 + i] + translation[i];
    }
    return posed;
  }

  // Writes world_from_local of every triangle: three rows of (scale * rotation | centre), 12 numbers each.
  function frames(vertices, out) {
    const faces = data.faces;
    for (let f = 0; f < meta.faces; ++f) {
      const a = 3 * faces[3 * f], b = 3 * faces[3 * f + 1], c = 3 * faces[3 * f + 2];
      const e1x = vertices[b] - vertices[a], e1y = vertices[b + 1] - vertices[a + 1], e1z = vertices[b + 2] - vertices[a + 2];
      const e2x = vertices[c] - vertices[a], e2y = vertices[c + 1] - vertices[a + 1], e2z = vertices[c + 2] - vertices[a + 2];
      const length = Math.sqrt(e1x * e1x + e1y * e1y + e1z * e1z);
      const i0 = 1 / Math.sqrt(Math.max(length * length, TINY));
      const x0 = e1x * i0, y0 = e1y * i0, z0 = e1z * i0;
      let x1 = y0 * e2z - z0 * e2y, y1 = z0 * e2x - x0 * e2z, z1 = x0 * e2y - y0 * e2x;
      const i1 = 1 / Math.sqrt(Math.max(x1 * x1 + y1 * y1 + z1 * z1, TINY));
      x1 *= i1; y1 *= i1; z1 *= i1;
      const x2 = y0 * z1 - z0 * y1, y2 = z0 * x1 - x0 * z1, z2 = x0 * y1 - y0 * x1;
      const s = 0.5 * (length + Math.abs(x2 * e2x + y2 * e2y + z2 * e2z));
      const o = 12 * f;
      out[o] = s * x0; out[o + 1] = s * x1; out[o + 2] = s * x2;
      out[o + 4] = s * y0; out[o + 5] = s * y1; out[o + 6] = s * y2;
      out[o + 8] = s * z0; out[o + 9] = s * z1; out[o + 10] = s * z2;
      for (let i = 0; i < 3; ++i) out[o + 3 + 4 * i] = (vertices[a + i] + vertices[b + i] + vertices[c + i]) / 3;
    }
  }

  return { pose, frames };
}
