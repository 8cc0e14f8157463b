"""PSNR, SSIM and LPIPS of rendered views against the captured images, per view and per split, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from taichi_avatars import ranks
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.crops import Box, boxes
from taichi_avatars.evaluation.lpips import Lpips
from taichi_avatars.evaluation.lpips_weights import Net
from taichi_avatars.files.json import write_json
from taichi_avatars.files.text import decoded
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import Background, load_image, load_mask
from taichi_avatars.scene.views import View, in_order

EvaluationProtocol = Literal["standard", "paper"]
Metrics = dict[str, float]

LPIPS_NAMES: dict[Net, str] = {"alex": "LPIPS", "vgg": "LPIPS_VGG"}
SMALLEST_ERROR = 1e-10  # mean squared error below which two images count as equal: 100 dB, which JSON can represent
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


class Rendering(Protocol):
    @property
    def image(self) -> Tensor: ...


class Model(Protocol):
    """What can be evaluated: an `Avatar`, or anything else that renders a camera at a timestep."""

    def render(self, camera: Camera, timestep: int | None = ..., *, background: tuple[float, float, float]) -> Rendering: ...


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio over all pixels and channels, dB; 100 for equal images.

    Args:
        image, truth: (3,H,W) in [0,1].
        mask: (H,W) weights in [0,1]; the error is averaged over these pixels only.
    """
    error = (image - truth).square()
    if mask is not None:
        return decibel((error * mask).sum() / (error.shape[0] * mask.sum()))
    return decibel(error.mean())


def psnr_paper(image: Tensor, truth: Tensor) -> float:
    """Mean of the three channels' own PSNR, as this method's published numbers are computed; never below `psnr`."""
    return sum(decibel(channel) for channel in (image - truth).square().mean((1, 2))) / image.shape[0]


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels and sigma 1.5, zero padding, mean of channels.

    Args:
        image, truth: (3,H,W) in [0,1].
    """
    products = (image, truth, image * image, truth * truth, image * truth)
    mean_x, mean_y, xx, yy, xy = map(_blurred, products)  # one by one: torch takes eleven times the memory of its input
    variance_x, variance_y, covariance = xx - mean_x * mean_x, yy - mean_y * mean_y, xy - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    likeness /= (mean_x * mean_x + mean_y * mean_y + C1) * (variance_x + variance_y + C2)
    return likeness.mean().item()


@dataclass(frozen=True)
class Scores:
    """Metrics of a split.

    Attributes:
        views: name of the view -> metric -> value.
    """

    views: dict[str, Metrics]

    @property
    def mean(self) -> Metrics:
        """Mean of each metric over the views with a value."""
        metrics = dict.fromkeys(metric for values in self.views.values() for metric in values)
        return {
            metric: sum(found) / len(found)
            for metric in metrics
            if (found := [values[metric] for values in self.views.values() if metric in values])
        }


def compare(
    image: Tensor, truth: Tensor, *, protocol: EvaluationProtocol = "standard", perceptual: Sequence[Lpips] = ()
) -> Metrics:
    """The metrics of one image (3,H,W), with values clamped to [0,1] as on a display.

    Returns:
        "PSNR", "SSIM", and "LPIPS" (AlexNet) and "LPIPS_VGG" if `perceptual` has them. Protocol "paper" adds the metrics of
        this method's published numbers: "PSNR_paper", the mean of the channels' PSNR, and "LPIPS_paper", AlexNet on [0,1]
        instead of the [-1,1] that it expects.
    """
    image = image.clamp(0.0, 1.0)
    metrics = {"PSNR": psnr(image, truth), "SSIM": ssim(image, truth)}
    metrics.update({LPIPS_NAMES[lpips.net]: lpips(image, truth) for lpips in perceptual})
    if protocol == "paper":
        metrics["PSNR_paper"] = psnr_paper(image, truth)
        for lpips in perceptual:
            if lpips.net == "alex":
                metrics["LPIPS_paper"] = lpips(image, truth, scaled=False)
    return metrics


@torch.no_grad()
def evaluate(
    model: Model,
    views: Sequence[View],
    background: Background = (0.0, 0.0, 0.0),
    *,
    protocol: EvaluationProtocol = "standard",
    perceptual: Sequence[Lpips] = (),
    crops: Callable[[View], Mapping[str, Box]] | None = None,
    on_view: Callable[[View, Tensor, Tensor], None] | None = None,
) -> Scores:
    """Renders views and compares them with their images.

    Within `ranks.started` each process does its share, and all of them get the scores.
    If the capture has `hair_masks/` beside the images, "PSNR_hair" is the PSNR inside a view's mask.

    Args:
        model: renders the views.
        views: a split; its images are composited over `background`, which is also given to the model.
        protocol: "standard", or "paper" for the published metrics in addition.
        perceptual: see `lpips.load_lpips`.
        crops: parts of a view by name; "PSNR_name" and "LPIPS_name" (AlexNet) are computed on these, see `of_features`.
        on_view: called after each view of this process with it, the rendered image and the true one, (3,H,W).

    Raises:
        UserError: if the split is empty or an image cannot be read.
    """
    if not views:
        raise UserError("there are no views to evaluate: the split is empty; choose another or check the capture with `info`")
    behind = (float(background[0]), float(background[1]), float(background[2]))
    scores: dict[str, Metrics] = {}
    ordered = in_order(views)
    for view in ranks.share(ordered):
        truth = load_image(view, background)
        image = model.render(view.camera, timestep=view.timestep, background=behind).image.cpu()
        scores[view.name] = compare(image, truth, protocol=protocol, perceptual=perceptual)
        hair = _hair_mask(view)
        if hair is not None:
            scores[view.name]["PSNR_hair"] = psnr(image.clamp(0.0, 1.0), truth, hair)
        for name, box in ({} if crops is None else crops(view)).items():
            part, true_part = image[box].clamp(0.0, 1.0), truth[box]
            scores[view.name][f"PSNR_{name}"] = psnr(part, true_part)
            scores[view.name] |= {f"LPIPS_{name}": lpips(part, true_part) for lpips in perceptual if lpips.net == "alex"}
        if on_view is not None:
            on_view(view, image, truth)
    found = {name: values for part in ranks.gather(scores) for name, values in part.items()}
    return Scores({view.name: found[view.name] for view in ordered})


def of_features(avatar: Avatar) -> Callable[[View], Mapping[str, Box]]:
    """Crops of mouth and eyes for `evaluate`, as far as the avatar's head names them."""

    def crops(view: View) -> Mapping[str, Box]:
        if avatar.head is None or view.timestep is None:
            return {}
        return boxes(avatar.head, avatar.mesh(view.timestep).vertices, view.camera)

    return crops


def write_scores(folder: Path | str, method: str, scores: Scores) -> tuple[Path, Path]:
    """Writes `results.json` ({method: {metric: mean}}) and `per_view.json` ({method: {metric: {file: value}}}) into a folder.

    A file is named as by `rendering.render_views`. Other methods in the files are kept.

    Args:
        folder: of one split.
        method: "ours_<iteration>".

    Returns:
        Both files.
    """
    metrics = scores.mean
    per_view = {
        metric: {f"{n:05d}.png": values[metric] for n, values in enumerate(scores.views.values()) if metric in values}
        for metric in metrics
    }
    return (
        _write_method(Path(folder) / "results.json", method, metrics),
        _write_method(Path(folder) / "per_view.json", method, per_view),
    )


def _write_method(path: Path, method: str, values: Mapping[str, object]) -> Path:
    try:
        known = json.loads(decoded(path.read_bytes()))
    except (OSError, ValueError):
        known = {}
    known = {**(known if isinstance(known, dict) else {}), method: values}
    write_json(path, known)
    return path


def _hair_mask(view: View) -> Tensor | None:
    """Weights (H,W) of the hair, None if the capture has no mask for this view or it is empty."""
    path = view.image.parent.parent / "hair_masks" / f"{view.image.stem}.png"
    if not path.is_file():
        return None
    mask = load_mask(path, view)
    return mask if bool(mask.any()) else None


def decibel(error: Tensor | float) -> float:
    """PSNR of a mean squared error of colours in [0,1]."""
    return -10.0 * torch.log10(torch.as_tensor(error).clamp(min=SMALLEST_ERROR)).item()


def _blurred(image: Tensor) -> Tensor:
    """(3,H,W) with the window's weights, rows then columns, zeros outside."""
    offsets = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights = weights / weights.sum()
    rows = conv2d(image[:, None], weights.view(1, 1, 1, WINDOW), padding=(0, WINDOW // 2))
    return conv2d(rows, weights.view(1, 1, WINDOW, 1), padding=(WINDOW // 2, 0))[:, 0]
