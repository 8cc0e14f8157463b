"""FLAME (Li et al. 2017, section 3): blend shapes, pose correctives and linear blend skinning, forward and adjoint.

Layout. A "shape" is a row of LANES-wide blocks: the V vertices, then the J joints as further points, 3 numbers each, padded
with zeros. Joints are linear in the components, so a basis that includes the joints moves both at once.

A "pose state" of a body has a `skinning_layout.JointState` for each joint. `tree`: `skinning_layout.tree_of` the parents.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import Vec
from taichi_avatars.kernels.types import F32x2, F32x3, VecX2, VecX3, mat3, vec3
from taichi_avatars.skinning_layout import REGRESSED, JointState

# Power series in x = angle^2, accurate to float32 up to x = 1: sin(a)/a, (1-cos(a))/a^2, and twice their derivatives in x.
SINE = [1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800]
COSINE = [1 / 2, -1 / 24, 1 / 720, -1 / 40320, 1 / 3628800, -1 / 479001600]
D_SINE = [2 * k * SINE[k] for k in range(1, 6)]
D_COSINE = [2 * k * COSINE[k] for k in range(1, 6)]


@ti.func
def add_terms(total, coefficients: ti.template(), body, basis: ti.template(), block, first, end):
    """total + the components from `first` to before `end` times their coefficients."""
    for k in range(first, end):
        total = total + coefficients[body, k] * basis[block, k]
    return total


@ti.func
def add_gradients(partial: ti.template(), body, chunk, g, basis: ti.template(), block, first, end):
    """Adds a block's contribution to the coefficients from `first` to before `end`."""
    for k in range(first, end):
        partial[body, chunk, k] = partial[body, chunk, k] + g * basis[block, k]


@ti.func
def add_chunks(partial: ti.template(), g_coefficients: ti.template(), body, k):
    total = Vec(0.0)
    for chunk in range(partial.shape[1]):
        total = total + partial[body, chunk, k]
    g_coefficients[body, k] = total.sum()


# Native vectors: launch inside runtime.native_vectors().
@ti.kernel
def blend(split: ti.i32, coefficients: F32x2, basis: VecX2, base: VecX2, canonical: VecX2, corrected: VecX2):
    """canonical = base + basis[:, :split] c[:split]; corrected = canonical + basis[:, split:] c[split:]. One row per body."""
    bodies, last = coefficients.shape[0], coefficients.shape[1]
    for i in range(basis.shape[0] * bodies):
        block, body = i // bodies, i % bodies
        moved = add_terms(base[body, block], coefficients, body, basis, block, 0, split)
        canonical[body, block] = moved
        corrected[body, block] = add_terms(moved, coefficients, body, basis, block, split, last)


# Native vectors: launch inside runtime.native_vectors().
@ti.kernel
def blend_adjoint(split: ti.i32, basis: VecX2, g_corrected: VecX2, g_canonical: VecX2, partial: VecX3, g_coefficients: F32x2):
    """Adds g_corrected to g_canonical, which is then the gradient of the base. partial (bodies, chunks, K) is scratch."""
    bodies, last, blocks, chunks = g_coefficients.shape[0], g_coefficients.shape[1], basis.shape[0], partial.shape[1]
    for i in range(bodies * chunks):
        body, chunk = i // chunks, i % chunks
        for k in range(last):
            partial[body, chunk, k] = Vec(0.0)
        for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            g = g_corrected[body, block]
            add_gradients(partial, body, chunk, g, basis, block, split, last)
            g = g + g_canonical[body, block]
            g_canonical[body, block] = g
            add_gradients(partial, body, chunk, g, basis, block, 0, split)
    for i in range(bodies * last):
        add_chunks(partial, g_coefficients, i // last, i % last)


@ti.kernel
def regress(regressor: F32x2, shapes: F32x2):
    """Fills in the joints of shapes whose vertices are known. regressor (V,5): only FLAME's joints follow from vertices."""
    n = regressor.shape[0]
    for i in range(shapes.shape[0] * REGRESSED * 3):
        body, j, c = i // (REGRESSED * 3), i // 3 % REGRESSED, i % 3
        total = 0.0
        for v in range(n):
            total += regressor[v, j] * shapes[body, 3 * v + c]
        shapes[body, 3 * (n + j) + c] = total


@ti.kernel
def regress_adjoint(regressor: F32x2, g_shapes: F32x2, g_vertices: F32x3):
    n = regressor.shape[0]
    for i in range(g_shapes.shape[0] * n):
        body, v = i // n, i % n
        for c in ti.static(range(3)):
            total = g_shapes[body, 3 * v + c]
            for j in ti.static(range(REGRESSED)):
                total += regressor[v, j] * g_shapes[body, 3 * (n + j) + c]
            g_vertices[body, v, c] = total


@ti.func
def series(coefficients: ti.template(), x):
    """The polynomial in x, highest power first."""
    n = ti.static(len(coefficients))
    total = coefficients[n - 1] + 0.0 * x
    for k in ti.static(range(n - 1)):
        total = total * x + coefficients[n - 2 - k]
    return total


@ti.func
def load3(a: ti.template(), body, j, at: ti.template()):
    return vec3(a[body, JointState.SIZE * j + at], a[body, JointState.SIZE * j + at + 1], a[body, JointState.SIZE * j + at + 2])


@ti.func
def load9(a: ti.template(), body, j, at: ti.template()):
    return mat3([[a[body, JointState.SIZE * j + at + 3 * r + c] for c in ti.static(range(3))] for r in ti.static(range(3))])


@ti.func
def store3(a: ti.template(), body, j, at: ti.template(), v):
    for i in ti.static(range(3)):
        a[body, JointState.SIZE * j + at + i] = v[i]


@ti.func
def store9(a: ti.template(), body, j, at: ti.template(), m):
    for i in ti.static(range(9)):
        a[body, JointState.SIZE * j + at + i] = m[i // 3, i % 3]


@ti.func
def joint(shapes: ti.template(), body, n_vertices, j):
    at = 3 * (n_vertices + j)
    return vec3(shapes[body, at], shapes[body, at + 1], shapes[body, at + 2])


@ti.func
def parent_of(tree, j):
    return (tree >> (4 * j)) & 15


@ti.func
def cross_matrix(r):
    return mat3([[0.0, -r[2], r[1]], [r[2], 0.0, -r[0]], [-r[1], r[0], 0.0]])


@ti.kernel
def rotate(corrected: ti.i32, expr: F32x2, pose: F32x2, state: F32x2, coefficients: F32x2):
    """Local rotations by Rodrigues' formula from axis-angles (bodies,3J).

    Coefficients: expr, then R - I of the joints from `corrected` on, if there are correctives.
    """
    split, joints = expr.shape[1], pose.shape[1] // 3
    for i in range(expr.shape[0] * split):
        coefficients[i // split, i % split] = expr[i // split, i % split]
    for i in range(pose.shape[0] * joints):
        body, j = i // joints, i % joints
        r = vec3(pose[body, 3 * j], pose[body, 3 * j + 1], pose[body, 3 * j + 2])
        x = r.dot(r)
        sine, cosine = series(SINE, x), series(COSINE, x)
        if x > 1.0:
            angle, half = ti.sqrt(x), ti.sin(0.5 * ti.sqrt(x))
            sine, cosine = ti.sin(angle) / angle, 2.0 * half * half / x
        change = sine * cross_matrix(r) + cosine * r.outer_product(r)
        for k in ti.static(range(3)):
            change[k, k] -= cosine * x
        if j >= corrected and split < coefficients.shape[1]:
            for k in ti.static(range(9)):
                coefficients[body, split + 9 * (j - corrected) + k] = change[k // 3, k % 3]
        for k in ti.static(range(3)):
            change[k, k] += 1.0
        store9(state, body, j, JointState.LOCAL, change)


@ti.kernel
def rotate_adjoint(split: ti.i32, corrected: ti.i32, pose: F32x2, g_state: F32x2, g_coefficients: F32x2, g_pose: F32x2):
    joints = pose.shape[1] // 3
    for i in range(pose.shape[0] * joints):
        body, j = i // joints, i % joints
        r = vec3(pose[body, 3 * j], pose[body, 3 * j + 1], pose[body, 3 * j + 2])
        g = load9(g_state, body, j, JointState.LOCAL)
        if j >= corrected and split < g_coefficients.shape[1]:
            for k in ti.static(range(9)):
                g[k // 3, k % 3] += g_coefficients[body, split + 9 * (j - corrected) + k]
        x = r.dot(r)
        sine, cosine, d_sine, d_cosine = series(SINE, x), series(COSINE, x), series(D_SINE, x), series(D_COSINE, x)
        if x > 1.0:
            angle, half = ti.sqrt(x), ti.sin(0.5 * ti.sqrt(x))
            sine, cosine = ti.sin(angle) / angle, 2.0 * half * half / x
            d_sine, d_cosine = (ti.cos(angle) - sine) / x, (sine - 2.0 * cosine) / x
        turn = vec3(g[2, 1] - g[1, 2], g[0, 2] - g[2, 0], g[1, 0] - g[0, 1])
        trace = g[0, 0] + g[1, 1] + g[2, 2]
        along = (g + g.transpose()) @ r
        total = sine * turn + cosine * (along - 2.0 * trace * r)
        total += (d_sine * turn.dot(r) + d_cosine * (0.5 * along.dot(r) - trace * x)) * r
        for k in ti.static(range(3)):
            g_pose[body, 3 * j + k] = total[k]


@ti.kernel
def skin(tree: ti.i32, weights: F32x2, corrected: F32x2, state: F32x2, translation: F32x2, vertices: F32x3, joints: F32x3):
    """The chain of joints, then linear blend skinning, then the translation."""
    n, count = weights.shape[0], weights.shape[1]
    for body in range(state.shape[0]):
        for j in range(count):
            rest = joint(corrected, body, n, j)
            turn, posed = load9(state, body, j, JointState.LOCAL), rest
            if j > 0:
                parent = parent_of(tree, j)
                parent_turn = load9(state, body, parent, JointState.GLOBAL)
                posed = parent_turn @ (rest - joint(corrected, body, n, parent)) + load3(state, body, parent, JointState.POSED)
                turn = parent_turn @ turn
            store9(state, body, j, JointState.GLOBAL, turn)
            store3(state, body, j, JointState.OFFSET, posed - turn @ rest)
            store3(state, body, j, JointState.POSED, posed)
            for c in ti.static(range(3)):
                joints[body, j, c] = posed[c] + translation[body, c]
    for i in range(state.shape[0] * n):
        body, v = i // n, i % n
        p = vec3(corrected[body, 3 * v], corrected[body, 3 * v + 1], corrected[body, 3 * v + 2])
        total = vec3(translation[body, 0], translation[body, 1], translation[body, 2])
        for j in range(count):
            w = weights[v, j]
            if w != 0.0:
                total += w * (load9(state, body, j, JointState.GLOBAL) @ p + load3(state, body, j, JointState.OFFSET))
        for c in ti.static(range(3)):
            vertices[body, v, c] = total[c]


@ti.kernel
def skin_adjoint(
    tree: ti.i32,
    weights: F32x2,
    corrected: F32x2,
    state: F32x2,
    g_vertices: F32x3,
    g_joints: F32x3,
    g_corrected: F32x2,
    partial: F32x3,
    g_state: F32x2,
    g_translation: F32x2,
):
    """Gradients of the shape (its padding is not written), of the local rotations (g_state 0-8) and of the translation."""
    n, joints, chunks, sums = weights.shape[0], weights.shape[1], partial.shape[1], partial.shape[2]
    for i in range(state.shape[0] * chunks):
        body, chunk = i // chunks, i % chunks
        for k in range(sums):
            partial[body, chunk, k] = 0.0
        for v in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            g = vec3(g_vertices[body, v, 0], g_vertices[body, v, 1], g_vertices[body, v, 2])
            p = vec3(corrected[body, 3 * v], corrected[body, 3 * v + 1], corrected[body, 3 * v + 2])
            g_p = vec3(0.0)
            for j in range(joints):
                w = weights[v, j]
                if w != 0.0:
                    wg = w * g
                    g_p += load9(state, body, j, JointState.GLOBAL).transpose() @ wg
                    for a in ti.static(range(3)):
                        for b in ti.static(range(3)):
                            at = 12 * j + 3 * a + b
                            partial[body, chunk, at] = partial[body, chunk, at] + wg[a] * p[b]
                        partial[body, chunk, 12 * j + 9 + a] = partial[body, chunk, 12 * j + 9 + a] + wg[a]
            for c in ti.static(range(3)):
                g_corrected[body, 3 * v + c] = g_p[c]
                partial[body, chunk, 12 * joints + c] = partial[body, chunk, 12 * joints + c] + g[c]
    for i in range(state.shape[0] * sums):
        body, k = i // sums, i % sums
        total = 0.0
        for chunk in range(chunks):
            total += partial[body, chunk, k]
        partial[body, 0, k] = total
    for body in range(state.shape[0]):
        for c in ti.static(range(3)):
            g_translation[body, c] = partial[body, 0, 12 * joints + c]
        for j in range(joints):
            for c in ti.static(range(3)):
                g_translation[body, c] = g_translation[body, c] + g_joints[body, j, c]
                g_corrected[body, 3 * (n + j) + c] = 0.0
            store9(
                g_state,
                body,
                j,
                JointState.GLOBAL,
                mat3([[partial[body, 0, 12 * j + 3 * a + b] for b in range(3)] for a in range(3)]),
            )
            store3(g_state, body, j, JointState.OFFSET, vec3([partial[body, 0, 12 * j + 9 + a] for a in range(3)]))
            store3(g_state, body, j, JointState.POSED, vec3(g_joints[body, j, 0], g_joints[body, j, 1], g_joints[body, j, 2]))
        for k in range(joints):
            chain_adjoint(tree, corrected, state, g_state, g_corrected, body, n, joints - 1 - k)


@ti.func
def add_to_joint(g_corrected: ti.template(), body, n_vertices, j, g):
    for c in ti.static(range(3)):
        at = 3 * (n_vertices + j) + c
        g_corrected[body, at] = g_corrected[body, at] + g[c]


@ti.func
def chain_adjoint(
    tree, corrected: ti.template(), state: ti.template(), g_state: ti.template(), g_corrected: ti.template(), body, n, j
):
    """One joint, after all its children."""
    rest, turn = joint(corrected, body, n, j), load9(state, body, j, JointState.GLOBAL)
    g_offset = load3(g_state, body, j, JointState.OFFSET)
    g_posed = load3(g_state, body, j, JointState.POSED) + g_offset
    g_turn = load9(g_state, body, j, JointState.GLOBAL) - g_offset.outer_product(rest)
    g_rest = -(turn.transpose() @ g_offset)
    if j == 0:
        store9(g_state, body, j, JointState.LOCAL, g_turn)
        g_rest += g_posed
    else:
        parent = parent_of(tree, j)
        parent_turn = load9(state, body, parent, JointState.GLOBAL)
        g_bone = parent_turn.transpose() @ g_posed
        bone = rest - joint(corrected, body, n, parent)
        g_parent = (
            load9(g_state, body, parent, JointState.GLOBAL) + g_turn @ load9(state, body, j, JointState.LOCAL).transpose()
        )
        store9(g_state, body, parent, JointState.GLOBAL, g_parent + g_posed.outer_product(bone))
        store3(g_state, body, parent, JointState.POSED, load3(g_state, body, parent, JointState.POSED) + g_posed)
        store9(g_state, body, j, JointState.LOCAL, parent_turn.transpose() @ g_turn)
        add_to_joint(g_corrected, body, n, parent, -g_bone)
        g_rest += g_bone
    add_to_joint(g_corrected, body, n, j, g_rest)
