"""A first guess of where a head is: the rigid part of its landmarks, with the depths that the network gives them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from taichi_avatars.tracking.points import ROTATION, TRANSLATION, Landmarks

# Landmarks that expressions hardly move: nose, forehead, corners of the eyes, temples, chin.
RIGID = (
    1, 2, 4, 5, 6, 8, 9, 10, 19, 21, 33, 45, 54, 67, 69, 94, 98, 103, 108, 109, 127, 133, 151, 152, 162, 168, 195, 197, 234,
    251, 263, 275, 284, 297, 299, 327, 332, 337, 338, 356, 362, 389, 454,
)  # fmt: skip
IMAGE_FROM_WORLD = np.diag([1.0, -1.0, -1.0])  # image axes (x right, y down, z forward) of the world's (y up, z back)


def first_guess(places: Landmarks, landmarks: Tensor, center: Tensor, focal: float, size: int) -> Tensor:
    """Rotation and translation of T frames, (T,size) with the rest zero; frames without landmarks take their neighbour's.

    The network sees a face from straight ahead, wherever it is in the picture; its turn is relative to the ray there.

    Args:
        landmarks: (T,K,3) pixels, NaN where there are none.
        center: (2,) principal point; focal: pixels.
        size: parameters per frame.
    """
    chosen = torch.isin(places.number, torch.tensor(RIGID))
    model = places.points.template[chosen].double().numpy()
    middle = model.mean(0)
    model = model - middle
    root = places.points.joints[0].double().numpy()
    out = np.zeros((len(landmarks), size), np.float32)
    seen = []
    for t, frame in enumerate(landmarks[:, chosen].double().numpy()):
        if not np.isfinite(frame).all():
            continue
        seen.append(t)
        around = frame - frame.mean(0)
        image_from_head = Rotation.align_vectors(around @ IMAGE_FROM_WORLD, model)[0]
        turned = image_from_head.apply(model) @ IMAGE_FROM_WORLD
        scale = (turned[:, :2] * around[:, :2]).sum() / (turned[:, :2] ** 2).sum()
        depth = focal / scale
        ray = np.append((frame.mean(0)[:2] - center.double().numpy()) / focal, 1.0) @ IMAGE_FROM_WORLD
        towards = Rotation.align_vectors([ray / np.linalg.norm(ray)], [[0.0, 0.0, -1.0]])[0]
        turn = towards * image_from_head
        out[t, ROTATION] = turn.as_rotvec()
        out[t, TRANSLATION] = ray * depth - (turn.apply(middle - root) + root)
    if seen:
        nearest = np.abs(np.arange(len(out))[:, None] - np.array(seen)).argmin(1)
        out = out[np.array(seen)[nearest]]
    return torch.from_numpy(out)
