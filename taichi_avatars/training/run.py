"""A training run: all that its steps change, and where it begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from taichi_avatars import ops, ranks, runtime
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.density import DensityControl
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.lpips import load_lpips
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.ops.laplacian import Neighbours
from taichi_avatars.scene.capture import Capture
from taichi_avatars.scene.images import DEFAULT_CACHE_BYTES, ImageStream
from taichi_avatars.training import features
from taichi_avatars.training.flame_tuning import FlameTuner
from taichi_avatars.training.optimizer import GaussianAdam
from taichi_avatars.training.schedule import Schedule
from taichi_avatars.training.start import PAINTED_FROM, carve, on_surface, paint


class Run:
    """Everything that a training run changes.

    Attributes:
        iteration: steps done.
        optimizer: the Gaussians and their Adam.
        triangle_scale: (F,) metres per triangle unit, of the head at rest; None for an unbound scene.
        tuner: FLAME parameters of the timesteps; None for an unbound scene.
        density: what was collected since the last densification.
        lpips: the perceptual loss's network, where that has a weight.
        was_reset: whether opacities have been reset, after which huge Gaussians are pruned too.
        asked_to_stop: signals that have come to this process; where it is one of several.
        stops: whether the last step is one after which all processes stop.
    """

    def __init__(self, config: TrainConfig, capture: Capture, head: FlameModel | None) -> None:
        if capture.points is not None:
            config = config.for_static_scene()
        config = config.for_processes(ranks.size())
        self.config, self.capture, self.head = config, capture, head
        self.schedule = Schedule.of(config)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.background = (1.0, 1.0, 1.0) if config.white_background else (0.0, 0.0, 0.0)
        self.stream = ImageStream(
            capture.train,
            None if config.train_background == "random" else self.background,
            seed=config.seed,
            cache_bytes=DEFAULT_CACHE_BYTES // ranks.on_this_machine(),
            part=ranks.rank(),
            parts=ranks.size(),
        )
        self.tuner: FlameTuner | None = None
        self.shaped, self.neighbours, self.triangle_scale = None, None, None
        if head is not None and capture.flame is not None:
            timesteps = {view.timestep for view in capture.train}
            visits = config.iterations * config.views_per_step / len(timesteps)
            self.tuner = FlameTuner(_sequence(capture, config), config, visits, head.num_vertices)
            self.neighbours = Neighbours(head.faces, head.num_vertices) if config.tunes_offset else None
            self.shaped = self.tuner.sequence.shaped(head)
            vertices = head.pose(self.shaped).vertices
            self.triangle_scale = ops.triangle_frames(vertices, head.faces).scale.to(runtime.device())
            if config.schedule == "fast":
                denser = features.densities(head) if config.lambda_features else None
                gaussians = on_surface(
                    vertices, head.faces, _begins_with(config), config.sh_degree, self.generator, denser
                )  # fmt: skip
            else:
                gaussians = Gaussians.on_triangles(head.num_faces, config.sh_degree, self.generator)
        elif capture.points is not None:
            gaussians = Gaussians.from_points(*capture.points, config.sh_degree)
        else:
            raise UserError(f"{capture.path}: has neither FLAME parameters nor points to start from")
        self.lpips = load_lpips("alex") if config.lambda_perceptual else None
        self.iteration = 0
        self.was_reset = False
        self.asked_to_stop: list[int] = []
        self.stops = False
        self._begin_with(gaussians)

    def _begin_with(self, gaussians: Gaussians) -> None:
        self.optimizer = GaussianAdam(gaussians, self.config)
        self.density = DensityControl(len(gaussians), self.generator)

    def behind(self) -> tuple[float, float, float]:
        """The colour behind the images of this step that have opacity; the same in all processes."""
        if self.config.train_background == "shown" or self.iteration % 2:
            return self.background
        red, green, blue = np.random.default_rng([self.config.seed, self.iteration]).random(3).tolist()
        return red, green, blue

    def paint(self) -> None:
        """Gives the Gaussians of a fast run what some of its images tell: colours, and in a Blender scene their places."""
        config, views = self.config, self.capture.train
        if config.schedule != "fast" or self.capture.kind == "colmap":
            return
        some = torch.randperm(len(views), generator=self.generator)[:PAINTED_FROM].tolist()
        shown = [views[i] for i in some]
        if self.head is not None:
            self.optimizer.gaussians.sh_base.data.copy_(paint(self.avatar, shown, self.background))
        elif carved := carve(shown, _begins_with(config), config.sh_degree, self.background, self.generator):
            self._begin_with(carved)

    @property
    def avatar(self) -> Avatar:
        sequence = self.tuner.sequence if self.tuner else None
        return Avatar(self.optimizer.gaussians, self.head, sequence, self.capture.origin)


def _begins_with(config: TrainConfig) -> int:
    return min(config.start_gaussians, config.max_gaussians)


def _sequence(capture: Capture, config: TrainConfig) -> FlameSequence:
    assert capture.flame is not None
    return replace(capture.flame, static_offset=None) if config.disable_flame_static_offset else capture.flame
