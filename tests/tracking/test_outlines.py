"""Outlines in the fit, against heads whose hair and parameters are known: silhouettes are drawn from the head model itself."""

import math

import numpy as np
import pytest
import torch
from tracking.test_fit import FOCAL, HEIGHT, WIDTH, performed, seen_clip

from taichi_avatars.ops.mesh import rasterize_depth
from taichi_avatars.tracking.clip_equations import ClipEquations
from taichi_avatars.tracking.contours import ContourFinder
from taichi_avatars.tracking.fit import fit
from taichi_avatars.tracking.fit_outlines import fit_outlines
from taichi_avatars.tracking.matte import head_region
from taichi_avatars.tracking.offsets import HAIR, scalp_offsets
from taichi_avatars.tracking.points import EYES_BY_GAZE, GAZE, JAW_POSE, POSE, ROTATION, TRANSLATION, HeadPoints, Landmarks
from taichi_avatars.tracking.silhouettes import Silhouette
from taichi_avatars.tracking.views import whole_picture

SIZE = (WIDTH, HEIGHT)
CAMERA = whole_picture(SIZE, SIZE, FOCAL, max(SIZE)).camera(torch.zeros(3))


@pytest.fixture(scope="module")
def offsets(head) -> torch.Tensor:
    return scalp_offsets(head)


def hair(head, offsets: torch.Tensor) -> torch.Tensor:
    """(O,) of the fields: hair of 18 mm on the left half of the head, of 10 mm on the right."""
    scalp = head.regions["scalp"]
    place = head.v_template[scalp]
    outwards = torch.nn.functional.normalize(place - place.mean(0), dim=1)
    thick = torch.where(place[:, :1] > 0, 0.018, 0.010) * outwards
    return torch.linalg.lstsq(offsets[scalp].flatten(0, 1), thick.flatten()[:, None]).solution[:, 0]


def vertices(head, frames: torch.Tensor, shape: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    eyes = frames[:, GAZE] @ EYES_BY_GAZE.T
    turns = (frames[:, ROTATION], None, frames[:, JAW_POSE], eyes, frames[:, TRANSLATION])
    return head(shape, frames[:, POSE:], *turns, offset).vertices


def drawn(head, world: torch.Tensor) -> Silhouette:
    """What a perfect segmentation would say of a head (V,3)."""
    region = head_region(world, CAMERA)
    fine = 2  # samples per pixel: alpha is covered area
    camera = CAMERA.resized(fine * WIDTH, fine * HEIGHT)
    covered = (rasterize_depth(world, head.faces, camera)[1] >= 0).numpy().astype(np.float32)
    pixels = region.to_picture((np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1) + 0.5) / 256)
    x, y = (fine * pixels).astype(int)[..., 0], (fine * pixels).astype(int)[..., 1]
    inside = (x >= 0) & (y >= 0) & (x < fine * WIDTH) & (y < fine * HEIGHT)
    values = np.where(inside, covered[y.clip(0, fine * HEIGHT - 1), x.clip(0, fine * WIDTH - 1)], 0)
    return Silhouette(region, (255 * values).astype(np.uint8))


def test_offsets_move_scalp_and_hair_and_leave_the_face(head, offsets):
    moved = offsets.norm(dim=1)
    scalp = moved[head.regions["scalp"]].square().sum(1).sqrt()
    assert float(scalp.median()) == pytest.approx(HAIR, rel=0.1)
    for part in ("lips", "eye_socket_left", "brows", "eye_left", "teeth_upper"):
        assert float(moved[head.regions[part]].max()) < 0.05 * HAIR


def test_the_outline_is_found_where_the_picture_has_it(head, offsets):
    surface = HeadPoints.of_vertices(head, offsets)
    frames, _ = performed(head, 0.4)
    bald, haired = torch.zeros(head.n_shape), hair(head, offsets)
    true = torch.cat([bald, haired])
    silhouettes = [drawn(head, world) for world in vertices(head, frames, bald, offsets @ haired)]
    finder = ContourFinder(head, surface)
    found = finder.find([*silhouettes[:-1], None], frames, true, FOCAL, SIZE, 0.01)
    assert not found.weight[-1].any()
    seen = found.weight[:-1] > 0
    assert float(seen.sum(1).min()) > 15
    equations = ClipEquations(head, Landmarks.of(head, offsets), seen_clip(Landmarks.of(head), frames, bald, spread=0.0), found)
    pixels = found.residuals(equations.project(found.points.place(frames, true).world, FOCAL)) * found.sigma
    assert float(pixels[:-1][seen].abs().median()) < 0.7  # of a segmentation of 256 pixels over 400
    without = finder.find(silhouettes, frames, torch.cat([bald, 0 * haired]), FOCAL, SIZE, 0.01)
    off = without.residuals(equations.project(without.points.place(frames, 0 * true).world, FOCAL)) * without.sigma
    assert float(off[without.weight > 0].abs().median()) > 5


def test_derivatives_with_outlines_are_those_of_the_cost(head, offsets):
    places = Landmarks.of(head, offsets)
    frames, _ = performed(head, 0.2)
    bald, haired = torch.zeros(head.n_shape), hair(head, offsets)
    shape = torch.cat([bald, haired])
    clip = seen_clip(Landmarks.of(head), frames, bald)
    clip.presence[:] = 0  # outlines alone
    silhouettes = [drawn(head, world) for world in vertices(head, frames, bald, offsets @ haired)]
    finder = ContourFinder(head, HeadPoints.of_vertices(head, offsets))
    contours = finder.find(silhouettes, frames, 0.8 * shape, FOCAL, SIZE, 0.01)
    equations = ClipEquations(head, places, clip, contours)
    visible = torch.zeros(len(frames), places.points.count)
    at, log_focal = 0.9 * shape, math.log(0.95 * FOCAL)
    (placed,) = equations.place(frames, at)
    rows = equations._derivatives(placed, log_focal, visible, True)
    slope_frame, slope_focal = (rows * rows[..., -1:]).sum(1), (rows[..., -2] * rows[..., -1]).sum()

    def cost(frames: torch.Tensor, at: torch.Tensor, log_focal: float) -> torch.Tensor:
        world = contours.points.place(frames, at).world
        squared = contours.residuals(equations.project(world, math.exp(log_focal))).square()
        return (contours.weight * 16 * squared / (16 + squared)).double().sum()

    step = 1e-3
    for column in (0, 1, 2, 3, 5):
        moved = torch.zeros_like(frames)
        moved[0, column] = step
        slope = (cost(frames + moved, at, log_focal) - cost(frames - moved, at, log_focal)) / (4 * step)
        small = 0.02 * float(slope_frame[0, : frames.shape[1]].abs().max())
        assert float(slope_frame[0, column]) == pytest.approx(float(slope), rel=0.1, abs=small)
    slope = (cost(frames, at, log_focal + step) - cost(frames, at, log_focal - step)) / (4 * step)
    assert float(slope_focal) == pytest.approx(float(slope), rel=0.05)


def test_hair_and_focal_length_are_found_by_outlines(head, offsets):
    frames, _ = performed(head, 2.4)
    shape, haired = 0.5 * torch.randn(head.n_shape, generator=torch.Generator().manual_seed(4)), hair(head, offsets)
    offset = offsets @ haired
    clip = seen_clip(Landmarks.of(head), frames, shape, noise=0.5)
    before = fit(head, [clip])
    silhouettes = {t: drawn(head, world) for t, world in enumerate(vertices(head, frames, shape, offset)) if t % 2 == 0}
    calls: list[tuple[int, int]] = []
    teaching = torch.arange(0, len(frames), 2)
    after = fit_outlines(head, [clip], before, [silhouettes], [teaching], lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(frames), len(frames))
    assert after.offset is not None
    scalp = head.regions["scalp"]
    chosen = scalp[head.v_template[scalp, 1] > 0.03]  # what the outline of this head shows
    rest = [head(one.shape, static_offset=one.offset).vertices[chosen] for one in (before, after)]
    off = [(found - head(shape, static_offset=offset).vertices[chosen]).norm(dim=1).median() for found in rest]
    assert float(off[1]) < 0.5 * float(off[0])
    assert abs(math.log(after.clips[0].focal / FOCAL)) < 0.08
    angle = [(one.clips[0].frames - frames)[:, ROTATION].norm(dim=1).median() for one in (before, after)]
    assert float(angle[1]) < max(0.8 * float(angle[0]), 0.004)  # radians
