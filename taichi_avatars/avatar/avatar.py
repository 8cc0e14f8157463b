"""An avatar: head, Gaussians bound to it, and its FLAME parameters over time; a camera renders it to an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.gaussians import Gaussians, read_gaussians
from taichi_avatars.avatar.iterations import FLAME_NAME, PLY_NAME, find_ply
from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import writing
from taichi_avatars.head.assets import resolve_head, write_head_json
from taichi_avatars.head.flame import FlameModel, HeadMesh
from taichi_avatars.head.pose import PARTS, HeadPose
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.ops import Frames, Rendering, World, bind, rasterize, triangle_frames
from taichi_avatars.ops.projection import SplatCamera
from taichi_avatars.scene.georeference import NOWHERE, Origin


class Avatar:
    """3D Gaussians on the triangles of a head (GaussianAvatars, CVPR 2024), or an unbound scene without a head.

    Attributes:
        gaussians: raw parameters.
        head: head model; None for an unbound scene.
        sequence: shape, static offset and the tracked motion; None for an unbound scene.
        origin: of an unbound scene's coordinates in those of its files; (0, 0, 0) unless those are far from their origin.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        head: FlameModel | None = None,
        sequence: FlameSequence | None = None,
        origin: Origin = NOWHERE,
    ) -> None:
        if (gaussians.binding is None) != (head is None or sequence is None):
            raise UserError("an avatar needs bound Gaussians, a head and its FLAME parameters; a scene none of them")
        self.gaussians, self.head, self.sequence, self.origin = gaussians, head, sequence, origin
        if gaussians.binding is not None and head is not None and len(gaussians):
            highest = int(gaussians.binding.max())
            if highest >= head.num_faces:
                raise UserError(
                    f"Gaussians are bound to triangles up to {highest}, but the head has {head.num_faces}; give its own --head"
                )

    @staticmethod
    def load(path: Path | str, head: FlameModel | None = None) -> Avatar:
        """Reads an avatar from its PLY, or from a model folder (the newest iteration).

        Args:
            head: the head it is bound to; None to find it from `head.json` beside the PLY, or as in `docs/formats.md`.

        Raises:
            UserError: if a file is missing or broken, or the head does not fit.
        """
        ply = find_ply(path)
        gaussians, origin = read_gaussians(ply)
        if gaussians.binding is None:
            return Avatar(gaussians, origin=origin)
        head = head or resolve_head(None, ply.parent)
        return Avatar(gaussians, head, FlameSequence.load_npz(ply.parent / FLAME_NAME, head))

    def save(self, folder: Path | str, *, full_flame_param: bool = False) -> Path:
        """Writes PLY, FLAME parameters and `head.json` into a folder; returns the path of the PLY.

        Args:
            full_flame_param: see `FlameSequence.save_npz`.
        """
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if self.head is not None and self.sequence is not None:
            self.sequence.save_npz(folder / FLAME_NAME, full_for=self.head.num_vertices if full_flame_param else None)
            write_head_json(folder, self.head)
        self.gaussians.save_ply(folder / PLY_NAME, self.origin)  # last: a folder with a PLY is complete
        return folder / PLY_NAME

    def pose(self, timestep: int) -> HeadPose:
        """The pose of the head at a timestep of the sequence."""
        if self.sequence is None:
            raise UserError("this scene has no head: it is not bound to a mesh")
        return self.sequence.pose(self.sequence.row(timestep))

    def mesh(self, timestep: int | None = None, flame: HeadPose | Mapping[str, object] | None = None) -> HeadMesh:
        """The head's mesh at a timestep of the sequence, or in a given pose; neutral if neither is given.

        Args:
            timestep: in the capture's numbering.
            flame: a pose, or a mapping with any of its parts by name; missing parts are 0.
        """
        if self.head is None or self.sequence is None:
            raise UserError("this scene has no head: it is not bound to a mesh")
        if timestep is not None and flame is not None:
            raise UserError("give either a timestep or a pose of your own, not both")
        if timestep is not None:
            flame = self.pose(timestep)
        parts: dict[str, Any] = flame.given() if isinstance(flame, HeadPose) else dict(flame or {})
        unknown = sorted(parts.keys() - set(HeadPose._fields))
        if unknown:
            raise UserError(f"flame: unknown part {unknown[0]!r}, want any of {', '.join(HeadPose._fields)}")
        sizes = {"expr": self.head.n_expr, **{part.name: part.size for part in PARTS}}
        parts |= {name: _vector(name, parts[name], size) for name, size in sizes.items() if parts.get(name) is not None}
        return self.head.pose(self.sequence.shaped(self.head), HeadPose(**parts))

    def world(self, mesh: HeadMesh | None) -> tuple[World, Frames | None]:
        """The Gaussians in the world, for a mesh of the head (None for an unbound scene)."""
        return to_world(self.gaussians, mesh.vertices if mesh else None, self.head)

    @torch.no_grad()
    def render(
        self,
        camera: SplatCamera,
        timestep: int | None = None,
        flame: HeadPose | Mapping[str, object] | None = None,
        *,
        background: tuple[float, float, float] | Tensor = (0.0, 0.0, 0.0),
        sh_degree: int | None = None,
    ) -> Rendering:
        """The avatar seen by a camera, at a timestep of its sequence or in a given pose (see `mesh`); on the CPU."""
        mesh = None if self.head is None else self.mesh(timestep, flame)
        g = self.gaussians.to(runtime.device())
        world, _ = to_world(g, mesh.vertices if mesh else None, self.head)
        degree = g.degree if sh_degree is None else min(sh_degree, g.degree)
        sh = g.sh_base, g.sh_rest
        out = rasterize(*world, g.opacities, sh, camera=camera, background=background, sh_degree=degree)
        return Rendering(out.image.cpu(), out.alpha.cpu(), out.depth.cpu(), out.radii.cpu())


def on_device(avatar: Avatar) -> Avatar:
    """The avatar with its Gaussians on the kernels' device, so that they are not copied there for every image."""
    runtime.start()
    gaussians = avatar.gaussians.to(runtime.device())
    return avatar if gaussians is avatar.gaussians else Avatar(gaussians, avatar.head, avatar.sequence, avatar.origin)


def to_world(gaussians: Gaussians, vertices: Tensor | None, head: FlameModel | None) -> tuple[World, Frames | None]:
    """Gaussians from the frames of their triangles to the world (GaussianAvatars, 3.2); unbound ones are already there."""
    if vertices is None or head is None or gaussians.binding is None:
        return World(gaussians.means, gaussians.quats, gaussians.log_scales.exp()), None
    frames = Frames(*(part.to(gaussians.means.device) for part in triangle_frames(vertices, head.faces)))
    return bind(gaussians.means, gaussians.quats, gaussians.log_scales, gaussians.binding, frames), frames


def _vector(name: str, value: object, size: int) -> Tensor:
    """A part of a pose as a (size,) tensor; short expressions are padded with zeros."""
    vector = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
    if name == "expr" and len(vector) < size:
        vector = torch.cat([vector, torch.zeros(size - len(vector), dtype=torch.float32)])
    if len(vector) != size:
        raise UserError(f"flame: {name} has {len(vector)} numbers, the head wants {size}")
    return vector
