"""An avatar for other programs: Gaussians in the world, the mesh at a pose, or a whole animation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.iterations import PLY_NAME
from taichi_avatars.errors import UserError
from taichi_avatars.export.arrays import write_arrays
from taichi_avatars.export.compressed import write_compressed_ply
from taichi_avatars.export.mesh import write_glb, write_obj
from taichi_avatars.export.sequence import write_sequence
from taichi_avatars.export.splat import write_splat
from taichi_avatars.export.web import write_web
from taichi_avatars.export.world import in_world, turned, y_down
from taichi_avatars.scene.cameras import Camera

# Names of the formats and their file suffixes; the web bundle is a folder.
SUFFIXES = {
    "ply": ".ply",
    "compressed": ".compressed.ply",
    "splat": ".splat",
    "zip": ".zip",
    "glb": ".glb",
    "obj": ".obj",
    "npz": ".npz",
    "web": "",
}
MESHES = ("glb", "obj")


@dataclass(frozen=True, eq=False)
class Choice:
    """Options of an export.

    Attributes:
        timestep: the pose, of the avatar's sequence; None for the neutral pose, and for formats that hold a whole animation.
        every: N: of an animation, every Nth frame.
        degree: SH bands above it are omitted; None keeps all.
        turn: whether Gaussians are turned to y down.
        fps: of the animation.
        background, camera, title: of the web page.
        label: text on it.
        on_frame: called with the number of finished frames of a zip.
    """

    timestep: int | None = None
    every: int = 1
    degree: int | None = None
    turn: bool = False
    fps: float = 25.0
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    camera: Camera | None = None
    title: str = "Avatar"
    label: str | None = None
    on_frame: Callable[[int], None] | None = None


def format_of(path: Path | str) -> str | None:
    """The format that a file's suffix implies; None if it implies none."""
    name = Path(path).name.lower()
    fitting = [kind for kind, suffix in SUFFIXES.items() if suffix and name.endswith(suffix)]
    return max(fitting, key=lambda kind: len(SUFFIXES[kind]), default=None)


def export(avatar: Avatar, kind: str, path: Path | str, choice: Choice) -> None:
    """Writes an avatar in one of the formats of `SUFFIXES`, atomically.

    Raises:
        UserError: if the scene has no head and the format needs one, the file is an avatar's own, or cannot be written.
    """
    path = Path(path)
    if path.name == PLY_NAME and path.exists():
        raise UserError(f"{path}: is an avatar's own file, which an export would replace; choose another name with -o")
    if kind in (*MESHES, "zip") and avatar.head is None:
        raise UserError(f"{path}: a static scene has no mesh and no motion; {kind} needs an avatar with a head")
    if kind == "web":
        write_web(
            sampled(avatar, choice.every),
            path,
            fps=choice.fps / choice.every,
            background=choice.background,
            degree=choice.degree,
            camera=choice.camera,
            title=choice.title,
            label=choice.label,
        )
    elif kind == "zip":
        write_sequence(sampled(avatar, choice.every), path, degree=choice.degree, turn=choice.turn, on_frame=choice.on_frame)
    elif kind == "npz":
        write_arrays(avatar, choice.timestep, path, degree=choice.degree, turn=choice.turn)
    elif kind in MESHES:
        assert avatar.head is not None
        write = write_glb if kind == "glb" else write_obj
        write(avatar.mesh(choice.timestep).vertices.cpu(), avatar.head, path)
    else:
        posed = in_world(avatar, None if avatar.head is None else avatar.mesh(choice.timestep), choice.degree)
        if choice.turn:
            posed = y_down(posed)
        if kind == "ply":
            posed.save_ply(path, turned(avatar.origin) if choice.turn else avatar.origin)
        else:
            (write_splat if kind == "splat" else write_compressed_ply)(posed, path)


def sampled(avatar: Avatar, every: int) -> Avatar:
    """The avatar with every `every`-th timestep of its sequence."""
    sequence = avatar.sequence
    if sequence is None or every == 1:
        return avatar
    return Avatar(avatar.gaussians, avatar.head, sequence.some(slice(None, None, every)))
