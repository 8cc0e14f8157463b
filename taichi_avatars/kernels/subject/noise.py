"""Gradient noise in three dimensions, for textures of the built-in subject."""

from taichi_avatars.engine import ti, tm
from taichi_avatars.kernels.types import F32x2


@ti.func
def hashed(x: ti.i32, y: ti.i32, z: ti.i32, seed: ti.u32) -> ti.u32:
    """A 32-bit hash of a lattice point; the multipliers are odd constants with well-spread bits."""
    h = ti.cast(x, ti.u32) * ti.u32(0x8DA6B343) + ti.cast(y, ti.u32) * ti.u32(0xD8163841)
    h = h + ti.cast(z, ti.u32) * ti.u32(0xCB1AB31F) + seed * ti.u32(0x9E3779B9)
    h = (h ^ (h >> 16)) * ti.u32(0x7FEB352D)
    h = (h ^ (h >> 15)) * ti.u32(0x846CA68B)
    return h ^ (h >> 16)


@ti.func
def unit(h: ti.u32) -> ti.f32:
    return ti.cast(h >> 8, ti.f32) * (1.0 / 16777216.0)


@ti.func
def gradient_noise(p: tm.vec3, seed: ti.u32) -> tm.vec4:
    """Perlin's noise with a quintic fade, about [-1, 1], and its gradient in the last three components."""
    base = tm.floor(p)
    f = p - base
    fade = f * f * f * (f * (f * 6.0 - 15.0) + 10.0)
    slope = 30.0 * f * f * (f * (f - 2.0) + 1.0)
    value, gradient = 0.0, tm.vec3(0.0)
    for corner in ti.static(range(8)):
        step = tm.vec3(corner & 1, (corner >> 1) & 1, corner >> 2)
        cell = ti.cast(base + step, ti.i32)
        h = hashed(cell[0], cell[1], cell[2], seed)
        g = 2.0 * tm.vec3(unit(h), unit(h * ti.u32(0x9E3779B1)), unit(h * ti.u32(0x85EBCA77))) - 1.0
        w = tm.mix(1.0 - fade, fade, step)
        dw = slope * (2.0 * step - 1.0)
        dot = g.dot(f - step)
        weight = w[0] * w[1] * w[2]
        value += weight * dot
        gradient += weight * g + dot * tm.vec3(dw[0] * w[1] * w[2], w[0] * dw[1] * w[2], w[0] * w[1] * dw[2])
    return 1.3 * tm.vec4(value, gradient[0], gradient[1], gradient[2])


@ti.func
def cell_noise(p: tm.vec3, seed: ti.u32) -> tm.vec2:
    """Distance to the nearest of one random point per lattice cell, and a random number of that point."""
    base = ti.cast(tm.floor(p), ti.i32)
    nearest, owner = 1e9, ti.u32(0)
    for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
        cell = base + ti.Vector([i - 1, j - 1, k - 1])
        h = hashed(cell[0], cell[1], cell[2], seed)
        point = ti.cast(cell, ti.f32) + tm.vec3(unit(h), unit(h * ti.u32(0x9E3779B1)), unit(h * ti.u32(0x85EBCA77)))
        d = (p - point).norm_sqr()
        if d < nearest:
            nearest = d
            owner = h
    return tm.vec2(ti.sqrt(nearest), unit(owner * ti.u32(0xC2B2AE3D)))


@ti.kernel
def fractal_noise(points: F32x2, frequency: ti.f32, octaves: ti.i32, gain: ti.f32, seed: ti.u32, out: F32x2):
    """out (P, 4): sum of octaves of doubling frequency, value and gradient with respect to the point."""
    for i in range(points.shape[0]):
        total, f, a = tm.vec4(0.0), frequency, 1.0
        p = tm.vec3(points[i, 0], points[i, 1], points[i, 2])
        for o in range(octaves):
            n = gradient_noise(p * f, seed + ti.cast(o, ti.u32))
            total += a * tm.vec4(n[0], n[1] * f, n[2] * f, n[3] * f)
            f *= 2.03  # not 2: lattices of the octaves do not line up
            a *= gain
        for c in ti.static(range(4)):
            out[i, c] = total[c]


@ti.kernel
def scattered_points(points: F32x2, frequency: ti.f32, seed: ti.u32, out: F32x2):
    """out (P, 2): `cell_noise` at frequency; the distance is in cells."""
    for i in range(points.shape[0]):
        n = cell_noise(tm.vec3(points[i, 0], points[i, 1], points[i, 2]) * frequency, seed)
        out[i, 0], out[i, 1] = n[0], n[1]
