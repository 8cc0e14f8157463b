"""Programs that set torch's default type to float64 get the same bits: everything that the package makes has its own type."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from scene.tiny_capture import write_tiny_capture

from taichi_avatars.errors import UserError

HERE = Path(__file__).parent

SCRIPT = """
    import hashlib, sys, torch
    from pathlib import Path
    torch.set_default_dtype(getattr(torch, sys.argv[1]))
    folder = Path(sys.argv[2])

    def show(name, *values):
        for value in values:
            if value.dtype.is_floating_point:
                assert value.dtype == torch.float32, (name, value.dtype)
            print(name, hashlib.sha1(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest())

    import taichi_avatars as ta
    from avatar.small_avatar import small_avatar
    from taichi_avatars.config import TrainConfig
    from taichi_avatars.motion.motion import drive
    from taichi_avatars.motion.sources import load_motion
    from taichi_avatars.ops.image_loss import l1_and_ssim
    from taichi_avatars.scene.capture import load_capture
    from taichi_avatars.training import trainer

    head = ta.FlameModel.builtin()
    shaped = head.shaped(torch.full((head.n_shape,), 0.5, dtype=torch.float32))
    show("shaped", shaped.shapes)
    avatar = small_avatar()
    camera = ta.Camera.look_at(torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3), 0.4, 40, 50)
    show("camera", camera.world_to_camera, camera.center)
    avatar.save(folder / "saved")
    avatar = ta.Avatar.load(folder / "saved")
    mesh = avatar.mesh(flame={"jaw": [0.2, 0.0, 0.0]})
    show("mesh", mesh.vertices, mesh.joints)
    for values in avatar.gaussians.parameters().values():
        values.requires_grad_()
    show("picture", avatar.render(camera, flame={"jaw": [0.2, 0.0, 0.0]}).image)
    g = avatar.gaussians
    world, frames = avatar.world(mesh)
    out = ta.rasterize(*world, g.opacities, (g.sh_base, g.sh_rest), camera=camera, background=(0.1, 0.2, 0.3))
    l1, ssim = l1_and_ssim(out.image, torch.full_like(out.image, 0.5))
    (l1 - ssim + out.depth.mean()).backward()
    show("render", out.image, out.alpha, out.depth, out.mean2d_grad)
    show("gradients", *(values.grad for values in avatar.gaussians.parameters().values()))

    capture = load_capture(sys.argv[3], head=head, use_mask=True)
    config = TrainConfig(iterations=3, start_gaussians=10_000, densify_from_iter=1, densification_interval=2)
    trained = trainer.train(config, capture, head, folder / "model")
    show("trained", *trained.gaussians.parameters().values(), trained.sequence.expr)
    motion = load_motion(sys.argv[3], head)
    show("motion", drive(trained, motion).mesh(motion.sequence.timesteps[0]).vertices)
"""


def test_a_default_of_float64_changes_no_bit(tmp_path: Path) -> None:
    capture = write_tiny_capture(tmp_path / "capture", masks=True)
    printed = []
    for dtype in ("float32", "float64"):
        folder = tmp_path / dtype
        folder.mkdir()
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), dtype, str(folder), str(capture)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        printed.append(done.stdout)
    assert len(printed[0].splitlines()) == 24
    assert printed[0] == printed[1]


def test_a_tensor_of_another_type_does_not_reach_a_kernel() -> None:
    """Below the checks of the ops, at the launch itself: the first, which compiles the kernel, and those after it."""
    from taichi_avatars.kernels.subject.noise import fractal_noise

    points, out = torch.rand(5, 3), torch.empty(5, 4)
    for _ in range(2):
        for wrong in ((points.double(), out), (points, out.double()), (points.int(), out)):
            with pytest.raises(UserError, match=r"the kernel fractal_noise got (float64|int32), want float32"):
                fractal_noise(wrong[0], 1.0, 1, 0.5, 0, wrong[1])
        fractal_noise(points, 1.0, 1, 0.5, 0, out)
    assert bool(torch.isfinite(out).all())
