"""Reading image files: compositing over the background, masks, undistortion, resizing, and a stream in training order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.scene.lens import Lens
from taichi_avatars.scene.pixels import UNREADABLE, colours, mask_weights, open_image
from taichi_avatars.scene.views import View

Background = Sequence[float]

ASPECT_TOLERANCE = 0.02  # down-sampled sizes are rounded to whole pixels
DEFAULT_CACHE_BYTES = 768 << 20  # so that a whole training of a large capture stays within 2 GB
DEFAULT_WORKERS = 2
LYING = 5  # from this orientation of EXIF on an image is shown after a quarter turn
SPLINE = 3  # degree of the interpolation of distorted images


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, read from its header."""
    with open_image(path) as image:
        return image.size


def check_image(path: Path) -> tuple[int, int]:
    """Width and height of an intact image file: all checksums of a PNG are verified, anything else is decoded.

    Raises:
        UserError: if it is missing, broken or cut off.
    """
    with open_image(path) as image:
        size = image.size
        try:
            if image.format == "PNG":
                image.verify()
            else:
                image.load()
        except UNREADABLE as error:
            raise UserError(f"{path}: the image is broken or cut off ({error}); export it again") from error
    return size


def load_image(view: View, background: Background = (0.0, 0.0, 0.0)) -> Tensor:
    """The image of a view as training and evaluation see it: (3,H,W) float32 in [0,1], at the size of the view's camera.

    An RGBA image is composited as rgb*a + background*(1-a); with a mask, everything outside it becomes background too.

    Args:
        background: red, green, blue in [0,1].

    Raises:
        UserError: if a file is missing, broken, far too large or of another aspect ratio than the camera; names the file.
    """
    return torch.from_numpy(_as_float(decode(view, background)))


def load_alpha(view: View) -> Tensor | None:
    """The alpha of a view's image, (H,W) float32 in [0,1] at the size of its camera; None if the file has none.

    Raises:
        UserError: as `load_image`.
    """
    with open_image(view.image) as image:
        check_aspect(view, image.size)
        _, opacity = colours(view.image, image)
    return None if opacity is None else torch.from_numpy(_shown(opacity, view) / np.float32(255.0))


def load_mask(path: Path, view: View) -> Tensor:
    """A mask file as weights (H,W) float32 in [0,1], as the view's camera sees it.

    Raises:
        UserError: as `load_image`.
    """
    with open_image(path) as image:
        return torch.from_numpy(_shown(mask_weights(path, image), view) / np.float32(255.0))


def check_aspect(view: View, size: tuple[int, int]) -> None:
    """Raises UserError if an image of `size` (width, height) cannot have been taken by the view's camera."""
    (width, height), camera = size, view.camera
    # The camera's size may be rounded to whole pixels from any original size, which matters for tiny images.
    slack = ASPECT_TOLERANCE + 1.0 / min(width, height, camera.width, camera.height)
    if abs(width * camera.height / (height * camera.width) - 1.0) > slack:
        raise UserError(
            f"{view.image}: {width} x {height} pixels does not have the aspect ratio of its camera, "
            f"{camera.width} x {camera.height}; {_remedy(view.image)}"
        )


def _remedy(path: Path) -> str:
    """What to do about an image of another shape than its camera's."""
    with open_image(path) as image:
        lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= LYING
    if not lies:
        return "export the image or the intrinsics again"
    return "its EXIF data ask for a quarter turn, which trackers do not heed, nor does this program: store its pixels upright"


def decode(view: View, background: Background) -> np.ndarray:
    """The same image as `load_image`, (H,W,3) uint8."""
    with open_image(view.image) as image:
        check_aspect(view, image.size)
        pixels, opacity = colours(view.image, image)
    if opacity is not None:
        pixels = _over(pixels, opacity, background)
    if view.mask is not None:
        with open_image(view.mask) as mask:
            weight = mask_weights(view.mask, mask)
        pixels = _over(pixels, _resized(weight, (pixels.shape[1], pixels.shape[0])), background)
    return _shown(pixels, view)


def decode_layer(view: View) -> np.ndarray:
    """The image of a view before it is composited.

    (H,W,4) uint8, premultiplied colours, then alpha; (H,W,3) for an opaque image. Everything outside a mask is transparent.
    Errors as `load_image`.
    """
    with open_image(view.image) as image:
        check_aspect(view, image.size)
        pixels, opacity = colours(view.image, image)
    if view.mask is not None:
        with open_image(view.mask) as mask:
            inside = _resized(mask_weights(view.mask, mask), (pixels.shape[1], pixels.shape[0]))
        opacity = inside if opacity is None else _over(opacity[..., None], inside, (0.0,))[..., 0]
    if opacity is None:
        return _shown(pixels, view)
    return np.dstack([_shown(_over(pixels, opacity, (0.0, 0.0, 0.0)), view), _shown(opacity, view)])


def over(layer: Tensor, background: Background) -> Tensor:
    """A layer (4,H,W), premultiplied colours and alpha, over a colour; an opaque image (3,H,W) as it is."""
    if len(layer) == 3:
        return layer
    behind = torch.as_tensor(background, dtype=layer.dtype, device=layer.device)
    return layer[:3] + (1.0 - layer[3]) * behind[:, None, None]


class StreamState(NamedTuple):
    """The position of an ImageStream: the next image it yields is number `position` of epoch `epoch`."""

    epoch: int
    position: int


class ImageStream:
    """Endless epochs of (view, image), decoded ahead by threads; every epoch is a new permutation of all views.

    The order depends on `seed` and the epoch's number alone, so a stream restored from `state()` continues exactly where the
    other stopped. Decoded images are cached as uint8 until `cache_bytes` are used; the first ones stay, since with random
    permutations no other policy has a higher hit rate.

    Args:
        views: the views to iterate over.
        background: red, green, blue in [0,1]; None for images that are not yet composited, see `over`.
        seed: of the order.
        workers: threads that decode.
        cache_bytes: limit on the cache; a few more images are in flight.
        part, parts: the images are dealt in turn to `parts` streams of the same seed, of which this is number `part`; it goes
            through all views, but decodes only its own images.

    Yields:
        (View, (3,H,W) float32 in [0,1]): the tensor is the caller's own, and None if the image is another stream's. Without
            a background, (4,H,W) if the image has alpha: premultiplied colours, and alpha.

    Raises:
        UserError: as `load_image`, when the missing or broken file is reached.
    """

    def __init__(
        self,
        views: Sequence[View],
        background: Background | None = (0.0, 0.0, 0.0),
        *,
        seed: int = 0,
        workers: int = DEFAULT_WORKERS,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        if not views:
            raise UserError("there are no images to go through: the split is empty; check the capture with `info`")
        self._views = list(views)
        self._background = None if background is None else tuple(float(value) for value in background)
        self._seed = seed
        self._part, self._parts = part, parts
        self._ahead = (workers + 2) * parts
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._cache: dict[int, np.ndarray] = {}
        self._room = cache_bytes
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, Future[np.ndarray] | None]] = deque()
        self.restore(StreamState(0, 0))

    def state(self) -> StreamState:
        """The position of the stream: two integers, to be saved in a checkpoint."""
        return self._next

    def restore(self, state: StreamState | tuple[int, int]) -> None:
        """Continue from a state of a stream of the same views and seed.

        Raises:
            UserError: if it cannot be one, because it has more views.
        """
        epoch, position = state
        if epoch < 0 or not 0 <= position < len(self._views):
            raise UserError(
                f"cannot resume at image {position} of epoch {epoch}: the capture has {len(self._views)} training images; "
                "resume with the capture that the checkpoint was made from"
            )
        for _, image in self._queue:
            if image is not None:
                image.cancel()
        self._queue.clear()
        self._next = self._requested = StreamState(epoch, position)
        self._order = self._permutation(self._next.epoch)

    def close(self) -> None:
        """Stop the threads; the stream must not be used after this."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> ImageStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of views in one epoch."""
        return len(self._views)

    def __iter__(self) -> Iterator[tuple[View, Tensor | None]]:
        return self

    def __next__(self) -> tuple[View, Tensor | None]:
        while len(self._queue) < self._ahead:
            self._request()
        index, image = self._queue[0]
        truth = None if image is None else torch.from_numpy(image.result())
        self._queue.popleft()
        self._next = self._following(self._next)
        return self._views[index], truth

    def _request(self) -> None:
        if self._requested.position == 0:
            self._order = self._permutation(self._requested.epoch)
        index = self._order[self._requested.position]
        dealt = self._requested.epoch * len(self._views) + self._requested.position
        own = dealt % self._parts == self._part
        self._queue.append((index, self._pool.submit(self._pixels, index) if own else None))
        self._requested = self._following(self._requested)

    def _following(self, state: StreamState) -> StreamState:
        last = state.position + 1 == len(self._views)
        return StreamState(state.epoch + 1, 0) if last else StreamState(state.epoch, state.position + 1)

    def _permutation(self, epoch: int) -> list[int]:
        return np.random.default_rng([self._seed % 2**64, epoch]).permutation(len(self._views)).tolist()

    def _pixels(self, index: int) -> np.ndarray:
        # numpy, not torch: torch would start its own thread pool under every decoding thread
        with self._lock:
            pixels = self._cache.get(index)
        if pixels is None:
            view = self._views[index]
            pixels = decode_layer(view) if self._background is None else decode(view, self._background)
            with self._lock:
                if index not in self._cache and pixels.nbytes <= self._room:
                    self._cache[index] = pixels
                    self._room -= pixels.nbytes
        return _as_float(pixels)


def _over(pixels: np.ndarray, weight: np.ndarray, background: Background) -> np.ndarray:
    """pixels (H,W,3) uint8 with weight (H,W) of 255 over the background, rounded to uint8."""
    weight = (weight.astype(np.float32) / np.float32(255.0))[..., None]
    behind = np.asarray(background, dtype=np.float32) * np.float32(255.0)
    blended = pixels.astype(np.float32) * weight + behind * (np.float32(1.0) - weight)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _shown(pixels: np.ndarray, view: View) -> np.ndarray:
    """Pixels of an image file, (H,W) or (H,W,3) uint8, as the view's camera sees them: at its size, without distortion."""
    size = view.camera.width, view.camera.height
    return _resized(pixels, size) if view.lens is None else _undistorted(pixels, view, view.lens, size)


def _undistorted(pixels: np.ndarray, view: View, lens: Lens, size: tuple[int, int]) -> np.ndarray:
    """Interpolated once, between the pixels of the file; then averaged if the file has more of them than requested."""
    from scipy.ndimage import map_coordinates

    finer = max(1, round(min(pixels.shape[1] / size[0], pixels.shape[0] / size[1])))
    places = lens.sampling(view.camera, (pixels.shape[1], pixels.shape[0]), finer)
    layers = [
        map_coordinates(layer, places, output=np.float32, order=SPLINE, mode="nearest")
        for layer in np.moveaxis(np.atleast_3d(pixels), 2, 0)
    ]
    fine = np.clip(np.rint(np.stack(layers, 2)), 0, 255).astype(np.uint8)
    return _resized(fine if pixels.ndim == 3 else fine[..., 0], size)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Downscaled by averaging areas, as a coarser sensor would see it; upscaled by cubic interpolation."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    smaller = size[0] <= pixels.shape[1] and size[1] <= pixels.shape[0]
    resampling = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize(size, resampling))


def _as_float(pixels: np.ndarray) -> np.ndarray:
    """(H,W,C) uint8 -> (C,H,W) float32 in [0,1]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255.0)
