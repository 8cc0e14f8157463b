"""Adam for the Gaussians, whose number changes: rows leave and join together with their moments."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.density import RESET_OPACITY
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig

BETAS = (0.9, 0.999)
EPSILON = 1e-15  # the gradients of single Gaussians are tiny
REST_SHARE = 1 / 20  # learning rate of the view-dependent colour against the base colour
MOMENTS = ("exp_avg", "exp_avg_sq")


class GaussianAdam:
    """Adam over the parameters of `gaussians`, which it turns into leaves that require gradients.

    The arithmetic is torch's fused kernel; its class around it loads torch's compiler first, 1.3 CPU seconds.

    Attributes:
        gaussians: the Gaussians being optimised; replaced when rows leave or join.
        rates: learning rate of each parameter at the start.
        moments: of each parameter that had a gradient, by name: both means of its gradients, and "step", how many there were.
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
        self.moments: dict[str, dict[str, Tensor]] = {}
        for name, values in gaussians.parameters().items():
            setattr(gaussians, name, values.detach().to(runtime.device()).contiguous().requires_grad_())
        if gaussians.binding is not None:
            gaussians.binding = gaussians.binding.to(runtime.device())

    @torch.no_grad()
    def step(self, position_lr: float, share: float = 1.0) -> None:
        """One step of Adam; the gradients are cleared. share: of all rates but that of the positions."""
        for name, leaf in self.gaussians.parameters().items():
            if leaf.grad is None:
                continue
            if name not in self.moments:
                self.moments[name] = {moment: torch.zeros_like(leaf) for moment in MOMENTS}
                self.moments[name]["step"] = torch.zeros((), device=leaf.device, dtype=torch.float32)
            held = self.moments[name]
            held["step"] += 1
            torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
                [leaf],
                [leaf.grad],
                [held["exp_avg"]],
                [held["exp_avg_sq"]],
                [],
                [held["step"]],
                lr=position_lr if name == "means" else share * self.rates[name],
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )
            leaf.grad = None

    def state(self) -> dict[int, dict[str, Tensor]]:
        """The moments as a checkpoint holds them: by the number of the parameter."""
        names = list(self.gaussians.parameters())
        return {names.index(name): held for name, held in self.moments.items()}

    def restore(self, state: dict[int, dict[str, Tensor]]) -> None:
        """Takes over the moments of a checkpoint.

        Raises:
            ValueError: where they do not belong to these Gaussians.
        """
        parameters = list(self.gaussians.parameters().items())
        for number, held in state.items():
            name, leaf = parameters[number]
            if set(held) != {*MOMENTS, "step"} or any(held[moment].shape != leaf.shape for moment in MOMENTS):
                raise ValueError(f"Adam's moments of {name} do not fit")
            self.moments[name] = {key: value.to(leaf.device, torch.float32) for key, value in held.items()}

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
            for moment in MOMENTS if name in self.moments else ():
                self.moments[name][moment] = _padded(self.moments[name][moment][keep], len(new[name]))
        self.gaussians = Gaussians(**new, binding=binding)

    def reset_opacities(self) -> None:
        """Lowers every opacity to at most 0.01, so that what is not needed can be told and pruned; moments begin at 0."""
        old = self.gaussians.logit_opacities
        new = old.detach().clamp(max=torch.tensor(RESET_OPACITY, dtype=torch.float32).logit().item()).requires_grad_()
        for moment in MOMENTS if "logit_opacities" in self.moments else ():
            self.moments["logit_opacities"][moment] = torch.zeros_like(new)
        self.gaussians.logit_opacities = new


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
