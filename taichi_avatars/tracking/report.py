"""What tracking.json says of each video and of each of its pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from taichi_avatars.tracking.choosing import Choice
from taichi_avatars.tracking.coverage import Coverage, turn_angles
from taichi_avatars.tracking.fit import ClipFit
from taichi_avatars.tracking.points import ROTATION, rotation_matrix
from taichi_avatars.tracking.tracked import Tracked


def video_report(one: Tracked, own: ClipFit, choice: Choice, shown: Coverage) -> dict[str, Any]:
    source = one.watched.source
    scale = source.width / one.watched.width
    return {
        "path": str(source.path),
        "width": source.width,
        "height": source.height,
        "rate": round(source.rate, 3),
        "pictures": len(one.clip),
        "cuts": one.watched.follower.cuts,
        "focal": {"pixels": round(own.focal * scale, 1), "from": one.focal_from, "doubt": one.clip.focal_spread},
        "residual": round(float(own.residual.nanmedian()) * scale, 3) if one.clip.usable.any() else None,
        "used": {use: choice.use.count(use) for use in ("train", "test", "tracked", "dropped")},
        "shows": asdict(shown),
    }


def frame_report(one: Tracked, own: ClipFit, choice: Choice, video: int) -> list[dict[str, Any]]:
    yaw, pitch = turn_angles(rotation_matrix(own.frames[:, ROTATION])[0].numpy())
    rows = []
    for k, seconds in enumerate(one.watched.seconds):
        residual = float(own.residual[k])
        rows.append(
            {
                "timestep": one.first + k,
                "video": video,
                "seconds": round(seconds, 4),
                "use": choice.use[k],
                "why": choice.why[k],
                "presence": round(float(one.seen.presence[k]), 3),
                "residual": round(residual, 3) if np.isfinite(residual) else None,
                "yaw": round(float(yaw[k]), 2),
                "pitch": round(float(pitch[k]), 2),
            }
        )
    return rows
