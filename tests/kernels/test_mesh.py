"""The mesh rasterizer against a plain float64 rasterizer, the camera model and its own invariances."""

import math

import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.ops.mesh import interpolate, rasterize_mesh, shade_mesh, vertex_normals
from taichi_avatars.scene.cameras import Camera

POSE = torch.eye(4)


def brute_force(vertices, faces, camera, s):
    """Every sample against every triangle in float64: face, barycentric, depth, distance to the nearest edge in samples."""
    v = vertices.double().numpy()
    pose = camera.world_to_camera.double().numpy()
    view = v @ pose[:3, :3].T + pose[:3, 3]
    x = s * (camera.fx * view[:, 0] / view[:, 2] + camera.cx)
    y = s * (camera.fy * view[:, 1] / view[:, 2] + camera.cy)
    px, py = np.meshgrid(np.arange(camera.width * s) + 0.5, np.arange(camera.height * s) + 0.5)
    face = np.full(px.shape, -1)
    depth, clearance = np.full(px.shape, np.inf), np.full(px.shape, np.inf)
    barycentric = np.zeros((*px.shape, 3))
    for i, (a, b, c) in enumerate(faces.numpy()):
        if (view[[a, b, c], 2] <= camera.near).any():
            continue
        area = (x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a])
        if area == 0:
            continue
        w = []
        for p, q in ((b, c), (c, a), (a, b)):
            e = ((x[q] - x[p]) * (py - y[p]) - (y[q] - y[p]) * (px - x[p])) / area
            w.append(e)
            clearance = np.minimum(clearance, np.abs(e * area) / np.hypot(x[q] - x[p], y[q] - y[p]))
        w = np.stack(w, -1)
        over_z = w / view[[a, b, c], 2]
        z = 1 / over_z.sum(-1)
        hit = (w >= 0).all(-1) & (z < depth)
        face[hit], depth[hit] = i, z[hit]
        barycentric[hit] = (over_z * z[..., None])[hit]
    return face, barycentric, depth, clearance


@pytest.mark.parametrize("supersample", [1, 3])
def test_matches_brute_force_off_centre_and_non_square(supersample):
    vertices = torch.rand(60, 3) * torch.tensor([1.2, 1.0, 0.8]) + torch.tensor([-0.6, -0.5, 0.6])
    faces = torch.randint(0, 60, (40, 3))
    camera = Camera.from_opencv(POSE, 31.0, 47.0, 15.3, 29.8, 37, 43)
    got = rasterize_mesh(vertices, faces, camera, supersample)
    face, barycentric, depth, clearance = brute_force(vertices, faces, camera, supersample)
    # A vertex moves by at most 1/2048 sample when it is put on the grid; nearer to an edge than that nothing is promised.
    sure = torch.from_numpy(clearance > 2e-3)
    assert sure.float().mean() > 0.8
    differs = torch.from_numpy(face) != got.face
    assert int((differs & sure).sum()) <= 2  # where two triangles intersect the depths tie
    same = sure & ~differs & (got.face >= 0)
    assert same.sum() > 200
    steep = torch.from_numpy(np.abs(barycentric - got.barycentric.numpy()).max(-1))[same]
    assert steep.quantile(0.9) < 1e-3  # the grid again; it moves most in small and slanted triangles
    error = (torch.from_numpy(depth)[same] - got.depth[same]).abs()
    assert error.quantile(0.9) < 1e-3
    assert torch.isinf(got.depth[got.face < 0]).all()
    assert (got.barycentric[got.face < 0] == 0).all()


def test_interpolated_position_projects_to_the_sample_centre():
    camera = Camera.look_at(torch.tensor([0.3, 0.4, 1.5]), torch.tensor([0.0, 0.1, 0.0]), 0.5, 40, 50)
    camera = Camera.from_opencv(camera.world_to_camera, camera.fx, 1.4 * camera.fy, camera.cx + 3.25, camera.cy - 2.5, 40, 50)
    vertices = torch.tensor([[-0.5, -0.4, 0.3], [0.6, -0.3, -0.6], [0.0, 0.6, 0.1]])
    faces = torch.tensor([[0, 1, 2]])
    buffers = rasterize_mesh(vertices, faces, camera, 2)
    world = interpolate(buffers, faces, vertices)[buffers.face >= 0]
    view = world @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    y, x = torch.nonzero(buffers.face >= 0, as_tuple=True)
    assert len(x) > 500
    torch.testing.assert_close(camera.fx * view[:, 0] / view[:, 2] + camera.cx, (x + 0.5) / 2, atol=3e-3, rtol=0)
    torch.testing.assert_close(camera.fy * view[:, 1] / view[:, 2] + camera.cy, (y + 0.5) / 2, atol=3e-3, rtol=0)
    torch.testing.assert_close(view[:, 2], buffers.depth[buffers.face >= 0], atol=1e-4, rtol=0)


def test_shared_edges_are_drawn_once():
    """A fan whose spokes pass through sample centres: every sample has one owner and drawing order does not matter."""
    camera = Camera.from_opencv(POSE, 1.0, 1.0, 0.0, 0.0, 33, 33)
    middle = torch.tensor([[16.5, 16.5, 1.0]])
    angles = torch.arange(0, 8) * (math.pi / 4)
    ring = torch.stack([16.5 + 40 * angles.cos(), 16.5 + 40 * angles.sin(), torch.ones(8)], 1).round(decimals=0) + 0.5
    ring[:, 2] = 1.0
    vertices = torch.cat([middle, ring])
    faces = torch.tensor([[0, i + 1, (i + 1) % 8 + 1] for i in range(8)])
    whole = rasterize_mesh(vertices, faces, camera).face
    assert (whole >= 0).all()
    owners = torch.zeros(33, 33, dtype=torch.int32)
    for i, triangle in enumerate(faces):
        drawn = rasterize_mesh(vertices, triangle[None], camera).face >= 0
        assert torch.equal(drawn, whole == i)
        owners += drawn
        turned = rasterize_mesh(vertices, triangle[[1, 0, 2]][None], camera).face >= 0
        assert torch.equal(drawn, turned)
    assert (owners == 1).all()


def test_closed_surface_has_no_cracks(shared):
    data = np.load(shared / "data" / "flame2023_open.npz")
    vertices = torch.from_numpy(data["v_template"]).float()
    faces = torch.from_numpy(data["f"].astype(np.int64))
    camera = Camera.look_at(vertices.mean(0) + torch.tensor([0.2, 0.1, 0.9]), vertices.mean(0), 0.1, 61, 83)
    assert (rasterize_mesh(vertices, faces, camera, 2).face >= 0).all()


def test_nearer_triangle_wins_and_ties_go_to_the_lower_index():
    camera = Camera.from_opencv(POSE, 10.0, 10.0, 5.0, 5.0, 10, 10)
    one = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [0, 1.5, 1]])
    vertices = torch.cat([one * 1.5, one, one])
    faces = torch.arange(9).view(3, 3)
    assert rasterize_mesh(vertices, faces, camera).face[4, 5] == 1
    assert rasterize_mesh(vertices, faces.flip(0), camera).face[4, 5] == 0
    tilted = one.clone()
    tilted[:, 2] += tilted[:, 0] * 0.7
    seen = rasterize_mesh(torch.cat([one, tilted]), faces[:2], camera).face
    assert seen[3, 3] == 1 and seen[3, 6] == 0


def test_triangles_behind_or_through_the_near_plane_change_nothing():
    camera = Camera.from_opencv(POSE, 20.0, 20.0, 10.0, 10.0, 20, 20)
    front = torch.tensor([[-0.2, -0.2, 1.0], [0.2, -0.2, 1.0], [0.0, 0.3, 1.0]])
    behind = front * torch.tensor([1.0, 1.0, -1.0])
    through = torch.tensor([[0.0, 0.0, 0.5], [0.1, 0.0, 0.5], [0.0, 0.1, -0.5]])
    sideways = torch.tensor([[1e6, 0.0, 0.21], [0.0, 0.0, 0.5], [0.0, 0.1, 0.5]])
    alone = rasterize_mesh(front, torch.tensor([[0, 1, 2]]), camera)
    joined = rasterize_mesh(torch.cat([front, behind, through, sideways]), torch.arange(12).view(4, 3), camera)
    for a, b in zip(alone, joined, strict=True):
        assert torch.equal(a, b)


def test_nothing_to_draw():
    camera = Camera.from_opencv(POSE, 20.0, 20.0, 10.0, 10.0, 7, 5)
    for faces in (torch.zeros(0, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64)):
        buffers = rasterize_mesh(torch.ones(1, 3), faces, camera, 2)
        assert buffers.face.shape == (10, 14) and (buffers.face == -1).all()
    rgb, alpha = shade_mesh(torch.ones(1, 3), faces, camera, background=(0.2, 0.4, 0.6))
    assert (alpha == 0).all() and torch.equal(rgb[:, 2, 3], torch.tensor([0.2, 0.4, 0.6]))


def test_refuses_what_is_not_a_mesh():
    camera = Camera.from_opencv(POSE, 20.0, 20.0, 10.0, 10.0, 7, 5)
    with pytest.raises(UserError, match="outside"):
        rasterize_mesh(torch.ones(3, 3), torch.tensor([[0, 1, 3]]), camera)
    with pytest.raises(UserError, match=r"\(3, 2\)"):
        rasterize_mesh(torch.ones(3, 2), torch.tensor([[0, 1, 2]]), camera)


def test_same_bits_every_time():
    vertices, faces = torch.rand(300, 3) + torch.tensor([-0.5, -0.5, 1.0]), torch.randint(0, 300, (2000, 3))
    camera = Camera.from_opencv(POSE, 90.0, 90.0, 50.0, 50.0, 100, 100)
    first, second = rasterize_mesh(vertices, faces, camera, 2), rasterize_mesh(vertices, faces, camera, 2)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_shaded_edge_is_antialiased():
    """Half a pixel covered gives alpha 1/2, and the covered area of a slanted edge is right to within the samples."""
    camera = Camera.from_opencv(POSE, 1.0, 1.0, 0.0, 0.0, 8, 8)
    vertices = torch.tensor([[0.0, 0, 1], [3.5, 0, 1], [3.5, 8, 1], [0, 8, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    _, alpha = shade_mesh(vertices, faces, camera, supersample=4)
    torch.testing.assert_close(alpha, torch.tensor([1.0, 1, 1, 0.5, 0, 0, 0, 0]).expand(8, 8))
    vertices = torch.tensor([[0.0, 0, 1], [8, 0, 1], [0, 8, 1]])
    colors = torch.tensor([[1.0, 0, 0]])
    rgb, alpha = shade_mesh(vertices, faces[:1], camera, face_colors=colors, smooth=False, supersample=8, background=(0, 1, 0))
    assert abs(float(alpha.sum()) - 32) < 0.6
    torch.testing.assert_close(rgb[1], 1 - alpha)
    assert float(rgb[0].max()) <= 1.0 and float(rgb[2].max()) == 0.0


def test_vertex_normals_of_a_sphere_point_outwards():
    import itertools

    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = torch.tensor([triangle for a, b, c, d in quads for triangle in ([a, b, c], [a, c, d])])
    normals = vertex_normals(corners, faces)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(8))
    assert ((normals * corners).sum(1) > 1).all()
