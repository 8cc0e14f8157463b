"""The landmarks of one video as equations: residuals, their derivatives, robust weights, and priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.faces.landmarks import RIGHT_IRIS
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.banded import FrameEquations
from taichi_avatars.tracking.contours import Contours
from taichi_avatars.tracking.points import POSE, Landmarks, Placed
from taichi_avatars.tracking.priors import IDENTITY_PER_FRAME, OUT_OF_RANGE, FramePriors, frame_priors

ROBUST = 4.0  # standard deviations at which a landmark's influence falls (Geman and McClure)
CORRELATED = 3.0  # by which each counts less, since neighbours err together; the irises are alone
FINEST = 0.2  # pixels: no landmark is more certain
FACING_FROM, FACING_FULL, LEAST_WEIGHT = -0.15, 0.25, 0.05  # cosines from which a landmark counts and counts fully
SURE = 0.8  # presence from which a frame's landmarks are used
FOCAL_PER_FRAME = 0.15  # as IDENTITY_PER_FRAME in the priors
CHUNK = 32  # frames at a time


@dataclass(frozen=True, eq=False)
class Clip:
    """What the networks saw in T frames of one video.

    Attributes:
        landmarks: (T,478,3) pixels, with the depth that the network gives them; NaN where there is no face.
        presence: (T,) 0 to 1.
        expressions: (T,E) coefficients by the blendshape network, (see `priors.expressions_of_network`).
        seconds: (T,) times.
        scene: (T,) number of the scene of each frame.
        width, height: pixels.
        focal: likely focal length, pixels; focal_spread: standard deviation of its logarithm, 0 where it is known.
    """

    landmarks: Tensor
    presence: Tensor
    expressions: Tensor
    seconds: Tensor
    scene: Tensor
    width: int
    height: int
    focal: float
    focal_spread: float

    def __len__(self) -> int:
        return len(self.seconds)

    def part(self, chosen: Tensor) -> Clip:
        """Some of the frames."""
        over_time = ("landmarks", "presence", "expressions", "seconds", "scene")
        return replace(self, **{name: getattr(self, name)[chosen] for name in over_time})

    @property
    def usable(self) -> Tensor:
        """(T,) whether the landmarks of a frame count."""
        return (self.presence >= SURE) & torch.isfinite(self.landmarks).all(2).all(1)

    @property
    def center(self) -> Tensor:
        return torch.tensor([0.5 * self.width, 0.5 * self.height])


def face_sizes(landmarks: Tensor) -> Tensor:
    """(T,) the longer side of the landmarks' upright box, pixels."""
    return (landmarks.amax(1) - landmarks.amin(1)).amax(1)


@dataclass(frozen=True, eq=False)
class PlacedFrames:
    """What is measured of some of a clip's frames, in the world: `landmarks` and, where there are contours, the `outline`."""

    rows: slice
    landmarks: Placed
    outline: Placed | None


class ClipEquations:
    """Residuals of a clip and their linearisation.

    Args:
        contours: where the head's outline should be in some of the frames.
    """

    def __init__(self, head: FlameModel, places: Landmarks, clip: Clip, contours: Contours | None = None) -> None:
        self.points, self.clip, self.center, self.contours = places.points, clip, clip.center, contours
        self.usable = clip.usable
        self.target = torch.nan_to_num(clip.landmarks[:, places.number, :2])
        size = face_sizes(torch.nan_to_num(clip.landmarks[..., :2]))[:, None]
        together = torch.where(places.number < RIGHT_IRIS, CORRELATED, 1.0)
        self.sigma = together * (places.sigma * size).clamp(min=FINEST)
        self.priors: FramePriors = frame_priors(head, clip.expressions, clip.seconds, clip.scene)
        self.count = max(int(self.usable.sum()), 1)

    def chunks(self) -> list[slice]:
        return [slice(k, min(k + CHUNK, len(self.clip))) for k in range(0, len(self.clip), CHUNK)]

    def project(self, world: Tensor, focal: float) -> Tensor:
        """Pictures (...,2) of points (...,3) by a camera in the origin that looks along -z, y up."""
        scaled = world[..., :2] * (focal / world[..., 2:]) * torch.tensor([-1.0, 1.0])
        return scaled + self.center

    def residuals(self, placed: Placed, part: slice, focal: float) -> Tensor:
        """(N,K,2) in standard deviations."""
        return (self.project(placed.world, focal) - self.target[part]) / self.sigma[part][..., None]

    def visible(self, placed: Placed, part: slice) -> Tensor:
        """(N,K) weights: 0 where there is no face, little where the surface turns away."""
        normals = self.points.normals @ placed.rotation.mT
        facing = -(normals * torch.nn.functional.normalize(placed.world, dim=2)).sum(2)
        weight = (facing - FACING_FROM) / (FACING_FULL - FACING_FROM)
        return weight.clamp(LEAST_WEIGHT, 1) * self.usable[part][:, None]

    def place(self, frames: Tensor, shape: Tensor) -> list[PlacedFrames]:
        """All frames (T,P) of a person (S,), some at a time."""
        placed = []
        for part in self.chunks():
            outline = None if self.contours is None else self.contours.points.some(part).place(frames[part], shape)
            placed.append(PlacedFrames(part, self.points.place(frames[part], shape), outline))
        return placed

    def visibility(self, placed: Sequence[PlacedFrames]) -> Tensor:
        """(T,K) weights of all frames."""
        return torch.cat([self.visible(at.landmarks, at.rows) for at in placed])

    def cost(self, placed: Sequence[PlacedFrames], frames: Tensor, shape: Tensor, log_focal: float, visible: Tensor) -> float:
        """What is minimised, with the weights of visibility held."""
        total = 0.0
        for at in placed:
            squared = self.residuals(at.landmarks, at.rows, math.exp(log_focal)).square().sum(2)
            total += float((visible[at.rows] * robust(squared)).double().sum())
            if self.contours is not None and at.outline is not None:
                contours = self.contours.of_frames(at.rows)
                squared = contours.residuals(self.project(at.outline.world, math.exp(log_focal))).square()
                total += float((contours.weight * robust(squared)).double().sum())
        off = frames - self.priors.mean
        total += float((off.square() * self.priors.precision).double().sum())
        total += float((frames.diff(dim=0).square() * self.priors.ties).double().sum())
        expr = frames[:, POSE:]
        total += float(((expr - expr.clamp(0, 1)) / OUT_OF_RANGE).square().double().sum())
        total += IDENTITY_PER_FRAME * self.count * float(shape.square().sum())
        return total + self.focal_precision * (log_focal - math.log(self.clip.focal)) ** 2

    @property
    def focal_precision(self) -> float:
        spread = self.clip.focal_spread
        return FOCAL_PER_FRAME * self.count / spread**2 if spread else 0.0

    def linearise(
        self,
        placed: Sequence[PlacedFrames],
        frames: Tensor,
        shape: Tensor,
        log_focal: float,
        visible: Tensor,
        shared: bool,
    ) -> tuple[FrameEquations, np.ndarray, np.ndarray]:
        """Equations of the frames, and matrix (S+1,S+1) and gradient (S+1,) of identity and logarithm of the focal length.

        Args:
            placed: the frames of this shape.
            shared: whether those are unknown; without, the latter two are empty.
        """
        count, size = frames.shape
        extra = len(shape) + 1 if shared else 0
        matrix, mixed = np.empty((count, size, size)), np.empty((count, size, extra))
        gradient, shared_matrix, shared_gradient = np.empty((count, size)), np.zeros((extra, extra)), np.zeros(extra)
        for at in placed:
            rows = self._derivatives(at, log_focal, visible[at.rows], shared)
            products = rows.mT @ rows
            matrix[at.rows] = products[:, :size, :size].numpy()
            mixed[at.rows] = products[:, :size, size:-1].numpy()
            gradient[at.rows] = products[:, :size, -1].numpy()
            sums = products[:, size:-1, size:].sum(0, dtype=torch.float64).numpy()
            shared_matrix += sums[:, :-1]
            shared_gradient += sums[:, -1]
        self._add_priors(frames, matrix, gradient)
        if shared:
            inside = np.arange(len(shape))
            shared_matrix[inside, inside] += IDENTITY_PER_FRAME * self.count
            shared_gradient[:-1] += IDENTITY_PER_FRAME * self.count * shape.double().numpy()
            shared_matrix[-1, -1] += self.focal_precision
            shared_gradient[-1] += self.focal_precision * (log_focal - math.log(self.clip.focal))
        return FrameEquations(matrix, self.priors.ties.double().numpy(), mixed, gradient), shared_matrix, shared_gradient

    def _derivatives(self, at: PlacedFrames, log_focal: float, visible: Tensor, shared: bool) -> Tensor:
        """(N,R,P+S+2) weighted derivatives of R residuals by the frames, by what is shared, and those residuals."""
        focal = math.exp(log_focal)
        residuals = self.residuals(at.landmarks, at.rows, focal)
        weight = visible.sqrt() * influence(residuals.square().sum(2))
        screen = (weight / self.sigma[at.rows])[..., None, None] * _screen(at.landmarks.world, focal)
        blocks = [(at.landmarks, screen, residuals * weight[..., None])]
        if self.contours is not None and at.outline is not None:
            contours = self.contours.of_frames(at.rows)
            residuals = contours.residuals(self.project(at.outline.world, focal))
            weight = contours.weight.sqrt() * influence(residuals.square())
            along = ((weight / contours.sigma)[..., None] * contours.normal)[:, :, None]
            blocks.append((at.outline, along @ _screen(at.outline.world, focal), (residuals * weight)[..., None]))
        known = POSE + self.points.directions.shape[-1] if shared else self.priors.mean.shape[1]
        out = torch.empty(len(visible), sum(block[2][0].numel() for block in blocks), known + (2 if shared else 1))
        last = 0
        for placed, screen, residuals in blocks:
            first, last = last, last + residuals[0].numel()
            rows = out[:, first:last].unflatten(1, screen.shape[1:3])
            placed.derivatives(screen, rows[..., :known])
            if shared:
                # A longer focal length moves points in the picture as moving them aside in the world would.
                aside = placed.world[:, :, None, :2] if self.clip.focal_spread else torch.zeros(1)
                rows[..., known] = (screen[..., :2] * aside).sum(-1)
            rows[..., -1] = residuals
        return out

    def _add_priors(self, frames: Tensor, matrix: np.ndarray, gradient: np.ndarray) -> None:
        precision, ties = self.priors.precision.double(), self.priors.ties.double()
        diagonal = precision.expand(len(frames), -1).clone()
        slope = (frames - self.priors.mean).double() * precision
        change = ties * frames.diff(dim=0).double()
        diagonal[1:] += ties
        diagonal[:-1] += ties
        slope[1:] += change
        slope[:-1] -= change
        expr = frames[:, POSE:]
        outside = (expr - expr.clamp(0, 1)).double() / OUT_OF_RANGE**2
        diagonal[:, POSE:] += (outside != 0).double() / OUT_OF_RANGE**2
        slope[:, POSE:] += outside
        inside = np.arange(frames.shape[1])
        matrix[:, inside, inside] += diagonal.numpy()
        gradient += slope.numpy()


def robust(squared: Tensor) -> Tensor:
    """What squared residuals cost (Geman and McClure 1987)."""
    return ROBUST**2 * squared / (ROBUST**2 + squared)


def influence(squared: Tensor) -> Tensor:
    """Square root of the weight that makes least squares of it."""
    return ROBUST**2 / (ROBUST**2 + squared)


def _screen(world: Tensor, focal: float) -> Tensor:
    """(...,2,3) derivative of a picture by places (...,3) in the world."""
    x, y, z = world.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([-focal / z, zero, focal * x / z**2, zero, focal / z, -focal * y / z**2], -1).unflatten(-1, (2, 3))
