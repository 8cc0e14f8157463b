"""Camera poses."""

from __future__ import annotations

import torch
from torch import Tensor


def look_at_pose(eye: Tensor, target: Tensor) -> Tensor:
    """The (4,4) float64 world-to-camera matrix, OpenCV axes, of a camera at `eye` (3,) that looks at `target` (3,), y up."""
    eye, target = eye.double(), target.double()
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float32).double()), dim=0
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose
