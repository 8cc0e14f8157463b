"""The uniform Laplacian over a mesh: the difference of a vertex's values to the mean of its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class Neighbours:
    """The vertices that share an edge with each vertex of a mesh.

    Args:
        faces: (F,3) int64.  count: number of vertices V.

    Attributes:
        index: (V,D) int64, padded with the vertex itself.
        degree: (V,1) float32, how many of them count.
    """

    def __init__(self, faces: Tensor, count: int) -> None:
        ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        edges = torch.unique(torch.cat([ends, ends.flip(1)]), dim=0)  # sorted by vertex
        degree = torch.bincount(edges[:, 0], minlength=count)
        first = degree.cumsum(0) - degree
        place = torch.arange(len(edges)) - first[edges[:, 0]]
        self.index = torch.arange(count)[:, None].repeat(1, int(degree.max()) if len(edges) else 0)
        self.index[edges[:, 0], place] = edges[:, 1]
        self.degree = degree.float()[:, None]

    def sums(self, values: Tensor) -> Tensor:
        """Sum of each vertex's neighbours' values (V,C)."""
        filled = self.index.shape[1] - self.degree
        return values[self.index].sum(1) - filled * values


def laplacian(values: Tensor, neighbours: Neighbours) -> Tensor:
    """values (V,C) minus the mean of the neighbours' values, 0 at a vertex without neighbours. Differentiable."""
    return _Laplacian.apply(values, neighbours)


class _Laplacian(torch.autograd.Function):
    """The adjoint gathers, since adjacency is symmetric: torch's own would scatter, in an order that varies."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, neighbours: Neighbours) -> Tensor:
        ctx.neighbours = neighbours  # type: ignore[attr-defined]
        degree = neighbours.degree
        return torch.where(degree > 0, values - neighbours.sums(values) / degree.clamp_min(1.0), 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        degree = ctx.neighbours.degree
        return torch.where(degree > 0, gradient, 0.0) - ctx.neighbours.sums(gradient / degree.clamp_min(1.0)), None
