"""Rasterizing triangle meshes: the triangle that a sample sees, the position in it, and a plain shaded image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.errors import UserError
from taichi_avatars.ops.projection import PinholeCamera

SKIN_GREY = (0.72, 0.72, 0.74)
WIRE_SHARE = 0.12  # of a triangle's smallest altitude: half the maximum width of a line of its wireframe


class Projection(NamedTuple):
    """A mesh on the sample grid of a camera; see `kernels/mesh.py`.

    Attributes:
        faces: (F,3) int32.
        grid: (V,2) int32, 1/1024 sample.
        inverse_depth: (V,) float32, 1/metres; 0 where the vertex is not in front of the near plane.
    """

    faces: Tensor
    grid: Tensor
    inverse_depth: Tensor


class MeshBuffers(NamedTuple):
    """What every sample sees: H, W are the camera's, s the supersampling, sample (x, y) lies at (x + 0.5, y + 0.5) / s pixels.

    Attributes:
        face: (H*s, W*s) int32, index of the nearest triangle, -1 where there is none.
        barycentric: (H*s, W*s, 3), perspective-correct, 0 where there is no triangle.
        depth: (H*s, W*s), view depth in metres, infinite where there is no triangle.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor


def rasterize_mesh(vertices: Tensor, faces: Tensor, camera: PinholeCamera, supersample: int = 1) -> MeshBuffers:
    """Nearest triangle of every sample; both sides of a triangle are drawn. Not differentiable.

    Triangles with a corner at or before the near plane are not drawn at all. Of two triangles at the same depth the one with
    the lower index is visible. The result is bit-exact for any number of threads.

    Args:
        vertices: (V,3) float32, world, metres.
        faces: (F,3) int32 or int64.
        camera: intrinsics may be off-centre and the pixels not square.
        supersample: samples per pixel along each axis, at least 1.
    """
    from taichi_avatars.kernels import mesh as kernels

    projection, face, nearest = rasterize_depth(vertices, faces, camera, supersample)
    barycentric = torch.empty(*face.shape, 3, dtype=torch.float32)
    kernels.find_barycentrics(*projection, face, barycentric)
    return MeshBuffers(face, barycentric, nearest.reciprocal())


def rasterize_depth(
    vertices: Tensor, faces: Tensor, camera: PinholeCamera, supersample: int = 1
) -> tuple[Projection, Tensor, Tensor]:
    """The first half of `rasterize_mesh`: the projected mesh, face (H*s, W*s) and inverse depth (H*s, W*s), 0 where empty."""
    from taichi_avatars.kernels import mesh as kernels

    if vertices.dim() != 2 or vertices.shape[1] != 3 or faces.dim() != 2 or faces.shape[1] != 3:
        raise UserError(f"mesh: got vertices {tuple(vertices.shape)} and faces {tuple(faces.shape)}, want (V, 3) and (F, 3)")
    if supersample < 1:
        raise UserError(f"supersample must be at least 1, got {supersample}")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(vertices)):
        raise UserError(f"mesh: faces name vertices outside 0..{len(vertices) - 1}")
    runtime.start()
    width, height = camera.width * supersample, camera.height * supersample
    face, nearest = torch.empty(height, width, dtype=torch.int32), torch.empty(height, width, dtype=torch.float32)
    faces = faces.to(torch.int32).contiguous()
    grid, inverse_depth = torch.empty(len(vertices), 2, dtype=torch.int32), torch.empty(len(vertices), dtype=torch.float32)
    projection = Projection(faces, grid, inverse_depth)
    if len(faces) and runtime.on_gpu():
        _draw_on_gpu(vertices, projection, camera, supersample, face, nearest)
    elif len(faces):
        bounds = torch.empty(len(faces), 4, dtype=torch.int32)
        points = vertices.detach().to(torch.float32).contiguous()
        kernels.project_vertices(points, camera_record(camera, supersample), camera.near, grid, inverse_depth)
        kernels.bound_faces(faces, grid, inverse_depth, width, height, bounds)
        kernels.rasterize_faces(faces, grid, inverse_depth, bounds, face, nearest)
    else:
        face.fill_(-1)
        nearest.zero_()
    return projection, face, nearest


def _draw_on_gpu(
    vertices: Tensor, projection: Projection, camera: PinholeCamera, supersample: int, face: Tensor, nearest: Tensor
) -> None:
    """Fills projection, face and inverse depth. torch projects the vertices: not every GPU has 64-bit floats."""
    from taichi_avatars.kernels import mesh as kernels
    from taichi_avatars.kernels import mesh_gpu

    faces, grid, inverse_depth = projection
    record = camera_record(camera, supersample)
    view = vertices.detach().cpu().double() @ record[:9].view(3, 3).T + record[9:12]
    depth = view[:, 2:]
    sample = record[12:14] * view[:, :2] / depth + record[14:]
    drawn = (depth[:, 0] > camera.near) & (sample.abs().amax(1) < kernels.FARTHEST)
    grid.copy_(torch.where(drawn[:, None], (sample * kernels.GRID).round(), torch.zeros((), dtype=torch.float32)))
    inverse_depth.copy_(torch.where(drawn, 1.0 / depth[:, 0], torch.zeros((), dtype=torch.float32)))
    bounds = torch.empty(len(faces), 4, dtype=torch.int32)
    kernels.bound_faces(faces, grid, inverse_depth, face.shape[1], face.shape[0], bounds)
    mesh_gpu.draw_faces(faces, grid, inverse_depth, bounds, face, nearest)


def camera_record(camera: PinholeCamera, supersample: int = 1) -> Tensor:
    """(16,) float64 as the kernels read it: rotation, translation, then fx, fy, cx, cy on the sample grid."""
    pose = camera.world_to_camera.detach().double()
    intrinsics = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64) * supersample
    return torch.cat([pose[:3, :3].reshape(9), pose[:3, 3], intrinsics]).contiguous()


def camera_center(camera: PinholeCamera) -> Tensor:
    """(3,) float32, world, metres: a camera's centre of projection."""
    pose = camera.world_to_camera.detach()
    return (-pose[:3, :3].T @ pose[:3, 3]).float().contiguous()


def interpolate(buffers: MeshBuffers, faces: Tensor, attributes: Tensor) -> Tensor:
    """Values at every sample (H*s, W*s, C) from values per vertex (V, C) or per corner (F, 3, C); 0 where no triangle is."""
    seen = buffers.face.clamp(min=0).long()
    corners = attributes[faces.long()[seen]] if attributes.dim() == 2 else attributes[seen]
    return (buffers.barycentric[..., None] * corners).sum(-2)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (V,3), the mean of the adjacent triangles' weighted by area; 0 for a vertex of no triangle."""
    corners = vertices[faces.long()]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k].long(), normals)
    return torch.nn.functional.normalize(total, dim=1, eps=1e-20)


def shade_mesh(
    vertices: Tensor,
    faces: Tensor,
    camera: PinholeCamera,
    *,
    face_colors: Tensor | None = None,
    vertex_colors: Tensor | None = None,
    smooth: bool = True,
    ambient: float = 0.3,
    background: tuple[float, float, float] | Tensor = (0.0, 0.0, 0.0),
    supersample: int = 2,
) -> tuple[Tensor, Tensor]:
    """An image of a mesh lit from the camera, antialiased by supersampling.

    Args:
        vertices: (V,3) world, metres.
        faces: (F,3).
        face_colors: (F,3) in [0,1]; or
        vertex_colors: (V,3) in [0,1], interpolated; neutral grey if neither is given.
        smooth: normals interpolated between vertices, or one per triangle.
        ambient: fraction of the light that is ambient, 0 to 1; the rest comes from the eye.
        background: the colour where there is no mesh.

    Returns:
        rgb (3,H,W) in [0,1], composited over the background, and alpha (H,W), the covered fraction of each pixel.
    """
    from taichi_avatars.kernels import mesh as kernels

    if face_colors is not None and vertex_colors is not None:
        raise UserError("shade_mesh takes face_colors or vertex_colors, not both")
    buffers = rasterize_mesh(vertices, faces, camera, supersample)
    vertices, faces = vertices.detach().float().contiguous(), faces.long()
    corners = vertices[faces]
    if smooth:
        normals = vertex_normals(vertices, faces)[faces]
    else:
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, None].expand(-1, 3, -1)
        normals = torch.nn.functional.normalize(normals, dim=2, eps=1e-20)
    if vertex_colors is not None:
        colors = vertex_colors.detach().float()[faces]
    else:
        one_each = (
            torch.tensor(SKIN_GREY, dtype=torch.float32).expand(len(faces), 3)
            if face_colors is None
            else face_colors.detach().float()
        )
        colors = one_each[:, None].expand(-1, 3, -1)
    rgb, alpha = (
        torch.empty(3, camera.height, camera.width, dtype=torch.float32),
        torch.empty(camera.height, camera.width, dtype=torch.float32),
    )
    over = torch.as_tensor(background, dtype=torch.float32).contiguous()
    lit = (
        vertices,
        normals.contiguous(),
        colors.contiguous(),
        faces.to(torch.int32),
        camera_center(camera),
    )
    kernels.shade_faces(*lit, buffers.face, buffers.barycentric, over, ambient, supersample, rgb, alpha)
    return rgb, alpha


def wireframe(vertices: Tensor, faces: Tensor, camera: PinholeCamera, width: float = 1.0) -> Tensor:
    """Fraction of each pixel covered by the edges of a mesh, (H,W) in [0,1]; edges behind the mesh are hidden.

    Args:
        vertices: (V,3) world, metres.
        faces: (F,3).
        width: of a line, pixels; narrower in triangles that lines of this width would fill.
    """
    buffers = rasterize_mesh(vertices, faces, camera)
    pose = camera.world_to_camera.detach().float()
    view = vertices.detach().float() @ pose[:3, :3].T + pose[:3, 3]
    screen = view[:, :2] * torch.tensor([camera.fx, camera.fy], dtype=torch.float32) / view[:, 2:].clamp(min=camera.near)
    corners = screen[faces.long()]
    sides = corners.roll(1, 1) - corners.roll(-1, 1)  # opposite to each corner
    area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs()
    altitudes = area[:, None] / sides.norm(dim=2).clamp(min=1e-6)
    half = torch.minimum(altitudes.amin(1) * WIRE_SHARE, torch.tensor(0.5 * width, dtype=torch.float32))
    seen = buffers.face.clamp(min=0).long()
    distance = (buffers.barycentric * altitudes[seen]).amin(2)
    return (half[seen] + 0.5 - distance).clamp(0.0, 1.0) * (2.0 * half[seen]).clamp(max=1.0) * (buffers.face >= 0)
