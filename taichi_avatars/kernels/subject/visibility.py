"""How much of a light points receive, from depth maps drawn from the light's side."""

from taichi_avatars.engine import ti, tm
from taichi_avatars.kernels.types import F32x1, F32x2, F64x1


@ti.func
def reached(depth: ti.f32, occluder: ti.f32, bias: ti.f32, fade: ti.f32) -> ti.f32:
    """1 in front of the occluder (an inverse depth, 0: none), falling exponentially over `fade` metres behind it."""
    result = 1.0
    if occluder > 0.0:
        behind = depth - 1.0 / occluder - bias
        if behind > 0.0:
            result = ti.exp(-behind / fade)
    return result


@ti.kernel
def accumulate_visibility(
    points: F32x2,
    normals: F32x2,
    toward: F32x1,
    camera: F64x1,
    nearest: F32x2,
    bias: ti.f32,
    fade: ti.f32,
    lambert: ti.i32,
    total: F32x2,
):
    """Adds weight * visibility and weight to total (P, 2); the weight is the cosine to the light (lambert) or 1."""
    height, width = nearest.shape[0], nearest.shape[1]
    for i in range(points.shape[0]):
        weight = 1.0
        if lambert:
            weight = ti.max(0.0, normals[i, 0] * toward[0] + normals[i, 1] * toward[1] + normals[i, 2] * toward[2])
        view = tm.vec3(0.0)
        for r in ti.static(range(3)):
            view[r] = ti.cast(
                camera[3 * r] * points[i, 0]
                + camera[3 * r + 1] * points[i, 1]
                + camera[3 * r + 2] * points[i, 2]
                + camera[9 + r],
                ti.f32,
            )
        x = ti.cast(camera[12], ti.f32) * view[0] / view[2] + ti.cast(camera[14], ti.f32) - 0.5
        y = ti.cast(camera[13], ti.f32) * view[1] / view[2] + ti.cast(camera[15], ti.f32) - 0.5
        column, row = ti.cast(tm.floor(x), ti.i32), ti.cast(tm.floor(y), ti.i32)
        seen = 1.0
        if column >= 0 and row >= 0 and column < width - 1 and row < height - 1:
            fx, fy = x - column, y - row
            upper = tm.mix(
                reached(view[2], nearest[row, column], bias, fade), reached(view[2], nearest[row, column + 1], bias, fade), fx
            )
            lower = tm.mix(
                reached(view[2], nearest[row + 1, column], bias, fade),
                reached(view[2], nearest[row + 1, column + 1], bias, fade),
                fx,
            )
            seen = tm.mix(upper, lower, fy)
        total[i, 0] = total[i, 0] + weight * seen
        total[i, 1] = total[i, 1] + weight
