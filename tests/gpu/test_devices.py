"""Where tensors lie when kernels run on CUDA. There is none where this runs: `pretence.py` plays its part."""

import pytest
import torch
from kernels.scenes import camera, cloud

from gpu.pretence import CUDA, Far, pretended_cuda
from taichi_avatars import rasterize
from taichi_avatars.ops import bind, l1_and_ssim, triangle_frames


def test_the_pretence_refuses_what_cuda_would():
    with pretended_cuda():
        far, near = torch.ones(3, device=CUDA), torch.ones(3)
        assert isinstance(far + 1, Far) and (far * 2).device.type == "cuda"
        assert torch.equal(far.cpu(), near) and not isinstance(far.cpu(), Far)
        with pytest.raises(RuntimeError, match="on CUDA and on the CPU"):
            far + near
        with pytest.raises(TypeError):
            far.numpy()
        leaf = torch.ones(3, requires_grad=True)
        (leaf.to(CUDA) * far).sum().backward()
        assert torch.equal(leaf.grad, near) and not isinstance(leaf.grad, Far)


def test_the_ops_stay_on_the_device():
    scene, cam = cloud(60, seed=1, size=0.1), camera(33, 19)
    truth = torch.rand(3, 19, 33)

    def run(leaves, truth):
        behind = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
        out = rasterize(*leaves, camera=cam, background=behind)
        l1, ssim = l1_and_ssim(out.image, truth)
        (l1 - ssim + out.depth.mean()).backward()
        return [out.image, out.alpha, out.depth, out.radii, out.mean2d_grad, *(leaf.grad for leaf in leaves)], behind.grad

    wanted, wanted_behind = run([t.clone().requires_grad_() for t in scene], truth)
    with pretended_cuda():
        found, found_behind = run([t.to(CUDA).requires_grad_() for t in scene], truth.to(CUDA))
        assert all(isinstance(t, Far) for t in found)
        assert all(torch.equal(a, b.inner) for a, b in zip(wanted, found, strict=True))
        assert torch.equal(wanted_behind, found_behind)


def test_binding_stays_on_the_device():
    vertices, faces = torch.rand(6, 3), torch.tensor([[0, 1, 2], [3, 4, 5], [0, 2, 4]])
    local = torch.rand(5, 3), torch.rand(5, 4), torch.rand(5, 3)
    binding = torch.tensor([0, 0, 2, 1, 1], dtype=torch.int32)
    with pretended_cuda():
        leaf = vertices.to(CUDA).requires_grad_()
        world = bind(*(t.to(CUDA) for t in local), binding.to(CUDA), triangle_frames(leaf, faces))
        assert all(isinstance(t, Far) for t in world)
        sum(t.sum() for t in world).backward()
        assert isinstance(leaf.grad, Far) and leaf.grad.inner.abs().sum() > 0
