"""Adam for the Gaussians, whose number changes: rows leave and join together with their moments."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.density import RESET_OPACITY
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig

EPSILON = 1e-15  # the gradients of single Gaussians are tiny
REST_SHARE = 1 / 20  # learning rate of the view-dependent colour against the base colour
MOMENTS = ("exp_avg", "exp_avg_sq")


class GaussianAdam:
    """Adam over the parameters of `gaussians`, which it turns into leaves that require gradients.

    Attributes:
        gaussians: the Gaussians being optimised; replaced when rows leave or join.
        rates: learning rate of each parameter at the start.
        adam: torch's optimizer, one group per parameter, by name.
    """

    def __init__(self, gaussians: Gaussians, config: TrainConfig) -> None:
        self.gaussians = gaussians
        self.rates = {
            "means": config.position_lr_init,
            "quats": config.rotation_lr,
            "log_scales": config.scaling_lr,
            "logit_opacities": config.opacity_lr,
            "sh_base": config.feature_lr,
            "sh_rest": config.feature_lr * REST_SHARE,
        }
        groups = []
        for name, values in gaussians.parameters().items():
            leaf = values.detach().to(runtime.device()).contiguous().requires_grad_()
            setattr(gaussians, name, leaf)
            groups.append({"params": [leaf], "lr": self.rates[name], "name": name})
        if gaussians.binding is not None:
            gaussians.binding = gaussians.binding.to(runtime.device())
        self.adam = torch.optim.Adam(groups, eps=EPSILON, fused=True)

    def step(self, position_lr: float, share: float = 1.0) -> None:
        """One step of Adam; the gradients are cleared. share: of all rates but that of the positions."""
        for group in self.adam.param_groups:
            group["lr"] = position_lr if group["name"] == "means" else share * self.rates[group["name"]]
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def replace(self, keep: Tensor, added: Gaussians | None = None) -> None:
        """Keeps the Gaussians where `keep` (N,) holds and appends others, whose moments begin at 0."""
        old = self.gaussians
        binding = old.binding
        if binding is not None:
            binding = binding[keep]
            if added is not None and added.binding is not None:
                binding = torch.cat([binding, added.binding])
        new: dict[str, Tensor] = {}
        for name, values in old.parameters().items():
            rows = [values.detach()[keep]] + ([getattr(added, name).detach()] if added is not None else [])
            new[name] = torch.cat(rows).requires_grad_()
            self._swap(name, values, new[name], lambda moment: _padded(moment[keep], len(new[name])))  # noqa: B023
        self.gaussians = Gaussians(**new, binding=binding)

    def reset_opacities(self) -> None:
        """Lowers every opacity to at most 0.01, so that what is not needed can be told and pruned; moments begin at 0."""
        old = self.gaussians.logit_opacities
        new = old.detach().clamp(max=torch.tensor(RESET_OPACITY, dtype=torch.float32).logit().item()).requires_grad_()
        self._swap("logit_opacities", old, new, torch.zeros_like)
        self.gaussians.logit_opacities = new

    def _group(self, name: str) -> dict:
        return next(group for group in self.adam.param_groups if group["name"] == name)

    def _swap(self, name: str, old: Tensor, new: Tensor, carry) -> None:
        self._group(name)["params"] = [new]
        state = self.adam.state.pop(old, None)
        if state:
            for moment in MOMENTS:
                state[moment] = carry(state[moment])
            self.adam.state[new] = state


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
