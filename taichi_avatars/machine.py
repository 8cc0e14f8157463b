"""The machine's resources for this process: processor cores, and a folder for compiled kernels."""

from __future__ import annotations

import math
import os
import re
import stat
import sys
import tempfile
from pathlib import Path

SYSTEM = Path("/")


def cores(system: Path = SYSTEM) -> int:
    """Processor cores that this process may use: those it may run on, or fewer under a container's CPU quota.

    A quota of one and a half cores counts as two: one thread could not use all of it.

    Args:
        system: the root of the file system that is asked; for tests.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(system)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota(system: Path) -> float | None:
    """CPU quota of the process's control groups, in cores; None if they set no limit, or there are none."""
    try:
        groups = (system / "proc/self/cgroup").read_text()
        mounts = (system / "proc/self/mountinfo").read_text()
    except OSError:
        return None
    granted = [
        share
        for mount, root, inside in _hierarchies(groups, mounts)
        for folder in _upwards(system / mount.lstrip("/"), root, inside)
        if (share := _share(folder)) is not None
    ]
    return min(granted, default=None)


def _hierarchies(groups: str, mounts: str) -> list[tuple[str, str, str]]:
    """Where the CPU control groups are mounted, which part of the hierarchy is, and which group the process is in."""
    found = []
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, inside = rest.partition(":")
        unified = number == "0" and not controllers
        if not unified and "cpu" not in controllers.split(","):
            continue
        for mount in mounts.splitlines():
            before, _, after = mount.partition(" - ")
            kind, options = after.split(" ")[0], after.rpartition(" ")[2].split(",")
            if kind == "cgroup2" if unified else kind == "cgroup" and "cpu" in options:
                root, place = before.split(" ")[3:5]
                found.append((_unescaped(place), _unescaped(root), inside))
    return found


def _unescaped(name: str) -> str:
    """A path of mountinfo, in which white space is escaped in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


def _upwards(mount: Path, root: str, inside: str) -> list[Path]:
    """The folders of a group and of its ancestors, up to the mount; a container may see its own group as the root."""
    own = inside[len(root) :] if root != "/" and inside.startswith(root) else inside
    folder = mount / own.strip("/")
    if ".." in folder.parts or not folder.is_dir():
        folder = mount
    above = [folder, *folder.parents]
    return above[: above.index(mount) + 1]


def _share(folder: Path) -> float | None:
    """The cores that one group grants: version 2 writes "quota period" or "max", version 1 two files, -1 for no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def give_home() -> None:
    """Sets HOME if a service or a bare environment has none: Taichi's C++ aborts without it."""
    if not os.environ.get("HOME"):
        try:
            os.environ["HOME"] = str(Path.home())
        except RuntimeError:  # not in the system's list of users either
            os.environ["HOME"] = tempfile.gettempdir()


def kernel_folder(name: str) -> Path:
    """Where compiled kernels are kept: in the user's cache or, if that is not writable, in the temporary folder.

    Taichi must have a folder that it can write to, or it crashes at the end of the process. Says on stderr what the user
    should expect.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taichi_avatars" / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        empty = not any(folder.iterdir())
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        folder = _temporary_folder()
        print(f"compiled kernels cannot be kept in the cache ({error}): they are kept in {folder}", file=sys.stderr)
        return folder
    if empty:
        print("First run on this machine: kernels are compiled as they are needed, half a minute in all.", file=sys.stderr)
    return folder


def _temporary_folder() -> Path:
    """A temporary folder that only this user can write to: its contents are executed."""
    user = os.getuid() if hasattr(os, "getuid") else "kernels"
    folder = Path(tempfile.gettempdir()) / f"taichi_avatars-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        own = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o077)
        if own and stat.S_ISDIR(state.st_mode):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="taichi_avatars-"))
