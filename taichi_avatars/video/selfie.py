"""Films the built-in subject with one hand-held camera: a realistic video, and the ground truth of every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from PIL import Image
from torch import Tensor

from taichi_avatars.synthetic.capture import hair_offset
from taichi_avatars.synthetic.defaults import SELFIE_FPS, SELFIE_SECONDS, SELFIE_SIZE, SUPERSAMPLE
from taichi_avatars.synthetic.folder import (
    MARK,
    TRUTH,
    RigCamera,
    bytes_of,
    check_at_least,
    make_picture_folders,
    picture_name,
    save_picture,
    whole_folder,
    write_parameters,
    write_transforms,
)
from taichi_avatars.synthetic.renderer import resting_vertices
from taichi_avatars.synthetic.selfie import Selfie, stage_selfie
from taichi_avatars.video.mp4 import write_mp4

PERSON = "person_masks"
SHORTEST = 2.0  # seconds: minimum time for a person to turn


def write_selfie(
    out: Path | str,
    *,
    seed: int = 0,
    width: int = SELFIE_SIZE[0],
    height: int = SELFIE_SIZE[1],
    seconds: float = SELFIE_SECONDS,
    fps: int = SELFIE_FPS,
    supersample: int = SUPERSAMPLE,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes `video.mp4` and `truth/`, atomically.

    `truth/` is a head capture as a perfect tracker would produce it: images of the head with alpha, true
    parameters and cameras, the last tenth held out; and beside it the masks of the whole person.

    Args:
        out: a folder that does not exist, is empty, or was made here and is then replaced.
        seed: of the person, the room and the performance.
        width, height: pixels.
        seconds, fps: of the video; every frame is in `truth/`.
        supersample: samples per pixel along each axis.
        force: replaces whatever folder `out` is.
        progress: called with the number of frames done and of all.

    Raises:
        UserError: for invalid sizes, or if `out` is something else that would be lost.
    """
    out = Path(out)
    least = {"width": (width, 16), "height": (height, 16), "seconds": (seconds, SHORTEST), "fps": (fps, 1)}
    check_at_least(" for a selfie", **least, supersample=(supersample, 1))
    with whole_folder(out, force) as work:
        selfie = stage_selfie(seed, width, height, seconds, fps)
        write_mp4(work / "video.mp4", _filmed(selfie, work / TRUTH, supersample, progress), Fraction(fps))
        _write_truth(work, selfie)
    return out


def _filmed(selfie: Selfie, truth: Path, supersample: int, progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    """The frames of the film; saves the ground truth of each on the way."""
    make_picture_folders(truth)
    (truth / PERSON).mkdir()
    total, pending = len(selfie.cameras), list[Future[None]]()
    with ThreadPoolExecutor(2) as encoders:
        for frame in selfie.frames(supersample):
            name = picture_name(frame.timestep, RigCamera(0, frame.camera))
            pending.append(encoders.submit(save_picture, truth, name, frame.picture, rgba=True))
            pending.append(encoders.submit(_save_mask, truth / PERSON / name, frame.picture.alpha))
            while len(pending) > 32:
                pending.pop(0).result()
            yield frame.exposed
            if progress is not None:
                progress(frame.timestep + 1, total)
        for waiting in pending:
            waiting.result()


def _save_mask(path: Path, mask: Tensor) -> None:
    Image.fromarray(bytes_of(mask.numpy())).save(path, compress_level=2)


def _write_truth(folder: Path, selfie: Selfie) -> None:
    subject, motion = selfie.subject, selfie.motion
    wrap = hair_offset(subject, resting_vertices(subject.head, subject.who))
    write_parameters(folder / TRUTH, subject.head, replace(motion, static_offset=wrap))
    motion.save_npz(folder / MARK)
    taken = [(timestep, RigCamera(0, camera)) for timestep, camera in zip(motion.timesteps, selfie.cameras, strict=True)]
    splits = {"train": taken[: selfie.held_out], "val": [], "test": taken[selfie.held_out :]}
    write_transforms(folder / TRUTH, splits)
