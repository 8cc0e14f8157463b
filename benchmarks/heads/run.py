"""The cost of a head: skinning, frames of the triangles and binding, forward alone and with backward, per vertex.

    python benchmarks/heads/run.py [HEAD.npz ...]

Compares head files with a head of FLAME's size (5143 vertices, 100 expressions, 36 pose correctives, teeth) whose numbers are
random, since FLAME's own may not be shipped. One Gaussian per triangle. `tests/head/gnm_layout.py` writes a file of GNM's size.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from taichi_avatars import FlameModel, runtime
from taichi_avatars.avatar.avatar import to_world
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.head.flame_files import HeadArrays
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.timing.calls import machine, timed

REPEATS = 41


def flame_size(vertices: int = 5143, faces: int = 10144, shapes: int = 300, expressions: int = 100) -> FlameModel:
    """A head with FLAME's numbers of everything; each triangle has neighbouring vertices, as a mesh has."""
    random = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return 0.01 * random.normal(size=shape).astype(np.float32)

    weights = np.where(random.random((vertices, 5)) < 0.6, 0.0, random.random((vertices, 5))) + np.eye(5)[1] * 0.1
    regressor = np.where(random.random((vertices, 5)) < 0.99, 0.0, 1.0) + 1e-6
    first = np.sort(random.integers(0, vertices - 2, faces))
    arrays = HeadArrays(
        v_template=10 * floats(vertices, 3),
        shapedirs=floats(vertices, 3, shapes),
        exprdirs=floats(vertices, 3, expressions),
        posedirs=floats(vertices, 3, 36),
        joints=(regressor / regressor.sum(0)).astype(np.float32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        faces=np.stack([first, first + 1, first + 2], 1),
    )
    return FlameModel(arrays)


def measure(head: FlameModel) -> dict[str, object]:
    random = torch.Generator().manual_seed(0)
    gaussians = Gaussians.on_triangles(head.num_faces, 0, random)
    shaped = head.shaped(0.3 * torch.randn(head.n_shape, generator=random))
    sizes = {"expr": head.n_expr, **{part.name: part.size for part in head.parts}}
    parts = {name: 0.1 * torch.randn(size, generator=random) for name, size in sizes.items()}

    def forward() -> None:
        with torch.no_grad():
            to_world(gaussians, head.pose(shaped, HeadPose(**parts)).vertices, head)

    upstream = [torch.randn(values.shape, generator=random) for values in (gaussians.means, gaussians.quats)]

    def both() -> None:
        leaves = {name: values.clone().requires_grad_() for name, values in parts.items()}
        world, _ = to_world(gaussians, head.pose(shaped, HeadPose(**leaves)).vertices, head)
        ((world.means * upstream[0]).sum() + (world.quats * upstream[1]).sum() + world.scales.sum()).backward()

    sums: dict[str, object] = {"vertices": head.num_vertices, "triangles": head.num_faces, "expressions": head.n_expr}
    for name, call in (("forward", forward), ("forward_backward", both)):
        timing = timed(call, REPEATS)
        per_vertex = 1e6 / head.num_vertices
        times = {"ms": timing.min_ms, "cpu_ms": timing.cpu_ms}
        sums[name] = times | {"ns_per_vertex": per_vertex * timing.min_ms, "cpu_ns_per_vertex": per_vertex * timing.cpu_ms}
    return sums


def main() -> None:
    runtime.init("cpu")
    heads = {"FLAME's size": flame_size(), "built-in": FlameModel.builtin()}
    heads |= {Path(name).name: FlameModel.load(name) for name in sys.argv[1:]}
    print(json.dumps({**machine(), "heads": {name: measure(head) for name, head in heads.items()}}, indent=1))


if __name__ == "__main__":
    main()
