"""PNG files of cut-out pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from taichi_avatars.files.png import encode_rgba


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (40, 31)])
def test_another_reader_finds_the_same_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 4), np.uint8)
    pixels[len(pixels) // 2 :] = 0
    image = Image.open(io.BytesIO(encode_rgba(pixels)))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_of_a_part_of_a_picture():
    pixels = np.random.default_rng(1).integers(0, 256, (9, 12, 4), np.uint8)
    found = np.asarray(Image.open(io.BytesIO(encode_rgba(pixels[2:8, 1:9]))))
    np.testing.assert_array_equal(found, pixels[2:8, 1:9])
