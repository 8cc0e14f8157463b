"""Pictures and masks of every kind: right, or refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.scene.pixels import colours, mask_weights, open_image

GREY = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
DISC = np.zeros((5, 7), bool)
DISC[1:4, 2:6] = True


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with open_image(path) as image:
        return colours(path, image)


def weights(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return mask_weights(path, image)


def png(path: Path, bits: int, kind: int, rows: list[bytes], width: int, transparent: bytes) -> Path:
    """A PNG with tRNS, byte by byte: Pillow does not write the kinds that are wanted here."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    data = (
        chunk(b"IHDR", header)
        + chunk(b"tRNS", transparent)
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / name)
    rgb, opacity = read(tmp_path / name)
    assert opacity is None and all(np.array_equal(rgb[..., c], GREY) for c in range(3))


def test_numbers_from_0_to_1(tmp_path: Path) -> None:
    Image.fromarray((GREY / 255).astype(np.float32)).save(tmp_path / "a.tiff")
    assert np.array_equal(read(tmp_path / "a.tiff")[0][..., 1], GREY)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((GREY * 1.5).astype(np.float32), "floating-point numbers from .* want 0 to 1"),
        ((GREY / 255 - 0.5).astype(np.float32), "floating-point numbers from -"),
        (GREY.astype(np.int32) * 1000 + 1, "integers from .* want 16 bits"),
        (np.where(DISC, np.nan, 0.5).astype(np.float32), "NaN or Inf"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, values: np.ndarray, words: str) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=words) as error:
        read(tmp_path / "a.tiff")
    assert str(error.value).startswith(str(tmp_path / "a.tiff"))


def test_a_transparent_grey_of_16_bits(tmp_path: Path) -> None:
    levels = GREY.astype(np.uint16) * 257
    levels[0, 0], levels[0, 1] = 770, 771  # the same in 8 bits
    rows = [row.astype(">u2").tobytes() for row in levels]
    _, opacity = read(png(tmp_path / "a.png", 16, 0, rows, 7, struct.pack(">H", 770)))
    assert opacity is not None and np.array_equal(opacity == 0, levels == 770) and opacity[0, 0] == 0


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_a_transparent_grey_of_few_bits(tmp_path: Path, bits: int, step: int) -> None:
    """Pillow multiplies the pixels to 8 bits, but not the level that is transparent."""
    levels = np.arange(16).reshape(2, 8) % 2**bits
    rows = [bytes(np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8))) for row in levels]
    rgb, opacity = read(png(tmp_path / "a.png", bits, 0, rows, 8, struct.pack(">H", 1)))
    assert opacity is not None and np.array_equal(opacity == 0, levels == 1)
    assert np.array_equal(rgb[..., 0][opacity > 0], levels[opacity > 0] * step)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour(tmp_path: Path, bits: int) -> None:
    factor, kind = (257, ">u2") if bits == 16 else (1, "u1")
    picture = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
    picture[2, 3] = [0, 255, 0]
    rows = [(row.astype(np.int64) * factor).astype(kind).tobytes() for row in picture]
    key = struct.pack(">HHH", *(int(v) * factor for v in (0, 255, 0)))
    rgb, opacity = read(png(tmp_path / "a.png", bits, 2, rows, 7, key))
    assert opacity is not None and np.argwhere(opacity == 0).tolist() == [[2, 3]]
    assert np.array_equal(rgb, picture)


def palette(first: tuple[int, int, int], second: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(DISC.astype(np.uint8)).convert("P")
    image.putpalette([*first, *second])
    return image


def with_opacity(grey: int) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((5, 7, 3), grey, np.uint8), 255 * DISC.astype(np.uint8)]))


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.fromarray(255 * DISC.astype(np.uint8)), "a.png"),
        (Image.fromarray(DISC), "one bit.png"),
        (Image.fromarray(DISC.astype(np.uint8)), "0 and 1.png"),
        (Image.fromarray(128 * DISC.astype(np.uint8)), "0 and 128.png"),
        (Image.fromarray(DISC.astype(np.uint16)), "0 and 1 in 16 bits.png"),
        (Image.fromarray(255 * DISC.astype(np.uint16)), "0 and 255 in 16 bits.png"),
        (Image.fromarray(65535 * DISC.astype(np.uint16)), "16 bits.png"),
        (Image.fromarray(DISC.astype(np.float32)), "numbers.tiff"),
        (Image.fromarray(255 * DISC.astype(np.float32)), "numbers to 255.tiff"),
        (palette((0, 0, 0), (128, 0, 0)), "palette.png"),
        (with_opacity(255), "white with opacity.png"),
        (with_opacity(0), "black with opacity.png"),
        (Image.fromarray(np.dstack([*[255 * DISC.astype(np.uint8)] * 3, np.full((5, 7), 255, np.uint8)])), "opaque.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_masks_of_all_kinds(tmp_path: Path, image: Image.Image, name: str) -> None:
    image.save(tmp_path / name)
    assert np.array_equal(weights(tmp_path / name), 255 * DISC.astype(np.uint8))


def test_soft_masks_stay_as_they_are(tmp_path: Path) -> None:
    soft = np.linspace(0, 255, 35).reshape(5, 7).astype(np.uint8)
    for name, values in (
        ("8.png", soft),
        ("16.png", soft.astype(np.uint16) * 257),
        ("f.tiff", (soft / 255).astype(np.float32)),
    ):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(weights(tmp_path / name), soft), name


def test_empty_and_full_masks(tmp_path: Path) -> None:
    for level, wanted in ((0, 0), (1, 255), (255, 255)):
        Image.new("L", (7, 5), level).save(tmp_path / "a.png")
        assert np.all(weights(tmp_path / "a.png") == wanted)


def test_numbers_of_parts_are_no_mask(tmp_path: Path) -> None:
    Image.fromarray((np.arange(35) % 19).reshape(5, 7).astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"19 levels from 0 to 18 look like class labels.*write 255"):
        weights(tmp_path / "a.png")


@pytest.mark.parametrize(("kind", "bits"), [(np.uint16, 16), (np.int32, 32)])
def test_eight_bits_in_wider_numbers_are_not_shown_black(tmp_path: Path, kind: type, bits: int) -> None:
    Image.fromarray(GREY.astype(kind)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=f"a.tiff: holds integers of {bits} bits from .* nearly black"):
        read(tmp_path / "a.tiff")
    Image.fromarray(np.zeros_like(GREY, kind)).save(tmp_path / "a.tiff")
    assert not read(tmp_path / "a.tiff")[0].any()


def test_two_levels_that_are_far_from_each_other_are_back_and_front(tmp_path: Path) -> None:
    for low, high, expected in ((10, 200, [0, 255]), (1, 2, [0, 255]), (200, 255, [200, 255])):
        Image.fromarray(np.where(DISC, high, low).astype(np.uint8)).save(tmp_path / "a.png")
        with open_image(tmp_path / "a.png") as image:
            assert np.unique(mask_weights(tmp_path / "a.png", image)).tolist() == expected
