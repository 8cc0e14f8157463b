// Depth order of the Gaussians, farthest first. Runs in the worker.

export function createSorter(count) {
  const keys = new Uint32Array(count);
  const half = new Uint32Array(count);
  const bins = new Uint32Array(1 << 16);
  const depths = new Float32Array(count);
  const bits = new Uint32Array(depths.buffer);

  // One stable pass over 16 bits of the keys: `from` (null: 0, 1, 2 ...) to `to`.
  function pass(from, to, shift) {
    bins.fill(0);
    for (let i = 0; i < count; ++i) ++bins[(keys[i] >>> shift) & 0xffff];
    for (let b = 0, start = 0; b < bins.length; ++b) {
      const size = bins[b];
      bins[b] = start;
      start += size;
    }
    for (let i = 0; i < count; ++i) {
      const one = from ? from[i] : i;
      to[bins[(keys[one] >>> shift) & 0xffff]++] = one;
    }
  }

  // `depths` must be filled first. Returns a new Uint32Array: by descending depth, ties last first.
  function order() {
    // The bits of a float, mapped so that they increase with its value.
    for (let i = 0; i < count; ++i) keys[i] = bits[i] & 0x80000000 ? ~bits[i] : bits[i] | 0x80000000;
    const sorted = new Uint32Array(count);
    pass(null, half, 0);
    pass(half, sorted, 16);
    return sorted.reverse();
  }

  return { depths, order };
}
