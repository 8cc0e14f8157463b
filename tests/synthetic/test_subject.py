"""The built-in subject's surface, hair and performance."""

from dataclasses import replace

import pytest
import torch

from taichi_avatars.engine import ti
from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.kernels.subject.shading import CHANNELS, texel_at
from taichi_avatars.kernels.types import F32x2, I32x1
from taichi_avatars.ops.frames import triangle_frames
from taichi_avatars.ops.mesh import rasterize_depth
from taichi_avatars.ops.subject.noise import fractal_noise, scattered_points
from taichi_avatars.ops.subject.strands import draw_strands, pose_strands
from taichi_avatars.ops.subject.visibility import Query, disc_directions, sphere_directions, visible_share
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.appearance import head_layout
from taichi_avatars.synthetic.defaults import SUPERSAMPLE
from taichi_avatars.synthetic.hair import grow, lid_margins
from taichi_avatars.synthetic.identity import identity
from taichi_avatars.synthetic.motion import performance
from taichi_avatars.synthetic.renderer import make_subject, outline, photograph, photograph_part, pose, resting_vertices


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


@pytest.fixture(scope="module")
def strands(head):
    who = identity(head, 0)
    return grow(head, who, resting_vertices(head, who), 4000)


@ti.kernel
def read_texels(texels: F32x2, start: I32x1, divisions: I32x1, face: I32x1, barycentric: F32x2, out: F32x2):
    for i in range(face.shape[0]):
        b = ti.math.vec3(barycentric[i, 0], barycentric[i, 1], barycentric[i, 2])
        t = texel_at(texels, start[face[i]], divisions[face[i]], b)
        for c in ti.static(range(CHANNELS)):
            out[i, c] = t[c]


def test_texels_reproduce_what_is_linear_on_a_triangle(head):
    """Also at corners and edges, so neighbours that agree there leave no seam."""
    start, divisions, face, barycentric = head_layout(head, 0.004)
    chosen = torch.randint(0, head.num_faces, (3000,))
    b = torch.distributions.Dirichlet(torch.ones(3)).sample((3000,))
    b[:300] = torch.eye(3)[torch.randint(0, 3, (300,))]
    b[300:600, 2] = 0
    b[300:600] /= b[300:600].sum(1, keepdim=True)
    texels = torch.zeros(len(face), CHANNELS)
    texels[:, :3] = (barycentric[..., None] * head.v_template[head.faces[face]]).sum(1)
    out = torch.empty(3000, CHANNELS)
    read_texels(texels, start, divisions, chosen.int(), b, out)
    torch.testing.assert_close(out[:, :3], (b[..., None] * head.v_template[head.faces[chosen]]).sum(1), atol=1e-6, rtol=0)


def test_noise_has_its_wavelength_and_its_gradient():
    points = torch.rand(2000, 3) * 0.1
    value, gradient = fractal_noise(points, 0.01, 5)
    assert abs(float(value.mean())) < 0.05 and 0.2 < float(value.std()) < 0.6 and float(value.abs().max()) < 1.6
    for axis in range(3):
        step = torch.zeros(3)
        step[axis] = 2e-5
        slope = (fractal_noise(points + step, 0.01, 5)[0] - fractal_noise(points - step, 0.01, 5)[0]) / 4e-5
        assert float((slope - gradient[:, axis]).abs().median()) < 0.5
    assert not torch.equal(value, fractal_noise(points, 0.01, 6)[0])
    distance, lot = scattered_points(points, 0.01, 1)
    assert 0.003 < float(distance.mean()) < 0.008 and 0.3 < float(lot.mean()) < 0.7


def test_a_strand_covers_its_area_and_hides_behind_the_mesh():
    camera = Camera.from_opencv(torch.eye(4), 100.0, 100.0, 20.0, 20.0, 40, 40)
    line = torch.stack([torch.linspace(-0.1, 0.1, 5), torch.linspace(-0.15, 0.15, 5), torch.ones(5)], 1)[None]
    radius = torch.full((1, 5), 0.02)
    nearest = torch.zeros(160, 160)
    strand, along, *_ = draw_strands(line, radius, camera, 4, nearest)
    length = 100 * (0.2**2 + 0.3**2) ** 0.5
    # The ends stand out by a quarter of the width each, 1 pixel.
    assert abs(float((strand >= 0).sum()) / 16 - 4.0 * (length + 2.0)) < 6
    assert strand.unique().tolist() == [-1, 0, 1, 2, 3]
    assert float(along[strand >= 0].min()) >= 0 and float(along[strand >= 0].max()) <= 1
    wall = torch.tensor([[-1.0, -1, 0.9], [1, -1, 0.9], [0, 2, 0.9]])
    _, _, nearest = rasterize_depth(wall, torch.tensor([[0, 1, 2]]), camera, 4)
    strand, *_ = draw_strands(line, radius, camera, 4, nearest)
    assert (strand == -1).all()


def test_visible_share_of_half_spaces():
    wall = torch.tensor([[-0.3, 0.0, -0.3], [0.3, 0.0, -0.3], [0.3, 0.0, 0.3], [-0.3, 0.0, 0.3]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    points = torch.tensor([[0.0, -0.005, 0.0], [0.0, 0.005, 0.0], [0.0, 0.0, 5.0]])
    up = torch.tensor([0.0, 1.0, 0.0]).expand(3, 3).contiguous()
    share = visible_share([Query(points, up, 0.002, 0.001)], sphere_directions(64), wall, faces)[0]
    assert float(share[0]) < 0.15 and float(share[1]) > 0.97 and float(share[2]) > 0.99
    above = disc_directions(torch.nn.functional.normalize(torch.tensor([0.2, 1.0, 0.1]), dim=0), 0.1, 6)
    share = visible_share([Query(points, None, 0.002, 0.001)], above, wall, faces)[0]
    torch.testing.assert_close(share, torch.tensor([0.0, 1.0, 1.0]), atol=0.06, rtol=0)


def test_hair_is_short_rooted_and_rigid(head, strands):
    vertices = resting_vertices(head, identity(head, 0))
    points = pose_strands(strands.local, strands.root, triangle_frames(vertices, head.faces))
    assert strands.scalp == 4000
    lengths = (points[:, 1:] - points[:, :-1]).norm(dim=2).sum(1)
    assert float(lengths.max()) < 0.0301 and float(lengths[: strands.scalp].min()) > 0.0005
    corners = vertices[head.faces[strands.root.long()]]
    assert float((points[:, :1] - corners).norm(dim=2).amin(1).max()) < 0.02
    scalp = torch.zeros(head.num_vertices, dtype=torch.bool)
    scalp[head.regions["scalp"]] = True
    rooted = scalp[head.faces[strands.root[: strands.scalp].long()]].any(1)
    assert float(rooted.float().mean()) > 0.75
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.3, 0.2], [0.3, 0, 0.1], [-0.2, -0.1, 0]]))
    turned = pose_strands(strands.local, strands.root, triangle_frames((vertices @ turn.T).contiguous(), head.faces))
    torch.testing.assert_close(turned, points @ turn.T, atol=1e-5, rtol=0)


def test_lid_margins_lie_in_front_of_the_eyeball(head):
    for region in ("eye_left", "eye_right"):
        eye = head.v_template[head.regions[region]]
        for margin in lid_margins(head, head.v_template, eye.mean(0)):
            assert len(margin) >= 8
            assert float(head.v_template[margin, 2].min()) > float(eye[:, 2].mean())


def test_skin_has_detail_down_to_two_pixels(head):
    """Differences of neighbouring pixels on a cheek, without what a blur of two pixels keeps, stand clear of 8 bit steps."""
    subject = make_subject(head, 0, 0.35 / 401, strand_count=10)
    posed = pose(subject, resting_vertices(head, subject.who))
    target = resting_vertices(head, subject.who)[head.regions["lips"]].mean(0) + torch.tensor([0.035, 0.02, 0.0])
    camera = Camera.look_at(target + torch.tensor([0.2, 0.0, 0.95]), target, 2.0 * 0.0436 / 0.97, 100, 100)  # 0.87 mm a pixel
    picture = photograph(subject, posed, camera, 2).over((1.0, 1.0, 1.0))[:, 38:62, 38:62]
    blurred = torch.nn.functional.avg_pool2d(picture[None], 3, 1)[0]
    detail = (picture[:, 1:-1, 1:-1] - blurred).std()
    assert float(detail) > 1.5 / 255


def test_another_seed_is_another_person(head):
    first, second = identity(head, 1), identity(head, 2)
    assert not torch.equal(first.shape, second.shape) and first.skin != second.skin
    assert identity(head, 1).skin == first.skin and torch.equal(identity(head, 1).shape, first.shape)


def test_performance_is_one_motion_at_every_rate(head):
    slow, fast = performance(head, 6, 5, seed=3), performance(head, 6, 25, seed=3)
    for name in ("expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation"):
        torch.testing.assert_close(getattr(slow, name), getattr(fast, name)[::5], atol=1e-6, rtol=0)
    assert len(fast) == 150 and float(fast.expr.min()) >= 0 and float(fast.expr.max()) <= 1
    blink = fast.expr[:, head.expression_names.index("eyeBlinkLeft")]
    assert float(blink.max()) > 0.9 and float(blink.median()) < 0.3
    assert float(fast.rotation[:, 1].max() - fast.rotation[:, 1].min()) > 0.1
    assert float((fast.expr[1:] - fast.expr[:-1]).abs().max()) < 0.75


def test_held_out_performance_shows_what_training_does_not(head):
    train, test = performance(head, 16, 2.5, kind="train").expr, performance(head, 12, 2.5, kind="test").expr
    nearest = torch.cdist(test, train).amin(1)
    assert float(nearest.max()) > 0.6
    new = (test.amax(0) > 0.3) & (train.amax(0) < 0.05)
    assert bool(new.any())


def test_performance_needs_named_units(head):
    class Nameless:
        expression_names = None

    with pytest.raises(UserError, match="built-in head"):
        performance(Nameless())  # type: ignore[arg-type]


def test_pictures_have_samples_enough(head):
    """Twice as many along each axis change a picture by 45 dB or better, which is far less than what an avatar misses."""
    subject = make_subject(head, 0, 0.35 / 240)
    vertices = resting_vertices(head, subject.who)
    center = 0.5 * (vertices.amin(0) + vertices.amax(0))
    camera = Camera.look_at(center + torch.tensor([0.5, 0.1, 0.85]), center, 1.0, 165, 240)
    camera = replace(camera, fx=686.0, fy=686.0)
    posed = pose(subject, vertices)
    coarse, fine = (
        photograph(subject, posed, camera, factor).over((1.0, 1.0, 1.0)) for factor in (SUPERSAMPLE, 2 * SUPERSAMPLE)
    )
    assert -10 * float((coarse - fine).square().mean().log10()) > 45


def test_only_the_part_that_the_subject_fills_is_drawn(head):
    subject = make_subject(head, 0, 0.002, strand_count=3000)
    posed = pose(subject, resting_vertices(head, subject.who))
    camera = Camera.look_at(torch.tensor([0.1, 0.1, 1.2]), torch.tensor([0.05, -0.1, 0.0]), 0.5, 150, 200)
    left, top, right, bottom = outline(posed.vertices, camera)
    assert 0 < right - left < 150 and 0 < bottom - top < 200
    rgb, cover = torch.empty(6, 200, 150), torch.empty(3, 200, 150)
    photograph_part(subject, posed, camera, 2, (0, 0), rgb, cover)
    part = photograph(subject, posed, camera, 2)
    assert float(part.alpha.max()) == 1 and float(part.alpha[:top].max()) == 0
    # The projection is rounded otherwise where the corner is another: a sample in a hundred thousand changes sides.
    assert float((part.alpha - cover[0]).abs().mean()) < 1e-5 and float((part.rgb - rgb[:3]).abs().mean()) < 1e-5
