"""A faster frontend for the engine, which traverses the syntax tree of every kernel in every process, cached or not.

In Taichi half of that time is spent on text for error messages that nobody sees, and on repeated lookups of the same
source. The replacements here were written for the versions below; others run unmodified. Quadrants can skip the
traversal for kernels that depend on their source alone.
"""

import ast
import hashlib
import inspect
import linecache
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

LOOKED_AT = ((1, 7, 4),)


def lighten(engine: Any) -> bool:
    """Patches the engine just imported. Returns whether its version is one that the patches were written for."""
    if engine.__name__ != "taichi" or engine.__version__ not in LOOKED_AT:
        return False
    kernel_impl = engine.lang.kernel_impl
    ASTTransformerContext = engine.lang.ast.ast_transformer_utils.ASTTransformerContext
    if kernel_impl._inside_class is _inside_class:  # pyright: ignore[reportPrivateUsage]
        return True
    kernel_impl._inside_class = _inside_class  # pyright: ignore[reportPrivateUsage]
    kernel_impl._get_tree_and_ctx = _with_parsed_once(kernel_impl)  # pyright: ignore[reportPrivateUsage]
    ASTTransformerContext.get_pos_info = _place  # pyright: ignore[reportAttributeAccessIssue] -- `self` by another name
    return True


class KnownBySource(ModuleType):
    """Quadrants, with kernels looked up in its cache by their source, without traversing their syntax trees.

    The constants of its module, on which a kernel also depends, are not in the key of that cache: they must be in the folder's
    name, see `source_digest`. For this package's own kernels; all else is Quadrants itself.
    """

    def __init__(self, engine: Any) -> None:
        super().__init__(engine.__name__, engine.__doc__)
        self.engine, self.kernel = engine, engine.kernel(fastcache=True)
        warnings.filterwarnings("ignore", message=r"\[PURE\.VIOLATION\]")  # of those constants

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def source_digest() -> str:
    """Digest of all source that kernels are made of."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for path in [package / "skinning_layout.py", *sorted((package / "kernels").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def short_frames() -> Iterator[None]:
    """Skips the search through all modules when asked for a frame's file and line."""
    whole = inspect.getframeinfo

    def short(frame: Any, context: int = 1) -> Any:
        if not isinstance(frame, FrameType) or context != 1:
            return whole(frame, context)
        file, line = frame.f_code.co_filename, frame.f_lineno
        return inspect.Traceback(file, line, frame.f_code.co_name, [linecache.getline(file, line)], 0)

    inspect.getframeinfo = short  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        inspect.getframeinfo = whole


def _place(context: Any, node: Any) -> str:
    """The location of a node: file, line and function. Taichi's own also quotes the source and underlines it."""
    return f'File "{context.file}", line {node.lineno + context.lineno_offset}, in {context.func.func.__name__}:\n'


def _inside_class(level_of_class_stackframe: int) -> bool:
    """Whether a decorator is applied in the body of a class. Taichi's own reads the caller's source to find out."""
    return "__qualname__" in sys._getframe(level_of_class_stackframe - 1).f_locals


@lru_cache(None)
def _source(function: FunctionType) -> tuple[str, list[str], int, str]:
    """File, lines (unfolded, as Taichi expects them), number of the first one, and the parsable text."""
    code = function.__code__
    first = code.co_firstlineno
    lines = inspect.getblock(linecache.getlines(code.co_filename, function.__globals__)[first - 1 :])
    lines = [textwrap.fill(line, tabsize=4, width=9999) for line in lines]
    return code.co_filename, lines, first, textwrap.dedent("\n".join(lines))


def _with_parsed_once(kernel_impl: Any) -> Callable[..., Any]:
    """From a function to its syntax tree, as Taichi does at every call of a `ti.func`, but reading the source once."""
    theirs, Context, global_vars_of = (
        kernel_impl._get_tree_and_ctx,
        kernel_impl.ASTTransformerContext,
        kernel_impl._get_global_vars,
    )

    def get_tree_and_ctx(
        self: Any,
        excluded_parameters: Any = (),
        is_kernel: bool = True,
        arg_features: Any = None,
        args: Any = None,
        ast_builder: Any = None,
        is_real_function: bool = False,
    ) -> tuple[ast.Module, Any]:
        try:
            file, src, start_lineno, text = _source(self.func)
            tree = ast.parse(text)
            tree.body[0].decorator_list = []  # pyright: ignore[reportAttributeAccessIssue]
        except Exception:  # no source where Python says it is, as in an interactive shell
            return theirs(self, excluded_parameters, is_kernel, arg_features, args, ast_builder, is_real_function)
        global_vars = global_vars_of(self.func)
        if is_kernel or is_real_function:
            for i in self.template_slot_locations:
                global_vars[self.arguments[i].name] = args[i]
        return tree, Context(
            excluded_parameters=excluded_parameters,
            is_kernel=is_kernel,
            func=self,
            arg_features=arg_features,
            global_vars=global_vars,
            argument_data=args,
            src=src,
            start_lineno=start_lineno,
            file=file,
            ast_builder=ast_builder,
            is_real_function=is_real_function,
        )

    return get_tree_and_ctx
