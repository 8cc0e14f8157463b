"""The result of a training run: the avatar, its iteration, and the capture it was trained on."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.iterations import REFINED_NAME, find_ply, iteration_of, iterations, model_of
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.files.pickles import plain
from taichi_avatars.files.text import decoded
from taichi_avatars.head.assets import resolve_head
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import REFINED, Capture, load_configured
from taichi_avatars.scene.georeference import NOWHERE, Origin

Parameters = Literal["tracked", "refined"]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained avatar with what is known about its training.

    Attributes:
        folder: the model folder; for a PLY outside of one, the folder of the PLY.
        iteration: of the avatar; 0 if the path does not tell.
        source: the capture it was trained on, None if unknown.
        config: options of the training; the defaults if unknown.
        parameters: whether the avatar's FLAME parameters are those that a tracker found (of training timesteps, as training
            tuned them), or were all fitted to their images by `refine`, held-out timesteps too.
    """

    folder: Path
    iteration: int
    avatar: Avatar
    source: Path | None
    config: TrainConfig
    parameters: Parameters = "tracked"

    @property
    def method(self) -> str:
        """The name under which results of this iteration are stored; refined parameters are another protocol."""
        return f"ours_{self.iteration}{'_refined' if self.parameters == 'refined' else ''}"

    @property
    def background(self) -> tuple[float, float, float]:
        return (1.0, 1.0, 1.0) if self.config.white_background else (0.0, 0.0, 0.0)


def load_model(
    path: Path | str,
    *,
    head: str | None = None,
    iteration: int | None = None,
    parameters: Parameters | Literal["trained"] | None = None,
    **options: object,
) -> TrainedModel:
    """Reads a model folder, or one PLY.

    Args:
        head: "builtin" or a FLAME file; None uses the one beside the PLY.
        iteration: which of the saved ones; None uses the newest.
        parameters: tracked or refined ones; "trained": those that training produced, on any capture; None uses the refined
            ones if there are any.
        options: of `TrainConfig` that override those of training; None keeps one as it was.

    Raises:
        UserError: if there is no avatar, or none of this iteration.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give a model folder that `train` wrote, or a .ply file")
    if iteration is None:
        ply = find_ply(path)
    else:
        saved = iterations(path)
        if iteration not in saved:
            held = ", ".join(map(str, saved)) or "none"
            raise UserError(f"{path}: iteration {iteration} was not saved; saved are: {held}")
        ply = saved[iteration]
    avatar = Avatar.load(ply, resolve_head(head, ply.parent) if head is not None else None)
    folder = model_of(ply)
    source, config = _training(folder)
    given = {name: value for name, value in options.items() if value is not None}
    config = TrainConfig.from_values({**config.model_dump(), **given}, "option")
    found = _with_parameters(avatar, ply.parent, source, parameters)
    return TrainedModel(folder, iteration_of(ply) or 0, avatar, source, config, found)


def _with_parameters(avatar: Avatar, folder: Path, source: Path | None, wanted: str | None) -> Parameters:
    """Sets the requested parameters of an avatar; returns which they are."""
    file = folder / REFINED_NAME
    trained_on: Parameters = "refined" if source is not None and (source / REFINED).is_file() else "tracked"
    if wanted in (None, "refined") and avatar.head is not None and file.is_file():
        avatar.sequence = FlameSequence.load_npz(file, avatar.head)
        return "refined"
    if wanted in ("tracked", "refined") and wanted != trained_on:
        missing = "was trained on a refined capture" if wanted == "tracked" else f"holds no {REFINED_NAME}: run `refine` first"
        raise UserError(f"{folder}: has no {wanted} FLAME parameters: it {missing}")
    return trained_on


def load_source(model: TrainedModel, source: Path | None = None) -> Capture:
    """The capture of a model, read as for training but with its splits kept apart.

    Args:
        source: another path to read it from.

    Raises:
        UserError: if the capture is unknown or no longer exists.
    """
    path = source or model.source
    if path is None:
        raise UserError(f"{model.folder}: does not say which capture it was trained on; give it with -s")
    if source is None and not path.is_dir():
        raise UserError(f"{path}: the capture that {model.folder} was trained on is no longer there; give its place with -s")
    return load_configured(path, model.config, model.avatar.head, origin=model.avatar.origin)


def first_camera(folder: Path, origin: Origin = NOWHERE) -> Camera | None:
    """The first camera in a model folder's `cameras.json`; None if none can be read.

    Args:
        origin: of the avatar.
    """
    try:
        entry = json.loads(decoded((folder / "cameras.json").read_bytes()))[0]
        turn = torch.tensor(entry["rotation"], dtype=torch.float64).T
        position = torch.tensor(entry["position"], dtype=torch.float64)
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = turn, -turn @ (position - torch.tensor(origin, dtype=torch.float64))
        width, height = int(entry["width"]), int(entry["height"])
        return Camera.from_opencv(pose, float(entry["fx"]), float(entry["fy"]), 0.5 * width, 0.5 * height, width, height)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, OverflowError):
        return None


def _training(folder: Path) -> tuple[Path | None, TrainConfig]:
    """Source and options from our own files, or from the `cfg_args` that other tools write."""
    if (folder / "config.toml").is_file():
        return _source(folder / "source.json"), TrainConfig.from_toml(folder / "config.toml")
    if not (folder / "cfg_args").is_file():
        return None, TrainConfig()
    values = _namespace(folder / "cfg_args")
    known = {name: value for name, value in values.items() if name in TrainConfig.model_fields}
    source = values.get("source_path")
    config = TrainConfig.from_values(known, str(folder / "cfg_args"))
    return Path(source) if isinstance(source, str) and source else None, config


def _source(path: Path) -> Path | None:
    try:
        return Path(json.loads(decoded(path.read_bytes()))["source"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _namespace(path: Path) -> dict[str, object]:
    """The text `Namespace(a=1, ...)`, parsed as literals and never executed."""
    try:
        call = ast.parse(decoded(path.read_bytes()).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name) or call.func.id != "Namespace":
            raise ValueError("want Namespace(name=value, ...)")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({plain(error)}); delete it and give the capture with -s") from None
