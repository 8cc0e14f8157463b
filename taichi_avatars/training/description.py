"""What a model folder says about its run: options, source and cameras, for `render`, `eval` and other people's tools."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import torch

from taichi_avatars.config import TrainConfig
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.scene.capture import Capture


def describe(model: Path, config: TrainConfig, capture: Capture) -> None:
    """Writes `config.toml`, `source.json`, and what the reference's tools expect: `cameras.json` and `cfg_args`."""
    for name, text in (
        ("cameras.json", json.dumps(cameras(capture))),
        ("cfg_args", cfg_args(model, config, capture)),
        ("config.toml", config.to_toml()),
        ("source.json", json.dumps({"source": str(capture.path.absolute())})),
    ):
        with atomic_path(model / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def cameras(capture: Capture) -> list[dict[str, object]]:
    """Every camera of a capture once, where it moves every pose of it: pose camera-to-world in OpenCV axes, metres, pixels."""
    # Views of a camera that stands still share one object.
    first = {id(view.camera): view for view in [*capture.train, *capture.val, *capture.test]}
    entries: list[dict[str, object]] = []
    origin = torch.tensor(capture.origin, dtype=torch.float64)
    for index, view in enumerate(first.values()):
        camera = view.camera
        pose = torch.linalg.inv(camera.world_to_camera.double())
        entries.append(
            {
                "id": index,
                "img_name": view.name,
                "width": camera.width,
                "height": camera.height,
                "position": (pose[:3, 3] + origin).tolist(),
                "rotation": pose[:3, :3].tolist(),
                "fx": camera.fx,
                "fy": camera.fy,
            }
        )
    return entries


def cfg_args(model: Path, config: TrainConfig, capture: Capture) -> str:
    """The options that the reference keeps, as the text `Namespace(name=value, ...)` that its tools read."""
    return str(
        Namespace(
            sh_degree=config.sh_degree,
            source_path=str(capture.path.absolute()),
            target_path="",
            model_path=str(model.absolute()),
            images=config.images,
            resolution=config.resolution,
            white_background=config.white_background,
            data_device="cpu",
            eval=bool(capture.val or capture.test),
            bind_to_mesh=capture.kind == "head",
            disable_flame_static_offset=config.disable_flame_static_offset,
            not_finetune_flame_params=config.not_finetune_flame_params,
            select_camera_id=config.select_camera_id,
        )
    )
