"""Run a compiled network without Python's lock, so that several threads can run it at the same time.

torch 2.14 holds the lock while it runs a network that was compiled ahead of time, so that threads take turns: ResNet-50
at fp32 on two cores does 8.0 images/s instead of 15.6. The compiled package contains a library with a C interface (see
`torch_compat`), and ctypes releases the lock during calls.
"""

from __future__ import annotations

import ctypes
import os
import weakref
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from cvbatch.inference.torch.torch_compat import (
    handles_to_tensors,
    library_function,
    library_member,
    tensors_to_handles,
)
from cvbatch.system.cache_files import atomic_write_path


class UnlockedPackage:
    """A network that was compiled ahead of time for CPUs.

    Args:
        package: File of `aoti_compile_and_package`; its library is extracted beside it.
        runners: Number of threads that may run it at the same time.

    Raises:
        RuntimeError: The library cannot be loaded.
    """

    def __init__(self, package: Path, runners: int) -> None:
        library = ctypes.CDLL(os.fspath(_load_library(package)))
        create = library_function(library, "AOTInductorModelContainerCreateWithDevice")
        count = library_function(library, "AOTInductorModelContainerGetNumOutputs")
        self._run = library_function(library, "AOTInductorModelContainerRun")
        self._container = ctypes.c_void_p()
        _check_return_code(create(ctypes.byref(self._container), runners, b"cpu", None))
        delete = library_function(library, "AOTInductorModelContainerDelete")
        weakref.finalize(self, delete, self._container).atexit = False  # not needed when the process ends
        output_count = ctypes.c_size_t()
        _check_return_code(count(self._container, ctypes.byref(output_count)))
        self._output_count = output_count.value

    def __call__(self, batch: Tensor) -> Any:
        """Run a batch; return a tensor, or a tuple if there are several outputs.

        Raises:
            RuntimeError: The network failed; the reason is on stderr.
        """
        handles = tensors_to_handles([batch])
        inputs = (ctypes.c_void_p * 1)(*map(_capsule_address, handles))  # the callee takes ownership
        outputs = (ctypes.c_void_p * self._output_count)()
        _check_return_code(self._run(self._container, inputs, 1, outputs, self._output_count, None, None))
        tensors = handles_to_tensors([_make_capsule(handle) for handle in outputs])
        return tuple(tensors) if self._output_count > 1 else tensors[0]


def _load_library(package: Path) -> Path:
    """Return the path of a package's library; extract it once."""
    library = package.with_suffix(".so")
    if not library.exists():
        with atomic_write_path(library) as part, zipfile.ZipFile(package) as archive:
            part.write_bytes(archive.read(library_member(archive.namelist())))
    return library


def _check_return_code(code: int) -> None:
    if code:
        raise RuntimeError(f"the compiled network failed with code {code}")


def _capsule_address(capsule: Any) -> int | None:
    address: int | None = _capsule_pointer(capsule, None)
    return address


def _make_capsule(address: int | None) -> Any:
    return _new_capsule(address, None, None)


_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
