"""The one backend of the process: its choice, its threads, and launches from any Python thread."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from taichi_avatars import engine, runtime
from taichi_avatars.errors import UserError
from taichi_avatars.ops.checks import check

HERE = Path(__file__).parent


def run(script: str, *arguments: str, **variables: str) -> str:
    """What a script prints in a process of its own, where no backend runs yet."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        cwd=HERE,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_later_mismatch_is_refused():
    assert runtime.init("auto", runtime.threads()) == "cpu"
    with pytest.raises(UserError, match=f"{runtime.threads()} threads"):
        runtime.init("cpu", runtime.threads() + 1)
    with pytest.raises(UserError, match="cuda"):
        runtime.init("cuda")


def test_a_missing_backend_is_one_line_and_no_silent_fallback():
    script = """
        import os, torch
        from taichi_avatars import UserError, runtime
        torch.cuda.is_available = lambda: False
        os.environ["VK_ICD_FILENAMES"] = os.environ["VK_DRIVER_FILES"] = "/nowhere"
        for device in ("cuda", "vulkan", "tpu"):
            try:
                print(runtime.init(device))
            except UserError as error:
                print(error)
        print(runtime.init("auto"), runtime.init(), runtime.backend(), runtime.on_gpu(), runtime.device())
    """
    cuda, vulkan, tpu, chosen = run(script).splitlines()
    assert cuda.startswith("device cuda: torch finds no CUDA device")
    assert vulkan.startswith("device vulkan: there is no Vulkan driver")
    assert "auto, cpu, cuda or vulkan" in tpu
    assert chosen == "cpu cpu cpu False cpu"


@pytest.mark.skipif(engine.name() != "taichi", reason="Quadrants lets what it is asked for win")
def test_a_backend_that_taichi_replaces_is_refused():
    """TI_ARCH overrides what `ti.init` is asked for, as Taichi's own fallback does where a driver fails."""
    script = """
        import os
        from taichi_avatars import UserError, runtime
        from taichi_avatars.engine import ti
        os.environ["TI_ARCH"] = ti.cpu.name
        ti.lang.misc.is_arch_supported = lambda *_: True
        try:
            runtime.init("vulkan")
        except UserError as error:
            print(error)
    """
    assert "device vulkan: Taichi cannot use it here and would run on" in run(script)


def test_tensors_that_kernels_cannot_reach_are_refused():
    with pytest.raises(UserError, match="means: got a tensor on meta, want it on cpu, as the kernels"):
        check("means", torch.empty(3, device="meta"), ("N",))


def test_python_threads_may_render_at_once():
    """The first launch of the process is in a worker, several workers compile and launch at once, then the main thread."""
    script = """
        import sys, threading, torch
        from kernels.scenes import camera, cloud
        from taichi_avatars.ops import l1_and_ssim, rasterize

        sys.setswitchinterval(1e-5)
        truth = torch.full((3, 20, 30), 0.5)

        def work(seed):
            leaves = [t.requires_grad_() for t in cloud(60, seed=seed)]
            out = rasterize(*leaves, camera=camera(30, 20))
            l1, ssim = l1_and_ssim(out.image, truth)
            (l1 - ssim).backward()
            return [out.image, *(leaf.grad for leaf in leaves)]

        found = {}
        workers = [threading.Thread(target=lambda k=k: found.update({k: work(k % 2)})) for k in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(all(torch.equal(a, b) for k in range(4) for a, b in zip(found[k], work(k % 2))))
    """
    assert run(script) == "True\n"


def test_any_number_of_threads_gives_the_same_bits():
    script = """
        import hashlib, sys, torch
        from taichi_avatars import runtime
        runtime.init("cpu", int(sys.argv[1]))
        from kernels.scenes import camera, cloud
        from taichi_avatars.ops import l1_and_ssim, rasterize

        leaves = [t.requires_grad_() for t in cloud(3000, seed=1, size=0.03)]
        behind = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
        out = rasterize(*leaves, camera=camera(211, 105), background=behind)
        l1, ssim = l1_and_ssim(out.image, torch.full((3, 105, 211), 0.4))
        (l1 - ssim + out.depth.mean()).backward()
        gradients = [t.grad for t in (*leaves, behind)]
        for t in (out.image, out.alpha, out.depth, l1, ssim, out.mean2d_grad, *gradients):
            print(hashlib.sha1(t.detach().numpy().tobytes()).hexdigest())
    """
    one = run(script, "1")
    assert len(one.split()) == 12
    assert one == run(script, "2")


def test_threads_that_were_there_before_round_like_this_one():
    """Taichi has its starting thread take denormal numbers for zero; torch's threads were made without that."""
    script = """
        import numpy as np, torch
        from taichi_avatars import runtime
        tiny = torch.from_numpy(np.full(400_000, 700_000, np.int32).view(np.float32))  # 1e-39 each

        def flushed():
            return (tiny * 1.0).numpy().view(np.int32) == 0

        torch.set_num_threads(2)
        assert not flushed().any()
        runtime.init("cpu", 2)
        print(flushed().mean())
    """
    assert run(script) == "1.0\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_of_torch_do_not_spin_where_it_was_imported_first():
    """GNU's OpenMP lets none spin where there are more of them than cores, whatever it was told when it was loaded."""
    script = """
        import os
        os.environ.pop("OMP_WAIT_POLICY", None)
        import torch
        torch.ones(1_000_000).mul_(2.0)
        if not any("libgomp" in line for line in open("/proc/self/maps")):
            raise SystemExit(print("another OpenMP"))
        import taichi_avatars
        from taichi_avatars import runtime
        def threads():
            return len(os.listdir("/proc/self/task"))
        from taichi_avatars.openmp import stop_spinning
        before = threads()
        stop_spinning()
        assert threads() - before == len(os.sched_getaffinity(0)), (before, threads())
        runtime.init("cpu")
        assert float(torch.ones(1_000_000).sum()) == 1_000_000
        print("asleep")
    """
    assert run(script) in ("asleep\n", "another OpenMP\n")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes")
def test_kernels_are_kept_where_python_reads_names_as_ascii(tmp_path: Path):
    script = """
        import sys
        assert sys.getfilesystemencoding() == "ascii", sys.getfilesystemencoding()
        from taichi_avatars import runtime
        print(runtime.init("cpu"))
    """
    (tmp_path / "Zo\u00eb").mkdir()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run(script, XDG_CACHE_HOME=str(tmp_path / "Zo\u00eb"), **ascii_only) == "cpu\n"
    assert [path.name for path in tmp_path.iterdir()] == ["Zo\u00eb"]
