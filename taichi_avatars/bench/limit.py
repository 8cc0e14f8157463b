"""Compositing against the same work in hand-written C++ (benchmarks/limit), over the same tile lists, on the same cores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import taichi_avatars
from taichi_avatars import runtime
from taichi_avatars.bench.kernels import COMPOSITING, of_kernel
from taichi_avatars.bench.scenes import dense_scene
from taichi_avatars.errors import UserError
from taichi_avatars.kernels.tiles import QUAD_BITS, TILE
from taichi_avatars.ops.projection import project
from taichi_avatars.ops.splat import splat
from taichi_avatars.ops.tiles import sort_into_tiles
from taichi_avatars.timing.launches import recorded_launches

SOURCE = Path(taichi_avatars.__file__).parents[1] / "benchmarks" / "limit" / "limit.cpp"  # not part of the installed package
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-std=c++17", "-pthread")
GRADIENTS = 10  # columns of a splat that have a gradient
# Sums of differences over sums of values. Both compute in float32 with the same polynomial; a pixel at the threshold where a
# splat begins or a pixel stops may fall on either side.
SAME_IMAGE, SAME_GRADIENT = 1e-4, 1e-3


def bench_limit(count: int, width: int, height: int, repeats: int = 9, seed: int = 0) -> dict[str, object]:
    """Times the package's compositing kernels and the C++ program on `dense_scene`, and compares their results.

    Returns:
        "gaussians", "width", "height", "pairs", "threads", "lanes" (of the C++ program); per "forward" and "backward": "ours"
        (see `of_kernel`), "limit" ("ms", "cpu_ms": medians of the fastest tile shape, on all threads and on one, and "tile"),
        "share" and "share_one_thread" (speed of ours over the limit's); "shapes": medians of each tile shape;
        "difference": relative, of "image" and "gradients".

    Raises:
        UserError: on a GPU, without the checkout or a compiler, and if the results differ.
    """
    if runtime.on_gpu():
        raise UserError("the limit is measured on the CPU: run it with --device cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = _compiled(folder)
        scene = dense_scene(count, width, height, seed)
        upstream = torch.randn(5, height, width, generator=torch.Generator().manual_seed(seed + 1))
        with torch.no_grad():
            rows = project(*scene[:5], scene.camera, 3).rows
            lists = sort_into_tiles(rows, width, height)
        entries = int(lists.tile_end[-1])
        order = lists.order.long()
        rank = torch.empty(count, dtype=torch.int32)
        rank[lists.place[order].long()] = torch.arange(count, dtype=torch.int32)  # in depth order, of each record
        listed = rank[lists.entries[:entries, 0].long() >> QUAD_BITS]
        parts = [torch.tensor([width, height, TILE, count, entries], dtype=torch.int32)]
        parts += [lists.tile_end, listed, rows[order], upstream]
        with (folder / "in").open("wb") as file:
            for part in parts:
                file.write(part.contiguous().numpy().tobytes())
        ours, image, gradients = _ours(rows, upstream, entries * TILE * TILE, repeats)
        command = [str(program), str(folder / "in"), str(folder / "out"), str(runtime.threads()), str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"the limit program failed with exit code {done.returncode}: {done.stderr.strip()}")
        printed = json.loads(done.stdout)
        difference = _difference(folder / "out", len(printed["shapes"]), image, gradients[order, :GRADIENTS])
    what = {"gaussians": count, "width": width, "height": height, "pairs": entries * TILE * TILE}
    shapes = [_medians(shape) for shape in printed["shapes"]]
    values: dict[str, object] = {**what, "threads": runtime.threads(), "lanes": printed["lanes"]}
    for way in COMPOSITING:
        best = min(shapes, key=lambda shape: shape[way]["ms"])
        one_thread = min(shape[way]["cpu_ms"] for shape in shapes) / ours[way]["cpu_ms"]
        values[way] = {
            "ours": ours[way],
            "limit": {"tile": best["tile"], **best[way]},
            "share": best[way]["ms"] / ours[way]["ms"] if runtime.threads() > 1 else one_thread,
            "share_one_thread": one_thread,
        }
    return {**values, "shapes": shapes, "difference": difference}


def _compiled(folder: Path) -> Path:
    if not SOURCE.is_file():
        raise UserError(f"{SOURCE}: the limit is not part of the installed package: run bench --limit from a checkout")
    compiler = os.environ.get("CXX") or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None or not shutil.which(compiler):
        raise UserError(f"bench --limit needs a C++ compiler, but found no {compiler or ', '.join(COMPILERS)}: install g++")
    program = folder / "limit"
    done = subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(program)], capture_output=True, text=True)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise UserError(f"{compiler} does not compile {SOURCE.name} ({first}); it needs C++17 and gcc 12 or clang 14")
    return program


def _ours(rows: Tensor, upstream: Tensor, pairs: int, repeats: int) -> tuple[dict[str, dict[str, float]], Tensor, Tensor]:
    """Times of the compositing kernels; image, depth and alpha (5,H,W) over black; gradient of the rows (N,12)."""
    _, height, width = upstream.shape
    rows = rows.clone().requires_grad_()

    def forward_backward() -> Tensor:
        rows.grad = None
        image, alpha, depth = splat(rows, torch.zeros(3), width, height)
        torch.autograd.backward([image, depth, alpha], [upstream[:3], upstream[3], upstream[4]])
        return torch.cat([image, depth[None], alpha[None]]).detach()

    image = forward_backward()
    assert rows.grad is not None
    gradients = rows.grad.clone()
    with recorded_launches() as launches:
        for _ in range(repeats):
            forward_backward()
    return {way: of_kernel(launches, kernel, pairs) for way, kernel in COMPOSITING.items()}, image, gradients


def _difference(file: Path, shapes: int, image: Tensor, gradients: Tensor) -> dict[str, float]:
    """The largest of all tile shapes."""
    written = torch.from_numpy(np.fromfile(file, np.float32)).view(shapes, -1)
    images = written[:, : image.numel()].view(shapes, *image.shape)
    others = written[:, image.numel() :].view(shapes, *gradients.shape)
    of_image = ((images - image).abs().sum((1, 2, 3)) / image.abs().sum()).max().item()
    of_gradients = ((others - gradients).abs().sum(1) / gradients.abs().sum(0).clamp_min(1e-12)).max().item()
    if not (of_image < SAME_IMAGE and of_gradients < SAME_GRADIENT):
        raise UserError(
            f"the limit program computes something else (relative difference of the image {of_image:.1e}, of the gradients "
            f"{of_gradients:.1e}): its source and the kernels have drifted apart"
        )
    return {"image": of_image, "gradients": of_gradients}


def _medians(shape: dict[str, Any]) -> dict[str, Any]:
    one, every = shape["one_thread"], shape.get("all_threads", shape["one_thread"])
    ways = {way: {"ms": float(np.median(every[way])), "cpu_ms": float(np.median(one[way]))} for way in COMPOSITING}
    return {"tile": shape["tile"], "pairs": shape["pairs"], **ways}
