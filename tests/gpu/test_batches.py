"""Splats come to a tile in batches, of 64 forward and 16 backward: every number around them, and tiles that end early."""

import pytest
import torch
from kernels.scenes import camera, cloud
from kernels.test_splat import compare_to_reference

from taichi_avatars import rasterize
from taichi_avatars.kernels.splat_gpu import BATCH, BLOCK
from taichi_avatars.ops.splat import splat
from taichi_avatars.ops.tiles import sort_into_tiles


# All in one tile. A splat at the edge of visibility may flip a pixel, by up to 1/255.
@pytest.mark.parametrize("count", [0, 1, 2, *(n + d for n in (BATCH, 2 * BATCH, BLOCK, 2 * BLOCK) for d in (-1, 0, 1))])
def test_every_number_of_splats_in_a_tile(count):
    scene = cloud(count, seed=count, spread=0.05, size=0.2, opacity=(0.02, 0.05))
    compare_to_reference(scene, camera(7, 8), image_tolerance=5e-3, gradient_tolerance=2e-3)


def rows_of_squares(count: int, opacity: float) -> torch.Tensor:
    """Wide round splats in the middle of an 8x8 image, one behind the other."""
    rows = torch.zeros(count, 12)
    rows[:, 0:2] = 4.0
    rows[:, 2], rows[:, 4] = 1e-3, 1e-3
    rows[:, 5] = opacity
    rows[:, 6:9] = torch.rand(count, 3)
    rows[:, 9] = torch.arange(1, count + 1)
    reach = (2 * torch.log(torch.tensor(255 * opacity))).sqrt() / 1e-3**0.5
    rows[:, 10:12] = reach
    return rows


@pytest.mark.parametrize("count", [10, BATCH + 1, BLOCK + BATCH + 1, 3 * BLOCK])
def test_what_lies_behind_opaque_pixels_gets_zero(count):
    """0.9 each: after 4 splats 1e-4 is left, the fifth stops the pixel; all batches behind are skipped, not left undefined."""
    rows = rows_of_squares(count, 0.9).requires_grad_()
    image, alpha, depth = splat(rows, torch.zeros(3), 8, 8)
    assert alpha.min() > 0.99
    (image.sum() + alpha.sum() + depth.sum()).backward()
    assert torch.equal(rows.grad[6:], torch.zeros(count - 6, 12))
    assert (rows.grad[:3, 6:9] > 0).all()


def test_same_input_same_bits():
    results = []
    for _ in range(3):
        leaves = [t.requires_grad_() for t in cloud(500, seed=9)]
        out = rasterize(*leaves, camera=camera(70, 50))
        (out.image.sin().sum() + out.depth.sum()).backward()
        results.append([out.image, out.alpha, out.depth, *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_pairs_that_no_tile_lists_have_no_gradient(monkeypatch):
    """A driver may round differently where pairs are counted and where they are listed: here it counts one too many."""
    from taichi_avatars.kernels import tiles_gpu

    rows = rows_of_squares(5, 0.3)
    plain = rows.clone().requires_grad_()
    image, _, _ = splat(plain, torch.zeros(3), 8, 8)
    image.sum().backward()
    count_pairs = tiles_gpu.count_pairs

    def one_too_many(tiles_x, tiles_y, bounds, pairs):
        count_pairs(tiles_x, tiles_y, bounds, pairs)
        pairs += 1

    monkeypatch.setattr(tiles_gpu, "count_pairs", one_too_many)
    lists = sort_into_tiles(rows, 8, 8)
    assert len(lists.entries) == 10
    assert lists.tile_end.tolist() == [5]
    rows.requires_grad_()
    again, _, _ = splat(rows, torch.zeros(3), 8, 8)
    again.sum().backward()
    assert torch.equal(image, again)
    assert torch.equal(plain.grad, rows.grad)
