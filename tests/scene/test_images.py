import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from scene.tiny_capture import HEIGHT, WIDTH, disc, picture, write_tiny_capture

from taichi_avatars.errors import UserError
from taichi_avatars.scene import images, pixels
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.scene.images import ImageStream, StreamState, load_image, load_mask
from taichi_avatars.scene.images import over as put_over
from taichi_avatars.scene.views import View

GREEN = (0.1, 0.9, 0.2)


def view_of(folder: Path, **options) -> View:
    return load_capture(folder, **options).train[0]


def save(view: View, image: Image.Image) -> None:
    image.save(view.image)


def over(pixels: np.ndarray, weight: np.ndarray, background: tuple[float, float, float]) -> torch.Tensor:
    weight = weight[..., None] / 255.0
    return torch.from_numpy(pixels / 255.0 * weight + np.array(background) * (1 - weight)).permute(2, 0, 1).float()


HALF_A_LEVEL = 0.502 / 255  # images are rounded to 8 bits; the rest is float32


def test_rgb_is_untouched(tmp_path: Path) -> None:
    image = load_image(view_of(write_tiny_capture(tmp_path)), GREEN)
    assert image.dtype == torch.float32 and image.shape == (3, HEIGHT, WIDTH) and image.is_contiguous()
    assert torch.equal((image * 255).round().to(torch.uint8).permute(1, 2, 0), torch.from_numpy(picture(3, 1)))


def test_rgba_is_composited_over_the_background(tmp_path: Path) -> None:
    image = load_image(view_of(write_tiny_capture(tmp_path, rgba=True)), GREEN)
    torch.testing.assert_close(image, over(picture(3, 1), disc(), GREEN), atol=HALF_A_LEVEL, rtol=0)


def test_mask_makes_the_outside_background(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    assert torch.equal(load_image(view_of(folder), GREEN), load_image(view_of(folder), (0, 0, 0)))
    image = load_image(view_of(folder, use_mask=True), GREEN)
    torch.testing.assert_close(image, over(picture(3, 1), disc(), GREEN), atol=HALF_A_LEVEL, rtol=0)


def test_mask_of_another_size_and_mode(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    view = view_of(folder, use_mask=True)
    half = np.zeros((HEIGHT * 2, WIDTH * 2), dtype=bool)
    half[:, WIDTH:] = True
    assert view.mask is not None
    Image.fromarray(half).save(view.mask)  # one bit per pixel
    image = load_image(view, GREEN)
    torch.testing.assert_close(image[:, :, 0], torch.tensor(GREEN)[:, None].expand(3, HEIGHT), atol=HALF_A_LEVEL, rtol=0)
    torch.testing.assert_close(image[:, :, -1], over(picture(3, 1), np.full((HEIGHT, WIDTH), 255), GREEN)[:, :, -1])


def test_smaller_by_averaging_after_compositing(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, rgba=True)
    image = load_image(view_of(folder, resolution=2), GREEN)
    expected = torch.nn.functional.avg_pool2d(over(picture(3, 1), disc(), GREEN)[None], 2)[0]
    # rounded to 8 bits three times: after compositing, and after each direction of the resize
    torch.testing.assert_close(image, expected, atol=3 * HALF_A_LEVEL, rtol=0)


def test_larger_keeps_the_picture(tmp_path: Path) -> None:
    view = view_of(write_tiny_capture(tmp_path), resolution=48)
    image = load_image(view)
    assert image.shape == (3, 64, 48)
    shrunk = torch.nn.functional.avg_pool2d(image[None], 2)[0]
    torch.testing.assert_close(shrunk, load_image(view_of(tmp_path)), atol=0.03, rtol=0)


def test_an_image_of_another_size_than_its_camera(tmp_path: Path) -> None:
    view = view_of(write_tiny_capture(tmp_path))
    save(view, Image.new("RGB", (WIDTH * 2, HEIGHT * 2), (10, 20, 30)))
    torch.testing.assert_close(load_image(view)[:, 3, 5], torch.tensor([10, 20, 30]) / 255)
    save(view, Image.new("RGB", (WIDTH * 2, HEIGHT)))
    with pytest.raises(UserError, match=r"48 x 32 pixels does not have the aspect ratio"):
        load_image(view)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "I;16"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    view = view_of(write_tiny_capture(tmp_path))
    grey = np.full((HEIGHT, WIDTH), 51, dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "PA":
        image = Image.new("P", (WIDTH, HEIGHT), 1)
        image.putpalette([255, 0, 0, 51, 51, 51])
        image.info["transparency"] = 0
    else:
        image = Image.fromarray(grey).convert(mode)
    save(view, image)
    torch.testing.assert_close(load_image(view, GREEN), torch.full((3, HEIGHT, WIDTH), 0.2), atol=1e-6, rtol=0)


def test_transparent_palette_entry_is_background(tmp_path: Path) -> None:
    view = view_of(write_tiny_capture(tmp_path))
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(view.image, transparency=0)
    torch.testing.assert_close(load_image(view, GREEN)[:, 0, 0], torch.tensor(GREEN), atol=HALF_A_LEVEL, rtol=0)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_cut_off_images_are_one_line(tmp_path: Path, share: float, suffix: str) -> None:
    view = view_of(write_tiny_capture(tmp_path))
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = tmp_path / f"whole{suffix}"
    Image.fromarray(noise).save(whole)
    data = whole.read_bytes()
    view.image.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"00003_01\.png") as caught:
        load_image(view)
    assert "export it again" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_image_and_mask(tmp_path: Path) -> None:
    view = view_of(write_tiny_capture(tmp_path, masks=True), use_mask=True)
    assert view.mask is not None
    view.mask.unlink()
    with pytest.raises(UserError, match=r"fg_masks/00003_01.png: the file is missing"):
        load_image(view)
    view.image.unlink()
    with pytest.raises(UserError, match=r"images/00003_01.png: the file is missing"):
        load_image(view)


def test_far_too_large_an_image_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(write_tiny_capture(tmp_path))
    monkeypatch.setattr(pixels, "LARGEST_IMAGE", WIDTH * HEIGHT - 1)
    with pytest.raises(UserError, match="24 x 32 pixels is more than"):
        load_image(view)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own guard against forged headers
    with pytest.raises(UserError, match="cannot be read as an image"):
        load_image(view)


def test_load_mask(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    mask = load_mask(folder / "fg_masks/00003_01.png", view_of(folder))
    torch.testing.assert_close(mask, torch.from_numpy(disc()) / 255)


@pytest.fixture
def views(tmp_path: Path) -> list[View]:
    return load_capture(write_tiny_capture(tmp_path / "capture"), evaluation=False).train


def names(stream: ImageStream, count: int) -> list[str]:
    return [view.name for view, _ in islice(stream, count)]


def test_stream_goes_through_all_views_in_an_order_of_the_seed(views: list[View]) -> None:
    with ImageStream(views, seed=5) as stream, ImageStream(views, seed=5, workers=1, cache_bytes=0) as same:
        order = names(stream, 27)
        assert order == names(same, 27)
    everyone = sorted(view.name for view in views)
    epochs = [order[:9], order[9:18], order[18:]]
    assert all(sorted(epoch) == everyone for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    with ImageStream(views, seed=6) as other:
        assert names(other, 9) != epochs[0]


@pytest.mark.parametrize("cache_bytes", [0, 3 * WIDTH * HEIGHT * 3, 1 << 20])
def test_stream_yields_what_load_image_gives(views: list[View], cache_bytes: int) -> None:
    with ImageStream(views, GREEN, cache_bytes=cache_bytes) as stream:
        for view, image in islice(stream, 20):
            assert torch.equal(image, load_image(view, GREEN))
            image.zero_()  # the tensor is the caller's own


@pytest.mark.parametrize("resolution", [-1, 2])
@pytest.mark.parametrize("kind", ["rgba", "mask", "both", "opaque"])
def test_stream_without_a_background_gives_what_can_be_put_over_any(tmp_path: Path, kind: str, resolution: int) -> None:
    masked = kind in ("mask", "both")
    folder = write_tiny_capture(tmp_path, rgba=kind in ("rgba", "both"), masks=masked)
    views = load_capture(folder, use_mask=masked, resolution=resolution).train
    with ImageStream(views, None) as stream:
        for view, layer in islice(stream, 4):
            assert layer is not None and len(layer) == (3 if kind == "opaque" else 4)
            for background in (GREEN, (1.0, 1.0, 1.0)):
                away = (put_over(layer, background) - load_image(view, background)).abs().max()
                assert away <= (0.0 if kind == "opaque" else 3.01 / 255), "but for rounding"


@pytest.mark.parametrize("taken", [0, 4, 9, 13, 18])
def test_stream_goes_on_where_another_stood(views: list[View], taken: int) -> None:
    with ImageStream(views, seed=1) as stream, ImageStream(views, seed=1) as resumed:
        names(stream, taken)
        state = stream.state()
        assert state == (taken // 9, taken % 9)
        names(resumed, 2)
        resumed.restore((state.epoch, state.position))
        assert names(resumed, 20) == names(stream, 20)


def test_stream_of_another_capture_cannot_go_on(views: list[View]) -> None:
    with ImageStream(views[:3]) as stream, pytest.raises(UserError, match="image 7 of epoch 0: the capture has 3"):
        stream.restore(StreamState(0, 7))


def test_stream_decodes_within_the_cache_bound(views: list[View], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    lock, plain = threading.Lock(), images.decode

    def counting(view: View, background: images.Background) -> np.ndarray:
        with lock:
            decoded.append(view.name)
        return plain(view, background)

    monkeypatch.setattr(images, "decode", counting)
    with ImageStream(views, workers=1, cache_bytes=4 * WIDTH * HEIGHT * 3) as stream:
        names(stream, 9 * 4)
    kept = [name for name in set(decoded) if decoded.count(name) == 1]
    assert len(kept) == 4 and all(decoded.count(view.name) >= 4 for view in views if view.name not in kept)


def test_stream_names_a_broken_image_at_its_turn(views: list[View]) -> None:
    with ImageStream(views, seed=2) as stream:
        order = names(stream, 9)
    broken = next(view for view in views if view.name == order[4])
    broken.image.write_bytes(b"")
    with ImageStream(views, seed=2) as stream:
        assert names(stream, 4) == order[:4]
        for _ in range(2):
            with pytest.raises(UserError, match=broken.image.name):
                next(stream)
        assert stream.state() == (0, 4)


def test_stream_without_views() -> None:
    with pytest.raises(UserError, match="split is empty"):
        ImageStream([])


def test_a_picture_that_exif_data_turn(tmp_path: Path) -> None:
    write_tiny_capture(tmp_path)
    view = load_capture(tmp_path).train[0]
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = 6
    Image.open(view.image).transpose(Image.Transpose.ROTATE_90).save(view.image.with_suffix(".jpg"), exif=data)
    with pytest.raises(UserError, match=r"EXIF data ask for a quarter turn, .*: store its pixels upright"):
        load_image(replace(view, image=view.image.with_suffix(".jpg")), GREEN)
