"""The head model (FLAME, Li et al. 2017, and heads like it): parameters in, vertices, joints and landmarks out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame_files import (
    FLAME_FACES,
    FLAME_VERTICES,
    HeadArrays,
    read_head,
    read_landmarks,
    read_masks,
)
from taichi_avatars.head.pose import NEUTRAL, PARTS, HeadPose
from taichi_avatars.head.teeth import add_teeth
from taichi_avatars.ops.checks import check
from taichi_avatars.ops.skinning import Basis, Rig, blend, pack_basis, pack_shape, regressed, skin, with_joints

BUILTIN = Path(__file__).resolve().parent.parent / "assets" / "builtin_head.npz"


class HeadMesh(NamedTuple):
    """A posed head, metres. With a leading axis B if any input had one.

    Attributes:
        vertices: (V,3) world space.
        canonical: (V,3) with shape, expression and offsets, before pose correctives and pose.
        joints: (J,3) world space, those of the head in the order root, neck, jaw, left eye, right eye.
        landmarks: (L,3) world space, 70 for FLAME; None if the model has none.
    """

    vertices: Tensor
    canonical: Tensor
    joints: Tensor
    landmarks: Tensor | None


@dataclass(frozen=True, eq=False)
class ShapedHead:
    """A head before expression and pose: template, identity and static offset, and the resulting joints.

    Attributes:
        shapes: (B,S) vertices and joints in the layout of the kernels.
        batched: whether the caller gave a batch axis.
    """

    shapes: Tensor
    batched: bool


class FlameModel:
    """A head of identity, expressions and joints: FLAME, the head that ships with the package, or GNM, which has no jaw joint.

    Attributes:
        kind: "flame", or "gnm" for a head whose joints follow from identity alone, not from expressions and offsets.
        roles: of its joints: root and any of neck, jaw, left eye, right eye, in this order.
        parts: the parts of a pose that it has.
        v_template: (V,3) float32, metres.
        faces: (F,3) int64.
        n_shape, n_expr: number of identity and expression components.
        shapedirs: (V,3,S) identity components, metres.
        expression_names: of the n_expr components, or None.
        regions: vertex ids (N,) int64 by name.
        uv: (F,3,2) float32 texture coordinates of each corner, or None.
        has_teeth: whether the head has rows of teeth, its own or added ones.
    """

    def __init__(self, arrays: HeadArrays, source: Path | None = None, added_teeth: bool = False) -> None:
        self.kind, self.roles = arrays.kind, arrays.roles
        self.parts = tuple(part for part in PARTS if set(part.joints) <= set(arrays.roles))
        self.v_template = torch.from_numpy(arrays.v_template)
        self.faces = torch.from_numpy(arrays.faces)
        self.n_shape, self.n_expr = arrays.shapedirs.shape[2], arrays.exprdirs.shape[2]
        self.expression_names = arrays.expression_names
        self.regions = {name: torch.from_numpy(ids) for name, ids in arrays.regions.items()}
        self.uv = None if arrays.uv is None else torch.from_numpy(arrays.uv)
        self.has_teeth = "teeth_upper" in self.regions
        self.landmarks = None if arrays.landmarks is None else tuple(torch.from_numpy(a) for a in arrays.landmarks)
        self.shapedirs = torch.from_numpy(arrays.shapedirs)
        self._source, self._name, self._added_teeth = source, arrays.name, added_teeth
        posedirs = None if arrays.posedirs is None else torch.from_numpy(arrays.posedirs)
        exprdirs, count = torch.from_numpy(arrays.exprdirs), len(arrays.roles)
        self._own_joints: tuple[Tensor, Tensor] | None = None  # template (J,3) and identity components (J,3,S)
        if isinstance(arrays.joints, tuple):
            template, components = arrays.joints
            self._own_joints = torch.from_numpy(template), torch.from_numpy(components)
            regressor, moved = None, torch.zeros(count, 3, self.n_expr, dtype=torch.float32)
        else:
            regressor = torch.from_numpy(arrays.joints)
            moved = regressed(exprdirs, regressor)
        corrected = count - (0 if posedirs is None else posedirs.shape[2] // 9)
        basis = pack_basis(exprdirs, moved, posedirs, local=self.kind == "gnm")
        self._rig = Rig(torch.from_numpy(arrays.weights), regressor, basis, self.n_expr, arrays.parents, corrected)

    @staticmethod
    def load(
        path: Path | str,
        n_shape: int | None = None,
        n_expr: int | None = None,
        teeth: bool | None = None,
        landmarks: Path | str | None = None,
        masks: Path | str | None = None,
    ) -> FlameModel:
        """A head from FLAME's .pkl, which is read without executing it, from an .npz with the same keys, or from GNM's npz.

        Args:
            n_shape, n_expr: how many components to use; None for all in the file.
            teeth: adds two rows of teeth; None: to a head with FLAME's topology.
            landmarks: FLAME's landmark_embedding_with_eyes.npy; None: those in the file, if any.
            masks: FLAME_masks.pkl, the named regions; None: those in the file, if any.

        Raises:
            UserError: for a file that is missing, broken or refused, more components than the file has, or teeth on
                another topology.
        """
        path = Path(path)
        arrays = read_head(path)
        kept = _components("n_shape", n_shape, arrays.shapedirs.shape[2], path)
        arrays = replace(
            arrays,
            shapedirs=arrays.shapedirs[..., :kept],
            joints=(arrays.joints[0], arrays.joints[1][..., :kept]) if isinstance(arrays.joints, tuple) else arrays.joints,
            exprdirs=arrays.exprdirs[..., : _components("n_expr", n_expr, arrays.exprdirs.shape[2], path)],
            expression_names=arrays.expression_names and arrays.expression_names[:n_expr],
        )
        if landmarks is not None:
            arrays = replace(arrays, landmarks=read_landmarks(landmarks, len(arrays.faces)))
        if masks is not None:
            arrays = replace(arrays, regions=read_masks(masks, len(arrays.v_template)))
        add = arrays.has_flame_topology if teeth is None else teeth
        if add and not arrays.has_flame_topology:
            raise UserError(
                f"{path}: teeth fit FLAME's {FLAME_VERTICES} vertices and {FLAME_FACES} triangles; "
                f"this head has {len(arrays.v_template)} and {len(arrays.faces)}: omit the teeth"
            )
        return FlameModel(add_teeth(arrays) if add else arrays, path, added_teeth=add)

    @staticmethod
    def builtin() -> FlameModel:
        """The head that ships with the package (CC0): 40 identity components, the 52 ARKit expressions, teeth, eyes, tongue."""
        return FlameModel(read_head(BUILTIN))

    @property
    def num_vertices(self) -> int:
        return len(self.v_template)

    @property
    def num_faces(self) -> int:
        return len(self.faces)

    @property
    def rig(self) -> Rig:
        """Skinning weights, joint regressor, and the contribution of expressions and pose correctives to both."""
        return self._rig

    def exprdirs(self) -> Tensor:
        """(E,V,3) expression components, metres; taken out of the rig."""
        flat = self._rig.basis.values.permute(1, 0, 2).flatten(1)
        return flat[: self.n_expr, : 3 * self.num_vertices].unflatten(1, (-1, 3))

    def region_mask(self, *names: str) -> Tensor:
        """(V,) bool: whether a vertex belongs to one of these regions; a head has no vertex in those that it does not name."""
        mask = torch.zeros(self.num_vertices, dtype=torch.bool)
        for name in names:
            if name in self.regions:
                mask[self.regions[name]] = True
        return mask

    def with_regions(self, regions: Mapping[str, Tensor]) -> FlameModel:
        """The same head with other named regions, vertex ids (N,)."""
        other = copy.copy(self)
        other.regions = dict(regions)
        return other

    @cached_property
    def identity(self) -> dict[str, str | bool]:
        """The contents of head.json for this head: its name, or the file it came from, so that it can be found again."""
        if self._source is None:
            return {"head": self._name or "builtin"}
        digest = hashlib.sha256(self._source.read_bytes()).hexdigest()
        if self.kind == "gnm":
            return {"head": "gnm", "file": self._source.name, "sha256": digest}
        return {"head": "flame", "file": self._source.name, "sha256": digest, "teeth": self._added_teeth}

    @cached_property
    def _template(self) -> Tensor:
        if self._own_joints is not None:
            return pack_shape(self.v_template[None], self._own_joints[0][None])
        return self.offset_shape(self.v_template[None])

    @cached_property
    def _identity_basis(self) -> Basis:
        if self._own_joints is not None:
            return pack_basis(self.shapedirs, self._own_joints[1], local=True)
        assert self._rig.regressor is not None
        return pack_basis(self.shapedirs, regressed(self.shapedirs, self._rig.regressor))

    def offset_shape(self, offsets: Tensor) -> Tensor:
        """Offsets of vertices (B,V,3) and their effect on the joints, as shapes (B,S). Differentiable."""
        if self._rig.regressor is not None:
            return with_joints(offsets, self._rig.regressor)
        return pack_shape(offsets, torch.zeros(len(offsets), len(self.roles), 3, dtype=torch.float32))

    def shaped(self, shape: Tensor | None = None, static_offset: Tensor | None = None) -> ShapedHead:
        """The head before expression and pose, to be computed once. Differentiable in both arguments.

        Args:
            shape: (n_shape,) or (B,n_shape); None or empty: zero.
            static_offset: (V,3) or (B,V,3), metres, added to the template; None or empty: zero.

        Raises:
            UserError: naming the argument whose type, shape, device or values are wrong.
        """
        given = _Given()
        shape = given.take("shape", shape, (self.n_shape,))
        static_offset = given.take("static_offset", static_offset, (self.num_vertices, 3))
        shapes = self._template.expand(given.size, -1)
        if shape is not None:
            shapes = blend(shapes, given.expand(shape), self._identity_basis)
        if static_offset is not None:
            shapes = shapes + self.offset_shape(given.expand(static_offset))
        return ShapedHead(shapes, given.batched)

    rest = shaped  # its name in 0.1.0, used by scripts

    def pose(self, shaped: ShapedHead, pose: HeadPose = NEUTRAL, *, zero_centred: bool = False) -> HeadMesh:
        """Poses a head (Li et al. 2017, section 3). Differentiable in all.

        Args:
            shaped: from `shaped`.
            zero_centred: whether the root joint is moved to the origin before the translation.

        Raises:
            UserError: naming the argument whose type, shape, device or values are wrong.
        """
        given = _Given(len(shaped.shapes), shaped.batched)
        expr = given.take("expr", pose.expr, (self.n_expr,))
        absent = [part.name for part in PARTS if part not in self.parts and getattr(pose, part.name) is not None]
        if absent:
            raise UserError(f"{absent[0]}: this head has no such joint; it has {', '.join(self.roles)}: omit it")
        parts = {part.name: given.take(part.name, getattr(pose, part.name), (part.size,)) for part in self.parts}
        dynamic_offset = given.take("dynamic_offset", pose.dynamic_offset, (self.num_vertices, 3))

        shapes = given.expand(shaped.shapes)
        if dynamic_offset is not None:
            shapes = shapes + given.expand(self.offset_shape(dynamic_offset))
        turns = torch.cat([given.fill(parts[part.name], part.size) for part in self.parts if part.joints], 1)
        moved = given.fill(parts["translation"], 3)
        vertices, joints, canonical = skin(shapes, given.fill(expr, self.n_expr), turns, moved, self._rig)
        if zero_centred:
            root = joints[:, :1] - moved[:, None]
            vertices, joints = vertices - root, joints - root
        canonical = canonical[:, : 3 * self.num_vertices].unflatten(1, (-1, 3))
        landmarks = self._landmarks(vertices)
        if given.batched:
            return HeadMesh(vertices, canonical, joints, landmarks)
        return HeadMesh(vertices[0], canonical[0], joints[0], None if landmarks is None else landmarks[0])

    def __call__(
        self,
        shape: Tensor | None = None,
        expr: Tensor | None = None,
        rotation: Tensor | None = None,
        neck: Tensor | None = None,
        jaw: Tensor | None = None,
        eyes: Tensor | None = None,
        translation: Tensor | None = None,
        static_offset: Tensor | None = None,
        dynamic_offset: Tensor | None = None,
    ) -> HeadMesh:
        """`shaped`, then `pose`."""
        head = self.shaped(shape, static_offset)
        return self.pose(head, HeadPose(expr, rotation, neck, jaw, eyes, translation, dynamic_offset))

    def _landmarks(self, vertices: Tensor) -> Tensor | None:
        if self.landmarks is None:
            return None
        faces, barycentric = self.landmarks
        return (vertices[:, self.faces[faces]] * barycentric[..., None]).sum(2)


def _components(name: str, wanted: int | None, held: int, path: Path) -> int:
    if wanted is None:
        return held
    if not 0 <= wanted <= held:
        raise UserError(f"{name}: got {wanted}, but {path} holds {held}")
    return wanted


class _Given:
    """Arguments that may each have a batch axis: checks them and expands all to the same one."""

    def __init__(self, size: int = 1, batched: bool = False) -> None:
        self.size, self.batched = size, batched

    def take(self, name: str, value: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
        """`value` with a batch axis, of size 1 if it had none; None for one that is None or empty."""
        if value is None or (isinstance(value, Tensor) and value.numel() == 0 and 0 not in value.shape[: -len(shape)]):
            return None
        if not isinstance(value, Tensor) or value.ndim != len(shape) + 1:
            return check(name, value, shape)[None]
        check(name, value, ("B", *shape))
        if self.size != 1 and len(value) not in (1, self.size):
            raise UserError(f"{name}: got a batch of {len(value)}, want {self.size} as in the other arguments")
        self.size, self.batched = max(len(value), self.size) if len(value) else 0, True
        return value

    def expand(self, value: Tensor) -> Tensor:
        return value.expand(self.size, *value.shape[1:])

    def fill(self, value: Tensor | None, size: int) -> Tensor:
        return torch.zeros(self.size, size, dtype=torch.float32) if value is None else self.expand(value)
