"""Correspondence of two heads: a similarity by eyes and mouth, identity components, then the nearest surface point.

The fit is iterative closest point (Chen and Medioni 1992, point to plane), with the identity components of the fitted head
instead of a free deformation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import vertex_normals

# Parts inside others, matched only among themselves: the nearest surface may be another part.
PARTS = ("eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue")
MOUTHS = ("lips", "teeth_upper", "mouth_inside", "tongue")  # the first that both heads name locates the mouth
FACING = 0.005  # metres with the same weight as normals one unit apart
ROUNDS = 12
FAR = 0.02  # metres: largest distance to a surface in the first round; half of it in the last
SLIDING = 0.01  # weight of the tangential distance relative to the normal one
STIFFNESS = 1e-6  # cost of one unit of every identity component, square metres per vertex
LANDMARK = 30.0  # weight of an eye or the mouth relative to a vertex
MOST_TURNED, SCALES = math.radians(30), (0.7, 1.4)
CUTS = 3  # subdivisions of a triangle's edge in the search for its surface


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Every vertex of a head as a point on another head's surface.

    Attributes:
        corners: (V,3) vertices of the other head.
        weights: (V,3) barycentric.
        turn: (3,3) from the other head's axes and unit of length to this one's.
    """

    corners: np.ndarray
    weights: np.ndarray
    turn: np.ndarray

    def values(self, values: np.ndarray) -> np.ndarray:
        """(V,...) values of the other head's vertices (N,...), at the vertices of this one."""
        return np.einsum("vk,vk...->v...", self.weights, values[self.corners])

    def offsets(self, offsets: np.ndarray) -> np.ndarray:
        """(K,V,3) metres: displacements (K,N,3) of the other head's vertices for the vertices of this one."""
        return np.stack([self.values(one) @ self.turn.T for one in offsets])


def correspond(head: FlameModel, other: FlameModel) -> Correspondence:
    """Fits `other` to `head`, both at rest; both have joints for the eyes.

    Raises:
        UserError: for a head with another orientation or scale.
    """
    over = _laid_over(head, other)
    faces = other.faces.numpy()
    mine, theirs = _parts(head, other)
    triangles = np.flatnonzero(theirs[faces].min(1) >= 0)
    grid = _grid()
    sampled = np.repeat(triangles, len(grid))
    bary = np.tile(grid, (len(triangles), 1))
    at, facing = (_mix(values, faces, sampled, bary) for values in (over.points, over.normals))
    tree = KDTree(_features(at, facing, theirs[faces[sampled, 0]]))
    template = head.v_template.double().numpy()
    own_normals = vertex_normals(head.v_template, head.faces).double().numpy()
    nearest = sampled[tree.query(_features(template, own_normals, mine))[1]]
    return Correspondence(faces[nearest], _projected(template, over.points[faces[nearest]]), over.turn)


def _features(points: np.ndarray, normals: np.ndarray, parts: np.ndarray) -> np.ndarray:
    return np.concatenate([points, FACING * normals, parts[:, None].astype(np.float64)], 1)  # a metre from part to part


def _mix(values: np.ndarray, faces: np.ndarray, triangles: np.ndarray, bary: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nkc->nc", bary, values[faces[triangles]])


def _grid() -> np.ndarray:
    steps = [(i, j) for i in range(CUTS + 1) for j in range(CUTS + 1 - i)]
    return np.array([(CUTS - i - j, i, j) for i, j in steps], np.float64) / CUTS


def _projected(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Barycentrics (N,3) of points (N,3) on triangles (N,3,3); points outside are moved to the border."""
    origin, u, v = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    w = points - origin
    uu, uv, vv, uw, vw = ((a * b).sum(1) for a, b in ((u, u), (u, v), (v, v), (u, w), (v, w)))
    area = np.maximum(uu * vv - uv * uv, 1e-24)
    b, c = (vv * uw - uv * vw) / area, (uu * vw - uv * uw) / area
    weights = np.stack([1 - b - c, b, c], 1).clip(0)
    return weights / weights.sum(1, keepdims=True)


def _parts(head: FlameModel, other: FlameModel) -> tuple[np.ndarray, np.ndarray]:
    """Which of `PARTS` the vertices of both heads belong to, 0 for none; -1 for parts that only the other head has."""
    mine, theirs = np.zeros(head.num_vertices, np.int64), np.zeros(other.num_vertices, np.int64)
    for number, name in enumerate(PARTS, 1):
        if name in other.regions:
            theirs[other.regions[name].numpy()] = number if name in head.regions else -1
            if name in head.regions:
                mine[head.regions[name].numpy()] = number
    return mine, theirs


def _landmarks(head: FlameModel, vertices: np.ndarray, mouth: str | None) -> np.ndarray:
    """(L,3) both eyes, and the mouth, or else the neck."""
    joints = head.pose(head.shaped()).joints.double().numpy()
    eyes = [joints[head.roles.index(role)] for role in ("left eye", "right eye")]
    third = joints[min(1, len(joints) - 1)] if mouth is None else vertices[head.regions[mouth].numpy()].mean(0)
    return np.stack([*eyes, third])


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """turn (3,3), a rotation times a scale, and shift (3,) that take `source` (N,3) to `target` (Umeyama 1991)."""
    middle, aim = source.mean(0), target.mean(0)
    a, b = source - middle, target - aim
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (s * sign).sum() / (a * a).sum() * (u * sign) @ vt
    return turn, aim - turn @ middle


def _resting(head: FlameModel, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices = head.pose(head.shaped(torch.from_numpy(shape).float())).vertices
    return vertices.double().numpy(), vertex_normals(vertices, head.faces).double().numpy()


@dataclass(frozen=True, eq=False)
class _Overlay:
    """A head fitted to another.

    Attributes:
        turn, shift: (3,3) and (3,): to the other head.
        shape: (S,) identity coefficients.
        points, normals: (N,3) after the transform.
        marks: (L,3) landmarks after the transform.
    """

    turn: np.ndarray
    shift: np.ndarray
    shape: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    marks: np.ndarray


def _placed(head: FlameModel, mouth: str | None, turn: np.ndarray, shift: np.ndarray, shape: np.ndarray) -> _Overlay:
    points, normals = _resting(head, shape)
    outward = normals @ turn.T / np.cbrt(np.linalg.det(turn))
    return _Overlay(turn, shift, shape, points @ turn.T + shift, outward, _landmarks(head, points, mouth) @ turn.T + shift)


def _laid_over(head: FlameModel, other: FlameModel) -> _Overlay:
    """`other` where it covers `head`."""
    template = head.v_template.double().numpy()
    mouth = next((name for name in MOUTHS if name in head.regions and name in other.regions), None)
    aims, neutral = _landmarks(head, template, mouth), np.zeros(other.n_shape)
    turn, shift = _similarity(_landmarks(other, _resting(other, neutral)[0], mouth), aims)
    _check_place(turn)
    mine, theirs = _parts(head, other)
    faces, normals = head.faces.numpy(), vertex_normals(head.v_template, head.faces).double().numpy()
    surface = np.concatenate([template, template[faces].mean(1)])
    facing = np.concatenate([normals, normals[faces].mean(1)])
    tree = KDTree(_features(surface, facing, np.concatenate([mine, mine[faces[:, 0]]])))
    facing = facing / np.linalg.norm(facing, axis=1, keepdims=True).clip(1e-9)
    basis, used = other.shapedirs.double().numpy(), np.flatnonzero(theirs == 0)
    over = _placed(other, mouth, turn, shift, neutral)
    for far in np.linspace(FAR, 0.5 * FAR, ROUNDS).tolist():
        distance, index = tree.query(_features(over.points[used], over.normals[used], theirs[used]))
        weight = np.clip(1 - (distance / far) ** 2, 0, None) ** 2
        over = _placed(other, mouth, *_nearer(over, used, basis[used], surface[index], facing[index], weight, aims))
    return over


def _check_place(turn: np.ndarray) -> None:
    scale = float(np.cbrt(np.linalg.det(turn)))
    turned = math.acos(min(1.0, max(-1.0, 0.5 * (float(np.trace(turn)) / scale - 1.0))))
    if turned > MOST_TURNED or not SCALES[0] < scale < SCALES[1]:
        raise UserError(
            f"this head is turned by {math.degrees(turned):.0f} degrees and {scale:.3g} times as large as the built-in one; "
            "want metres, y up, the face along z: turn and scale its file"
        )


def _nearer(
    over: _Overlay,
    used: np.ndarray,
    basis: np.ndarray,
    surface: np.ndarray,
    facing: np.ndarray,
    weight: np.ndarray,
    aims: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """turn, shift and shape of the next round.

    Args:
        used: (U,) vertices that are fitted, `basis` (U,3,S) their identity components.
        surface, facing: (U,3) their targets, and the unit normals there.
        weight: (U,) of each.
        aims: (L,3) targets of the landmarks.
    """
    count = len(over.shape)
    start = np.concatenate([over.points[used], over.marks])
    middle, gap = start.mean(0), np.concatenate([surface, aims]) - start
    # (U+L,3,S+7): derivatives of each point by identity, a small rotation, scale and a shift.
    moves = np.zeros((len(start), 3, count + 7))
    moves[: len(used), :, :count] = np.einsum("ij,vjs->vis", over.turn, basis)
    arm = start - middle
    for axis in range(3):
        moves[:, :, count + axis] = np.cross(np.eye(3)[axis], arm)
    moves[:, :, -4], moves[:, :, -3:] = arm, np.eye(3)
    # The normal distance has full weight, the tangential one little; landmarks count in all directions.
    rows = np.concatenate([np.einsum("vi,vis->vs", facing, moves[: len(used)]), moves.reshape(-1, count + 7)])
    wanted = np.concatenate([(facing * gap[: len(used)]).sum(1), gap.reshape(-1)])
    along = np.concatenate([SLIDING * weight, np.full(len(aims), LANDMARK)])
    weights = np.concatenate([weight, np.repeat(along, 3)])
    stiff = np.concatenate([np.full(count, STIFFNESS * len(used)), np.zeros(7)])
    right = rows.T @ (weights * wanted) - stiff * np.concatenate([over.shape, np.zeros(7)])
    step = np.linalg.solve(rows.T @ (weights[:, None] * rows) + np.diag(stiff), right)
    grown = (1 + step[-4]) * Rotation.from_rotvec(step[-7:-4]).as_matrix()
    return grown @ over.turn, grown @ (over.shift - middle) + middle + step[-3:], over.shape + step[:count]
