"""The rasterizer against its float64 twin, against independent code, and against itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import taichi_avatars as ta
from kernels.scenes import camera, cloud
from taichi_avatars.errors import UserError
from taichi_avatars.kernels.tiles import QUAD, QUAD_BITS
from taichi_avatars.reference import projection as reference_projection
from taichi_avatars.reference import splat as reference_splat

NAMES = ("means", "quats", "scales", "opacities", "sh")


def compare_to_reference(scene, cam, *, degree=3, background=(0.2, 0.5, 0.7), image_tolerance=1e-4, gradient_tolerance=1e-4):
    """Image, alpha, depth, radii, and all gradients from random upstream ones; returns the rendering."""
    leaves = [t.clone().requires_grad_() for t in scene]
    pose = cam.world_to_camera.clone().requires_grad_()
    behind = torch.tensor(background, requires_grad=True)
    out = ta.rasterize(
        *leaves,
        camera=replace(cam, world_to_camera=pose),
        background=behind,
        sh_degree=degree,
    )

    twins = [t.double().clone().requires_grad_() for t in scene]
    twin_pose = cam.world_to_camera.double().requires_grad_()
    twin_behind = torch.tensor(background, dtype=torch.float64, requires_grad=True)
    image, alpha, depth, radii = reference_splat.rasterize(
        *twins, camera=cam, pose=twin_pose, background=twin_behind, degree=degree
    )
    # float32 rounds to 6e-8 and its exp errs by 2e-6; where splats touch a cut-off, callers ask for less
    for name, value, truth in (("image", out.image, image), ("alpha", out.alpha, alpha), ("depth", out.depth, depth)):
        scale = max(1.0, truth.abs().max().item())
        assert (value - truth).abs().max().item() <= image_tolerance * scale, name
    assert torch.equal(out.radii.double(), radii)

    g = torch.Generator().manual_seed(1)
    upstream = [torch.randn(t.shape, generator=g) for t in (out.image, out.alpha, out.depth)]
    sum((v * u).sum() for v, u in zip((out.image, out.alpha, out.depth), upstream, strict=True)).backward()
    sum((v * u.double()).sum() for v, u in zip((image, alpha, depth), upstream, strict=True)).backward()
    for name, leaf, twin in zip(
        (*NAMES, "pose", "background"), (*leaves, pose, behind), (*twins, twin_pose, twin_behind), strict=True
    ):
        wanted = torch.zeros_like(twin) if twin.grad is None else twin.grad
        error = (leaf.grad - wanted).norm() / wanted.norm().clamp_min(1e-6)
        assert error.item() <= gradient_tolerance, f"gradient to {name}: {error.item():.1e}"
    return out


# With many Gaussians some pixel is always close to a cut-off; a flipped one moves the image by up to 1/255.
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17])
@pytest.mark.parametrize("size", [(16, 16), (33, 19), (1, 1), (8, 40)])
def test_matches_reference(count, size):
    compare_to_reference(cloud(count, seed=count, size=0.1), camera(*size))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_sh_degree(degree):
    compare_to_reference(cloud(20, seed=3, size=0.1), camera(40, 24), degree=degree)


def test_several_hundred_in_one_tile():
    scene = cloud(400, seed=5, spread=0.02, size=0.01, opacity=(0.02, 0.2))
    out = compare_to_reference(scene, camera(13, 11), image_tolerance=5e-3, gradient_tolerance=2e-3)
    assert out.alpha.max() > 0.95


def test_saturated_pixels_stop_for_good():
    """Opaque layers: the stop at 1e-4 and the clamp at 0.99 are reached by most pixels."""
    scene = cloud(60, seed=7, spread=0.05, size=0.3, opacity=(0.95, 1.0))
    out = compare_to_reference(scene, camera(24, 17), image_tolerance=5e-3, gradient_tolerance=5e-3)
    assert (out.alpha > 0.9998).float().mean() > 0.25


def test_needles_and_giants():
    means, quats, scales, opacities, sh = cloud(30, seed=8)
    scales[:10] = torch.tensor([1.0, 1e-5, 1e-5])
    scales[10:20] = 5.0
    compare_to_reference((means, quats, scales, opacities * 0.2, sh), camera(40, 30), gradient_tolerance=1e-3)


@pytest.mark.parametrize("low_pass", [0.02, 1.2])
def test_low_pass_of_the_camera(low_pass):
    compare_to_reference(cloud(20, seed=3, size=0.02), replace(camera(40, 24), low_pass=low_pass))


def test_low_pass_that_shrinks_with_the_pixels_keeps_thin_things_thin():
    """At half the size, a quarter of the variance is the same blur in the world; left as it is, hair would grow fat."""
    scene = cloud(60, seed=3, size=0.004)
    full = camera(160, 120)
    half = full.resized(80, 60)
    wanted = torch.nn.functional.avg_pool2d(ta.rasterize(*scene, camera=full).image, 2)
    same, fat = (ta.rasterize(*scene, camera=c).image for c in (replace(half, low_pass=full.low_pass / 4), half))
    assert (same - wanted).square().mean() < 0.25 * (fat - wanted).square().mean()
    assert same.sum() == pytest.approx(wanted.sum().item(), rel=0.1)
    assert fat.sum() > 1.5 * wanted.sum()


def test_gradient_matches_finite_differences():
    """Central differences of our own forward, away from cut-offs: wide, faint Gaussians that cover the whole image."""
    scene = cloud(5, seed=2, spread=0.1, size=0.8, opacity=(0.3, 0.5))
    cam = camera(9, 7)
    weight = torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(4))

    def value(values):
        return (ta.rasterize(*values, camera=cam).image.double() * weight).sum().item()

    leaves = [t.clone().requires_grad_() for t in scene]
    (ta.rasterize(*leaves, camera=cam).image * weight).sum().backward()
    for which, leaf in enumerate(leaves):
        direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(which)) * leaf.detach().abs().mean()
        step = 1e-2
        high = [t + step * direction if i == which else t for i, t in enumerate(scene)]
        low = [t - step * direction if i == which else t for i, t in enumerate(scene)]
        measured = (value(high) - value(low)) / (2 * step)
        analytic = (leaf.grad * direction).sum().item()
        assert measured == pytest.approx(analytic, rel=5e-3, abs=5e-3), NAMES[which]  # differences over a step of 1 %


def test_same_input_same_bits():
    results = []
    for _ in range(3):
        leaves = [t.clone().requires_grad_() for t in cloud(500, seed=9)]
        out = ta.rasterize(*leaves, camera=camera(70, 50))
        (out.image.sin().sum() + out.depth.sum()).backward()
        results.append([out.image, out.alpha, out.depth, *(leaf.grad for leaf in leaves)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gaussians_behind_the_camera_change_nothing():
    scene, cam = cloud(50, seed=4), camera(40, 30)
    behind = cloud(20, seed=6)
    behind[0][:, 2] -= 10.0
    both = tuple(torch.cat([a, b]) for a, b in zip(behind, scene, strict=True))
    one, two = ta.rasterize(*scene, camera=cam), ta.rasterize(*both, camera=cam)
    assert torch.equal(one.image, two.image)
    assert (two.radii[:20] == 0).all()


def test_order_of_the_gaussians_does_not_matter():
    scene, cam = cloud(100, seed=4), camera(40, 30)
    shuffle = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    one, two = ta.rasterize(*scene, camera=cam), ta.rasterize(*(t[shuffle] for t in scene), camera=cam)
    assert torch.equal(one.image, two.image)


def test_nothing_to_see_is_the_background_and_no_gradient():
    scene = cloud(10)
    scene[0][:, 2] -= 100.0
    leaves = [t.requires_grad_() for t in scene]
    out = ta.rasterize(*leaves, camera=camera(20, 10), background=(0.1, 0.2, 0.3))
    assert torch.equal(out.image, torch.tensor([0.1, 0.2, 0.3])[:, None, None].expand(3, 10, 20))
    out.image.sum().backward()
    assert all(float(leaf.grad.abs().sum()) == 0.0 for leaf in leaves)
    assert float(out.mean2d_grad.abs().sum()) == 0.0


@pytest.mark.parametrize("bands,degree", [(1, 0), (16, 0), (16, 2), (16, 3), (9, 2)])
def test_harmonics_in_two_tensors_are_those_in_one(bands, degree):
    whole = cloud(40, seed=3)[:4]
    sh = torch.randn(40, bands, 3, generator=torch.Generator().manual_seed(4))
    together = sh.clone().requires_grad_()
    apart = sh[:, :1].clone().requires_grad_(), sh[:, 1:].clone().requires_grad_()
    images = [ta.rasterize(*whole, harmonics, camera=camera(40, 30), sh_degree=degree).image for harmonics in (together, apart)]
    for image in images:
        image.sin().sum().backward()
    assert torch.equal(*images)
    assert torch.equal(together.grad, torch.cat([part.grad for part in apart], 1))


def test_mean2d_grad_is_that_of_the_last_backward():
    leaves = [t.requires_grad_() for t in cloud(10)]
    out = ta.rasterize(*leaves, camera=camera(20, 10))
    assert out.mean2d_grad is None
    out.image.sum().backward(retain_graph=True)
    first = out.mean2d_grad.clone()
    out.image.sum().backward()
    assert torch.equal(out.mean2d_grad, first)


def test_tile_lists_hold_exactly_the_quads_that_are_touched():
    """Against every splat at every pixel centre: no quad of 4x4 pixels is missing, and hardly any is listed in vain."""
    from taichi_avatars.ops.projection import project
    from taichi_avatars.ops.tiles import sort_into_tiles

    scene, cam = cloud(300, seed=11, size=0.04), camera(83, 61)
    rows = project(*scene, cam, 0).rows
    lists = sort_into_tiles(rows, cam.width, cam.height)
    y, x = torch.meshgrid(torch.arange(61) + 0.5, torch.arange(83) + 0.5, indexing="ij")
    wanted = set()
    for i in range(len(rows)):
        dx, dy = (x - rows[i, 0]).double(), (y - rows[i, 1]).double()
        q = rows[i, 2] * dx * dx + 2 * rows[i, 3] * dx * dy + rows[i, 4] * dy * dy
        for row, column in (rows[i, 5] * torch.exp(-0.5 * q) >= 1 / 255).nonzero().tolist():
            wanted.add((i, row // QUAD, column // QUAD))
    splat_at = {place: splat for splat, place in enumerate(lists.place.tolist())}
    listed, begin = set(), 0
    for tile, end in enumerate(lists.tile_end.tolist()):
        entries = [divmod(entry, 1 << QUAD_BITS) for entry in lists.entries[begin:end, 0].tolist()]
        depths = rows[[splat_at[place] for place, _ in entries], 9]
        assert torch.equal(depths, depths.sort().values), "front to back"
        for place, quads in entries:
            assert 0 < quads < 16, "a splat is listed where it touches a quad"
            top, left = 2 * (tile // lists.tiles_x), 2 * (tile % lists.tiles_x)
            listed |= {(splat_at[place], top + k // 2, left + k % 2) for k in range(4) if quads & 1 << k}
        begin = end
    assert wanted <= listed
    assert len(listed - wanted) <= 0.1 * len(wanted)  # those that an ellipse touches between pixel centres


def test_camera_clamp_cuts_the_gradient():
    """A Gaussian far outside the image: its slope is clamped in the Jacobian, whose gradient must not pass."""
    means, quats, scales, opacities, sh = cloud(4, seed=1, size=0.8)
    means[:, 0] = 2.0
    compare_to_reference((means, quats, scales, opacities, sh), camera(16, 16, off_center=False))


@pytest.mark.parametrize("name", ["interior_black", "interior_colour", "edge_white"])
def test_matches_independent_code(name, shared):
    path = shared / "golden" / f"splat_{name}.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the shared files")
    data = np.load(path)

    def tensor(key):
        return torch.from_numpy(data[key])

    raw = [tensor(k) for k in ("in_means", "in_quats", "in_log_scales", "in_logit_opacities", "in_sh")]
    raw[3] = raw[3][:, 0]
    leaves = [t.clone().requires_grad_() for t in raw]
    lens = [float(data[f"in_{k}"]) for k in ("fx", "fy", "cx", "cy")]
    cam = ta.Camera.from_opencv(tensor("in_viewmat"), *lens, int(data["in_W"]), int(data["in_H"]))
    means, quats, log_scales, logits, sh = leaves
    out = ta.rasterize(means, quats, log_scales.exp(), logits.sigmoid(), sh, camera=cam, background=tensor("in_bg"))
    error = (out.image.permute(1, 2, 0) - tensor("image")).abs()
    assert torch.equal(out.radii, tensor("radii"))
    if name == "edge_white":
        assert error.mean().item() <= 2e-5
        return
    assert error.mean().item() <= 2e-6
    assert error.max().item() <= 6e-3  # a splat flips at 1/255, which is 4e-3
    (out.image.permute(1, 2, 0) * tensor("in_weight")).sum().backward()
    found = {"means": means, "quats": quats, "log_scales": log_scales, "logit_opacities": logits, "sh": sh}
    for key, leaf in found.items():
        truth = tensor(f"grad_{key}").reshape(leaf.shape)
        assert ((leaf.grad - truth).norm() / truth.norm()).item() <= 2e-3, key
    truth = tensor("grad_mean2d_ndc")
    assert ((out.mean2d_grad - truth).norm() / truth.norm()).item() <= 2e-3


def test_sh_basis_is_orthonormal():
    """The reference's basis integrates to the identity over the sphere: the constants and their signs are right."""
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=g, dtype=torch.float64), dim=1)
    basis = reference_projection.sh_basis(directions)
    gram = 4 * torch.pi * basis.T @ basis / len(directions)
    assert (gram - torch.eye(16)).abs().max() < 0.02  # Monte Carlo noise: 3 / sqrt(400000) * 4 pi


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        (0, torch.zeros(3, 2), "means"),
        (1, torch.zeros(2, 4), "quats"),
        (2, torch.zeros(3, 3, dtype=torch.float64), "scales"),
        (3, torch.full((3,), float("nan")), "opacities"),
        (4, torch.zeros(3, 0, 3), "sh"),
    ],
)
def test_wrong_arguments_are_named(argument, value, words):
    scene = list(cloud(3))
    scene[argument] = value
    with pytest.raises(UserError, match=words):
        ta.rasterize(*scene, camera=camera(8, 8))


def test_too_high_a_degree_is_refused():
    scene = list(cloud(3))
    scene[4] = scene[4][:, :4]
    with pytest.raises(UserError, match="sh_degree"):
        ta.rasterize(*scene, camera=camera(8, 8), sh_degree=2)


def test_a_second_differentiation_is_refused():
    """Silently, it would leave out how the gradient depends on the Gaussians."""
    leaves = [t.requires_grad_() for t in cloud(30, seed=1, size=0.1)]
    out = ta.rasterize(*leaves, camera=camera(40, 30))
    (gradient,) = torch.autograd.grad(out.image.square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        (gradient.square().sum() + out.image.sum()).backward()
