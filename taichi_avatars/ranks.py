"""Several processes that share one piece of work, started by torchrun; they communicate through torch.distributed.

Every function here may also be called in a single process, without communication. torch.distributed is loaded
under torchrun only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from taichi_avatars.errors import UserError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)  # longer than an evaluation or a save; a process that died is noticed at once

_rank, _size = 0, 1


class AgreedError(UserError):
    """An error that all processes know of and stop with, so only the first one needs to report it."""


def launched() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"))


def on_this_machine() -> int:
    """Number of processes that share this machine's cores and memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched() else 1


def rank() -> int:
    """Rank of this process, from 0."""
    return _rank


def size() -> int:
    """Number of processes."""
    return _size


def is_first() -> bool:
    """Whether this is the process that writes and prints for all."""
    return _rank == 0


@contextmanager
def started(device: str) -> Iterator[None]:
    """Context in which the processes of torchrun are connected; without torchrun there is one.

    To be entered before Taichi and CUDA start: each process gets a CUDA device of its own.

    Args:
        device: as for `runtime.init`.

    Raises:
        UserError: if they do not find each other, or a machine runs more of them than it has CUDA devices.
    """
    global _rank, _size
    if not launched() or together():
        yield
        return
    with_cuda = device in ("auto", "cuda") and _own_cuda_device()
    import torch.distributed as dist

    with _translated():
        dist.init_process_group("cpu:gloo,cuda:nccl" if with_cuda else "gloo", timeout=TIMEOUT)
    _rank, _size = dist.get_rank(), dist.get_world_size()
    if len(set(gather(with_cuda))) > 1:
        raise AgreedError(
            "only some of the processes have a CUDA device: start no more of them on a machine, or use --device cpu"
        )
    yield
    wait()  # if a block fails, its process ends, which the others notice
    dist.destroy_process_group()
    _rank, _size = 0, 1


def _own_cuda_device() -> bool:
    """Restricts this process to one CUDA device, for Taichi and torch alike. Returns whether there is one."""
    number = int(os.environ["LOCAL_RANK"])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible is not None else [str(number)] * (number + 1)
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[number] if number < len(devices) else ""
    import torch

    return torch.cuda.is_available()


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's share of a list of work: every `size`-th item."""
    return items[_rank::_size]


def add_up(values: Sequence[Any]) -> list[Any]:
    """The sums over all processes of tensors of float32, with the same bits in each. They may share memory with each other."""
    if not together():
        return list(values)
    import torch
    import torch.distributed as dist

    flat = torch.cat([value.reshape(-1) for value in values])
    with _translated():
        dist.all_reduce(flat)
    parts = flat.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]


def anywhere(*holds: bool) -> tuple[bool, ...]:
    """Whether each of some things holds in any of the processes."""
    if not together():
        return holds
    import torch
    import torch.distributed as dist

    flags = torch.tensor(holds, dtype=torch.float32)
    with _translated():
        dist.all_reduce(flags)
    return tuple(count > 0 for count in flags.tolist())


def gather(value: T) -> list[T]:
    """The values of all processes, in order."""
    if not together():
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * dist.get_world_size()
    with _translated():
        dist.all_gather_object(values, value)
    return values


def from_first(value: T) -> T:
    """The value that the first process gives, in all of them."""
    if not together():
        return value
    import torch.distributed as dist

    values = [value]
    with _translated():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def in_order(own: Iterator[T], count: int) -> Iterator[T]:
    """Yields the values of `count` pieces of work in order, for the first process; all processes must exhaust it.

    Holds no more values at a time than there are processes.

    Args:
        own: the values of this process's `share`.
    """
    if not together():
        yield from own
        return
    import torch.distributed as dist

    for first in range(0, count, _size):
        values: list[Any] | None = [None] * _size if is_first() else None
        with _translated():
            value = next(own, None)
            dist.gather_object(value, values, dst=0)
        yield from (values or [])[: count - first]


def wait() -> None:
    """Waits until all processes are here."""
    gather(None)


def together() -> bool:
    """Whether there are other processes."""
    if not launched():
        return False
    import torch.distributed as dist

    return dist.is_initialized()


@contextmanager
def _translated() -> Iterator[None]:
    """What torch.distributed reports when another process is gone, as one line."""
    try:
        yield
    except RuntimeError as error:
        who = f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
        why = " ".join(str(error).split("\n")[0].split())[:200]
        raise UserError(f"{who} stops: another one has ended, or cannot be reached ({why})") from error
