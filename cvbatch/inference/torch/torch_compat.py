"""All uses of private or text-matched behaviour of torch.

Each entry says why it is needed. All work with torch 2.14.1, and `tests/inference/torch/test_torch_compat.py` fails if
an upgrade removes one. Functions import torch themselves, because some names are needed before torch is imported.
"""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

HUGE_PAGES: Final = "THP_MEM_ALLOC_ENABLE"
"""Environment variable: torch uses huge pages for tensors of 2 MB and more; it is read at the first tensor.

Memory between layers is allocated and freed with each batch. With pages of 4 KB this causes up to 3,500 page faults per
image, which cost a quarter of the rate. There is no function for it."""

COMPILER_PACKAGE: Final = "torch._dynamo"
"""Torch's compiler; importing it takes 2.2 s; see `fast_import`."""


# ── Networks compiled ahead of time: their compiler, and the C interface of the compiled library ──

COMPILER_OPTIONS: Final = {
    "freezing": True,  # weights become constants: batch norms are folded, layouts are chosen once
    "cpp.dynamic_threads": True,  # each calling thread decides how many cores it uses
    "compile_threads": 1,
}
"""Options of `torch._inductor.config`."""

_HANDLES: Final = (ctypes.c_void_p, ctypes.c_size_t)
LIBRARY_FUNCTIONS: Final = {
    "AOTInductorModelContainerCreateWithDevice": (*_HANDLES, ctypes.c_char_p, ctypes.c_char_p),
    "AOTInductorModelContainerGetNumOutputs": (ctypes.c_void_p, ctypes.c_void_p),
    "AOTInductorModelContainerRun": (ctypes.c_void_p, *_HANDLES, *_HANDLES, ctypes.c_void_p, ctypes.c_void_p),
    "AOTInductorModelContainerDelete": (ctypes.c_void_p,),
}
"""Functions of a compiled library, with the types of their arguments (`torch/csrc/inductor/aoti_runtime/interface.h`).

They are called with ctypes, which releases Python's lock; torch's own loader holds it (2.14)."""


def compile_package(exported: Any, path: Path) -> None:
    """Compile an exported program into a package; the public `torch.export` has no such step.

    Args:
        exported: Result of `torch.export.export`.
        path: Path of the package.
    """
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(exported, package_path=os.fspath(path), inductor_configs=dict(COMPILER_OPTIONS))


def library_member(names: Iterable[str]) -> str:
    """Return the member of a package that is the library; there is exactly one."""
    (name,) = (name for name in names if name.endswith(".so"))
    return name


def library_function(library: ctypes.CDLL, name: str) -> Any:
    """Return one of `LIBRARY_FUNCTIONS`, ready to be called; the function returns 0 on success."""
    function = getattr(library, name)
    function.argtypes, function.restype = LIBRARY_FUNCTIONS[name], ctypes.c_int
    return function


def tensors_to_handles(tensors: Sequence[Tensor]) -> list[Any]:
    """Return capsules with handles of tensors; the receiver takes ownership."""
    import torch

    handles: list[Any] = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))
    return handles


def handles_to_tensors(handles: Sequence[Any]) -> list[Tensor]:
    """Return the tensors of capsules with handles, and take ownership."""
    import torch

    return torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(list(handles))


# ── Texts of errors ──

_STICKY: Final = "CUDA error"


def is_sticky(error: RuntimeError) -> bool:
    """Whether a device does not respond until its process is restarted.

    After such an error, for example an illegal address, every later call of the process fails, too. It may come from
    torch, cuDNN or torchvision; only the text is common to them.
    """
    import torch

    return _STICKY in str(error) and not isinstance(error, torch.OutOfMemoryError)


def unpickling_reason(error: Exception) -> str:
    """Say why `torch.load` could not read a file, without its advice to trust the file.

    Torch raises the same class of errors for files with programs and for damaged files.
    """
    text = str(error).strip()
    if "GLOBAL" in text or "global" in text or "REDUCE" in text or "reduce" in text:
        return "it holds programs, which are never run"
    if isinstance(error, EOFError | pickle.UnpicklingError | UnicodeDecodeError) or "magic number" in text.lower():
        return "it is another kind of file, or damaged"
    return text.partition("\n")[0][:150] or type(error).__name__
