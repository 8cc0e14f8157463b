"""Checks of an op's arguments: kernels check nothing, and read past the end of a tensor that is too short."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.errors import UserError

Shape = tuple[int | str, ...]

INDEX = (torch.int32, torch.int64)


def check(
    name: str,
    value: object,
    shape: Shape,
    sizes: dict[str, int] | None = None,
    dtype: torch.dtype | tuple[torch.dtype, ...] = torch.float32,
) -> Tensor:
    """Returns `value` if it is a finite tensor of the expected shape and dtype on the kernels' device.

    Args:
        name: the argument's name in the caller.
        shape: sizes; a letter stands for any size, the same wherever the letter occurs.
        sizes: the sizes of letters seen so far; new ones are added.

    Raises:
        UserError: naming the argument, what was passed and what was expected.
    """
    wanted = dtype if isinstance(dtype, tuple) else (dtype,)
    kinds = " or ".join(str(d).removeprefix("torch.") for d in wanted)
    if not isinstance(value, Tensor):
        raise UserError(f"{name}: got {type(value).__name__}, want a {kinds} tensor of shape {_text(shape, sizes)}")
    if value.dtype not in wanted:
        raise UserError(f"{name}: got {str(value.dtype).removeprefix('torch.')}, want {kinds}")
    if value.device.type != "cpu" and value.device.type != runtime.device().type:
        raise UserError(f"{name}: got a tensor on {value.device}, want it on {runtime.device()}, as the kernels")
    if not _fits(value.shape, shape, sizes):
        raise UserError(f"{name}: got shape {_plain(value.shape)}, want {_text(shape, sizes)}")
    if value.is_floating_point():
        finite(name, value)
    return value


def finite(name: str, value: Tensor) -> None:
    """Raises a UserError that names the first entry of `value` that is NaN or infinite."""
    # A sum costs a fraction of isfinite().all(), and only a sum that is not finite needs a closer look.
    if math.isfinite(value.detach().sum().item()):
        return
    bad = ~torch.isfinite(value.detach())
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        at = f" at {list(where)}" if where else ""
        raise UserError(f"{name}: holds {value.detach()[where].item()}{at} ({int(bad.sum())} in all), want finite numbers")


def _fits(got: torch.Size, shape: Shape, sizes: dict[str, int] | None) -> bool:
    if len(got) != len(shape):
        return False
    known = dict(sizes or {})
    for size, wanted in zip(got, shape, strict=True):
        if size != (known.setdefault(wanted, size) if isinstance(wanted, str) else wanted):
            return False
    if sizes is not None:
        sizes.update(known)
    return True


def _plain(shape: torch.Size) -> str:
    return f"({', '.join(map(str, shape))})"


def _text(shape: Shape, sizes: dict[str, int] | None) -> str:
    known = sizes or {}
    return f"({', '.join(f'{s}={known[s]}' if isinstance(s, str) and s in known else str(s) for s in shape)})"
