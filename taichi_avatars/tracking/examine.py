"""Whether a video is fit to make an avatar of, from a look at some of its pictures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taichi_avatars.bars import Bar
from taichi_avatars.errors import UserError
from taichi_avatars.faces.landmarks import find_expressions
from taichi_avatars.faces.networks import load_networks
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.coverage import coverage, turn_angles
from taichi_avatars.tracking.looking import Watched, face_of, watch
from taichi_avatars.tracking.points import POSE, ROTATION, Landmarks, rotation_matrix
from taichi_avatars.tracking.source import PICTURES, Source, open_source
from taichi_avatars.tracking.start import first_guess
from taichi_avatars.tracking.tracked import LIKELY_FOCAL

VIDEOS = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".3gp", ".ts", ".gif"}
MOST_PICTURES = 120


def is_filmed(path: Path) -> bool:
    """Whether a path looks like a video, or like a folder that holds pictures and nothing else."""
    if path.is_dir():
        names = [file for file in path.iterdir() if not file.name.startswith(".")]
        return bool(names) and all(file.is_file() and file.suffix.lower() in PICTURES for file in names)
    return path.suffix.lower() in VIDEOS


def examine(path: Path, bar: Bar) -> dict[str, Any]:
    """What a video shows, and what to film instead, as values that JSON can hold; same keys as `inspection.info.describe`.

    Raises:
        UserError: where it cannot be read.
    """
    source = open_source(path)
    rate = min(source.rate, max(1.0, MOST_PICTURES / max(source.seconds, 1e-3)))
    watched = Watched.begin(source)
    watch(watched, rate, bar.update)
    facts = {
        "size": f"{source.width}x{source.height}",
        "length": f"{source.seconds:.1f} s",
        "rate": f"{source.rate:.4g} pictures per second",
        "focal length": f"{source.focal:.0f} pixels" if source.focal else "not stated",
        "looked at": len(watched.seconds),
    }
    described: dict[str, Any] = {
        "path": str(path),
        "kind": "video",
        "whole": False,
        "facts": facts,
        "notes": [],
        "problems": [],
    }
    try:
        shown = _shown(watched, source)
    except UserError as problem:
        described["problems"].append(str(problem))
        return described
    facts |= {
        "pictures with the face": f"{shown['share']:.0%}",
        "face": f"{shown['face']:.0f} pixels high",
        "turns": f"{shown['yaw'][0]:.0f} to {shown['yaw'][1]:.0f} degrees to the sides, "
        f"{shown['pitch'][0]:.0f} to {shown['pitch'][1]:.0f} up and down",
    }
    described["problems"] += shown["lacks"]
    described["shows"] = shown
    described["whole"] = not shown["lacks"]
    return described


def _shown(watched: Watched, source: Source) -> dict[str, Any]:
    person, seen = face_of(watched)
    head = FlameModel.builtin()
    places = Landmarks.of(head)
    center = torch.tensor([0.5 * watched.width, 0.5 * watched.height])
    focal = LIKELY_FOCAL * max(watched.width, watched.height)
    frames = first_guess(places, torch.from_numpy(seen.points)[:, places.number], center, focal, POSE)
    yaw, pitch = turn_angles(rotation_matrix(frames[:, ROTATION])[0].numpy())
    strengths = find_expressions(np.nan_to_num(seen.points))
    by_name = {name: strengths[:, k] for k, name in enumerate(load_networks().blendshapes.names)}
    face = person.size * source.width / watched.width
    return asdict(coverage(seen, source.seconds, face, yaw, pitch, by_name))
