"""Array types of the kernels, and the columns of the records that are passed from one to the next."""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import Vec

# Element type, x, number of axes. The 16 lanes of a Vec are the last axis of the tensor and are not counted.
F32x1 = ti.types.ndarray(dtype=ti.f32, ndim=1)
F32x2 = ti.types.ndarray(dtype=ti.f32, ndim=2)
F32x3 = ti.types.ndarray(dtype=ti.f32, ndim=3)
F32x4 = ti.types.ndarray(dtype=ti.f32, ndim=4)
F64x1 = ti.types.ndarray(dtype=ti.f64, ndim=1)
I32x1 = ti.types.ndarray(dtype=ti.i32, ndim=1)
I32x2 = ti.types.ndarray(dtype=ti.i32, ndim=2)
VecX1 = ti.types.ndarray(dtype=Vec, ndim=1)
VecX2 = ti.types.ndarray(dtype=Vec, ndim=2)
VecX3 = ti.types.ndarray(dtype=Vec, ndim=3)
VecX4 = ti.types.ndarray(dtype=Vec, ndim=4)

vec3 = ti.types.vector(3, ti.f32)
vec4 = ti.types.vector(4, ti.f32)
mat3 = ti.types.matrix(3, 3, ti.f32)


class Splat:
    """A splat, as `projection` writes it. Pixels; depth in metres.

    A, B, C: the conic. HALF_WIDTH, HALF_HEIGHT: of the box in which alpha can reach 1/255.
    """

    X, Y, A, B, C, OPACITY, RED, GREEN, BLUE, DEPTH, HALF_WIDTH, HALF_HEIGHT = range(12)
    SIZE = 12


class Packed:
    """A splat as compositing reads it: the conic with its factors and the logarithm of the opacity, both times EXP_STEP."""

    X, Y, A, B, C, LOG_OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
    SIZE = 12  # a multiple of 16 bytes


class Bounds:
    """Where a splat's alpha can reach 1/255: where A dx^2 + B dx dy + C dy^2 <= 1.

    OF_COLUMN: dy / dx of the minimum in a column.  OF_ROW: dx / dy of that in a row.  WAIST: half width of every row.
    """

    X, Y, HALF_WIDTH, HALF_HEIGHT, A, B, C, OF_COLUMN, OF_ROW, WAIST = range(10)
    SIZE = 10


class Sums:
    """Sums over the pixels of a pair, with s = dL/dalpha alpha; colour and depth are gradients."""

    S, S_DX, S_DX2, S_DY, S_DXDY, S_DY2, RED, GREEN, BLUE, DEPTH = range(10)
    SIZE = 10


class Camera:
    """A pinhole camera. ROTATION: world to camera, 9, row-major. CENTER: of projection, in the world.

    LOW_PASS: pixels^2, added to the diagonal of the 2D covariance.
    """

    ROTATION, TRANSLATION, CENTER, FX, FY, CX, CY, WIDTH, HEIGHT, NEAR, LOW_PASS = 0, 9, 12, *range(15, 23)


class WorldGradient:
    """Gradient of a Gaussian in the world: mean (3), quaternion (4), scale (3), opacity."""

    MEAN, QUAT, SCALE, OPACITY = 0, 3, 7, 10
    SIZE = 11


class PoseGradient:
    """Gradient of a camera's rotation (9, row-major), translation (3) and centre (3)."""

    SIZE = 15


class BoundGradient:
    """What a Gaussian stores for its triangle: gradient of world mean and of scale, local mean, gradient of the quaternion."""

    G_MEAN, G_SCALE, MEAN, G_QUAT = 0, 3, 4, 8
    SIZE = 16  # a cache line
