"""All options of a training run. A field's docstring is its help text on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from taichi_avatars.errors import UserError
from taichi_avatars.files.text import decoded

PAPER_ITERATIONS = 600_000
SHORT = 60_000  # below this many iterations the intervals of the paper scale with the run (`training.schedule`)


# Defaults that differ in the paper's schedule; all other defaults hold for both.
PAPER = {
    "position_lr_init": 0.005,
    "position_lr_final": 0.00005,
    "feature_lr": 0.0025,
    "scaling_lr": 0.017,
    "flame_pose_lr": 1e-5,
    "flame_trans_lr": 1e-6,
    "flame_expr_lr": 1e-3,
    "flame_prior": 0.0,
    "train_background": "shown",
    "lr_final_share": 1.0,
    "densify_until_iter": 600_000,
    "densify_grad_threshold": 0.0002,
    "max_gaussians": 100_000,
    "prune_share": 0.0,
    "lambda_features": 0.0,
}

# Defaults of the fast schedule that differ for a static scene, whose Gaussians move in the world instead of on triangles.
STATIC = {
    "train_background": "shown",
    "start_gaussians": 30_000,
    "position_lr_init": 0.00032,
    "position_lr_final": 0.000016,
}


class TrainConfig(BaseModel):
    """Options of `taichi-avatars train`. Thresholds and weights are the paper's; learning rates are by the schedule."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_assignment=True)

    schedule: Literal["fast", "paper"] = "fast"
    """fast: Gaussians spread over the mesh in the colours of the images, higher learning rates; paper: all as published."""
    iterations: int = Field(default=6_000, ge=1)
    """Training steps. The paper's schedule is 600000; shorter runs compress it."""
    views_per_step: int = Field(default=1, ge=1)
    """Images per step, over whose losses the mean is taken; shared by the processes, whose number is the default."""
    start_gaussians: int = Field(default=44_000, ge=1)
    """Gaussians that a fast run begins with: at least one per triangle, no more than max_gaussians;
    30000 in a fast run of a static scene."""
    sh_degree: int = Field(default=3, ge=0, le=3)
    """Degree of the spherical harmonics of the colour; 0 is the better choice for a single camera."""
    white_background: bool = False
    """Composite over white instead of black."""
    train_background: Literal["random", "shown"] = "random"
    """random: images with alpha are trained over another colour in every other step, so that no Gaussian replaces the
    background; shown: over black or white, as they are shown and evaluated, as in the paper's schedule and static scenes."""
    resolution: int = -1
    """1, 2, 4, 8 divide the image size; -1 caps the width at 1600; any other value is the width in pixels."""
    use_mask: bool = False
    """Replace everything outside the captured foreground masks by background."""
    principal_point: Literal["bottom", "top"] = "bottom"
    """Where cy is measured from: bottom as current VHAP writes it, top in captures exported before November 2024."""
    strict_paths: bool = False
    """Refuse a capture that names files outside its own folder, symbolic links included."""
    images: str = "images"
    """Folder of a COLMAP scene that holds its images, such as images_4; other captures name every file."""
    select_camera_id: int = -1
    """Train on the views of this camera alone; -1 for all."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Random numbers: order of images, splitting."""

    not_finetune_flame_params: bool = False
    """Keep the tracked FLAME parameters as they are."""
    full_flame_param: bool = False
    """Save FLAME parameters as the reference's own tools require: also offsets that are zero, 62 MB per 1000 timesteps."""
    disable_flame_static_offset: bool = False
    """Ignore the static offset of the capture's mesh."""

    position_lr_init: float = Field(default=0.01, gt=0)
    """Learning rate of the local positions at the start, times the extent of the cameras; 0.005 in the paper's schedule,
    0.00032 in a fast run of a static scene."""
    position_lr_final: float = Field(default=0.0005, gt=0)
    """The same at the end; log-linear in between; 0.00005 in the paper's schedule, 0.000016 in a fast run of a static
    scene."""
    position_lr_max_steps: int | None = Field(default=None, ge=1)
    """Step at which that value is reached; by default the last step of the run."""
    feature_lr: float = Field(default=0.01, ge=0)
    """Learning rate of the colour; a twentieth of it for the view-dependent part; 0.0025 in the paper's schedule."""
    opacity_lr: float = Field(default=0.05, ge=0)
    """Learning rate of the opacity (logit)."""
    scaling_lr: float = Field(default=0.034, ge=0)
    """Learning rate of the scales (logarithm); 0.017 in the paper's schedule."""
    rotation_lr: float = Field(default=0.001, ge=0)
    """Learning rate of the rotations (quaternion)."""
    lr_final_share: float = Field(default=0.1, gt=0, le=1)
    """Fraction to which the rates of colour, opacity, scales and rotations fall, from 60% of the run on.
    1 in the paper's schedule."""
    flame_pose_lr: float = Field(default=2e-5, ge=0)
    """Learning rate of FLAME's rotation, neck, jaw and eyes, radians; 0.00001 in the paper's schedule."""
    flame_trans_lr: float = Field(default=2e-6, ge=0)
    """Learning rate of FLAME's translation, metres; 0.000001 in the paper's schedule."""
    flame_expr_lr: float = Field(default=1.5e-4, ge=0)
    """Learning rate of FLAME's expression coefficients; 0.001 in the paper's schedule."""
    flame_prior: float = Field(default=0.1, ge=0)
    """Weight of the prior that the changes are tracker errors, of the sizes below and 0 on average over the timesteps;
    0, as in the paper's schedule, leaves FLAME's parameters free."""
    flame_pose_sigma: float = Field(default=3e-3, gt=0)
    """Standard deviation of these errors in each number of FLAME's angles, radians; that of a good multi-view tracker."""
    flame_trans_sigma: float = Field(default=3e-4, gt=0)
    """The same in its translation, metres."""
    flame_expr_sigma: float = Field(default=0.02, gt=0)
    """The same in its expression coefficients."""
    flame_offset_lr: float = Field(default=1e-6, ge=0)
    """Learning rate of the dynamic offset, metres, where one of its three losses has a weight."""

    lambda_dssim: float = Field(default=0.2, ge=0, le=1)
    """Weight of 1 - SSIM against L1."""
    lambda_xyz: float = Field(default=0.01, ge=0)
    """Weight of the distance of Gaussians from their triangle."""
    threshold_xyz: float = Field(default=1.0, ge=0)
    """Distance without a cost, in triangle units (metres with metric_xyz)."""
    metric_xyz: bool = False
    """Measure that distance in metres."""
    lambda_scale: float = Field(default=1.0, ge=0)
    """Weight of the size of Gaussians."""
    threshold_scale: float = Field(default=0.6, ge=0)
    """Size without a cost, in triangle units (metres with metric_scale)."""
    metric_scale: bool = False
    """Measure that size in metres."""
    lambda_opacity: float = Field(default=0.0, ge=0)
    """Weight of semi-transparency, 4 o (1 - o) of every opacity o: makes translucent heads solid."""
    lambda_features: float = Field(default=2.0, ge=0)
    """How much more the pixels of mouth and eyes count, where the head names these regions; LPIPS looks there, too, and more
    Gaussians start and stay there; 0 in the paper's schedule."""
    lambda_perceptual: float = Field(default=0.0, ge=0)
    """Weight of LPIPS (its weights: see eval) on a random 128x128 crop, in every fourth step of the last third."""
    lambda_dynamic_offset: float = Field(default=0.0, ge=0)
    """Weight of the length of the dynamic offset, metres."""
    lambda_dynamic_offset_std: float = Field(default=0.0, ge=0)
    """Weight of the standard deviation over time of the dynamic offset, metres."""
    lambda_laplacian: float = Field(default=0.0, ge=0)
    """Weight of the roughness (uniform Laplacian over the mesh) of the dynamic offset, metres."""

    densify_from_iter: int = Field(default=10_000, ge=0)
    """Density control starts after this step of a paper-length run."""
    densify_until_iter: int = Field(default=420_000, ge=0)
    """Density control ends before this step of a paper-length run; 600000, its end, in the paper's schedule."""
    densification_interval: int = Field(default=2_000, ge=1)
    """Steps between two densifications of a paper-length run."""
    densify_grad_threshold: float = Field(default=0.0004, gt=0)
    """Mean gradient of the 2D position above which a Gaussian is cloned or split; 0.0002 in the paper's schedule."""
    percent_dense: float = Field(default=0.01, gt=0)
    """Gaussians smaller than this fraction of the extent are cloned, larger ones split."""
    opacity_reset_interval: int = Field(default=60_000, ge=1)
    """Steps between two opacity resets of a paper-length run."""
    max_gaussians: int = Field(default=60_000, ge=1)
    """Density control adds no Gaussians beyond this many; 100000 in the paper's schedule."""
    prune_share: float = Field(default=0.6, ge=0, lt=1)
    """Fraction of the Gaussians that is pruned when density control has ended, those that contribute least; 0 in the
    paper's schedule."""

    interval: int = Field(default=2_000, ge=1)
    """Steps between two evaluations and saves; the last step always does both."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints kept in the model folder: the last one and those before it, in case it is damaged."""
    test_iterations: list[int] = Field(default_factory=list)
    """Steps after which to evaluate, instead of every `interval`."""
    save_iterations: list[int] = Field(default_factory=list)
    """Steps after which to save the avatar, instead of every `interval`."""
    checkpoint_iterations: list[int] = Field(default_factory=list)
    """Steps after which to keep a checkpoint as chkpntN.pth, for --start-checkpoint."""

    @model_validator(mode="after")
    def _as_published(self) -> TrainConfig:
        if self.schedule == "paper":
            for name, value in PAPER.items():
                if name not in self.model_fields_set:
                    object.__setattr__(self, name, value)  # not marked as given by the user
        return self

    def for_static_scene(self) -> TrainConfig:
        """These options for a scene without a head: a fast run has other default rates there."""
        if self.schedule == "paper":
            return self
        return self.model_copy(update={name: value for name, value in STATIC.items() if name not in self.model_fields_set})

    def for_processes(self, count: int) -> TrainConfig:
        """These options for this many processes: all take the same number of a step's views.

        Raises:
            UserError: if the views cannot be shared evenly.
        """
        if count > 1 and "views_per_step" not in self.model_fields_set:
            return self.model_copy(update={"views_per_step": count})
        if self.views_per_step % count:
            raise UserError(
                f"views_per_step = {self.views_per_step} cannot be shared by {count} processes; give a multiple of {count}"
            )
        return self

    @property
    def camera(self) -> str | None:
        """The only camera to train on; None for all."""
        return None if self.select_camera_id < 0 else str(self.select_camera_id)

    @property
    def tunes_offset(self) -> bool:
        """Whether the dynamic offset is trained: without any of its three losses it would fit noise."""
        weights = self.lambda_dynamic_offset, self.lambda_dynamic_offset_std, self.lambda_laplacian
        return any(weights) and not self.not_finetune_flame_params

    @staticmethod
    def from_toml(path: Path | str) -> TrainConfig:
        """Reads options from a TOML file.

        Raises:
            UserError: if the file is missing or broken, or holds an unknown or invalid option.
        """
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib  # pyright: ignore[reportMissingImports]

        try:
            values = tomllib.loads(decoded(Path(path).read_bytes()))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; --config needs a TOML file") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); --config needs a TOML file") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid TOML: {error}") from None
        return TrainConfig.from_values(values, str(path))

    @staticmethod
    def from_values(values: dict[str, object], origin: str) -> TrainConfig:
        """A validated configuration; errors name `origin` as the source of a wrong value."""
        try:
            return TrainConfig(**values)  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise UserError(f"{origin}: {name}: {first['msg']} (got {first['input']!r})") from None

    def to_toml(self) -> str:
        """All options as TOML, readable by `from_toml`."""
        lines = []
        for name, value in self.model_dump(exclude_none=True).items():  # TOML has no null
            lines.append(f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}")
        return "\n".join(lines) + "\n"
