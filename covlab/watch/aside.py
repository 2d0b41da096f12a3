"""When to look away, and how to look without being seen: by a compiler, a tracer, a transform, or a mode of the
user's.
"""

import sys
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch._C._dynamo import eval_frame
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


def unseen(function: Callable) -> Callable:
    """``function``, so that torch.compile does not compile it and no ``__torch_function__`` of the user's hears of
    it.
    """

    @wraps(function)
    def run(*args, **kwargs):
        compiler = eval_frame.set_eval_frame(None)
        try:
            with torch._C.DisableTorchFunction():
                return function(*args, **kwargs)
        finally:
            eval_frame.set_eval_frame(compiler)

    return uncompiled(run)


def uncompiled(function: Callable) -> Callable:
    """``function`` itself: what it calls may be compiled, its own frame is not. It may still be inlined."""
    if hasattr(eval_frame, "skip_code"):  # PyTorch 2.6
        eval_frame.skip_code(function.__code__)
    else:
        skip = eval_frame._FrameExecStrategy(eval_frame._FrameAction.SKIP, eval_frame._FrameAction.DEFAULT)
        eval_frame.set_code_exec_strategy(function.__code__, skip)
    return function


@uncompiled
def imagined() -> bool:
    """Does what runs now make no numbers: is it traced, exported, faked, transformed (grad, vmap) or captured by a CUDA
    graph?
    """
    if torch.jit.is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        return True
    return any(getattr(mode, "_mode_key", None) is not None for mode in _get_current_dispatch_mode_stack())


def compiled_backward() -> bool:
    """Is the next backward compiled as a whole, with every hook in it?"""
    module = sys.modules.get("torch._dynamo.compiled_autograd")
    return bool(getattr(module, "compiled_autograd_enabled", False))


def plain(tensor: Tensor | None) -> Tensor | None:
    """The same numbers as an ordinary tensor, without its graph: of a distributed one those on this rank.

    None where there are none to be read: a fake or meta tensor, one under a transform, a foreign wrapper.
    """
    tensor = getattr(tensor, "_local_tensor", tensor)
    if not isinstance(tensor, Tensor) or tensor.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return None
    tensor = tensor.detach()
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)
