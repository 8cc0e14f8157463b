"""Adaptive density control: which Gaussians are added and removed (Kerbl et al. 2023, 5.2; GaussianAvatars, 3.3)."""

from __future__ import annotations

import torch
from roma import unitquat_to_rotmat
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.gaussians import Gaussians

SPLIT_INTO = 2
SPLIT_SHRINK = 1.6  # scale of a child relative to its parent's
MIN_OPACITY = 0.005
MAX_WORLD_SCALE = 0.1  # of the extent
RESET_OPACITY = 0.01


class DensityControl:
    """Accumulates the gradients of the 2D means and decides from them.

    Args:
        count: number of Gaussians.
        generator: of the noise that places the children of a split.
    """

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.generator = generator
        self.restart(count)

    def restart(self, count: int) -> None:
        """Resets the accumulated gradients, for `count` Gaussians."""
        self.gradient, self.seen = torch.zeros(2, count, device=runtime.device(), dtype=torch.float32).unbind()

    def observe(self, observed: Tensor) -> None:
        """Adds the result of `observation`, summed over the views of a step."""
        self.gradient += observed[0]
        self.seen += observed[1]

    def densify(
        self, gaussians: Gaussians, world_scales: Tensor, extent: float, *, threshold: float, dense: float, limit: int
    ) -> tuple[Tensor, Gaussians]:
        """Which Gaussians stay, and which are new: clones of small ones, and the children of large ones, which are removed.

        Args:
            world_scales: (N,3), metres.  extent: metres.
            threshold: mean gradient that calls for more Gaussians.  dense: fraction of the extent between small and large.
            limit: maximum number of Gaussians.

        Returns:
            keep (N,) bool, and the new Gaussians (in the order clones, then children).
        """
        mean_gradient = self.gradient / self.seen.clamp_min(1)
        grow = mean_gradient >= threshold
        allowed = max(0, limit - len(gaussians))
        if int(grow.sum()) > allowed:  # each adds one: the largest gradients first
            grow = (
                torch.zeros_like(grow).scatter_(0, mean_gradient.argsort(descending=True, stable=True)[:allowed], True) & grow
            )
        small = world_scales.max(1).values <= dense * extent
        clones = select(gaussians, grow & small)
        children = self._split(select(gaussians, grow & ~small))
        return ~(grow & ~small), join(clones, children)

    def _split(self, parents: Gaussians) -> Gaussians:
        """Two children per parent, drawn from the parent's own distribution in its own frame."""
        many = join(*[parents] * SPLIT_INTO)
        quats = torch.nn.functional.normalize(many.quats.detach(), dim=1)
        rotation = unitquat_to_rotmat(quats[:, [1, 2, 3, 0]])  # roma: x,y,z,w
        noise = (
            torch.randn(len(many), 3, generator=self.generator, dtype=torch.float32).to(many.means.device)
            * many.log_scales.detach().exp()
        )
        many.means = many.means + (rotation @ noise[:, :, None])[:, :, 0]
        many.log_scales = many.log_scales - torch.tensor(SPLIT_SHRINK, dtype=torch.float32).log()
        return many


def observation(mean2d_grad: Tensor, radii: Tensor) -> Tensor:
    """A view's contribution for each Gaussian, (2,N): the norm of its gradient and 1, or zeros where it is not visible.

    Args:
        mean2d_grad: (N,2), NDC-scaled.  radii: (N,), 0 where not visible.
    """
    visible = radii > 0
    return torch.stack([mean2d_grad.norm(dim=1) * visible, visible.float()])


def prune_mask(gaussians: Gaussians, world_scales: Tensor | None, extent: float) -> Tensor:
    """Which Gaussians stay, (N,) bool: not transparent ones nor, given `world_scales`, huge ones; a triangle keeps one."""
    opacities = gaussians.opacities.detach()
    keep = opacities >= MIN_OPACITY
    if world_scales is not None:
        keep &= world_scales.max(1).values <= MAX_WORLD_SCALE * extent
    if gaussians.binding is not None:
        keep |= _last_of_triangle(gaussians.binding.long(), opacities, keep)
    return keep


def contribution_mask(gaussians: Gaussians, contribution: Tensor, share: float) -> Tensor:
    """Which Gaussians stay, (N,) bool, if a fraction is pruned: those of least contribution (N,). A triangle keeps one."""
    keep = torch.ones(len(gaussians), dtype=torch.bool, device=contribution.device)
    keep[contribution.argsort(stable=True)[: int(share * len(gaussians))]] = False
    if gaussians.binding is not None:
        keep |= _last_of_triangle(gaussians.binding.long(), contribution, keep)
    return keep


def _last_of_triangle(binding: Tensor, worth: Tensor, keep: Tensor) -> Tensor:
    """The Gaussian of highest worth (N,) on each triangle that would lose all of them, (N,) bool."""
    left = torch.bincount(binding[keep], minlength=int(binding.max()) + 1 if len(binding) else 0)
    orphan = (left[binding] == 0).nonzero()[:, 0]
    by_worth = orphan[worth[orphan].argsort(stable=True)]
    by_triangle = by_worth[binding[by_worth].argsort(stable=True)]
    triangles = binding[by_triangle]
    last = torch.ones(len(triangles), dtype=torch.bool, device=triangles.device)
    last[:-1] = triangles[1:] != triangles[:-1]
    return torch.zeros_like(keep).index_fill_(0, by_triangle[last], True)


def select(gaussians: Gaussians, mask: Tensor) -> Gaussians:
    """The Gaussians selected by `mask` (N,), detached."""
    binding = None if gaussians.binding is None else gaussians.binding[mask]
    return Gaussians(**{name: values.detach()[mask] for name, values in gaussians.parameters().items()}, binding=binding)


def join(*parts: Gaussians) -> Gaussians:
    """All Gaussians of all parts, detached, in order."""
    names = parts[0].parameters()
    binding = None if parts[0].binding is None else torch.cat([part.binding for part in parts if part.binding is not None])
    return Gaussians(**{name: torch.cat([getattr(part, name).detach() for part in parts]) for name in names}, binding=binding)
