"""A folder for any static web server: the avatar, animated and drawn on the visitor's graphics card.

`player/` is the page. Beside it go `avatar.json`, the index, and `avatar.bin`, the arrays:

- `gaussians` (N, 4 texels): words of 32 bits. Local mean (3 float32) and triangle; quaternion, scale and opacity, after
  activation (8 float16); then spherical harmonics, coefficient by coefficient (float16).
- of an avatar: `rest`, vertices and joints before expression and pose; `basis`, the offsets of each expression and pose
  corrective, as int16 times `basis_scale`; `weights`, `faces`; if there is a dynamic offset,
  `offset` (T,K), int16 times `offset_scale`, and `offset_places`, which K numbers of the vertices and joints it is added to;
- `motion` (T, E + 3J + 3): expressions, axis-angles of the J joints, translation of every frame. The joints are root, neck,
  jaw, left eye, right eye, unless `avatar.json` lists others under "joints" of "head", with their "parents".
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import place
from taichi_avatars.errors import UserError
from taichi_avatars.export.world import unit_quats
from taichi_avatars.files.atomic import atomic_folder
from taichi_avatars.files.json import parse_json, write_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import ROLES
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.arkit import LARGEST_TURN, NECK_SHARE
from taichi_avatars.motion.face_map import columns, face_map
from taichi_avatars.motion.live.face import rotvec
from taichi_avatars.motion.live.rig import stand_of
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.video.viewpoints import frontal_camera

PLAYER = Path(__file__).resolve().parent / "player"
INDEX, CONTENT = "avatar.json", "avatar.bin"
FORMAT = "taichi-avatars web 2"
SIZE = (550, 802)  # of the first view, pixels; the page fits it into its window
FOV_Y = 0.6  # of the first view of a scene without cameras, radians
LARGEST_HALF = 65504.0


@torch.no_grad()
def write_web(
    avatar: Avatar,
    folder: Path | str,
    *,
    fps: float = 25.0,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    degree: int | None = None,
    camera: Camera | None = None,
    title: str = "Avatar",
    label: str | None = None,
) -> int:
    """Writes the folder atomically; returns its size in bytes. An earlier bundle in its place is replaced.

    Args:
        avatar: its whole sequence is played; an unbound scene does not move.
        degree: SH bands above it are omitted; None keeps all.
        camera: the first view; None: in front of the head.
        label: text in a corner of the page.

    Raises:
        UserError: if the folder holds something else.
    """
    folder = Path(folder)
    _check_free(folder)
    content, buffers = _blob(_arrays(avatar, degree))
    camera, target = _first_view(avatar, camera)
    degree = min(avatar.gaussians.degree if degree is None else degree, avatar.gaussians.degree)
    index = {
        "format": FORMAT,
        "title": title,
        "label": label,
        "gaussians": len(avatar.gaussians),
        "degree": degree,
        "texels": _texels(degree),
        "faces": avatar.head.num_faces if avatar.head else 1,
        "frames": len(avatar.sequence.timesteps) if avatar.sequence else 1,
        "fps": fps,
        "background": list(background),
        "camera": {
            "world_to_camera": camera.world_to_camera.double().flatten().tolist(),
            **{name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "width", "height", "near")},
        },
        "target": target,
        "head": avatar.head and {**_head(avatar.head), "live": _live(avatar)},
        "bytes": len(content),
        "buffers": buffers,
    }
    with atomic_folder(folder) as new:
        for file in _player():
            shutil.copyfile(file, new / file.name)
        (new / CONTENT).write_bytes(content)
        write_json(new / INDEX, index, indent=None)
    return sum(file.stat().st_size for file in folder.iterdir())


def read_index(folder: Path) -> dict[str, Any]:
    """The contents of a bundle's `avatar.json`.

    Raises:
        UserError: if it is broken, or files of the bundle are missing.
    """
    file = folder / INDEX
    try:
        index: Any = parse_json(file.read_bytes(), INDEX)
        if index["format"] != FORMAT:
            raise ValueError(f"it says {index['format']!r}, this program knows {FORMAT!r}")
        size, wanted = (folder / CONTENT).stat().st_size, index["bytes"]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: is missing; export again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: no index of a web bundle ({error}); export again") from None
    if size != wanted:
        raise UserError(f"{folder / CONTENT}: holds {size} bytes, want {wanted} as {INDEX} says; export again")
    lacking = [file.name for file in _player() if not (folder / file.name).is_file()]
    if lacking:
        raise UserError(f"{folder / lacking[0]}: is missing; export again")
    return index


def _player() -> list[Path]:
    return sorted(file for file in PLAYER.iterdir() if file.suffix in (".html", ".css", ".js"))


def _check_free(folder: Path) -> None:
    """The path must be free, or hold an earlier bundle and nothing else."""
    if not folder.exists():
        return
    own = {INDEX, CONTENT, *(file.name for file in _player())}
    other = sorted({file.name for file in folder.iterdir()} - own) if folder.is_dir() else [folder.name]
    if other:
        raise UserError(
            f"{folder}: exists and holds {other[0]}, which is not part of a web bundle; choose another name with -o"
        )


def _arrays(avatar: Avatar, degree: int | None) -> dict[str, np.ndarray]:
    arrays = {"gaussians": _words(avatar, degree)}
    if avatar.head is not None and avatar.sequence is not None:
        arrays |= _rig(avatar.head, avatar.sequence)
    return arrays


def _texels(degree: int) -> int:
    """Texels of 16 bytes per Gaussian."""
    return 2 + -(-3 * (degree + 1) ** 2 // 8)


def _words(avatar: Avatar, degree: int | None) -> np.ndarray:
    g = avatar.gaussians
    degree = min(g.degree if degree is None else degree, g.degree)
    count, harmonics = len(g), 3 * (degree + 1) ** 2
    words = np.zeros((count, 4 * _texels(degree)), np.uint32)
    words[:, :3] = np.ascontiguousarray(g.means.detach().numpy(), np.float32).view(np.uint32)
    if g.binding is not None:
        words[:, 3] = g.binding.numpy()
    halves = words.view(np.float16)
    halves[:, 8:12] = unit_quats(g.quats)
    halves[:, 12:15] = g.log_scales.detach().exp().clamp_max(LARGEST_HALF).numpy()
    halves[:, 15] = g.opacities.detach().numpy()
    halves[:, 16 : 16 + harmonics] = g.sh(degree).detach().flatten(1).clamp(-LARGEST_HALF, LARGEST_HALF).numpy()
    return words


def _rig(head: FlameModel, sequence: FlameSequence) -> dict[str, np.ndarray]:
    """The head with this shape, and its motion, as the player reads them."""
    rig = head.rig
    size = 3 * (head.num_vertices + len(head.roles))
    basis = rig.basis.values.permute(1, 0, 2).flatten(1)[:, :size].numpy()
    step = np.abs(basis).max(1, initial=0.0) / np.iinfo(np.int16).max
    arrays = {
        "rest": sequence.shaped(head).shapes[0, :size].numpy(),
        "basis": np.round(basis / np.where(step > 0, step, 1.0)[:, None]).astype(np.int16),
        "basis_scale": step.astype(np.float32),
        "weights": rig.weights.numpy(),
        "faces": head.faces.numpy().astype(np.uint32),
        "motion": torch.cat(list(sequence.moving().values()), 1).numpy(),
    }
    if sequence.dynamic_offset is not None:
        offset = head.offset_shape(sequence.dynamic_offset)[:, :size].numpy()
        places = np.nonzero(offset.any(0))[0]  # hair that sways moves the scalp alone
        scale = np.abs(offset).max(initial=0.0) / np.iinfo(np.int16).max
        arrays["offset_places"] = places.astype(np.uint32)
        arrays["offset"] = np.round(offset[:, places] / (scale or 1.0)).astype(np.int16)
        arrays["offset_scale"] = np.array([scale], np.float32)
    return arrays


def _head(head: FlameModel) -> dict[str, object]:
    expressions = head.n_expr
    correctives = head.rig.basis.values.shape[1] - expressions
    joints = {} if head.roles == ROLES else {"joints": list(head.roles), "parents": list(head.rig.parents)}
    return {
        **joints,
        "vertices": head.num_vertices,
        "expressions": expressions,
        "correctives": correctives,
        "names": head.expression_names,
    }


def _live(avatar: Avatar) -> dict[str, object]:
    """The page's map from live weights to rows of poses, and the resting place of the head."""
    assert avatar.head is not None
    mapped, stand = face_map(avatar.head), stand_of(avatar)
    # Columns of the map in the page's rows, which hold only the head's own parts.
    every, own = columns(avatar.head.n_expr), columns(avatar.head.n_expr, avatar.head.parts)
    pairs = [zip(range(every[part].start, every[part].stop), range(at.start, at.stop), strict=True) for part, at in own.items()]
    kept = dict(itertools.chain.from_iterable(pairs))
    weights = {
        name: [[kept[column], float(row[column])] for column in row.nonzero()[0].tolist() if column in kept]
        for name, row in zip(mapped.names, mapped.matrix, strict=True)
    }
    return {
        "weights": weights,
        "largest_turn": LARGEST_TURN,
        "neck_share": NECK_SHARE if "neck" in avatar.head.roles else 0.0,
        "rotation": rotvec(stand.rotation),
        "translation": stand.translation.tolist(),
    }


def _first_view(avatar: Avatar, camera: Camera | None) -> tuple[Camera, list[float]]:
    """The first view and its orbit point: the centre of the content, projected onto the view's axis."""
    if avatar.sequence is not None:
        where = place(avatar)
        return camera or frontal_camera(where, *SIZE), where.center.tolist()
    means = avatar.gaussians.means.detach()
    middle = means.median(0).values if len(means) else torch.zeros(3, dtype=torch.float32)
    if camera is None:
        radius = float((means - middle).norm(dim=1).quantile(0.9)) if len(means) else 1.0
        eye = middle + torch.tensor([0.0, 0.0, max(1.0, 2.0 * radius / FOV_Y)], dtype=torch.float32)
        return Camera.look_at(eye, middle, FOV_Y, *SIZE), middle.tolist()
    forward = camera.world_to_camera[2, :3].detach()
    ahead = max(2.0 * camera.near, float(forward @ (middle - camera.center)))
    return camera, (camera.center + ahead * forward).tolist()


def _blob(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, dict[str, object]]]:
    """Concatenated arrays, each at a multiple of 4 bytes, little endian; and their offsets (bytes) and lengths (numbers)."""
    parts, table, at = [], {}, 0
    for name, values in arrays.items():
        kind = values.dtype.newbyteorder("<")
        data = np.ascontiguousarray(values, kind).tobytes()
        table[name] = {"type": values.dtype.name, "offset": at, "length": values.size}
        data += b"\0" * (-len(data) % 4)
        parts.append(data)
        at += len(data)
    return b"".join(parts), table
