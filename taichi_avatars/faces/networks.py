"""The networks of assets/face_networks.npz, run by torch in float32. Pictures have channels first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FILE = Path(__file__).resolve().parent.parent / "assets" / "face_networks.npz"
# Of one picture torch makes products of matrices; where those are long and narrow, this library's convolution takes a third.
MKLDNN = torch.backends.mkldnn.is_available()
FEW, WIDE = 8, 128  # channels, pixels


@dataclass(frozen=True, eq=False)
class ConvolutionalNetwork:
    """A list of nodes, each of which makes one tensor of others.

    Attributes:
        size: of the square pictures that it takes, pixels.
        outputs: numbers of the tensors that are results, by name.
        last_use: tensors that nothing reads after the node with this place in the list.
    """

    size: int
    source: int
    outputs: dict[str, int]
    nodes: list[dict[str, Any]]
    constants: dict[int, Tensor]
    last_use: list[list[int]]

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Results by name for pictures (B,3,size,size)."""
        known = {self.source: pictures.contiguous(memory_format=torch.channels_last)}
        for node, finished in zip(self.nodes, self.last_use, strict=True):
            known[node["out"]] = self._activate(node, self._value(node, [known[i] for i in node["in"]]))
            for tensor in finished:
                del known[tensor]
        return {name: known[tensor] for name, tensor in self.outputs.items()}

    def _value(self, node: dict[str, Any], given: list[Tensor]) -> Tensor:
        x = given[0]
        match node["op"]:
            case "conv":
                left, right, top, bottom = node["pad"]
                if (left, top) != (right, bottom):
                    x, left, top = functional.pad(x, node["pad"]), 0, 0
                weight, bias = self.constants[node["weight"]], self.constants[node["bias"]]
                if MKLDNN and weight.shape[2:] == (1, 1) and len(weight) <= FEW and x.shape[2] >= WIDE:
                    return torch.mkldnn_convolution(x, weight, bias, (0, 0), (1, 1), (1, 1), 1)
                return torch.conv2d(x, weight, bias, node["stride"], (top, left), 1, node["groups"])
            case "unpool":
                weight = self.constants[node["weight"]]
                return functional.conv_transpose2d(x, weight, self.constants[node["bias"]], weight.shape[2:])
            case "add":
                return x + given[1]
            case "mul":
                return x * given[1]
            case "max_pool":
                return functional.max_pool2d(x, node["size"])
            case "mean":
                return x.mean((2, 3), keepdim=True)
            case "more_channels":
                return functional.pad(x, (0, 0, 0, 0, 0, node["count"]))
            case "resize":
                return functional.interpolate(x, node["size"], mode="bilinear", align_corners=False)
            case "rows":
                return x.permute(0, 2, 3, 1).reshape(len(x), -1, node["size"])
            case "concatenate":
                return torch.cat(given, 1)
            case "same":
                return x
        raise ValueError(node["op"])

    def _activate(self, node: dict[str, Any], x: Tensor) -> Tensor:
        match node["activation"]:
            case "relu":
                return torch.relu_(x) if node["op"] != "same" else torch.relu(x)
            case "prelu":
                return torch.prelu(x, self.constants[node["slope"]])
            case "hardswish":
                return functional.hardswish(x)
            case "sigmoid":
                return torch.sigmoid(x)
        return x


@dataclass(frozen=True, eq=False)
class BlendshapeNetwork:
    """An MLP mixer (Tolstikhin et al. 2021) from the places of landmarks to the strength of ARKit's expressions.

    Attributes:
        landmarks: (146,) which of the 478 landmarks it reads.
        names: of its 52 outputs; the first, "_neutral", is no expression.
    """

    landmarks: Tensor
    names: tuple[str, ...]
    weights: dict[str, Tensor]

    @torch.no_grad()
    def __call__(self, landmarks: Tensor) -> Tensor:
        """Strengths (B,52) in [0, 1] of landmarks (B,478,2), pixels of any scale."""
        points = landmarks[:, self.landmarks]
        points = points - points.mean(1, keepdim=True)
        points = points / points.norm(dim=2, keepdim=True).mean(1, keepdim=True)
        tokens = self._dense("channels", self._dense("points", points.mT).mT)  # (B,96,64)
        x = torch.cat([self.weights["token"].expand(len(tokens), 1, -1), tokens], 1)
        blocks = sum(name.endswith("tokens.scale") for name in self.weights)
        for block in (f"block{b}" for b in range(blocks)):
            x = x + self._pair(f"{block}.tokens", self._normalised(f"{block}.tokens", x).mT).mT
            x = x + self._pair(f"{block}.features", self._normalised(f"{block}.features", x))
        return torch.sigmoid(self._dense("head", x[:, 0]))

    def _dense(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _pair(self, name: str, x: Tensor) -> Tensor:
        return self._dense(f"{name}.out", torch.relu(self._dense(f"{name}.in", x)))

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        scale = self.weights[f"{name}.scale"]
        return functional.layer_norm(x, scale.shape, scale, eps=float(self.weights["epsilon"]))


@dataclass(frozen=True, eq=False)
class FaceNetworks:
    """Attributes:
    detector: pictures with values in [-1, 1] -> "boxes" (B,896,16), "scores" (B,896,1).
    landmarks: pictures in [0, 1] -> "landmarks" (B,1434,1,1), "presence" (B,1,1,1), a logit.
    blendshapes: landmarks -> strengths.
    segmentation: pictures in [0, 1] -> "alpha" (B,1,256,256) in [0, 1].
    """

    detector: ConvolutionalNetwork
    landmarks: ConvolutionalNetwork
    blendshapes: BlendshapeNetwork
    segmentation: ConvolutionalNetwork


@contextmanager
def one_thread() -> Iterator[None]:
    """For many pictures in turn: layers are so small that torch's threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def load_networks() -> FaceNetworks:
    """The four networks, read once per process."""
    with np.load(FILE, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return FaceNetworks(
        _convolutional(_of(arrays, "detector")),
        _convolutional(_of(arrays, "landmarks")),
        _blendshapes(_of(arrays, "blendshapes")),
        _convolutional(_of(arrays, "segmentation")),
    )


def _of(arrays: dict[str, np.ndarray], network: str) -> dict[str, np.ndarray]:
    return {name.split("/")[1]: values for name, values in arrays.items() if name.startswith(f"{network}/")}


def _convolutional(arrays: dict[str, np.ndarray]) -> ConvolutionalNetwork:
    graph = json.loads(str(arrays.pop("graph")))
    constants = {int(number): torch.from_numpy(values.astype(np.float32)) for number, values in arrays.items()}
    for node in graph["nodes"]:
        if node["op"] == "conv":
            weight = constants[node["weight"]]
            constants[node["weight"]] = weight.contiguous(memory_format=torch.channels_last)
    reader = {tensor: place for place, node in enumerate(graph["nodes"]) for tensor in node["in"]}
    results = set(graph["outputs"].values())
    last_use: list[list[int]] = [[] for _ in graph["nodes"]]
    for tensor, place in reader.items():
        if tensor not in results:
            last_use[place].append(tensor)
    return ConvolutionalNetwork(graph["size"], graph["input"], graph["outputs"], graph["nodes"], constants, last_use)


def _blendshapes(arrays: dict[str, np.ndarray]) -> BlendshapeNetwork:
    landmarks, names = torch.from_numpy(arrays.pop("landmarks")).long(), tuple(arrays.pop("names").tolist())
    return BlendshapeNetwork(landmarks, names, {name: torch.from_numpy(v.astype(np.float32)) for name, v in arrays.items()})
