"""LPIPS (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"), version 0.1.

The distance of two images in the features of a classification network: after each of five stages they are normalised to unit
length at every pixel, their squared differences weighted per channel as fitted to human judgements, averaged over the
pixels and summed. 0 for equal images, lower is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from taichi_avatars.evaluation.lpips_weights import Net, read_weights

# Mean and standard deviation of the backbones' training images, for values in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
SMALLEST_LENGTH = 1e-10


@dataclass(frozen=True)
class Stage:
    """A part of a backbone up to the features that are compared.

    Attributes:
        pool: size of the maximum filter (stride 2) before the convolutions, 0 for none.
        convolutions: stride and padding of each; a ReLU follows.
    """

    pool: int
    convolutions: tuple[tuple[int, int], ...]


STAGES: dict[Net, tuple[Stage, ...]] = {
    "alex": (
        Stage(0, ((4, 2),)),
        Stage(3, ((1, 2),)),
        Stage(3, ((1, 1),)),
        Stage(0, ((1, 1),)),
        Stage(0, ((1, 1),)),
    ),
    "vgg": (
        Stage(0, ((1, 1),) * 2),
        Stage(2, ((1, 1),) * 2),
        Stage(2, ((1, 1),) * 3),
        Stage(2, ((1, 1),) * 3),
        Stage(2, ((1, 1),) * 3),
    ),
}
# Minimum width and height for which every stage of the network has a pixel.
SMALLEST: dict[Net, int] = {"alex": 31, "vgg": 16}


@dataclass(frozen=True, eq=False)
class Lpips:
    """The metric with the weights of one network.

    Attributes:
        net: "alex" (AlexNet) or "vgg" (VGG-16).
        convolutions: weight (out,in,h,w) and bias (out,) of each, in order.
        heads: (1,C,1,1) non-negative weights of each stage's channels.
    """

    net: Net
    convolutions: list[tuple[Tensor, Tensor]]
    heads: list[Tensor]

    @torch.no_grad()
    def __call__(self, image: Tensor, truth: Tensor, *, scaled: bool = True) -> float:
        """The distance of two images, as `distance`."""
        return self.distance(image, truth, scaled=scaled).item()

    def distance(self, image: Tensor, truth: Tensor, *, scaled: bool = True) -> Tensor:
        """The distance of two images, (), differentiable in both.

        Both pass through the network stage by stage: without a gradient only one stage of each is in memory.

        Args:
            image, truth: (3,H,W) in [0,1]; enlarged if smaller than the network's receptive field.
            scaled: to [-1,1], as the network expects; False passes [0,1], as for some published numbers.
        """
        pair = [_prepared(values, scaled, SMALLEST[self.net]) for values in (image, truth)]
        distance, first = torch.zeros((), dtype=torch.float32), 0
        for stage, head in zip(STAGES[self.net], self.heads, strict=True):
            weights = self.convolutions[first : first + len(stage.convolutions)]
            first += len(stage.convolutions)
            pair = [_features(values, stage, weights) for values in pair]
            distance = distance + conv2d((_unit(pair[0]) - _unit(pair[1])).square(), head).mean()
        return distance


def load_lpips(net: Net, weights: Path | str | None = None) -> Lpips:
    """The metric, with weights found by `lpips_weights.read_weights`.

    Raises:
        MissingWeights: saying how to get them.
        UserError: if a file is broken.
    """
    convolutions, heads = read_weights(net, weights)
    return Lpips(net, convolutions, heads)


def _prepared(image: Tensor, scaled: bool, smallest: int) -> Tensor:
    values = image.float()[None]
    height, width = values.shape[2:]
    if min(height, width) < smallest:
        values = torch.nn.functional.interpolate(values, (max(height, smallest), max(width, smallest)), mode="bilinear")
    values = 2.0 * values - 1.0 if scaled else values
    return (values - torch.tensor(SHIFT, dtype=torch.float32).view(1, 3, 1, 1)) / torch.tensor(SCALE, dtype=torch.float32).view(
        1, 3, 1, 1
    )


def _features(values: Tensor, stage: Stage, weights: list[tuple[Tensor, Tensor]]) -> Tensor:
    if stage.pool:
        values = max_pool2d(values, stage.pool, stride=2)
    for (stride, padding), (weight, bias) in zip(stage.convolutions, weights, strict=True):
        values = conv2d(values, weight, bias, stride=stride, padding=padding).relu_()
    return values


def _unit(features: Tensor) -> Tensor:
    # norm() has gradient 0 where all features are 0; that of a square root is infinite
    return features / (features.norm(dim=1, keepdim=True) + SMALLEST_LENGTH)
