"""Launching kernels with little Python: Taichi's own launch takes 0.3 ms for ten tensors, a tenth of a training step in all.

Relies on the `Kernel` of the versions of Taichi below (its annotations, compiled kernels and launch contexts). Everything
else is left to the engine: other versions, a kernel's first launch, which compiles it, and arguments other than plain
tensors and numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from taichi_avatars.errors import UserError

LOOKED_AT = ((1, 7, 4),)


class Array(NamedTuple):
    """What a tensor argument must be; `element` is the shape of one entry of the array, () for numbers."""

    dtype: torch.dtype
    dimensions: int
    element: tuple[int, ...]


class Plan(NamedTuple):
    """How to launch one kernel: Taichi's compiled kernel, and per argument float, int or the kind of array."""

    compiled: Any
    kinds: tuple[Any, ...]


def serves(engine: Any) -> bool:
    """Whether `quick` was written for this engine."""
    return engine.__name__ == "taichi" and engine.__version__ in LOOKED_AT


def quick(launch: Callable[..., object]) -> Callable[..., object]:
    """A `Kernel.__call__` that launches from a plan once the kernel is compiled. launch: Taichi's `Kernel.__call__`."""
    plans: dict[Any, Plan | None] = {}

    def call(kernel: Any, *args: object, **kwargs: object) -> object:
        plan = plans.get(kernel)
        if plan is not None and not kwargs:
            context = _context(plan, args)
            if context is not None:
                program = kernel.runtime.prog
                program.launch_kernel(
                    program.compile_kernel(program.config(), program.get_device_caps(), plan.compiled), context
                )
                return None
        check_types(kernel, args)
        result = launch(kernel, *args, **kwargs)
        if kernel not in plans:
            plans[kernel] = _plan(kernel)
        return result

    return call


def detached(launch: Callable[..., object]) -> Callable[..., object]:
    """`Kernel.__call__` for everything else: the engine would also transfer the gradients of tensors that require one."""

    def call(kernel: Any, *args: object, **kwargs: object) -> object:
        check_types(kernel, args)
        return launch(kernel, *(a.detach() if isinstance(a, Tensor) else a for a in args), **kwargs)

    return call


def check_types(kernel: Any, args: tuple[object, ...]) -> None:
    """Raises a UserError if a tensor does not have the type that a kernel reads: Taichi would read past its end, or half of it.

    Ops check their arguments and create the rest correctly; this is the safety net below them.
    """
    from taichi_avatars.engine import lang, ti

    for argument, value in zip(_arguments(kernel), args, strict=False):
        wanted = argument.annotation
        if not isinstance(value, Tensor) or not isinstance(wanted, ti.types.ndarray) or wanted.dtype is None:
            continue
        dtype = lang.util.to_pytorch_type(getattr(wanted.dtype, "dtype", wanted.dtype))
        if value.dtype is not dtype:
            raise UserError(
                f"{argument.name}: the kernel {kernel.func.__name__} got {_name(value.dtype)}, want {_name(dtype)}; "
                "torch.set_default_dtype may have been changed: give tensors their type"
            )


def _arguments(kernel: Any) -> Any:
    """Names and annotations of a kernel's arguments, as Taichi or Quadrants keeps them."""
    return kernel.arguments if hasattr(kernel, "arguments") else kernel.arg_metas


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _plan(kernel: Any) -> Plan | None:
    """A plan for a kernel that has just been compiled, None if it is not of the simple kind."""
    from taichi_avatars.engine import lang, ti

    compiled = list(kernel.compiled_kernels.values())
    if kernel.return_type is not None or kernel.autodiff_mode != lang.kernel_impl.AutodiffMode.NONE or len(compiled) != 1:
        return None
    kinds: list[Any] = []
    for argument in kernel.arguments:
        wanted = argument.annotation
        if wanted is ti.f32:
            kinds.append(float)
        elif wanted is ti.i32:
            kinds.append(int)
        elif isinstance(wanted, ti.types.ndarray) and wanted.ndim is not None and wanted.dtype is not None:
            vector = isinstance(wanted.dtype, lang.matrix.MatrixType)
            element = tuple(wanted.dtype.get_shape() or ()) if vector else ()
            dtype = lang.util.to_pytorch_type(wanted.dtype.dtype if vector else wanted.dtype)
            kinds.append(Array(dtype, wanted.ndim + len(element), element))
        else:
            return None
    return Plan(compiled[0], tuple(kinds))


def _context(plan: Plan, args: tuple[object, ...]) -> Any:
    """A launch context that holds the arguments, None if one is not what the plan expects."""
    if len(args) != len(plan.kinds):
        return None
    context = plan.compiled.make_launch_context()
    for i, (kind, value) in enumerate(zip(plan.kinds, args, strict=True)):
        if isinstance(value, Tensor) and isinstance(kind, Array):
            if value.dtype is not kind.dtype or value.dim() != kind.dimensions:
                return None
            if value.requires_grad or not value.is_contiguous() or value.device.type != "cpu":
                return None
            shape = tuple(value.shape)
            if kind.element:
                if shape[-len(kind.element) :] != kind.element:
                    return None
                shape = shape[: -len(kind.element)]
            context.set_arg_external_array_with_shape((i,), value.data_ptr(), value.nbytes, shape, 0)
        elif kind is float and isinstance(value, (float, int)):
            context.set_arg_float((i,), float(value))
        elif kind is int and isinstance(value, int):
            context.set_arg_int((i,), value)
        else:
            return None
    return context
