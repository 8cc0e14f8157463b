"""The triangle rasterizer on a GPU: one thread per tile of samples, which no other thread writes to.

Arguments as in `mesh.py`, but no 64-bit integers, which not every Vulkan device has: an edge is always measured from its vertex
with the lower index, so that its two triangles get exactly opposite values and leave neither crack nor overlap.
No atomics: Taichi 1.7's atomic maximum leaves the loop around it on Vulkan.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.mesh import GRID
from taichi_avatars.kernels.types import F32x1, F32x2, I32x2

SIDE = 16  # samples along each side of a tile


@ti.func
def edge_of(grid: ti.template(), a: ti.i32, b: ti.i32, px: ti.i32, py: ti.i32) -> ti.f32:
    """Twice the signed area of (a, b, p) in squares of 1/1024 sample; exactly the opposite of that of (b, a, p)."""
    low, high = ti.min(a, b), ti.max(a, b)
    ux, uy = ti.cast(grid[high, 0] - grid[low, 0], ti.f32), ti.cast(grid[high, 1] - grid[low, 1], ti.f32)
    vx, vy = ti.cast(px - grid[low, 0], ti.f32), ti.cast(py - grid[low, 1], ti.f32)
    area = ux * vy - uy * vx
    return ti.select(a < b, area, -area)


@ti.func
def covers(area: ti.f32, grid: ti.template(), a: ti.i32, b: ti.i32) -> ti.i32:
    """Whether a sample at this signed area from a -> b is on the triangle's side; on the edge the top-left rule decides."""
    dx, dy = grid[b, 0] - grid[a, 0], grid[b, 1] - grid[a, 1]
    owns = dy < 0 or (dy == 0 and dx > 0)
    return ti.cast(area > 0.0 or (area == 0.0 and owns), ti.i32)


@ti.kernel
def draw_faces(faces: I32x2, grid: I32x2, inverse_depth: F32x1, bounds: I32x2, face: I32x2, nearest: F32x2):
    """As `mesh.rasterize_faces`; every tile visits the triangles in index order."""
    height, width = face.shape[0], face.shape[1]
    tiles_x = (width + SIDE - 1) // SIDE
    for tile in range(tiles_x * ((height + SIDE - 1) // SIDE)):
        left, top = tile % tiles_x * SIDE, tile // tiles_x * SIDE
        right, bottom = ti.min(left + SIDE, width) - 1, ti.min(top + SIDE, height) - 1
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                face[y, x] = -1
                nearest[y, x] = 0.0
        for f in range(faces.shape[0]):
            y0, y1 = ti.max(bounds[f, 2], top), ti.min(bounds[f, 3], bottom)
            x0, x1 = ti.max(bounds[f, 0], left), ti.min(bounds[f, 1], right)
            if y0 <= y1 and x0 <= x1:
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                if edge_of(grid, a, b, grid[c, 0], grid[c, 1]) < 0.0:
                    b, c = c, b
                for y in range(y0, y1 + 1):
                    for x in range(x0, x1 + 1):
                        px, py = x * GRID + GRID // 2, y * GRID + GRID // 2
                        wa, wb, wc = edge_of(grid, b, c, px, py), edge_of(grid, c, a, px, py), edge_of(grid, a, b, px, py)
                        inside = covers(wa, grid, b, c) + covers(wb, grid, c, a) + covers(wc, grid, a, b)
                        area = wa + wb + wc
                        if inside == 3 and area > 0.0:
                            z = (wa * inverse_depth[a] + wb * inverse_depth[b] + wc * inverse_depth[c]) / area
                            if z > nearest[y, x]:
                                nearest[y, x] = z
                                face[y, x] = f
