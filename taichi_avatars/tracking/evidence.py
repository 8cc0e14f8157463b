"""What the pictures of a timestep say of the head's parameters, seen through an avatar whose Gaussians stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from taichi_avatars import ops, runtime
from taichi_avatars.avatar.avatar import Avatar, to_world
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.head.flame import FlameModel, ShapedHead
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.head.sequence import FlameSequence, columns
from taichi_avatars.scene.images import Background, load_image
from taichi_avatars.scene.views import View
from taichi_avatars.tracking.necks import arm_of, head_first, root_first
from taichi_avatars.tracking.offsets import scalp_offsets

L1_SHARE = 0.8  # of the image loss; the rest is 1 - SSIM
DIFFERENCE = 1e-3  # radians, metres, units of expression
SWAYS = 12  # smooth fields of the scalp
HAIR_KEY = "hair"
SAME_COLOUR = 2.5 / 255  # by which a pixel of the background may differ from it
LEAST_COVERAGE = 0.01


@dataclass(frozen=True)
class Pictures:
    """The pictures of one timestep, in the size in which they are looked at.

    Attributes:
        views: their cameras are of this size.
        images: (3,H,W) of each.
        coverage: share of their pixels that are not just background.
    """

    views: list[View]
    images: list[Tensor]
    coverage: float

    @staticmethod
    def load(views: Sequence[View], background: Background, divide: int = 1) -> Pictures:
        """divide: of width and height.

        Raises:
            UserError: where an image cannot be read.
        """
        resized = shrunk(views, divide)
        images = [load_image(view, background) for view in resized]
        behind = torch.as_tensor(background, dtype=torch.float32)[:, None, None]
        shown = [float(((image - behind).abs().amax(0) > SAME_COLOUR).float().mean()) for image in images]
        coverage = max(sum(shown) / len(shown), LEAST_COVERAGE)
        return Pictures(resized, [image.to(runtime.device()) for image in images], coverage)


@dataclass(frozen=True)
class Evidence:
    """What the pictures of a timestep say of a pose.

    Attributes:
        loss: 0.8 L1 + 0.2 (1 - SSIM), mean over the pictures.
        l1: mean absolute difference.
        error: mean squared difference, colours clamped to [0,1].
        gradient: (P,) of the loss; None where it was not asked for.
    """

    loss: float
    l1: float
    error: float
    gradient: Tensor | None


@dataclass(frozen=True, eq=False)
class Shape:
    """Vertices of a head as a function of P numbers: those of `FlameSequence.table`, and how its hair sways.

    Attributes:
        widths: of the parts of the numbers, by their keys in files, and "hair".
        arm: where it is given, rotation and translation are the head's, not the root's (`necks.head_first`).
        sways: (V,3,O) metres that each of the numbers of the hair adds to the dynamic offset; None: it does not.
    """

    head: FlameModel
    shaped: ShapedHead
    widths: Mapping[str, int]
    arm: Tensor | None
    sways: Tensor | None

    @staticmethod
    def of(head: FlameModel, sequence: FlameSequence, *, neck_apart: bool = False, hair_sways: bool = False) -> Shape:
        shaped = sequence.shaped(head)
        arm = arm_of(head, shaped) if neck_apart else None
        sways = scalp_offsets(head)[..., -SWAYS:] if hair_sways else None
        return Shape(head, shaped, widths_of(sequence, hair_sways), arm, sways)

    def numbers(self, sequence: FlameSequence) -> Tensor:
        """(T,P); of a dynamic offset, they are what is added to it."""
        parts = sequence.moving()
        table = torch.cat(list((parts if self.arm is None else head_first(parts, self.arm)).values()), 1)
        return table if self.sways is None else torch.cat([table, table.new_zeros(len(table), SWAYS)], 1)

    def sequence(self, numbers: Tensor, origin: FlameSequence) -> FlameSequence:
        """The reverse of `numbers`. origin: a sequence with the same timesteps, shape and dynamic offset."""
        return replace(origin, **self._parts(numbers, origin.dynamic_offset))

    def _parts(self, numbers: Tensor, offset: Tensor | None) -> dict[str, Any]:
        """Of numbers (...,P): parts of poses by their keys in files. offset: the dynamic one, metres, to which hair adds."""
        parts = columns(numbers, self.widths)
        if self.sways is not None:
            sway = torch.einsum("vco,...o->...vc", self.sways, parts.pop(HAIR_KEY))
            offset = sway if offset is None else sway + offset
        return {**(parts if self.arm is None else root_first(parts, self.arm)), "dynamic_offset": offset}

    @torch.no_grad()
    def vertices(self, numbers: Tensor, offset: Tensor | None = None) -> Tensor:
        """(V,3) or (B,V,3) in the world, metres, of (P,) or (B,P) numbers. offset: (V,3) dynamic offset, metres."""
        return self.head.pose(self.shaped, HeadPose.of_keys(self._parts(numbers, offset))).vertices

    def jacobian(self, numbers: Tensor, offset: Tensor | None = None) -> Tensor:
        """(3V,P) how the vertices move with each number, by differences: the head is nearly linear in all of them."""
        moved = numbers + torch.cat([DIFFERENCE * torch.eye(len(numbers)), torch.zeros(1, len(numbers))])
        vertices = self.vertices(moved, offset)
        return ((vertices[:-1] - vertices[-1:]) / DIFFERENCE).flatten(1).T


class Actor:
    """An avatar as a function of the P numbers of its `Shape`: what is fitted are these alone."""

    def __init__(self, avatar: Avatar, shape: Shape, background: tuple[float, float, float]) -> None:
        assert avatar.head is not None
        held = {name: values.detach() for name, values in avatar.gaussians.parameters().items()}
        frozen = Gaussians(**held, binding=avatar.gaussians.binding).to(runtime.device())
        self.head, self.background = avatar.head, background
        self.shape = shape
        self.gaussians = frozen
        self._sh, self._opacities = (frozen.sh_base, frozen.sh_rest), frozen.opacities

    def evidence(self, numbers: Tensor, offset: Tensor | None, pictures: Pictures, *, gradient: bool = True) -> Evidence:
        """Compares the pictures with the avatar in a pose.

        Args:
            numbers: (P,).
            offset: (V,3) dynamic offset of the timestep, metres, or None.
        """
        vertices = self.shape.vertices(numbers, offset)
        loss = l1 = error = 0.0
        slope = torch.zeros_like(vertices)
        for view, truth in zip(pictures.views, pictures.images, strict=True):
            leaf = vertices.clone().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                image = self._image(leaf, view)
                difference, similarity = ops.l1_and_ssim(image, truth)
                cost = L1_SHARE * difference + (1.0 - L1_SHARE) * (1.0 - similarity)
            if gradient:
                slope += torch.autograd.grad(cost, leaf)[0]
            loss, l1 = loss + cost.item(), l1 + difference.item()
            error += (image.detach().clamp(0.0, 1.0) - truth).square().mean().item()
        count = len(pictures.views)
        along = self.shape.jacobian(numbers, offset).T @ slope.flatten() / count if gradient else None
        return Evidence(loss / count, l1 / count, error / count, along)

    def probe(self, numbers: Tensor, offset: Tensor | None, view: View, count: int, generator: torch.Generator) -> Tensor:
        """(count,P) random samples q of what a picture shows: E[q q^T] is the mean over its pixels of dI dI^T.

        That is the Gauss-Newton matrix of a mean squared error, without any derivative of single pixels: signs drawn for all of
        them are taken backwards through the renderer, and what belongs to different pixels averages out (Hutchinson 1990).
        """
        leaf = self.shape.vertices(numbers, offset).requires_grad_()
        image = self._image(leaf, view)
        slopes = []
        for again in range(count):
            signs = torch.randint(0, 2, image.shape, generator=generator).float() * 2.0 - 1.0
            scaled = (signs / signs.numel() ** 0.5).to(image.device)
            slopes.append(torch.autograd.grad(image, leaf, scaled, retain_graph=again + 1 < count)[0].flatten())
        return torch.stack(slopes) @ self.shape.jacobian(numbers, offset)

    def _image(self, vertices: Tensor, view: View) -> Tensor:
        world, _ = to_world(self.gaussians, vertices, self.head)
        return ops.rasterize(
            *world, self._opacities, self._sh, camera=view.camera, background=self.background, sh_degree=self.gaussians.degree
        ).image


def widths_of(sequence: FlameSequence, hair_sways: bool) -> dict[str, int]:
    """Of the parts of a shape's numbers."""
    return sequence.widths() | ({HAIR_KEY: SWAYS} if hair_sways else {})


def shrunk(views: Sequence[View], divide: int) -> list[View]:
    """The views with width and height divided; their images are then read so."""
    if divide == 1:
        return list(views)
    cameras = {id(view.camera): view.camera for view in views}
    small = {k: c.resized(max(1, round(c.width / divide)), max(1, round(c.height / divide))) for k, c in cameras.items()}
    return [replace(view, camera=small[id(view.camera)]) for view in views]
