// A camera that orbits a point. OpenCV axes: x right, y down, z forward; a view is rotation (9, row-major) and translation.

const STEEPEST = 1.5; // radians from level

// meta.camera: world_to_camera (16, row-major), fx, fy, cx, cy, width, height; meta.target: the point (3).
export function createOrbit(meta) {
  const start = meta.camera;
  const m = start.world_to_camera;
  // The first view's own axes in the world: yaw and pitch are measured from them.
  const [right, down, forward] = [0, 1, 2].map((r) => [m[4 * r], m[4 * r + 1], m[4 * r + 2]]);
  // The target in the first camera's coordinates: off the axis by a shift that is kept, at a distance that zooming changes.
  const seen = [0, 1, 2].map((r) => m[4 * r] * meta.target[0] + m[4 * r + 1] * meta.target[1] + m[4 * r + 2] * meta.target[2] + m[4 * r + 3]);
  let yaw, pitch, distance, shift;

  function reset() {
    [yaw, pitch, distance, shift] = [0, 0, seen[2], [seen[0], seen[1]]];
  }
  reset();

  function view() {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const mix = (a, b, c) => [0, 1, 2].map((i) => a * right[i] + b * down[i] + c * forward[i]);
    const rows = [mix(cy, 0, sy), mix(sp * sy, cp, -sp * cy), mix(-cp * sy, sp, cp * cy)];
    const place = [shift[0], shift[1], distance];
    const translation = rows.map((row, i) => place[i] - row[0] * meta.target[0] - row[1] * meta.target[1] - row[2] * meta.target[2]);
    return { rotation: rows.flat(), translation };
  }

  // The lens on a canvas of another size: the whole first picture stays visible.
  function lens(width, height) {
    const scale = Math.min(width / start.width, height / start.height);
    const x = 0.5 * width + scale * (start.cx - 0.5 * start.width), y = 0.5 * height + scale * (start.cy - 0.5 * start.height);
    return [scale * start.fx, scale * start.fy, x, y];
  }

  return {
    reset,
    view,
    lens,
    turn(dx, dy) { // radians
      yaw += dx;
      pitch = Math.max(-STEEPEST, Math.min(STEEPEST, pitch + dy));
    },
    move(dx, dy, focal) { // pixels
      shift = [shift[0] + dx * distance / focal, shift[1] + dy * distance / focal];
    },
    zoom(factor) {
      distance = Math.max(1.5 * start.near, distance * factor);
    },
  };
}
