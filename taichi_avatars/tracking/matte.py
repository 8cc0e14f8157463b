"""The head cut out of a picture: how much of each pixel it covers, and its own colour there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from taichi_avatars.faces.regions import Region
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import rasterize_depth
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.tracking.colours import Zones, alpha_by_colour

# The segmentation is unsure of these shares of its range: they are taken for nothing and for all.
NOTHING, ALL = 0.1, 0.9
CONNECTS = 0.2  # alpha from which a pixel leads to its neighbours
# Metres by which the matte may leave the mesh's silhouette: hair is not in the mesh, shoulders do not belong to the head.
MARGINS = {"skin": 0.008, "ears": 0.012, "scalp": 0.06, "neck": 0.002}
MARGIN_BLUR = 0.02  # metres over which margins of neighbouring parts become one another
DEEP = 0.008  # metres inside the silhouette from which all is head; the neck may be covered everywhere
OUTSIDE = 0.006  # metres beyond the margin from which nothing is
SURELY = 0.5  # alpha of the segmentation that these need besides
UNSEEN = 0.05  # alpha of the segmentation below which nothing outside the silhouette is
GRID = 160  # cells of the longer side on which the silhouette is drawn
HEAD_IN_REGION = 1.45  # side of the square that the segmentation sees, of the head's height
COARSE, FINE = 0.04, 0.003  # of the picture's size: how far to each side colours of head and background are looked for
SHRINK = 4  # of the picture in which those are looked for
DIFFERENT = 90.0  # distance of two colours from 0 to 255 from which a mixture tells their shares
HALF = 0.5  # alpha


@dataclass(frozen=True, eq=False)
class Outline:
    """A head's silhouette on a coarse grid (H,W).

    Attributes:
        camera: of the grid.
        pixel: metres, at the head.
        inside: whether the head covers it.
        distance: from the silhouette, metres, negative inside.
        triangle: number of the one that is seen there, or, outside, the nearest that is seen.
    """

    camera: Camera
    pixel: float
    inside: np.ndarray
    distance: np.ndarray
    triangle: np.ndarray


class Matting:
    """Cuts one head model out of pictures.

    Args:
        margin: (F,) metres by which the matte may leave each triangle; None: the widest that hair may need.
    """

    def __init__(self, head: FlameModel, margin: Tensor | None = None) -> None:
        self.head = head
        self.margin = _widest(head) if margin is None else margin
        self._neck = head.region_mask("neck")[head.faces].any(1).numpy()

    def cut_out(
        self, picture: np.ndarray, vertices: Tensor, camera: Camera, region: Region, segmented: np.ndarray
    ) -> np.ndarray:
        """(H,W,4) uint8: the head's colours, not mixed with what is behind it, and how much of each pixel it covers.

        Args:
            picture: (H,W,3) uint8, as the camera saw it.
            vertices: (V,3) of the fitted head, world.
            region: square round the head, and `segmented` (N,N) its opacity.
        """
        out = np.zeros((*picture.shape[:2], 4), np.uint8)
        outline = self.outline(vertices, camera)
        zones = None if outline is None else self.zones(outline, region.scaled(outline.camera.width / camera.width), segmented)
        if zones is None or not zones.front.any():
            return out
        size = picture.shape[:2]
        if zones.behind.any() and zones.band.any():
            alpha = alpha_by_colour(picture, zones, segmented, region)
        else:  # a head that fills the picture, or is too small for a band: there are no colours to compare
            alpha = onto(segmented, region, size) * ~_enlarged(zones.behind, size)
        if not alpha.any():
            return out
        part = _box(alpha > 0, round(COARSE * max(size)))
        alpha = connected(alpha[part], _enlarged(zones.front, size)[part])
        alpha, colours = mixture(picture[part], alpha)
        covers = (alpha * 255 + 0.5).astype(np.uint8)
        colours[covers == 0] = 0
        out[part][..., :3] = colours
        out[part][..., 3] = covers
        return out

    def zones(self, outline: Outline, region: Region, segmented: np.ndarray) -> Zones:
        """What surely is head, and what surely is not: far off at the hair, near at the neck. `region` is on the same grid."""
        margin = ndimage.gaussian_filter(self.margin.numpy()[outline.triangle], MARGIN_BLUR / outline.pixel)
        alpha, neck = onto(segmented, region, outline.inside.shape), self._neck[outline.triangle]
        front = (outline.distance < -DEEP) & (alpha > SURELY) & ~neck
        behind = (outline.distance > margin + OUTSIDE) | ((alpha < UNSEEN) & ~outline.inside)
        return Zones(front, behind, outline.distance, neck, outline.pixel)

    def outline(self, vertices: Tensor, camera: Camera) -> Outline | None:
        """The silhouette; None where the camera does not see the head."""
        share = GRID / max(camera.width, camera.height)
        coarse = camera.resized(max(1, round(camera.width * share)), max(1, round(camera.height * share)))
        _, face, nearest = rasterize_depth(vertices, self.head.faces, coarse)
        inside = (face >= 0).numpy()
        if not inside.any():
            return None
        pixel = 1 / (coarse.fx * float(nearest[face >= 0].median()))
        beyond, (rows, columns) = ndimage.distance_transform_edt(~inside, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
        within = np.asarray(ndimage.distance_transform_edt(inside))
        distance = np.where(inside, 0.5 - within, beyond - 0.5) * pixel
        return Outline(coarse, pixel, inside, distance, face.numpy()[rows, columns])


def _enlarged(cells: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Cells (h,w) as pixels (H,W), each like the cell that it lies in."""
    height, width = size
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST))


def _box(pixels: np.ndarray, around: int) -> tuple[slice, ...]:
    """The rectangle of those that are set, and `around` pixels more to each side."""
    at = (np.nonzero(pixels.any(axis))[0] for axis in (1, 0))
    return tuple(slice(max(0, a[0] - around), a[-1] + around + 1) for a in at)


def head_region(vertices: Tensor, camera: Camera) -> Region:
    """The square round a whole head."""
    seen = _project(vertices, camera)
    low, high = seen.amin(0), seen.amax(0)
    middle, size = 0.5 * (low + high), float((high - low).max())
    return Region(float(middle[0]), float(middle[1]), HEAD_IN_REGION * size)


def _widest(head: FlameModel) -> Tensor:
    """(F,) metres of each triangle, of the part that all its corners belong to."""
    margin = torch.full((head.num_vertices,), MARGINS["skin"])
    for part in ("ears", "scalp", "neck"):
        margin[head.regions[part]] = MARGINS[part]
    return margin[head.faces].amin(1)


def opacity(segmented: np.ndarray) -> np.ndarray:
    """Alpha of what the segmentation says: it is never quite sure."""
    return ((segmented - NOTHING) / (ALL - NOTHING)).clip(0, 1)


def connected(alpha: np.ndarray, surely: np.ndarray) -> np.ndarray:
    """Alpha (H,W) without what nothing opaque leads to from the places (H,W) that surely belong: other people, posters."""
    labels = np.asarray(ndimage.label(alpha > CONNECTS)[0], np.int32)  # pyright: ignore[reportIndexIssue]
    belongs = np.zeros(int(labels.max()) + 1, bool)
    belongs[labels[surely]] = True
    belongs[0] = True  # between and round them
    return np.where(belongs[labels], alpha, 0).astype(np.float32)


def mixture(picture: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What pixels on an edge are mixtures of: alpha (H,W) there, between 0 and 1, and (H,W,3) uint8, the front's own colours.

    Forte 2021, "Approximate Fast Foreground Colour Estimation": colours of front and back nearby are means weighted by alpha;
    what then remains is the front's. Where these two differ enough, they say the share of each.

    Args:
        picture: (H,W,3) uint8; alpha: (H,W) float32.
    """
    size = max(alpha.shape)
    small, thin = picture[::SHRINK, ::SHRINK].astype(np.float32), alpha[::SHRINK, ::SHRINK, None]
    front, back = _nearby(small, small, thin, round(COARSE * size / SHRINK))
    front = _remains(small, front, back, thin)
    front, back = _nearby(front, back, thin, max(1, round(FINE * size / SHRINK)))
    alpha, out = alpha.copy(), picture.copy()
    edge = np.nonzero(_borders(alpha > HALF))
    near = edge[0] // SHRINK, edge[1] // SHRINK
    apart = front[near] - back[near]
    squared = (apart * apart).sum(1)
    share = (((picture[edge] - back[near]) * apart).sum(1) / np.maximum(squared, 1)).clip(0, 1)
    alpha[edge] += (share - alpha[edge]) * squared / (squared + DIFFERENT**2)
    mixed = np.nonzero((alpha > 0) & (alpha < 1))  # elsewhere the picture shows one of the two alone
    near = mixed[0] // SHRINK, mixed[1] // SHRINK
    out[mixed] = _remains(picture[mixed], front[near], back[near], alpha[mixed][:, None]) + 0.5
    return alpha, out


def _borders(inside: np.ndarray) -> np.ndarray:
    """(H,W) bool: whether the 3x3 pixels round each are of both kinds."""
    wide = np.pad(inside, 1, mode="edge")
    above, here, below = wide[:-2], wide[1:-1], wide[2:]
    some, all_three = above | here | below, above & here & below
    return (some[:, :-2] | some[:, 1:-1] | some[:, 2:]) & ~(all_three[:, :-2] & all_three[:, 1:-1] & all_three[:, 2:])


def _nearby(front: np.ndarray, back: np.ndarray, alpha: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the front's colours and of the back's in the square round every pixel."""
    size = 2 * reach + 1
    return _weighted(front, alpha, size), _weighted(back, 1 - alpha, size)


def _weighted(values: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """Means of (H,W,C) weighted by (H,W,1); 0 where there is no weight."""
    around = ndimage.uniform_filter(values * weight, size, mode="constant", axes=(0, 1))
    return around / (ndimage.uniform_filter(weight, size, mode="constant", axes=(0, 1)) + 1e-5)


def _remains(picture: np.ndarray, front: np.ndarray, back: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return (front + alpha * (picture - alpha * front - (1 - alpha) * back)).clip(0, 255)


def onto(values: np.ndarray, region: Region, shape: tuple[int, ...]) -> np.ndarray:
    """An upright region's own pixels (N,N) as pixels of the picture, between them by bilinear interpolation, 0 outside."""
    left, top, _, _ = region.bounds()
    scale, last = len(values) / region.size, len(values) - 1
    out = values
    for start, length in ((top, shape[0]), (left, shape[1])):
        at = (np.arange(length) + 0.5 - start) * scale - 0.5
        low = np.floor(at.clip(0, max(last - 1, 0))).astype(int)
        share = (at - low).clip(0, 1).astype(np.float32)[:, None]
        seen = ((at > -0.5) & (at < last + 0.5))[:, None]
        out = (out[low] * (seen * (1 - share)) + out[(low + 1).clip(max=last)] * (seen * share)).T
    return np.ascontiguousarray(out)


def _project(vertices: Tensor, camera: Camera) -> Tensor:
    """(V,2) pixels."""
    seen = vertices @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    return seen[:, :2] / seen[:, 2:] * torch.tensor([camera.fx, camera.fy]) + torch.tensor([camera.cx, camera.cy])
