"""Everything that rests on private or text-matched behaviour of torch, in one place.

Each entry says why it is needed. All were seen with torch 2.14.1, and `tests/inference/torch/test_torch_compat.py`
fails when an upgrade takes one away. Torch is imported inside the functions: some names are needed before it is.
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
"""Asks torch for huge pages where a tensor has 2 MB and more; it looks at it once, with its first tensor.

What a network holds between its layers is taken and given back with each batch; in pages of 4 KB that was up to 3,500
faults for an image, and a quarter of the rate. There is no function for it."""

COMPILER_PACKAGE: Final = "torch._dynamo"
"""Takes 2.2 s to import; see `fast_import`."""


# ── Networks compiled ahead of time: their compiler, and the C interface of what it makes ──

COMPILER_OPTIONS: Final = {
    "freezing": True,  # weights become constants: batch norms are folded, layouts chosen once
    "cpp.dynamic_threads": True,  # each thread that calls decides how many cores it uses
    "compile_threads": 1,
}
"""Names in `torch._inductor.config`."""

_HANDLES: Final = (ctypes.c_void_p, ctypes.c_size_t)
LIBRARY_FUNCTIONS: Final = {
    "AOTInductorModelContainerCreateWithDevice": (*_HANDLES, ctypes.c_char_p, ctypes.c_char_p),
    "AOTInductorModelContainerGetNumOutputs": (ctypes.c_void_p, ctypes.c_void_p),
    "AOTInductorModelContainerRun": (ctypes.c_void_p, *_HANDLES, *_HANDLES, ctypes.c_void_p, ctypes.c_void_p),
    "AOTInductorModelContainerDelete": (ctypes.c_void_p,),
}
"""Functions of a compiled library, with the types of their arguments (`torch/csrc/inductor/aoti_runtime/interface.h`).

They are called by ctypes, which lets go of Python's lock; torch's own loader keeps it (2.14)."""


def compile_package(exported: Any, path: Path) -> None:
    """Compile an exported program into a package; the public `torch.export` has no such step.

    Args:
        exported: Of `torch.export.export`.
        path: Of the package.
    """
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(exported, package_path=os.fspath(path), inductor_configs=dict(COMPILER_OPTIONS))


def library_member(names: Iterable[str]) -> str:
    """The member of a package that is the library; it has exactly one."""
    (name,) = (name for name in names if name.endswith(".so"))
    return name


def library_function(library: ctypes.CDLL, name: str) -> Any:
    """One of `LIBRARY_FUNCTIONS`, ready to be called; it returns 0 if all went well."""
    function = getattr(library, name)
    function.argtypes, function.restype = LIBRARY_FUNCTIONS[name], ctypes.c_int
    return function


def tensors_to_handles(tensors: Sequence[Tensor]) -> list[Any]:
    """Capsules with handles of tensors, which whoever is given them takes over."""
    import torch

    handles: list[Any] = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))
    return handles


def handles_to_tensors(handles: Sequence[Any]) -> list[Tensor]:
    """The tensors behind capsules with handles, which are taken over."""
    import torch

    return torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(list(handles))


# ── Texts ──

_STICKY: Final = "CUDA error"


def is_sticky(error: RuntimeError) -> bool:
    """Whether a device gives no answers any more until its process is started anew.

    Such errors, as of an illegal address, stay with a process: every later call fails, too. What finds one first may be
    torch, cuDNN or torchvision, and the text is what they have in common.
    """
    import torch

    return _STICKY in str(error) and not isinstance(error, torch.OutOfMemoryError)


def unpickling_reason(error: Exception) -> str:
    """Why `torch.load` could not read a file, without its advice to trust it.

    What holds a program, and what is damaged, is one class of errors to it.
    """
    text = str(error).strip()
    if "GLOBAL" in text or "global" in text or "REDUCE" in text or "reduce" in text:
        return "it holds programs, which are never run"
    if isinstance(error, EOFError | pickle.UnpicklingError | UnicodeDecodeError) or "magic number" in text.lower():
        return "it is another kind of file, or damaged"
    return text.partition("\n")[0][:150] or type(error).__name__
