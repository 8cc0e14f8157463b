"""A second device without one: tensors that say they are on CUDA and refuse to meet those on the CPU, as CUDA's would."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda", 0)
ACROSS = ("copy_", "_to_copy")  # what may take tensors of both devices
MADE = ("empty", "zeros", "ones", "full", "arange", "scalar_tensor")


class Far(torch.Tensor):
    """A tensor on the pretended device; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Far":
        far = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device="meta"
        )
        far.inner = inner
        return far

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    def numpy(self, **_: object) -> Any:
        raise TypeError("a tensor on CUDA has no numpy(): use .cpu() first")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)  # a file holds the numbers

    def data_ptr(self) -> int:
        raise AssertionError("a launch reached for the memory of a tensor on CUDA by way of the CPU")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the numbers; its result is on the pretended device if its arguments are, or if it was asked for."""
    name = func.__name__.split(".")[0]
    tensors: list[torch.Tensor] = []
    tree_map(lambda t: tensors.append(t) if isinstance(t, torch.Tensor) else None, (args, kwargs))
    far = any(isinstance(t, Far) for t in tensors)
    near = [t for t in tensors if not isinstance(t, Far) and t.dim() > 0]
    # CUDA takes indices from the CPU, too
    if far and near and name not in ACROSS and not (name.startswith("index") and all(not t.is_floating_point() for t in near)):
        raise RuntimeError(f"{func}: tensors on CUDA and on the CPU, of shape {[tuple(t.shape) for t in near]}")
    wanted = kwargs.get("device")
    out_far = far if wanted is None or torch.device(wanted).type == "meta" else torch.device(wanted).type == "cuda"
    kwargs = {k: torch.device("cpu") if k == "device" else v for k, v in kwargs.items()}
    inner = tree_map(lambda t: t.inner if isinstance(t, Far) else t, (args, kwargs))
    result = func(*inner[0], **inner[1])
    if not func._schema.returns:
        return None
    if name.endswith("_") and not name.endswith("__"):
        return args[0]
    if not out_far:
        return result
    return tree_map(lambda t: Far(t) if isinstance(t, torch.Tensor) and not isinstance(t, Far) else t, result)


class Everywhere(TorchDispatchMode):
    """Also sees what is made on the pretended device, and moves to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Moves(TorchFunctionMode):
    """torch itself refuses a device that it was not built for, before an operation is dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:  # Python runs in it: what torch's own does, but with this mode on
            with self:
                engine = torch.autograd.Variable._execution_engine
                ones = torch.ones_like(args[0])
                engine.run_backward((args[0],), (ones,), False, False, (), allow_unreachable=True, accumulate_grad=True)
            return None
        if func is torch.Tensor.tolist and isinstance(args[0], Far):
            return args[0].inner.tolist()
        if func is torch.Tensor.to and any(isinstance(a, torch.device) and a.type == "cuda" for a in args):
            dtype = [a for a in args[1:] if isinstance(a, torch.dtype)]
            return args[0].to(*dtype) if isinstance(args[0], Far) else ToFar.apply(args[0].to(*dtype))
        if func is torch.Tensor.cpu or (func is torch.Tensor.to and torch.device("cpu") in args):
            return ToNear.apply(args[0]) if isinstance(args[0], Far) else func(*args, **kwargs)
        if torch.device(kwargs.get("device") or "cpu").type == "cuda":
            made = func(*args, **{**kwargs, "device": "cpu"})
            return Far(made.detach()).requires_grad_(made.requires_grad)
        return func(*args, **kwargs)


class ToFar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return Far(value.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> torch.Tensor:
        assert isinstance(grad, Far)
        return grad.inner


class ToNear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Any) -> torch.Tensor:
        return value.detach().inner.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return Far(grad)


@contextlib.contextmanager
def pretended_cuda() -> Iterator[None]:
    """The package's tensors go to the pretended device; kernels get their numbers."""
    from taichi_avatars.engine import Kernel

    launch = Kernel.__call__

    def unwrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return launch(self, *(a.inner if isinstance(a, Far) else a for a in args), **kwargs)

    with (
        mock.patch.object(Kernel, "__call__", unwrapped),
        mock.patch("taichi_avatars.runtime.device", lambda: CUDA),
        Everywhere(),
        Moves(),
    ):
        yield
