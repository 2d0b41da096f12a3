"""Keep the watch out of torch.compile, tracing, functorch, and dispatch and function modes."""

import sys
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._C._dynamo import eval_frame
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils import _device
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

# They take a faster way, with slightly other numbers, where they are evaluated and no function mode is active.
FASTER_WITHOUT_MODES = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def hidden_from_torch(function: AnyFunction) -> AnyFunction:
    """Keep torch.compile from compiling ``function``, and every ``__torch_function__`` from seeing its calls."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        compiler = eval_frame.set_eval_frame(None)
        try:
            with torch._C.DisableTorchFunction():
                return function(*args, **kwargs)
        finally:
            eval_frame.set_eval_frame(compiler)

    return cast(AnyFunction, skipped_by_compiler(run))


def skipped_by_compiler(function: AnyFunction) -> AnyFunction:
    """Tell torch.compile to skip ``function``. It may still inline it, or compile the functions that it calls."""
    code = cast(FunctionType, function).__code__
    if hasattr(eval_frame, "skip_code"):  # PyTorch 2.6
        eval_frame.skip_code(code)
    else:
        skip = eval_frame._FrameExecStrategy(eval_frame._FrameAction.SKIP, eval_frame._FrameAction.DEFAULT)
        eval_frame.set_code_exec_strategy(code, skip)
    return function


def hidden_from_warnings(function: AnyFunction) -> AnyFunction:
    """Let Python's warnings name the line that they would name if ``function`` were not among the callers.

    They do not count frames of the import system, which they recognize by the name of the file.
    """
    code = cast(FunctionType, function).__code__
    cast(FunctionType, function).__code__ = code.replace(co_filename=f"{code.co_filename} (as importlib._bootstrap)")
    return function


@skipped_by_compiler
def has_no_values() -> bool:
    """Return whether tensors have no values at the moment.

    They have none under tracing, export, fake tensors, transforms (grad, vmap) and the capture of a CUDA graph.
    """
    if torch.jit.is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        return True
    return any(getattr(mode, "_mode_key", None) is not None for mode in _get_current_dispatch_mode_stack())


def function_modes() -> list[TorchFunctionMode]:
    """Return the running function modes but that of a default device, which must stay below every other mode."""
    return [mode for mode in _get_current_function_mode_stack() if not isinstance(mode, _device.DeviceContext)]


def function_mode_may_begin() -> bool:
    """Return whether a function mode of the watch can begin: no mode of the loop could end first, or come above it.

    While a mode handles a call, as ``loss.backward()``, it is not among the running ones, and returns on top of them.
    """
    has_default_device = _device.CURRENT_DEVICE is not None
    return not function_modes() and has_default_device == bool(_get_current_function_mode_stack())


def calls_are_compiled(module: nn.Module) -> bool:
    """Return whether torch.compile was asked to compile the calls of this module."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def backward_is_compiled() -> bool:
    """Return whether the next backward is compiled as a whole, including every hook in it."""
    module = sys.modules.get("torch._dynamo.compiled_autograd")
    return bool(getattr(module, "compiled_autograd_enabled", False))


def readable_tensor(tensor: Tensor | None) -> Tensor | None:
    """Return an ordinary tensor with the same values and no graph; of a distributed tensor, this rank's part.

    Return None if there are no values to read: for a fake or meta tensor, under a transform, or in an unknown wrapper.
    """
    tensor = getattr(tensor, "_local_tensor", tensor)
    if not isinstance(tensor, Tensor) or tensor.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return None
    tensor = tensor.detach()
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)
