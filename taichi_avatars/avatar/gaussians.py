"""The Gaussians of an avatar or a scene: raw parameters, activations, and the PLY that Gaussian splatting viewers read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.lib.recfunctions import structured_to_unstructured
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.files.ply import read_ply
from taichi_avatars.scene.georeference import NOWHERE, Origin, as_comment, from_comments, origin_of

C0 = 0.28209479177387814  # SH band 0: colour = C0 * coefficient + 0.5
START_OPACITY = 0.1
# Descriptions of exports, for users who mistake one for an avatar's file.
SHOWN_ONLY = {
    ".splat": "a .splat file",
    ".ksplat": "a .ksplat file",
    ".spz": "an .spz file",
    ".sog": "an .sog file",
    ".glb": "a mesh (.glb)",
    ".obj": "a mesh (.obj)",
    ".zip": "a zip of frames",
    ".npz": "an .npz of arrays",
}


@dataclass(eq=False)
class Gaussians:
    """N Gaussians, before activation; in the frame of their triangle if bound, else in the world.

    Attributes:
        means: (N,3), triangle units (bound) or metres.
        quats: (N,4) w,x,y,z, any length.
        log_scales: (N,3) natural logarithm, same units as the means.
        logit_opacities: (N,).
        sh_base: (N,1,3) SH band 0.
        sh_rest: (N,K-1,3) the bands above, K = (degree+1)^2.
        binding: (N,) int32 triangle of each Gaussian; None for an unbound scene.
    """

    means: Tensor
    quats: Tensor
    log_scales: Tensor
    logit_opacities: Tensor
    sh_base: Tensor
    sh_rest: Tensor
    binding: Tensor | None

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        return round((self.sh_rest.shape[1] + 1) ** 0.5) - 1

    @property
    def opacities(self) -> Tensor:
        """(N,) in (0,1)."""
        return torch.sigmoid(self.logit_opacities)

    def sh(self, degree: int) -> Tensor:
        """(N,(degree+1)^2,3) the coefficients up to a degree."""
        return self.sh_base if degree == 0 else torch.cat([self.sh_base, self.sh_rest[:, : (degree + 1) ** 2 - 1]], 1)

    def parameters(self) -> dict[str, Tensor]:
        """All optimised parameters, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "binding"}

    def to(self, device: torch.device) -> Gaussians:
        """These Gaussians on a device, so that its kernels reach them without a copy; themselves if already there."""
        if self.means.device.type == device.type:
            return self
        moved = {name: values.to(device) for name, values in self.parameters().items()}
        return Gaussians(**moved, binding=None if self.binding is None else self.binding.to(device))

    @staticmethod
    def on_triangles(count: int, degree: int, generator: torch.Generator) -> Gaussians:
        """One Gaussian per triangle, as large as the triangle, nearly grey and nearly transparent (GaussianAvatars, 3.2)."""
        grey = (torch.rand(count, 3, generator=generator, dtype=torch.float32) / 255.0 - 0.5) * 0.1 / C0
        return _fresh(
            torch.zeros(count, 3, dtype=torch.float32),
            torch.zeros(count, 3, dtype=torch.float32),
            grey,
            degree,
            torch.arange(count, dtype=torch.int32),
        )

    @staticmethod
    def from_points(points: Tensor, colors: Tensor, degree: int) -> Gaussians:
        """One round Gaussian per point, as large as the mean distance to its 3 nearest neighbours (Kerbl et al. 2023, 5.1).

        Args:
            points: (N,3) world, metres.  colors: (N,3) in [0,1].
        """
        distance = _neighbour_distance(points).clamp_min(1e-7)
        return _fresh(points.clone(), distance.log()[:, None].repeat(1, 3), (colors - 0.5) / C0, degree, None)

    def save_ply(self, path: Path | str, origin: Origin = NOWHERE) -> None:
        """Writes the PLY of `formats.md` section 3: raw values, binary little endian; read back bit-exactly.

        Args:
            origin: of the means; unless it is (0, 0, 0), x, y and z are written with 64 bits, and the origin as a comment.
        """
        from plyfile import PlyData, PlyElement

        rest = self.sh_rest.detach().transpose(1, 2).flatten(1)  # channel by channel
        columns = {
            **_named("", ("x", "y", "z"), self.means),
            **_named("", ("nx", "ny", "nz"), torch.zeros(len(self), 3, dtype=torch.float32)),
            **_named("f_dc_", range(3), self.sh_base[:, 0]),
            **_named("f_rest_", range(rest.shape[1]), rest),
            "opacity": self.logit_opacities.detach().cpu().numpy(),
            **_named("scale_", range(3), self.log_scales),
            **_named("rot_", range(4), self.quats),
        }
        if self.binding is not None:
            columns["binding_0"] = self.binding.cpu().numpy().astype(np.float32)
        if any(origin):
            columns |= {name: columns[name].astype(np.float64) + shift for name, shift in zip("xyz", origin, strict=True)}
        kinds = [(name, "<f8" if values.dtype == np.float64 else "<f4") for name, values in columns.items()]
        table = np.empty(len(self), dtype=kinds)
        for name, values in columns.items():
            table[name] = values
        with atomic_path(path) as temporary:
            comments = [as_comment(origin)] if any(origin) else []
            PlyData([PlyElement.describe(table, "vertex")], byte_order="<", comments=comments).write(str(temporary))

    @staticmethod
    def load_ply(path: Path | str) -> Gaussians:
        """Reads such a PLY; Gaussians that are far from their origin are moved, see `read_gaussians`.

        Raises:
            UserError: if the file is missing, broken, or lacks a property; names it.
        """
        return read_gaussians(path)[0]


def read_gaussians(path: Path | str) -> tuple[Gaussians, Origin]:
    """Gaussians of a PLY, and the origin of their means in its coordinates: (0, 0, 0) unless they are far from it.

    Raises:
        UserError: as `Gaussians.load_ply`.
    """
    table, comments = _read_vertices(Path(path))
    names = table.dtype.names or ()
    rest = sum(name.startswith("f_rest_") for name in names)
    bands = rest // 3 + 1
    if rest % 3 or bands not in (1, 4, 9, 16):
        raise UserError(f"{path}: holds {rest} f_rest properties, want 0, 9, 24 or 45; is it a Gaussian splatting PLY?")

    def columns(prefix: str, which: Iterable[object], shift: Sequence[float] = ()) -> Tensor:
        wanted = [f"{prefix}{k}" for k in which]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise UserError(f"{path}: lacks the property {missing[0]}; is it a Gaussian splatting PLY?")
        if any(shift):
            near = [table[name].astype(np.float64) - by for name, by in zip(wanted, shift, strict=True)]
            return torch.from_numpy(np.stack(near, 1).astype(np.float32))
        return torch.from_numpy(_as_floats(table[wanted])) if wanted else torch.zeros(len(table), 0, dtype=torch.float32)

    bound = "binding_0" in names
    origin = NOWHERE if bound else _origin(table, comments)
    gaussians = Gaussians(
        means=columns("", "xyz", origin),
        quats=columns("rot_", range(4)),
        log_scales=columns("scale_", range(3)),
        logit_opacities=columns("", ["opacity"])[:, 0],
        sh_base=columns("f_dc_", range(3))[:, None],
        sh_rest=columns("f_rest_", range(rest)).view(len(table), 3, bands - 1).transpose(1, 2).contiguous(),
        binding=_triangles(path, columns("", ["binding_0"])[:, 0]) if bound else None,
    )
    for name, values in gaussians.parameters().items():
        if not bool(torch.isfinite(values).all()):
            broken = ~torch.isfinite(values).reshape(len(values), -1).all(1)
            raise UserError(
                f"{path}: {name} holds NaN or Inf in {int(broken.sum())} of {len(values)} Gaussians, first in Gaussian "
                f"{int(broken.nonzero()[0])}; delete those in a splat editor, copy the file again, or train again"
            )
    return gaussians, origin


def _origin(table: np.ndarray, comments: list[str]) -> Origin:
    """The origin stated by a PLY, else the centre of 64-bit positions that are far from their origin."""
    stated = from_comments(comments)
    names = table.dtype.names or ()
    if stated is not None or any(name not in names or table[name].dtype.itemsize < 8 for name in "xyz"):
        return stated or NOWHERE
    return origin_of(np.stack([table[name] for name in "xyz"], 1))


def _as_floats(table: np.ndarray) -> np.ndarray:
    """(N,C) float32 from N records of C numbers of any type: in one go if they are evenly spaced, as in almost every PLY."""
    return np.array(structured_to_unstructured(table, np.float32), order="C")


def _triangles(path: Path | str, values: Tensor) -> Tensor:
    """(N,) int32 from the floats that a PLY holds."""
    wrong = ~((values >= 0) & (values < 2**24) & (values == values.round()))  # beyond 2^24 a float is not an exact index
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise UserError(f"{path}: binding_0 is {values[row].item()} at Gaussian {row}, want the index of a triangle")
    return values.to(torch.int32)


def _fresh(means: Tensor, log_scales: Tensor, sh_base: Tensor, degree: int, binding: Tensor | None) -> Gaussians:
    count = len(means)
    return Gaussians(
        means=means.float(),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float32).repeat(count, 1),
        log_scales=log_scales.float(),
        logit_opacities=torch.full((count,), START_OPACITY, dtype=torch.float32).logit(),
        sh_base=sh_base.float()[:, None].contiguous(),
        sh_rest=torch.zeros(count, (degree + 1) ** 2 - 1, 3, dtype=torch.float32),
        binding=binding,
    )


def _named(prefix: str, keys: object, values: Tensor) -> dict[str, np.ndarray]:
    array = values.detach().cpu().numpy()
    return {f"{prefix}{key}": array[:, i] for i, key in enumerate(keys)}  # pyright: ignore[reportArgumentType]


def _read_vertices(path: Path) -> tuple[np.ndarray, list[str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give an avatar's point_cloud.ply or its model folder")
    if path.suffix.lower() in SHOWN_ONLY:
        raise UserError(
            f"{path}: is {SHOWN_ONLY[path.suffix.lower()]}, which viewers show but from which no avatar can be read back; "
            "give the point_cloud.ply that it was made from, or its model folder"
        )
    ply = read_ply(path)
    if "vertex" not in ply:
        raise UserError(f"{path}: has no vertices; is it a Gaussian splatting PLY?")
    if "packed_position" in (ply["vertex"].data.dtype.names or ()):
        raise UserError(
            f"{path}: is a compressed PLY, which viewers show but from which no avatar can be read back; "
            "give the point_cloud.ply that it was made from, or its model folder"
        )
    return ply["vertex"].data, list(ply.comments)


def _neighbour_distance(points: Tensor) -> Tensor:
    """Root of the mean squared distance to the 3 nearest other points, (N,); 0.01 for a single point."""
    from scipy.spatial import KDTree

    if len(points) < 2:
        return torch.full((len(points),), 0.01, dtype=torch.float32)
    places = points.numpy().astype(np.float64)
    distances, _ = KDTree(places).query(places, k=min(4, len(points)))
    return torch.from_numpy(np.sqrt(np.square(distances[:, 1:]).mean(1))).float()
