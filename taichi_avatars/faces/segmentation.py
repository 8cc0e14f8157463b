"""Which part of a picture belongs to the person."""

from __future__ import annotations

import numpy as np

from taichi_avatars.faces.networks import load_networks
from taichi_avatars.faces.regions import Picture, Region, cut_out


def segment(picture: Picture, region: Region) -> np.ndarray:
    """How much of every pixel of a region belongs to a person.

    Args:
        region: a square round the head: the network sees it at 256 pixels.

    Returns:
        (256,256) float32 in [0, 1], the region's own pixels.
    """
    network = load_networks().segmentation
    return network(cut_out(picture, region, network.size))["alpha"][0, 0].numpy()
