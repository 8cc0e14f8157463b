"""The settings of a viewer's picture, apart from the viewpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Layer = Literal["splats", "depth", "alpha", "nothing"]
Overlay = Literal["nothing", "mesh", "wireframe", "Gaussians per face"]
Parameters = Literal["fine-tuned", "tracked"]

HEIGHT, SMALLEST_HEIGHT, LARGEST_HEIGHT = 802, 100, 1600  # pixels of the full picture: initial value, and bounds
LAYERS: tuple[Layer, ...] = ("splats", "depth", "alpha", "nothing")
OVERLAYS: tuple[Overlay, ...] = ("nothing", "mesh", "wireframe", "Gaussians per face")


@dataclass(frozen=True)
class Pose:
    """The sliders' offsets to the pose of the timeline. Angles in radians.

    Attributes:
        jaw, neck: three angles each, about the head's left, up and forward.
        eyes: two angles of both eyes, about the head's left and up.
        expr: the first expression coefficients.
    """

    jaw: tuple[float, ...] = (0.0, 0.0, 0.0)
    neck: tuple[float, ...] = (0.0, 0.0, 0.0)
    eyes: tuple[float, ...] = (0.0, 0.0)
    expr: tuple[float, ...] = ()


@dataclass(frozen=True)
class Look:
    """The settings of the picture that all browsers share.

    Attributes:
        layer: what is drawn of the Gaussians.
        overlay: how the mesh is drawn over it, and
        opacity: how opaque, 0 to 1.
        scale: the Gaussians' sizes are multiplied by this.
        sh_degree: bands of the colour, 0 to 3.
        background: red, green, blue in [0,1].
        parameters: the FLAME parameters of the avatar's file, or those that the capture was tracked with.
        neutral: the neutral face instead of the timeline's expression, jaw, neck and eyes.
        pose: the sliders' offsets.
    """

    layer: Layer = "splats"
    overlay: Overlay = "nothing"
    opacity: float = 0.6
    scale: float = 1.0
    sh_degree: int = 3
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    parameters: Parameters = "fine-tuned"
    neutral: bool = False
    pose: Pose = field(default_factory=Pose)
