"""Videos of high dynamic range (HLG and PQ, ITU-R BT.2100) as ordinary 8-bit pictures."""

from __future__ import annotations

from functools import cache

import numpy as np
from av.video.frame import VideoFrame

PQ, HLG = 16, 18  # ITU-T H.273, transfer characteristics
BT2020 = 9  # ITU-T H.273, colour primaries
WHITE = 203.0  # cd/m2 of diffuse white, ITU-R BT.2408
PEAK = 1000.0  # cd/m2 of the display that HLG is shown on
KNEE = 0.8  # of white, above which what is brighter is pressed together
# Linear BT.2020 to linear BT.709, ITU-R BT.2087.
BT709_FROM_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def is_high(frame: VideoFrame) -> bool:
    """Whether a frame has more range than 8-bit pictures show."""
    return int(frame.color_trc) in (PQ, HLG)


def to_8_bit(picture: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """(H,W,3) uint8, sRGB, of (H,W,3) uint16 in the frame's own transfer and primaries."""
    light = _linear(int(frame.color_trc))[picture]
    if int(frame.color_primaries) == BT2020:
        light = light @ BT709_FROM_BT2020.T
    light = np.where(light > KNEE, KNEE + (1 - KNEE) * np.tanh((light - KNEE) / (1 - KNEE)), light)
    return _srgb()[(light.clip(0, 1) * 4095 + 0.5).astype(np.uint16)]


@cache
def _linear(transfer: int) -> np.ndarray:
    """(65536,) light, 1 at diffuse white, of a code."""
    code = np.arange(65536) / 65535
    if transfer == PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = code ** (1 / m2)
        light = 10000 * ((root - c1).clip(0) / (c2 - c3 * root)) ** (1 / m1)
    else:  # ARIB STD-B67, the display's gamma of 1.2 applied to each channel
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        light = PEAK * scene**1.2
    return (light / WHITE).astype(np.float32)


@cache
def _srgb() -> np.ndarray:
    """(4096,) uint8 of light from 0 to 1."""
    light = np.arange(4096) / 4095
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (value * 255 + 0.5).astype(np.uint8)
