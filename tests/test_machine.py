"""Quotas of containers, environments without a home, caches that cannot be written, and children that fork."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from taichi_avatars import machine

HERE = Path(__file__).parent
DRAW = """
    import torch, taichi_avatars as ta

    def draw():
        return float(ta.triangle_frames(torch.eye(3), torch.tensor([[0, 1, 2]])).scale)
"""


def system(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
)
V1_GROUPS = "4:cpuset:/a\n3:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n"
CPU = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2, id="v2"),
        pytest.param("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2, id="v2, one and a half"),
        pytest.param("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1, id="v2, a twentieth"),
        pytest.param("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 64, id="v2, no limit"),
        pytest.param("0::/\n", V2, {}, 64, id="v2, the root has no file"),
        pytest.param("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 64, id="v2, more than there are"),
        pytest.param(
            "0::/a.slice/b.scope\n",
            V2,
            {"sys/fs/cgroup/a.slice/b.scope/cpu.max": "max 100000\n", "sys/fs/cgroup/a.slice/cpu.max": "300000 100000\n"},
            3,
            id="v2, the group above",
        ),
        pytest.param(
            "0::/\n", V2.replace(" /sys", r" /my\040sys"), {"my sys/fs/cgroup/cpu.max": "100000 50000"}, 2, id="v2, elsewhere"
        ),
        pytest.param(
            V1_GROUPS,
            V1,
            {f"{CPU}/docker/0123/cpu.cfs_quota_us": "400000\n", f"{CPU}/docker/0123/cpu.cfs_period_us": "100000\n"},
            4,
            id="v1",
        ),
        pytest.param(
            V1_GROUPS,
            V1,
            {f"{CPU}/cpu.cfs_quota_us": "250000", f"{CPU}/cpu.cfs_period_us": "100000"},
            3,
            id="v1, seen from inside",
        ),
        pytest.param(
            V1_GROUPS,
            V1.replace("0:29 /", "0:29 /docker/0123"),
            {f"{CPU}/cpu.cfs_quota_us": "100000", f"{CPU}/cpu.cfs_period_us": "100000"},
            1,
            id="v1, mounted alone",
        ),
        pytest.param(
            V1_GROUPS, V1, {f"{CPU}/cpu.cfs_quota_us": "-1", f"{CPU}/cpu.cfs_period_us": "100000"}, 64, id="v1, no limit"
        ),
        pytest.param(f"{V1_GROUPS}0::/\n", V1 + V2.replace("cgroup rw", "cgroup/unified rw"), {}, 64, id="both, no limit"),
        pytest.param("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "nonsense"}, 64, id="v2, nonsense"),
        pytest.param("0::/../other\n", V2, {"sys/fs/cgroup/cpu.max": "200000 100000"}, 2, id="v2, a group that is not seen"),
    ],
)
def test_quotas_of_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, mounts: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert machine.cores(system(tmp_path, groups, mounts, files)) == expected


def test_no_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    assert machine.cores(tmp_path) == 3


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a process that has nothing of this one's environment but where Python and the package are."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=HERE, env={**kept, **environment}, capture_output=True, text=True
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is the place that nobody can write to")
@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="no HOME"),
        pytest.param({"HOME": ""}, id="an empty HOME"),
        pytest.param({"HOME": "/proc"}, id="a HOME that cannot be written"),
        pytest.param({"HOME": "/nowhere/at/all", "XDG_CACHE_HOME": "/proc/x"}, id="a cache that cannot be written"),
    ],
)
def test_environments_of_services(tmp_path: Path, environment: dict[str, str]) -> None:
    done = python(DRAW + "\n    print('drawn', draw() > 0)\n", TMPDIR=str(tmp_path), **environment)
    assert (done.returncode, done.stdout) == (0, "drawn True\n"), done.stderr[-2000:]
    if "proc" in "".join(environment.values()):
        assert "compiled kernels cannot be kept" in done.stderr


def test_what_the_cache_does_not_take_is_kept_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    done = python(DRAW + "\n    draw()\n", HOME="/proc", TMPDIR=str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert done.returncode == 0 and str(folder) in done.stderr
    assert folder.stat().st_mode & 0o077 == 0 and any(folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no such permissions")
def test_a_folder_that_others_can_write_to_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"taichi_avatars-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    assert machine._temporary_folder() != planted
    planted.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    planted.symlink_to(tmp_path / "elsewhere")
    assert machine._temporary_folder() not in (planted, tmp_path / "elsewhere")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_forked_says_so_at_once(tmp_path: Path) -> None:
    script = (
        DRAW
        + """
    import os, sys
    from taichi_avatars import UserError
    draw()
    child = os.fork()
    if child == 0:
        try:
            draw()
        except UserError as error:
            print(error)
        sys.stdout.flush()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), draw() > 0)
    """
    )
    done = python(script, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    said, parent = done.stdout.splitlines()
    assert "forked after Taichi had started" in said and "spawn" in said
    assert parent == "7 True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_forked_before_works(tmp_path: Path) -> None:
    script = (
        DRAW
        + """
    import os
    child = os.fork()
    if child == 0:
        os._exit(7 if draw() > 0 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), draw() > 0)
    """
    )
    done = python(script, HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "7 True\n"), done.stderr[-2000:]
