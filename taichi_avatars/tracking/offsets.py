"""What the head model's identity lacks: how far hair and skull stand off, and where the ears are, as few smooth fields."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from taichi_avatars.head.flame import FlameModel

HAIR = 0.02  # metres: standard deviation of how far the outline of a head with hair is off the model's scalp
REACH = 0.04  # metres over which that is alike (a Gaussian process's length)
FADE = 0.015  # metres beyond the scalp over which it ends
FIELDS = 32
OUTER = ("skin", "scalp", "ears", "neck")  # regions of what is seen from outside


def scalp_offsets(head: FlameModel) -> Tensor:
    """(V,3,O) independent fields, each as a unit moves it by one standard deviation, metres.

    They move away from the middle of the skull: the largest components of a Gaussian process over the scalp.
    """
    scalp = head.v_template[head.regions["scalp"]]
    middle = scalp.mean(0)
    share = (-(torch.cdist(head.v_template, scalp).amin(1) / FADE).square()).exp()
    share[inner(head)] = 0
    moves = (share > 0.02).nonzero()[:, 0]
    place = head.v_template[moves].double()
    alike = (-0.5 * (torch.cdist(place, place) / REACH).square()).exp()
    scaled = HAIR * share[moves].double()
    likeness = (scaled[:, None] * alike * scaled).numpy()
    strength, fields = eigsh(likeness, FIELDS, v0=np.ones(len(likeness)))  # its start is random otherwise
    fields = torch.from_numpy(fields * np.sqrt(strength.clip(0)))
    outwards = torch.nn.functional.normalize(head.v_template[moves] - middle, dim=1)
    out = torch.zeros(head.num_vertices, 3, FIELDS)
    out[moves] = outwards[..., None] * fields.float()[:, None]
    return out


def inner(head: FlameModel) -> Tensor:
    """(V,) bool: whether a vertex belongs to no skin that is seen from outside: eyes, teeth, tongue, inside of the mouth."""
    return ~head.region_mask(*OUTER)
