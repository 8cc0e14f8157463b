"""The head model as differentiable ops: shapes from components, joints from vertices, and skinning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from taichi_avatars import runtime
from taichi_avatars.ops.checks import check
from taichi_avatars.skinning_layout import CHUNKS, CHUNKS_GPU, LANES, JointState, partial_size, tree_of


class Basis(NamedTuple):
    """The contribution of K components to a shape, as the kernels read it.

    Attributes:
        values: (blocks,K,16): of the vertices, then the joints, in blocks of 16 numbers; pose correctives come last.
        ranges: (blocks,2) int32, of a head whose components each move a part of the face only: from which to before which
            component, correctives aside, a block is not all zero. None: every block reads all components.
    """

    values: Tensor
    ranges: Tensor | None = None

    @property
    def shape_size(self) -> int:
        return len(self.values) * LANES


@dataclass(frozen=True, eq=False)
class Rig:
    """Constants of a head that skinning needs.

    Attributes:
        weights: (V,J) float32, skinning weights of the joints, the root first.
        regressor: (V,5) float32, joints from vertices (FLAME's five); None: joints follow from identity alone.
        basis: expression components, then 9 pose correctives for each joint that has them.
        n_expr: how many of the components are expressions.
        parents: of the J joints, each before its children; the first is the root.
        corrected: the first joint with correctives; all after it have them too.
    """

    weights: Tensor
    regressor: Tensor | None
    basis: Basis
    n_expr: int
    parents: tuple[int, ...] = (-1, 0, 1, 1, 1)
    corrected: int = 1

    @cached_property
    def tree(self) -> int:
        return tree_of(self.parents)


def shape_size(n_vertices: int, joints: int) -> int:
    """Numbers in a shape: vertices and joints, 3 each, padded to whole blocks."""
    return -(-3 * (n_vertices + joints) // LANES) * LANES


def regressed(components: Tensor, regressor: Tensor) -> Tensor:
    """The effect of components (V,3,K) on the joints (5,3,K) through a regressor (V,5)."""
    return torch.einsum("vj,vck->jck", regressor.double(), components.double()).float()


def pack_basis(components: Tensor, joints: Tensor, correctives: Tensor | None = None, *, local: bool = False) -> Basis:
    """Components (V,3,K) and their effect on the joints (J,3,K), then correctives (V,3,C), which do not move the joints.

    Args:
        local: records where each block's components begin and end. The sums then differ in the last bits from those without.
    """
    count, basis = components.shape[2], torch.cat([components, joints])
    if correctives is not None:
        basis = torch.cat(
            [basis, torch.cat([correctives, torch.zeros(len(joints), 3, correctives.shape[2], dtype=torch.float32)])], 2
        )
    flat = torch.zeros(shape_size(len(components), len(joints)), basis.shape[2], dtype=torch.float32)
    flat[: 3 * len(basis)] = basis.flatten(0, 1)
    values = flat.view(len(flat) // LANES, LANES, basis.shape[2]).transpose(1, 2).contiguous()
    if not local or not count:
        return Basis(values)
    moves, number = (values[:, :count] != 0).any(2), torch.arange(count)
    first, end = torch.where(moves, number, count).amin(1), torch.where(moves, number + 1, 0).amax(1)
    return Basis(values, torch.stack([first, end], 1).int().contiguous())


def pack_shape(vertices: Tensor, joints: Tensor) -> Tensor:
    """Shapes (B,S) of vertices (B,V,3) and joints (B,J,3). Differentiable."""
    flat = torch.cat([vertices, joints], 1).flatten(1)
    return torch.nn.functional.pad(flat, (0, shape_size(vertices.shape[1], joints.shape[1]) - flat.shape[1]))


def with_joints(vertices: Tensor, regressor: Tensor) -> Tensor:
    """Shapes (B,S) of vertices (B,V,3) or of offsets to them, with the joints regressed from them. Differentiable."""
    check("vertices", vertices, ("B", "V", 3), {"V": len(regressor)})
    return _WithJoints.apply(vertices, regressor)


def blend(base: Tensor, coefficients: Tensor, basis: Basis) -> Tensor:
    """Shapes (B,S) = base (B,S) + basis times coefficients (B,K). Differentiable in base and coefficients."""
    sizes = {"S": basis.shape_size, "K": basis.values.shape[1]}
    check("coefficients", coefficients, ("B", "K"), sizes)
    check("base", base, ("B", "S"), sizes)
    return _Blend.apply(base, coefficients, basis)


def skin(shaped: Tensor, expr: Tensor, pose: Tensor, translation: Tensor, rig: Rig) -> tuple[Tensor, Tensor, Tensor]:
    """Poses heads (Li et al. 2017, section 3). Differentiable in the four tensors.

    Args:
        shaped: (B,S) float32, shapes with offsets, before expression and pose, metres.
        expr: (B,E) float32.
        pose: (B,3J) float32, axis-angles of the joints, radians.
        translation: (B,3) float32, metres.
        rig: of the head.

    Returns:
        Vertices (B,V,3) and joints (B,J,3) in the world; the canonical shapes (B,S) before correctives and pose.

    Raises:
        UserError: naming the argument whose type, shape, device or values are wrong.
    """
    sizes = {"S": rig.basis.shape_size}
    check("shaped", shaped, ("B", "S"), sizes)
    check("expr", expr, ("B", rig.n_expr), sizes)
    check("pose", pose, ("B", 3 * len(rig.parents)), sizes)
    check("translation", translation, ("B", 3), sizes)
    return _Skin.apply(shaped, expr, pose, translation, rig)


# Constants of a head on the kernels' device, so that a launch does not copy them; on the CPU, the tensors themselves.
_resident: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _there(constant: Tensor) -> Tensor:
    if constant.device.type == runtime.device().type:
        return constant
    if constant not in _resident:
        _resident[constant] = constant.to(runtime.device())
    return _resident[constant]


def _blocks(shapes: Tensor) -> Tensor:
    return shapes.view(len(shapes), -1, LANES)


class _WithJoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, vertices: Tensor, regressor: Tensor) -> Tensor:
        from taichi_avatars.kernels.skinning import regress

        runtime.start()
        bodies, n_vertices, _ = vertices.shape
        shapes = vertices.new_zeros(bodies, shape_size(n_vertices, regressor.shape[1]))
        shapes[:, : 3 * n_vertices] = vertices.detach().reshape(bodies, -1)
        if bodies:
            regress(_there(regressor), shapes)
        ctx.regressor = regressor  # type: ignore[attr-defined]
        return shapes

    @staticmethod
    @once_differentiable
    def backward(ctx, g_shapes: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        from taichi_avatars.kernels.skinning import regress_adjoint

        g_vertices = g_shapes.new_empty(len(g_shapes), len(ctx.regressor), 3)
        if len(g_shapes):
            regress_adjoint(_there(ctx.regressor), g_shapes.contiguous(), g_vertices)
        return g_vertices, None


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, base: Tensor, coefficients: Tensor, basis: Basis) -> Tensor:
        runtime.start()
        base, coefficients = base.detach().contiguous(), coefficients.detach().contiguous()
        shapes = torch.empty_like(base)
        if len(base):
            _blend(coefficients.shape[1], coefficients, basis, base, shapes, shapes)
        ctx.basis = basis  # type: ignore[attr-defined]
        return shapes

    @staticmethod
    @once_differentiable
    def backward(ctx, g_shapes: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        g_coefficients = _blend_adjoint(ctx.basis.values.shape[1], ctx.basis, torch.zeros_like(g_shapes), g_shapes.contiguous())
        return g_shapes, g_coefficients, None


def _blend(split: int, coefficients: Tensor, basis: Basis, base: Tensor, canonical: Tensor, corrected: Tensor) -> None:
    from taichi_avatars.kernels import skinning, skinning_gpu, skinning_local

    if runtime.on_gpu():
        skinning_gpu.blend(split, coefficients, _there(basis.values), base, canonical, corrected)
        return
    shapes = _blocks(base), _blocks(canonical), _blocks(corrected)
    with runtime.native_vectors():
        if basis.ranges is None:
            skinning.blend(split, coefficients, basis.values, *shapes)
        else:
            skinning_local.blend(split, coefficients, basis.values, basis.ranges, *shapes)


def _blend_adjoint(split: int, basis: Basis, g_corrected: Tensor, g_canonical: Tensor) -> Tensor:
    from taichi_avatars.kernels import skinning, skinning_gpu, skinning_local

    bodies, count = len(g_corrected), basis.values.shape[1]
    g_coefficients = g_corrected.new_empty(bodies, count)
    if not bodies or not count:
        g_canonical += g_corrected
        return g_coefficients
    if runtime.on_gpu():
        partial = g_corrected.new_empty(bodies, CHUNKS_GPU, count)
        skinning_gpu.blend_adjoint(split, _there(basis.values), g_corrected, g_canonical, partial, g_coefficients)
        return g_coefficients
    partial = g_corrected.new_empty(bodies, CHUNKS, count, LANES)
    gradients = _blocks(g_corrected), _blocks(g_canonical), partial, g_coefficients
    with runtime.native_vectors():
        if basis.ranges is None:
            skinning.blend_adjoint(split, basis.values, *gradients)
        else:
            skinning_local.blend_adjoint(split, basis.values, basis.ranges, *gradients)
    return g_coefficients


class _Skin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, shaped: Tensor, expr: Tensor, pose: Tensor, translation: Tensor, rig: Rig
    ) -> tuple[Tensor, Tensor, Tensor]:
        from taichi_avatars.kernels import skinning as kernels

        runtime.start()
        shaped, expr, pose, translation = (t.detach().contiguous() for t in (shaped, expr, pose, translation))
        bodies, n_vertices, count = len(shaped), len(rig.weights), len(rig.parents)
        components = rig.basis.values.shape[1]
        state, coefficients = shaped.new_empty(bodies, count * JointState.SIZE), shaped.new_empty(bodies, components)
        canonical, corrected = torch.empty_like(shaped), torch.empty_like(shaped)
        vertices, joints = shaped.new_empty(bodies, n_vertices, 3), shaped.new_empty(bodies, count, 3)
        if bodies:
            kernels.rotate(rig.corrected, expr, pose, state, coefficients)
            if components:
                _blend(rig.n_expr, coefficients, rig.basis, shaped, canonical, corrected)
            else:
                canonical.copy_(shaped)
                corrected.copy_(shaped)
            kernels.skin(rig.tree, _there(rig.weights), corrected, state, translation, vertices, joints)
        ctx.save_for_backward(pose, corrected, state)
        ctx.rig = rig  # type: ignore[attr-defined]
        return vertices, joints, canonical

    @staticmethod
    @once_differentiable
    def backward(ctx, g_vertices: Tensor, g_joints: Tensor, g_canonical: Tensor):  # type: ignore[override]
        from taichi_avatars.kernels import skinning as kernels

        pose, corrected, state = ctx.saved_tensors
        rig: Rig = ctx.rig
        bodies = len(pose)
        g_corrected, g_state = torch.zeros_like(corrected), torch.empty_like(state)
        partial = pose.new_empty(bodies, CHUNKS_GPU if runtime.on_gpu() else CHUNKS, partial_size(len(rig.parents)))
        g_shaped, g_pose, g_translation = g_canonical.clone(), torch.empty_like(pose), pose.new_empty(bodies, 3)
        if not bodies:
            return g_shaped, pose.new_empty(0, rig.n_expr), g_pose, g_translation, None
        g_vertices, g_joints = g_vertices.contiguous(), g_joints.contiguous()
        kernels.skin_adjoint(
            rig.tree, _there(rig.weights), corrected, state, g_vertices, g_joints, g_corrected, partial, g_state, g_translation
        )
        g_coefficients = _blend_adjoint(rig.n_expr, rig.basis, g_corrected, g_shaped)
        kernels.rotate_adjoint(rig.n_expr, rig.corrected, pose, g_state, g_coefficients, g_pose)
        return g_shaped, g_coefficients[:, : rig.n_expr], g_pose, g_translation, None
