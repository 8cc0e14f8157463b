"""The kernels that this machine has compiled. The engine caches them but does not tell, and the waiting user wants to know."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

FILE = "compiled.txt"  # in the kernels' folder: a line for each kernel launched by a process that ended normally

# The kernels that parts of the work launch on a CPU.
IMAGES = frozenset(
    (
        "regress", "blend", "rotate", "skin", "frames", "bind", "project", "radix_pass", "group_records", "pack",
        "list_pairs", "scatter", "composite", "to_image",
    )
)  # fmt: skip
TRAINING = IMAGES | frozenset(
    (
        "from_image", "composite_adjoint", "gather", "project_adjoint", "ssim_l1", "local_losses", "ssim_l1_adjoint",
        "bind_adjoint", "frames_adjoint", "skin_adjoint", "blend_adjoint", "rotate_adjoint",
    )
)  # fmt: skip
FILMING = frozenset(
    (
        "regress", "blend", "rotate", "skin", "fractal_noise", "frames", "pose_strands", "project_vertices", "bound_faces",
        "rasterize_faces", "accumulate_visibility", "project_strands", "rasterize_strands", "scattered_points",
        "light_strands", "shade_samples",
    )
)  # fmt: skip
TRACKING = frozenset(
    (
        "project_vertices", "bound_faces", "rasterize_faces", "weigh_colours", "soften",
    )
)  # fmt: skip
MESHES = frozenset(("project_vertices", "bound_faces", "rasterize_faces", "find_barycentrics", "shade_faces"))
ALL = TRAINING | FILMING | TRACKING | MESHES


class FirstLaunches:
    """Called before every launch; reports kernels that have to be compiled, before they are.

    Attributes:
        told: receives the reports; None for nobody.
    """

    def __init__(self) -> None:
        self.told: Callable[[str], None] | None = None
        self.file: Path | None = None
        self.known: frozenset[str] = frozenset()
        self.seen: set[int] = set()
        self.new: list[str] = []

    def keep_in(self, folder: Path, digest: str) -> None:
        """Sets where kernels are kept, and the digest of their source: names recorded for another source do not count."""
        self.file, self.digest = folder / FILE, digest
        with suppress(OSError, UnicodeDecodeError):
            lines = self.file.read_text("utf-8").splitlines()
            self.known = frozenset(line.removeprefix(f"{digest} ") for line in lines if line.startswith(f"{digest} "))
        atexit.register(self._write)  # the engine also writes its cache then

    def before(self, kernel: object, name: str) -> None:
        if id(kernel) in self.seen:
            return
        self.seen.add(id(kernel))
        if name in self.known:
            return
        if self.told is not None:
            self.told(name)
        self.new.append(name)

    def left(self, names: Iterable[str]) -> set[str]:
        """The kernels among these that are still to be compiled."""
        return set(names) - self.known - set(self.new)

    def _write(self) -> None:
        if self.new and self.file is not None:
            with suppress(OSError), self.file.open("a", encoding="utf-8") as file:
                file.write("".join(f"{self.digest} {name}\n" for name in self.new))


first_launches = FirstLaunches()
