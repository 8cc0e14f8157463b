"""Depth order: a stable radix sort of the bits of positive floats, which sort like the floats themselves."""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.tasks import TASK
from taichi_avatars.kernels.types import I32x1, I32x2

DIGIT = 11  # bits per pass
PASSES = 3  # 33 bits: covers a float
BINS = 1 << DIGIT


@ti.kernel
def radix_pass(shift: ti.i32, chunk: ti.i32, keys: I32x1, items: I32x1, slot: I32x2, sorted_keys: I32x1, sorted_items: I32x1):
    """Sorts by the digit at bit `shift`, keeping the order of equals. slot (chunks, BINS): scratch, one row per task."""
    ti.loop_config(block_dim=1)
    for step in range(slot.shape[0] * TASK):
        if step % TASK != 0:
            continue
        c = step // TASK
        for digit in range(BINS):
            slot[c, digit] = 0
        for i in range(c * chunk, ti.min((c + 1) * chunk, keys.shape[0])):
            digit = (keys[i] >> shift) & (BINS - 1)
            slot[c, digit] = slot[c, digit] + 1
    for _ in range(1):  # prefix sum of the counts, digit by digit and chunk by chunk
        place = 0
        for digit in range(BINS):
            for c in range(slot.shape[0]):
                here = slot[c, digit]
                slot[c, digit] = place
                place += here
    ti.loop_config(block_dim=1)
    for step in range(slot.shape[0] * TASK):
        if step % TASK != 0:
            continue
        c = step // TASK
        for i in range(c * chunk, ti.min((c + 1) * chunk, keys.shape[0])):
            digit = (keys[i] >> shift) & (BINS - 1)
            place = slot[c, digit]
            slot[c, digit] = place + 1
            sorted_keys[place] = keys[i]
            sorted_items[place] = items[i]
